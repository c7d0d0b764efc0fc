//! What clients and services call things, and that nobody uses another one's names.

use super::*;

#[tokio::test]
async fn ids_are_unique_for_the_service_and_come_back_as_they_were() {
    let fake = Fake::start().await;
    let (world, alices) = world(&fake).await;
    let (bobs, _) = world.member("bob").await;
    let sessions = [world.open(&alices).await, world.open(&bobs).await];
    let mut upstream = std::collections::HashSet::new();
    for id in [
        "1",
        "\"1\"",
        "1.0",
        "-7",
        "12345678901234567890123",
        "\"a\\u00e9 \\\"b\"",
    ] {
        for (path, session) in [
            (&alices, Some(&*sessions[0])),
            (&bobs, Some(&*sessions[1])),
            (&alices, None),
            (&bobs, None),
        ] {
            let reply = world.post(path, session, &call(id, "echo")).await;
            let back = spelt_id(&reply.body);
            assert_eq!(plain(&back), plain(id), "{reply:?}");
            let sent = fake.last().json();
            assert_eq!(sent["id"], sent["params"]["_meta"]["progressToken"]);
            assert!(
                upstream.insert(sent["id"].as_str().unwrap().to_owned()),
                "{sent}"
            );

            let reply = world.post(path, session, &call(id, "stream")).await;
            let text = reply.text();
            let token = text.split("\"progressToken\":").nth(1).unwrap();
            let token = &token[..token.find(['}', ',']).unwrap()];
            assert_eq!(plain(token), plain(id), "{text}");
            assert!(upstream.insert(fake.last().json()["id"].to_string()));
        }
    }
    // Whoever reads it otherwise would see another message.
    let before = fake.last().body;
    for id in ["null", "{}", "[1]", "true"] {
        let reply = world
            .post(&alices, Some(&sessions[0]), &call(id, "echo"))
            .await;
        assert_eq!(
            (reply.status, &reply.json()["error"]["code"]),
            (400, &json!(-32600))
        );
        assert_eq!(fake.last().body, before);
    }
}

/// `id` of an answer, as it stands there.
fn spelt_id(body: &str) -> String {
    let message: std::collections::HashMap<&str, &serde_json::value::RawValue> =
        serde_json::from_str(body).unwrap_or_else(|_| panic!("{body}"));
    message["id"].get().to_owned()
}

/// Without the choice of escapes; numbers as they are.
fn plain(id: &str) -> String {
    match serde_json::from_str::<String>(id) {
        Ok(text) => format!("text {text}"),
        Err(_) => id.to_owned(),
    }
}

#[tokio::test]
async fn what_is_cancelled_is_named_as_it_was_asked() {
    let fake = Fake::start().await;
    let (world, path) = world(&fake).await;
    let session = world.open(&path).await;
    world.post(&path, Some(&session), &call("5", "echo")).await;
    let asked = fake.last().json()["id"].clone();
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":5,"reason":"x"}}"#;
    assert_eq!(world.post(&path, Some(&session), cancel).await.status, 202);
    let sent = fake.last().json();
    assert_eq!(sent["params"], json!({"requestId": asked, "reason": "x"}));
    let nothing = cancel.replace("5", "null");
    assert_eq!(
        world.post(&path, Some(&session), &nothing).await.status,
        202
    );
    assert_eq!(fake.count("notifications/cancelled"), 1);
}

#[tokio::test]
async fn a_request_of_the_service_is_answered_by_whoever_got_it() {
    let fake = Fake::start().await;
    let (world, alices) = world(&fake).await;
    let (bobs, _) = world.member("bob").await;
    let (of_alice, of_bob) = (world.open(&alices).await, world.open(&bobs).await);
    let reply = world
        .post(&alices, Some(&of_alice), &call("1", "stream"))
        .await;
    let asked = reply
        .events()
        .into_iter()
        .find(|event| event["method"] == "sampling/createMessage");
    let id = asked.unwrap()["id"].clone();
    assert_ne!(id, 7, "{reply:?}");
    let before = fake.seen().len();
    for id in [&id, &json!(7), &json!("7")] {
        for said in ["result", "error"] {
            let answer = json!({"jsonrpc": "2.0", "id": id, said: {}}).to_string();
            let reply = world.post(&bobs, Some(&of_bob), &answer).await;
            assert_eq!((reply.status, &*reply.body), (202, ""), "{answer}");
        }
    }
    assert_eq!(fake.seen().len(), before, "the service has heard of it");
    let answer = json!({"jsonrpc": "2.0", "id": id, "result": {"a": 1}}).to_string();
    assert_eq!(
        world.post(&alices, Some(&of_alice), &answer).await.status,
        202
    );
    assert_eq!(
        fake.last().json(),
        json!({"jsonrpc": "2.0", "id": 7, "result": {"a": 1}})
    );
}

