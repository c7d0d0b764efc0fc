//! A service that restarts, and what its clients see of it.

use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};

use super::*;

const NOTICE: &str = r#"{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}"#;
const LEVEL: &str =
    r#"{"jsonrpc":"2.0","id":"l","method":"logging/setLevel","params":{"level":"debug"}}"#;

fn subscription(method: &str, uri: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":"{uri}","method":"resources/{method}","params":{{"uri":"{uri}"}}}}"#
    )
}

#[tokio::test]
async fn an_error_has_the_form_that_its_client_survives() {
    let fake = Fake::start().await;
    let (world, path) = world(&fake).await;
    let session = world.open(&path).await;
    world.publish(fake.spec(), Routable::Down);
    for id in ["1", "\"1\"", "1.0"] {
        let reply = world.post(&path, Some(&session), &call(id, "echo")).await;
        assert_eq!(reply.status, 200);
        assert!(reply.body.contains(&format!("\"id\":{id},")), "{reply:?}");
        let error = &reply.json()["error"];
        assert_eq!(
            (&error["code"], &error["data"]["code"]),
            (&json!(-33001), &json!("service_unavailable"))
        );
    }
    let batch = format!("[{},{NOTICE},{}]", call("1", "echo"), call("2", "echo"));
    let reply = world.post(&path, Some(&session), &batch).await.json();
    let codes: Vec<_> = reply
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["error"]["code"])
        .collect();
    assert_eq!(codes, [&json!(-33001), &json!(-33001)]);

    for notice in [NOTICE, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#] {
        let reply = world.post(&path, Some(&session), notice).await;
        assert_eq!((reply.status, &*reply.body), (202, ""), "{notice}");
    }
    let reply = world.post(&path, None, INITIALIZE).await;
    assert_eq!((reply.status, &*reply.code()), (503, "service_unavailable"));
    assert_eq!(
        reply.header("content-type").as_deref(),
        Some("application/problem+json")
    );
    let probe = r#"{"jsonrpc":"2.0","id":1,"method":"server/discover"}"#;
    assert_eq!(world.post(&path, None, probe).await.status, 503);
}

#[tokio::test]
async fn what_was_read_is_answered_with_an_error_and_never_sent_twice() {
    let fake = Fake::start().await;
    let (world, path) = world(&fake).await;
    let session = world.open(&path).await;
    let reply = world.post(&path, Some(&session), &call("1", "die")).await;
    assert_eq!(reply.error(), (200, json!(1), -33006), "{reply:?}");
    assert_eq!(fake.count("tools/call"), 1);
    // An answer has begun: its end is an event, and nothing of the half one is shown.
    let reply = world
        .post(&path, Some(&session), &call("\"x\"", "stream_and_die"))
        .await;
    let events = reply.events();
    assert_eq!(events[0]["params"]["progressToken"], "x");
    assert_eq!(
        (&events[1]["id"], &events[1]["error"]["code"]),
        (&json!("x"), &json!(-33006))
    );
    assert_eq!(
        (events.len(), fake.count("tools/call")),
        (2, 2),
        "{reply:?}"
    );
    let reply = world.post(&path, Some(&session), &call("2", "echo")).await;
    assert_eq!(reply.status, 200, "the next one is answered");
}

