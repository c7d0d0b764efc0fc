//! The end of a router, and what it still finishes.

use super::*;

#[tokio::test]
async fn draining_finishes_requests_and_ends_push_streams() {
    let upstream = upstream().await;
    let mut world = World::new(service_spec("demo", upstream.port)).await;
    let (path, _) = world.member("alice").await;
    let mut streams = Vec::new();
    for start in [
        format!("GET {path}/quiet HTTP/1.1"),
        format!("POST {path}/events HTTP/1.1\r\ncontent-length: 0"),
    ] {
        let mut stream = world.connect().await;
        let head = format!("{start}\r\nhost: localhost\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        read_until(&mut stream, &mut String::new(), "\r\n\r\n").await;
        streams.push(stream);
    }
    drop(world.stop.take());
    let router = world.router.clone();
    let drained = tokio::spawn(async move { router.drain(PATIENCE).await });
    let mut push = String::new();
    read_until(&mut streams[0], &mut push, "0\r\n\r\n").await;
    assert!(!drained.is_finished(), "the answer is still under way");
    assert!(
        TcpStream::connect(world.address).await.is_err(),
        "nobody is let in"
    );
    upstream.events.send("two").await.unwrap();
    let mut read = String::new();
    read_until(&mut streams[1], &mut read, "two").await;
    drop(streams);
    assert_eq!(drained.await.unwrap(), 0);
}

#[tokio::test]
async fn a_router_that_leaves_answers_what_still_comes_and_says_that_it_was_the_last() {
    let upstream = upstream().await;
    let mut world = World::new(service_spec("demo", upstream.port)).await;
    let mut stream = world.connect().await;
    let ask = b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n";
    stream.write_all(ask).await.unwrap();
    let mut first = String::new();
    read_until(&mut stream, &mut first, "api ").await;
    assert!(!first.contains("connection: close"), "{first}");
    drop(world.stop.take());
    let router = world.router.clone();
    let left = tokio::spawn(async move { router.leave().await });
    while !world.router.0.flight.is_leaving() {
        tokio::task::yield_now().await;
    }
    stream.write_all(ask).await.unwrap();
    let second = read_to_end(&mut stream).await;
    assert!(
        second.contains("200 OK") && second.contains("api "),
        "{second}"
    );
    assert!(second.contains("connection: close"), "{second}");
    left.await.unwrap();
}

#[tokio::test]
async fn what_has_not_ended_in_time_is_cut_and_counted() {
    let upstream = upstream().await;
    let mut world = World::new(service_spec("demo", upstream.port)).await;
    let (path, _) = world.member("alice").await;
    let mut stream = world.connect().await;
    let head = format!("GET {path}/never HTTP/1.1\r\nhost: localhost\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    while upstream.requests.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    drop(world.stop.take());
    assert_eq!(world.router.drain(Duration::from_millis(10)).await, 1);
    read_to_end(&mut stream).await;
}

#[tokio::test]
async fn an_answer_that_a_client_reads_slowly_is_not_cut_by_draining() {
    let upstream = upstream().await;
    let mut world = World::new(service_spec("demo", upstream.port)).await;
    let (path, _) = world.member("alice").await;
    let mut stream = world.connect().await;
    let head = format!("GET {path}/big HTTP/1.1\r\nhost: localhost\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut read = String::new();
    read_until(&mut stream, &mut read, "\r\n\r\n").await;
    drop(world.stop.take());
    let router = world.router.clone();
    let drained = tokio::spawn(async move { router.drain(PATIENCE).await });
    while world.router.0.flight.takes_requests() {
        tokio::task::yield_now().await;
    }
    let rest = read_to_end(&mut stream).await;
    let (_, begun) = read.split_once("\r\n\r\n").unwrap();
    assert_eq!(begun.len() + rest.len(), BIG);
    assert_eq!(drained.await.unwrap(), 0);
}
