//! How much a client may ask, how long it may say nothing, and what is no request at all.

use super::*;

#[tokio::test]
async fn an_empty_bucket_says_when_to_come_again() {
    let upstream = upstream().await;
    let mut spec = service_spec("demo", upstream.port);
    spec.rate_limit = Some(RateLimit {
        per_minute: 1,
        burst: 2,
    });
    let world = World::new(spec).await;
    let (alices, _) = world.member("alice").await;
    let (bobs, _) = world.member("bob").await;
    assert_eq!(world.get(&alices).await.status, 200);
    // Another key is no new bucket.
    world.grant("alice").await;
    assert_eq!(world.get(&alices).await.status, 200);
    let refused = world.get(&alices).await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (429, "rate_limited")
    );
    assert!(refused.head.contains("retry-after: 60"), "{refused:?}");
    assert_eq!(world.get(&bobs).await.status, 200, "each has their own");
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_whatever_it_declares() {
    let upstream = upstream().await;
    let world = World::new(service_spec("demo", upstream.port)).await;
    let (path, _) = world.member("alice").await;
    let declared = format!("POST {path} HTTP/1.1\r\ncontent-length: 1001");
    let reply = world.exchange(&declared, "").await;
    assert_eq!(
        (reply.status, reply.code().as_str()),
        (413, "body_too_large")
    );
    let chunked = format!("POST {path} HTTP/1.1\r\ntransfer-encoding: chunked");
    let body = |size: usize| format!("{size:x}\r\n{}\r\n0\r\n\r\n", "x".repeat(size));
    assert_eq!(world.exchange(&chunked, &body(1000)).await.status, 200);
    let reply = world.exchange(&chunked, &body(1001)).await;
    assert_eq!(
        (reply.status, reply.code().as_str()),
        (413, "body_too_large")
    );
}

#[tokio::test]
async fn a_connection_on_which_nothing_is_asked_is_closed() {
    let upstream = upstream().await;
    let world = World::new(service_spec("demo", upstream.port)).await;
    for begun in ["", "P", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET / HT"] {
        let mut stream = world.connect().await;
        stream.write_all(begun.as_bytes()).await.unwrap();
        read_to_end(&mut stream).await;
    }
}

#[tokio::test]
async fn what_is_no_proper_request_is_the_clients_mistake() {
    let upstream = upstream().await;
    let world = World::new(service_spec("demo", upstream.port)).await;
    let (path, _) = world.member("alice").await;
    let chunked = format!("POST {path}/x HTTP/1.1\r\ntransfer-encoding: chunked");
    let gzip = format!("POST {path}/x HTTP/1.1\r\ntransfer-encoding: gzip, chunked");
    for (head, body, status, code) in [
        (
            format!("TRACE {path}/x HTTP/1.1"),
            "",
            405,
            "method_not_allowed",
        ),
        (chunked, "zz\r\nhi\r\n", 400, "bad_body"),
        (gzip, "0\r\n\r\n", 501, "bad_transfer_coding"),
    ] {
        let reply = world.exchange(&head, body).await;
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (status, code),
            "{head}"
        );
        // RFC 9110 §15.5.6: what could be asked instead.
        let allow = "allow: get, head, post, put, patch, delete, options\r\n";
        assert_eq!(reply.head.contains(allow), status == 405, "{}", reply.head);
    }
    // Unusual, and fine.
    let get = format!("GET {path}/x HTTP/1.1\r\ntransfer-encoding: chunked");
    let reply = world.exchange(&get, "2\r\nhi\r\n0\r\n\r\n").await;
    assert_eq!((reply.status, &reply.json()["body"]), (200, &json!("hi")));
}

#[tokio::test]
async fn http_2_works_as_well() {
    let upstream = upstream().await;
    let world = World::new(service_spec("demo", upstream.port)).await;
    let (path, _) = world.member("alice").await;
    let io = TokioIo::new(world.connect().await);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("http://localhost{path}/x"))
        .body(http_body_util::Full::new(Bytes::from_static(b"hi")))
        .unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    let seen: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        (&seen["body"], &seen["headers"]["x-key"]),
        (&json!("hi"), &json!("key-of-alice"))
    );

    // hyper's server sends trailers only to those that ask for them; others send them to all.
    let service = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = service.local_addr().unwrap().port();
    world.publish(service_spec("demo", port), Routable::Ready);
    tokio::spawn(async move {
        let (mut stream, _) = service.accept().await.unwrap();
        read_until(&mut stream, &mut String::new(), "\r\n\r\n").await;
        let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\ndata\r\n0\r\n\
                      x-mcpm-router-secret: s\r\nset-cookie: a=b\r\nx-checksum: 1\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.unwrap();
    });
    let request = Request::get(format!("http://localhost{path}/x"))
        .body(http_body_util::Full::new(Bytes::new()))
        .unwrap();
    let answer = sender.send_request(request).await.unwrap();
    let collected = answer.into_body().collect().await.unwrap();
    let trailers = collected.trailers().expect("they pass");
    let names: Vec<_> = trailers.keys().map(http::HeaderName::as_str).collect();
    assert_eq!(names, ["x-checksum"], "without what is not for clients");
}
