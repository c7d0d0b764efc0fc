//! Whose session it is, and what is refused.

use super::*;
use crate::config::spec::Protocol;

#[tokio::test]
async fn a_session_has_an_id_of_ours() {
    let fake = Fake::start().await;
    let (world, path) = world(&fake).await;
    let id = world.open(&path).await;
    let own = fake.sessions().into_iter().next().unwrap();
    assert_ne!(id, own);
    assert!(id.len() >= 22 && id.bytes().all(|b| b.is_ascii_graphic()));
    let reply = world.post(&path, Some(&id), &call("1", "echo")).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(fake.last().header("mcp-session-id"), Some(&*own));
    assert!(!reply.head.contains(&own), "{reply:?}");
    // Outside of sessions, nobody hears the service's name for one either.
    let reply = world.post(&path, Some(&own), &call("1", "echo")).await;
    assert_eq!(reply.error(), (404, json!(1), -32001));
}

#[tokio::test]
async fn another_instances_session_is_one_that_never_was() {
    let fake = Fake::start().await;
    let (world, alices) = world(&fake).await;
    let (bobs, _) = world.member("bob").await;
    let id = world.open(&alices).await;
    let before = fake.seen().len();
    let unknown = "a".repeat(id.len());
    let mut answers = Vec::new();
    for name in [&*id, &*unknown, "short", &"x".repeat(300)] {
        let reply = world.post(&bobs, Some(name), &call("\"q\"", "echo")).await;
        assert_eq!(reply.error(), (404, json!("q"), -32001), "{name}");
        assert_eq!(reply.json()["error"]["message"], "Session not found");
        let lines = reply.head.lines();
        let lines =
            lines.filter(|it| !it.starts_with("x-mcpm-request-id") && !it.starts_with("date"));
        answers.push((lines.collect::<Vec<_>>().join("\n"), reply.body.clone()));
        for method in ["GET", "DELETE"] {
            let head = format!(
                "{method} {bobs} HTTP/1.1\r\naccept: text/event-stream\r\nmcp-session-id: {name}"
            );
            let reply = world.exchange(&head, "").await;
            assert_eq!(reply.error(), (404, Value::Null, -32001), "{method} {name}");
        }
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(fake.seen().len(), before, "the service has heard of it");
    let reply = world.post(&alices, Some(&id), &call("1", "echo")).await;
    assert_eq!(reply.status, 200, "it goes on");
}

#[tokio::test]
async fn a_session_ends_with_delete() {
    let fake = Fake::start().await;
    let (world, path) = world(&fake).await;
    let id = world.open(&path).await;
    let head = format!("DELETE {path} HTTP/1.1\r\nmcp-session-id: {id}");
    assert_eq!(world.exchange(&head, "").await.status, 200);
    assert_eq!(fake.last().method, Method::DELETE);
    let reply = world.post(&path, Some(&id), &call("1", "echo")).await;
    assert_eq!(reply.error(), (404, json!(1), -32001));
    assert_eq!(world.exchange(&head, "").await.status, 404);
}

#[tokio::test]
async fn a_stream_that_is_still_open_brings_no_ended_session_back() {
    let fake = Fake::start().await;
    let (world, path) = world(&fake).await;
    let id = world.open(&path).await;
    let (mut stream, mut read) = world
        .listen(&path, &format!("\r\nmcp-session-id: {id}"))
        .await;
    let head = format!("DELETE {path} HTTP/1.1\r\nmcp-session-id: {id}");
    assert_eq!(world.exchange(&head, "").await.status, 200);
    let next = Fake::start().await;
    world.publish_run(next.spec(), Routable::Ready, 2);
    fake.die();
    // It ends, or goes on without a session that can be used.
    let ended = async {
        let mut bytes = [0; 64];
        while let Ok(1..) = stream.read(&mut bytes).await {}
    };
    let _ = tokio::time::timeout(Duration::from_millis(500), ended).await;
    read.clear();
    let reply = world.post(&path, Some(&id), &call("1", "echo")).await;
    assert_eq!(reply.error(), (404, json!(1), -32001));
    assert_eq!(next.methods(), Vec::<String>::new());
}

#[tokio::test]
async fn what_is_read_in_two_ways_or_in_none_is_refused() {
    let fake = Fake::start().await;
    let (world, path) = world(&fake).await;
    let id = world.open(&path).await;
    let before = fake.seen().len();
    for (body, expected) in [
        (
            r#"{"jsonrpc":"2.0","id":3,"method":"ping","method":"tools/call"}"#,
            (400, json!(3), -32600),
        ),
        (
            r#"{"jsonrpc":"2.0","id":3,"\u006dethod":"ping","method":"x"}"#,
            (400, json!(3), -32600),
        ),
        (r#"{"jsonrpc":"2.0","id":"#, (400, Value::Null, -32700)),
        ("{} {}", (400, Value::Null, -32700)),
        ("", (400, Value::Null, -32700)),
    ] {
        for session in [None, Some(&*id)] {
            assert_eq!(
                world.post(&path, session, body).await.error(),
                expected,
                "{body}"
            );
        }
    }
    assert_eq!(fake.seen().len(), before, "the service has heard of it");
}

#[tokio::test]
async fn services_that_speak_something_else_are_left_alone() {
    let fake = Fake::start().await;
    let mut spec = fake.spec();
    spec.protocol = Protocol::Http;
    let world = World::new(spec).await;
    let (path, _) = world.member("alice").await;
    let reply = world.post(&path, None, INITIALIZE).await;
    let own = reply.header("mcp-session-id").unwrap();
    assert!(fake.sessions().contains(&own), "{own}");
    for body in [
        r#"{"id":1,"id":2, "method":"x"}"#,
        "{",
        &call("1.0", "stream"),
    ] {
        let reply = world.post(&path, Some(&own), body).await;
        let seen = fake.last();
        assert_eq!(seen.body, body);
        assert_eq!(seen.header("mcp-session-id"), Some(&*own));
        if body.contains("stream") {
            assert!(reply.header("content-length").is_some(), "{reply:?}");
            assert!(
                reply.body.starts_with("id: e0\ndata: \n\nid: e1\n"),
                "{reply:?}"
            );
            assert_eq!(reply.events()[1]["id"], 7);
        }
    }
    let (mut stream, mut read) = world
        .listen(
            &path,
            &format!("\r\nmcp-session-id: {own}\r\nlast-event-id: e1"),
        )
        .await;
    assert_eq!(fake.last().header("last-event-id"), Some("e1"));
    fake.say("event: endpoint\ndata: /message?sessionId=1\n\n");
    read_until(&mut stream, &mut read, "data: /message?sessionId=1\n\n").await;
}
