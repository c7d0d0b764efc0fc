//! Answers that go on: events, large bodies, WebSocket, and how they end.

use super::*;

#[tokio::test]
async fn the_first_event_arrives_before_the_last_is_sent() {
    let upstream = upstream().await;
    let world = World::new(service_spec("demo", upstream.port)).await;
    let (path, _) = world.member("alice").await;
    let mut stream = world.connect().await;
    let head =
        format!("POST {path}/events HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut read = String::new();
    read_until(&mut stream, &mut read, "\r\n\r\n").await;
    let head = read.to_ascii_lowercase();
    assert!(head.contains("x-accel-buffering: no"), "{head}");
    for event in ["one", "two"] {
        upstream.events.send(event).await.unwrap();
        read_until(&mut stream, &mut read, event).await;
    }
}

#[tokio::test]
async fn a_service_that_dies_in_an_answer_resets_it() {
    let upstream = upstream().await;
    let world = World::new(service_spec("demo", upstream.port)).await;
    let (path, _) = world.member("alice").await;
    let mut stream = world.connect().await;
    let head = format!("GET {path}/events HTTP/1.1\r\nhost: localhost\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut read = String::new();
    upstream.events.send("one").await.unwrap();
    read_until(&mut stream, &mut read, "one").await;
    upstream.events.send("die").await.unwrap();
    let rest = read_to_end(&mut stream).await;
    assert!(!rest.contains("0\r\n\r\n"), "no clean end: {rest:?}");
}

#[tokio::test]
async fn streams_end_with_their_instance_and_with_their_client() {
    let mut upstream = upstream().await;
    let world = World::new(service_spec("demo", upstream.port)).await;
    let (path, _) = world.member("alice").await;
    let head = format!("GET {path}/events HTTP/1.1\r\nhost: localhost\r\n\r\n");
    for rotate in [true, false] {
        let head = if rotate {
            head.clone()
        } else {
            head.replace(&path, &world.grant("bob").await)
        };
        let mut stream = world.connect().await;
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut read = String::new();
        upstream.events.send("one").await.unwrap();
        read_until(&mut stream, &mut read, "one").await;
        if rotate {
            world.users.add(&user("bob")).await.unwrap();
            let prefix = InstancePrefix::parse("dem").unwrap();
            world
                .instances
                .rotate(&user("alice"), &demo(), &prefix)
                .await
                .unwrap();
            read_to_end(&mut stream).await;
        } else {
            drop(stream);
        }
        let told = tokio::time::timeout(PATIENCE, upstream.dropped.recv()).await;
        told.expect("the service hears of it").unwrap();
    }
}

#[tokio::test]
async fn another_credential_ends_what_never_ends_and_lets_answers_finish() {
    let mut upstream = upstream().await;
    let world = World::new(service_spec("demo", upstream.port)).await;
    let (path, _) = world.member("alice").await;
    let begin = async |method: &str| {
        let mut stream = world.connect().await;
        let head = format!(
            "{method} {path}/events HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        upstream.events.send("one").await.unwrap();
        read_until(&mut stream, &mut String::new(), "one").await;
        stream
    };
    let mut push = begin("GET").await;
    world.replace("alice", "another").await;
    read_to_end(&mut push).await;
    let told = tokio::time::timeout(PATIENCE, upstream.dropped.recv()).await;
    told.expect("the service hears of it").unwrap();

    let mut answer = begin("POST").await;
    world.replace("alice", "a third").await;
    upstream.events.send("two").await.unwrap();
    read_until(&mut answer, &mut String::new(), "two").await;
    // The URL is dead at once for what was begun under an older credential, too.
    world.replace("alice", "a fourth").await;
    world
        .instances
        .remove(&user("alice"), &demo())
        .await
        .unwrap();
    read_to_end(&mut answer).await;
}

#[tokio::test]
async fn a_websocket_passes_both_ways() {
    let upstream = upstream().await;
    let world = World::new(service_spec("demo", upstream.port)).await;
    let (path, _) = world.member("alice").await;
    let mut stream = world.connect().await;
    let head = format!(
        "GET {path}/ws HTTP/1.1\r\nhost: localhost\r\nconnection: Upgrade\r\n\
         upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: x\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut read = String::new();
    read_until(&mut stream, &mut read, "\r\n\r\n").await;
    assert!(read.starts_with("HTTP/1.1 101"), "{read}");
    stream.write_all(b"hello").await.unwrap();
    read_until(&mut stream, &mut read, "hello").await;
    world
        .instances
        .remove(&user("alice"), &demo())
        .await
        .unwrap();
    read_to_end(&mut stream).await;
}

#[tokio::test]
async fn a_request_under_way_ends_with_its_instance() {
    let upstream = upstream().await;
    let world = World::new(service_spec("demo", upstream.port)).await;
    let (path, _) = world.member("alice").await;
    let path = format!("{path}/never");
    let removed = async {
        while upstream.requests.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        world
            .instances
            .remove(&user("alice"), &demo())
            .await
            .unwrap();
    };
    let (reply, ()) = tokio::join!(world.get(&path), removed);
    assert_eq!(
        (reply.status, reply.code().as_str()),
        (404, "unknown_instance")
    );
}
