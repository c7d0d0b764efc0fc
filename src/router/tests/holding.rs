//! Services that are not there, come back, or are somebody else's.

use super::*;

#[tokio::test]
async fn a_service_that_is_not_there_is_said_to_be_unavailable() {
    let upstream = upstream().await;
    let spec = service_spec("demo", upstream.port);
    let world = World::new(spec.clone()).await;
    let (path, _) = world.member("alice").await;
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = service_spec("demo", closed.local_addr().unwrap().port());
    drop(closed);
    for (spec, state) in [
        (spec.clone(), Routable::Down),
        (spec.clone(), Routable::PortTaken),
        // These wait first, and not for ever.
        (spec, Routable::Starting),
        (nobody, Routable::Ready),
    ] {
        world.publish(spec, state);
        let reply = world.get(&path).await;
        let said = (reply.status, reply.code());
        assert_eq!(said, (503, "service_unavailable".to_owned()), "{state:?}");
        assert!(reply.head.contains("retry-after: 1"), "{reply:?}");
    }
    assert_eq!(
        upstream.requests.load(Ordering::SeqCst),
        0,
        "no credential went out"
    );
    assert_eq!(world.held(), 0);
}

#[tokio::test]
async fn requests_wait_while_their_service_restarts() {
    let upstream = upstream().await;
    let spec = service_spec("demo", upstream.port);
    let world = World::new(spec.clone()).await;
    let (path, _) = world.member("alice").await;
    let head = format!("POST {path}/x HTTP/1.1\r\ncontent-length: 2");

    world.publish_run(spec.clone(), Routable::Starting, 2);
    let back = async {
        while world.held() == 0 {
            tokio::task::yield_now().await;
        }
        world.publish_run(spec.clone(), Routable::Ready, 2);
    };
    let (reply, ()) = tokio::join!(world.exchange(&head, "hi"), back);
    assert_eq!((reply.status, &reply.json()["body"]), (200, &json!("hi")));

    // The table still says that it is ready, but nobody takes connections any more.
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dead = service_spec("demo", gone.local_addr().unwrap().port());
    drop(gone);
    world.publish_run(dead, Routable::Ready, 3);
    let back = async {
        while world.held() == 0 {
            tokio::task::yield_now().await;
        }
        world.publish_run(spec.clone(), Routable::Ready, 4);
    };
    let (reply, ()) = tokio::join!(world.exchange(&head, "hi"), back);
    assert_eq!((reply.status, &reply.json()["body"]), (200, &json!("hi")));
    assert_eq!(
        (world.held(), upstream.requests.load(Ordering::SeqCst)),
        (0, 2)
    );
}

#[tokio::test]
async fn a_stranger_on_the_port_of_a_run_that_has_ended_gets_nothing() {
    let stranger = upstream().await;
    let spec = service_spec("demo", stranger.port);
    let world = World::new(spec.clone()).await;
    let (path, _) = world.member("alice").await;
    let mut child = std::process::Command::new("/bin/sh")
        .args(["-c", "read line"])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let life = Handle::open(child.id(), None).unwrap().life();
    world.publish_life(spec.clone(), Routable::Ready, 2, Some(life));
    // A kept connection is no exception.
    assert_eq!(world.get(&path).await.status, 200);
    drop(child.stdin.take());
    child.wait().unwrap();
    assert_eq!(world.get(&path).await.status, 503);
    assert_eq!(stranger.requests.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn one_users_waiting_requests_leave_room_for_others() {
    let upstream = upstream().await;
    let spec = service_spec("demo", upstream.port);
    let world = World::new(spec.clone()).await;
    let (alices, _) = world.member("alice").await;
    let (bobs, _) = world.member("bob").await;
    world.publish(spec.clone(), Routable::Starting);
    let many = futures_util::future::join_all((0..40).map(|_| world.get(&alices)));
    let rest = async {
        while world.held() < 32 {
            tokio::task::yield_now().await;
        }
        let bobs = world.get(&bobs);
        let back = async {
            while world.held() < 33 {
                tokio::task::yield_now().await;
            }
            world.publish(spec.clone(), Routable::Ready);
        };
        tokio::join!(bobs, back).0
    };
    let (many, bobs) = tokio::join!(many, rest);
    assert_eq!(bobs.status, 200);
    let served = many.iter().filter(|reply| reply.status == 200).count();
    let refused = many.iter().filter(|reply| reply.status == 503).count();
    assert_eq!(
        (served + refused, refused > 0),
        (40, true),
        "{served} served"
    );
}

#[tokio::test]
async fn what_was_written_is_never_sent_twice() {
    let upstream = upstream().await;
    let world = World::new(service_spec("demo", upstream.port)).await;
    let (path, _) = world.member("alice").await;
    assert_eq!(world.get(&format!("{path}/warm")).await.status, 200);
    for method in ["GET", "POST"] {
        let before = upstream.requests.load(Ordering::SeqCst);
        let reply = world
            .exchange(&format!("{method} {path}/die HTTP/1.1"), "")
            .await;
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (502, "upstream_failed")
        );
        assert_eq!(
            upstream.requests.load(Ordering::SeqCst),
            before + 1,
            "{method}"
        );
    }
}

#[tokio::test]
async fn a_connection_to_a_service_is_used_again() {
    let upstream = upstream().await;
    let world = World::new(service_spec("demo", upstream.port)).await;
    let (path, _) = world.member("alice").await;
    for number in 0..50 {
        let reply = world.get(&format!("{path}/{number}")).await;
        assert_eq!(reply.json()["uri"], format!("/{number}"));
    }
    assert_eq!(upstream.connections.load(Ordering::SeqCst), 1);
    // One task looks after idle connections, however many requests there were.
    let tasks = tokio::runtime::Handle::current()
        .metrics()
        .num_alive_tasks();
    assert!(tasks < 30, "{tasks} tasks");
}