#[tokio::test]
async fn what_a_stream_has_told_is_told_again_to_its_own_client_only() {
    let fake = Fake::start().await;
    let (world, alices) = world(&fake).await;
    let (bobs, _) = world.member("bob").await;
    let (of_alice, of_bob) = (world.open(&alices).await, world.open(&bobs).await);
    let reply = world
        .post(&alices, Some(&of_alice), &call("1", "stream"))
        .await;
    assert_eq!(
        reply.header("content-length"),
        None,
        "it has grown: {reply:?}"
    );
    let text = reply.text();
    let ids: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("id: "))
        .collect();
    assert_eq!(ids.len(), 2, "{text}");
    let before = fake.seen().len();
    for (path, session, last) in [
        (&bobs, &of_bob, ids[1]),
        (&alices, &of_alice, "e1"),
        (&alices, &of_alice, "é"),
    ] {
        let head = format!(
            "GET {path} HTTP/1.1\r\naccept: text/event-stream\r\nmcp-session-id: {session}\r\nlast-event-id: {last}"
        );
        let reply = world.exchange(&head, "").await;
        assert_eq!(reply.error(), (404, Value::Null, -32001), "{last}");
    }
    assert_eq!(fake.seen().len(), before, "the service has heard of it");
    let headers = format!(
        "\r\nmcp-session-id: {of_alice}\r\nlast-event-id: {}",
        ids[1]
    );
    let (_stream, head) = world.listen(&alices, &headers).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(fake.last().header("last-event-id"), Some("e1"));
}

#[tokio::test]
async fn a_state_comes_back_from_whoever_got_it() {
    let fake = Fake::start().await;
    let (world, alices) = world(&fake).await;
    let (bobs, _) = world.member("bob").await;
    let reply = world.post(&alices, None, &call("1", "ask")).await;
    let state = reply.json()["result"]["requestState"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_ne!(state, "my state");
    let again = |state: &str| {
        json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call",
               "params": {"name": "echo", "requestState": state, "inputResponses": {}}})
        .to_string()
    };
    let before = fake.seen().len();
    for (path, state) in [(&bobs, &*state), (&alices, "my state"), (&alices, "")] {
        let reply = world.post(path, None, &again(state)).await;
        assert_eq!(reply.error(), (400, json!(2), -32602), "{state}");
    }
    assert_eq!(fake.seen().len(), before, "the service has heard of it");
    assert_eq!(world.post(&alices, None, &again(&state)).await.status, 200);
    assert_eq!(fake.last().json()["params"]["requestState"], "my state");
}

#[tokio::test]
async fn an_answer_to_somebody_else_is_shown_to_nobody() {
    let fake = Fake::start().await;
    let (world, alices) = world(&fake).await;
    let (bobs, _) = world.member("bob").await;
    let (of_alice, of_bob) = (world.open(&alices).await, world.open(&bobs).await);
    world
        .post(&alices, Some(&of_alice), &call("1", "echo"))
        .await;
    let asked = fake.last().json()["id"].clone();
    let (mut stream, mut read) = world
        .listen(&bobs, &format!("\r\nmcp-session-id: {of_bob}"))
        .await;
    let answer = json!({"jsonrpc": "2.0", "id": asked, "result": "alices"});
    let progress = json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": asked}});
    fake.say(&format!(
        "data: {answer}\n\ndata: {progress}\n\ndata: {{\"method\":\"last\"}}\n\n"
    ));
    read_until(&mut stream, &mut read, "last").await;
    assert!(
        !read.contains("alices") && !read.contains("progress"),
        "{read}"
    );
}