#[tokio::test]
async fn another_run_is_told_once_what_was_agreed() {
    let fake = Fake::start().await;
    let (world, path) = world(&fake).await;
    let session = world.open(&path).await;
    for message in [
        LEVEL.replace("debug", "info"),
        LEVEL.to_owned(),
        subscription("subscribe", "a:1"),
        subscription("subscribe", "a:2"),
        subscription("unsubscribe", "a:1"),
    ] {
        let reply = world.post(&path, Some(&session), &message).await;
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    let next = Fake::start().await;
    world.publish_run(next.spec(), Routable::Starting, 2);
    let bodies: Vec<String> = (0..5).map(|id| call(&id.to_string(), "echo")).collect();
    let posts = bodies
        .iter()
        .map(|body| world.post(&path, Some(&session), body));
    let calls = futures_util::future::join_all(posts);
    let back = async {
        while world.held() < 5 {
            tokio::task::yield_now().await;
        }
        world.publish_run(next.spec(), Routable::Ready, 2);
    };
    let (replies, ()) = tokio::join!(calls, back);
    for (id, reply) in replies.iter().enumerate() {
        assert_eq!(
            (reply.status, &reply.json()["id"]),
            (200, &json!(id)),
            "{reply:?}"
        );
        assert!(reply.json()["result"].is_object(), "{reply:?}");
    }
    let told = [
        "initialize",
        "notifications/initialized",
        "logging/setLevel",
        "resources/subscribe",
    ];
    assert_eq!(next.methods()[..4], told);
    assert_eq!(next.methods()[4..], ["tools/call"; 5]);
    let seen = next.seen();
    let own = next.sessions().into_iter().next().unwrap();
    assert_eq!(seen[0].header("mcp-session-id"), None);
    for one in &seen[1..] {
        assert_eq!(one.header("mcp-session-id"), Some(&*own), "{one:?}");
    }
    for one in &seen[1..4] {
        assert_eq!(
            one.header("mcp-protocol-version"),
            Some("2025-06-18"),
            "{one:?}"
        );
        // The credential is the client's, here too.
        assert_eq!(one.header("x-key"), Some("key-of-alice"));
    }
    let opening: Value = serde_json::from_str(INITIALIZE).unwrap();
    assert_eq!(seen[0].json()["params"], opening["params"]);
    assert_eq!(seen[2].json()["params"]["level"], "debug");
    assert_eq!(seen[3].json()["params"]["uri"], "a:2");
}

#[tokio::test]
async fn a_session_that_its_run_has_lost_is_renewed_once() {
    let fake = Fake::start().await;
    let (world, path) = world(&fake).await;
    let session = world.open(&path).await;
    fake.forget();
    let reply = world.post(&path, Some(&session), &call("1", "echo")).await;
    assert_eq!(
        (reply.status, &reply.json()["id"]),
        (200, &json!(1)),
        "{reply:?}"
    );
    assert_eq!(fake.count("initialize"), 2);
    let reply = world.post(&path, Some(&session), &call("2", "echo")).await;
    assert_eq!((reply.status, fake.count("initialize")), (200, 2));
}

#[tokio::test]
async fn a_stream_stays_open_and_says_that_lists_may_have_changed() {
    let fake = Fake::start().await;
    let (world, path) = world(&fake).await;
    let session = world.open(&path).await;
    let headers = format!("\r\nmcp-session-id: {session}");
    let (mut stream, mut read) = world.listen(&path, &headers).await;
    fake.say("id: 1\ndata: {\"method\":\"one\"}\n\ndata: {\"method\":\"half");
    read_until(&mut stream, &mut read, "one").await;
    let next = Fake::start().await;
    world.publish_run(next.spec(), Routable::Starting, 2);
    fake.die();
    while world.held() == 0 {
        tokio::task::yield_now().await;
    }
    world.publish_run(next.spec(), Routable::Ready, 2);
    read_until(&mut stream, &mut read, "notifications/tools/list_changed").await;
    assert!(
        !read.contains("half") && !read.contains("prompts"),
        "{read}"
    );
    next.say("data: {\"method\":\"two\"}\n\n");
    read_until(&mut stream, &mut read, "two").await;
    let get = next
        .seen()
        .into_iter()
        .find(|seen| seen.method == Method::GET);
    assert_eq!(get.unwrap().header("last-event-id"), None);
    assert_eq!(next.count("initialize"), 1);
}

/// The ids of its events are words of a run that has ended.
#[tokio::test]
async fn a_stream_that_is_asked_for_again_is_the_next_runs() {
    let fake = Fake::start().await;
    let (world, path) = world(&fake).await;
    let session = world.open(&path).await;
    let reply = world
        .post(&path, Some(&session), &call("1", "stream"))
        .await;
    let text = reply.text();
    let last = text.lines().rfind(|line| line.starts_with("id: ")).unwrap();
    let next = Fake::start().await;
    world.publish_run(next.spec(), Routable::Ready, 2);
    let headers = format!(
        "\r\nmcp-session-id: {session}\r\nlast-event-id: {}",
        &last[4..]
    );
    // Whether this or another request of the session comes first.
    for _ in 0..2 {
        let (_stream, head) = world.listen(&path, &headers).await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let get = next.last();
        assert_eq!(
            (get.method.as_str(), get.header("last-event-id")),
            ("GET", None)
        );
    }
}

/// A process that listens and never reads: what is sent to it lies in the kernel until it is killed.
struct Deaf(Child, ServiceSpec);

impl Deaf {
    fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let spec = service_spec("demo", listener.local_addr().unwrap().port());
        let child = Command::new("sleep")
            .arg("600")
            .stdin(Stdio::from(OwnedFd::from(listener)))
            .spawn()
            .unwrap();
        Self(child, spec)
    }

    /// Has it been sent anything?
    fn is_sent(&self) -> bool {
        let port = format!(":{:04X} ", self.1.port.get());
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        table.lines().any(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let is_its = fields
                .get(1)
                .is_some_and(|local| format!("{local} ").ends_with(&port));
            let queue = fields.get(4).and_then(|queues| queues.split_once(':'));
            is_its && fields[3] == "01" && queue.is_some_and(|(_, read)| read != "00000000")
        })
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Deaf {
    fn drop(&mut self) {
        self.kill();
    }
}

#[tokio::test]
async fn what_a_killed_process_has_not_read_is_answered_by_the_next_run() {
    let mut deaf = Deaf::start();
    let world = World::new(deaf.1.clone()).await;
    let (path, _) = world.member("alice").await;
    let life = Handle::open(deaf.0.id(), None).unwrap().life();
    world.publish_life(deaf.1.clone(), Routable::Ready, 2, Some(life));
    let next = Fake::start().await;
    let body = call("1", "echo");
    let restart = async {
        while !deaf.is_sent() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        deaf.kill();
        world.publish_run(next.spec(), Routable::Ready, 3);
    };
    let (reply, ()) = tokio::join!(world.post(&path, None, &body), restart);
    assert_eq!(
        (reply.status, &reply.json()["id"]),
        (200, &json!(1)),
        "{reply:?}"
    );
    assert!(reply.json()["result"].is_object(), "{reply:?}");
    assert_eq!(next.count("tools/call"), 1);
}
