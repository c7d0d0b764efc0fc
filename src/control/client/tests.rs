//! The client against a fake daemon: one canned answer per connection.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

use super::*;

struct Fake {
    _folder: TempDir,
    socket: PathBuf,
    /// What the client sent, in order.
    asked: Arc<Mutex<Vec<String>>>,
}

/// Answers the first connection with the first text, and so on.
fn fake(answers: Vec<String>) -> Fake {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("mcpm.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut got = Vec::new();
            while !is_whole(&got) {
                assert_ne!(
                    stream.read_buf(&mut got).await.unwrap(),
                    0,
                    "half a request"
                );
            }
            log.lock().unwrap().push(String::from_utf8(got).unwrap());
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    Fake {
        _folder: folder,
        socket,
        asked,
    }
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    length.is_none_or(|length| body.len() >= length.parse().unwrap())
}

fn answer(status: &str, version: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nx-mcpm-daemon: {version}\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

async fn client(fake: &Fake) -> (Client, Arc<Mutex<Vec<String>>>) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&told);
    let on_skew: OnSkew = Box::new(move |skew| tell.lock().unwrap().push(skew.to_string()));
    (Client::connect(&fake.socket, on_skew).await.unwrap(), told)
}

#[tokio::test]
async fn requests_carry_the_version_and_answers_come_typed() {
    let ok = |body: &str| answer("200 OK", version::OURS, body);
    let fake = fake(vec![
        ok("[1]"),
        ok("[2,3]"),
        answer("204 No Content", version::OURS, ""),
    ]);
    let (mut client, told) = client(&fake).await;
    assert_eq!(client.get::<Vec<u8>>("/a").await.unwrap(), [1]);
    assert_eq!(
        client
            .post::<Vec<u8>>("/b", &json!({"x": 1}))
            .await
            .unwrap(),
        [2, 3]
    );
    client.delete("/c").await.unwrap();
    let asked = fake.asked.lock().unwrap().join("\n");
    assert!(asked.starts_with("GET /a HTTP/1.1\r\n"), "{asked}");
    assert_eq!(
        asked
            .matches(&format!("x-mcpm-client: {}\r\n", version::OURS))
            .count(),
        3
    );
    assert!(asked.contains("content-type: application/json") && asked.contains("{\"x\":1}"));
    assert!(asked.contains("DELETE /c"));
    assert!(told.lock().unwrap().is_empty());
}

#[tokio::test]
async fn another_version_is_told_once_and_the_answer_still_counts() {
    let fake = fake(vec![
        answer("200 OK", "0.0.1", "1"),
        answer("200 OK", "0.0.1", "2"),
    ]);
    let (mut client, told) = client(&fake).await;
    assert_eq!(client.get::<u8>("/a").await.unwrap(), 1);
    assert_eq!(client.get::<u8>("/a").await.unwrap(), 2);
    assert_eq!(told.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_problem_is_an_error_in_the_daemons_words() {
    let problem = Problem::new(StatusCode::NOT_FOUND, "unknown_process", "no `web`", "r1");
    let body = serde_json::to_string(&problem).unwrap();
    let refused = answer("404 Not Found", version::OURS, &body);
    let fake = fake(vec![refused.clone(), refused]);
    let (mut client, _) = client(&fake).await;
    let error = client.get::<Value>("/a").await.unwrap_err();
    assert!(
        error.is("unknown_process") && error.to_string() == "no `web`",
        "{error}"
    );
    let error = client.stream::<Value>("/a").await.err().unwrap();
    assert!(error.is("unknown_process"), "{error}");
}

#[tokio::test]
async fn a_daemon_that_has_handed_over_is_not_the_last_one_asked() {
    let why = "another daemon has taken over";
    let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "handed_over", why, "r1");
    let body = serde_json::to_string(&problem).unwrap();
    let left = answer("503 Service Unavailable", version::OURS, &body);
    let ok = answer("200 OK", version::OURS, "7");
    let fake = fake(vec![
        left.clone(),
        ok.clone(),
        left.clone(),
        ok,
        left.clone(),
        left,
    ]);
    let (mut client, _) = client(&fake).await;
    assert_eq!(client.get::<u8>("/a").await.unwrap(), 7);
    assert_eq!(client.post::<u8>("/b", &json!({"x": 1})).await.unwrap(), 7);
    let asked = fake.asked.lock().unwrap().join("\n");
    assert_eq!(asked.matches("{\"x\":1}").count(), 2, "{asked}");
    let error = client.get::<u8>("/c").await.unwrap_err();
    assert!(error.is("handed_over"), "{error}");
}

#[tokio::test]
async fn a_request_that_nobody_read_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("mcpm.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let mut client = Client::connect(&socket, Box::new(|_| {})).await.unwrap();
    drop(listener.accept().await.unwrap());
    let answers = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut got = Vec::new();
        while !is_whole(&got) {
            assert_ne!(stream.read_buf(&mut got).await.unwrap(), 0);
        }
        let ok = answer("200 OK", version::OURS, "7");
        stream.write_all(ok.as_bytes()).await.unwrap();
    });
    assert_eq!(client.post::<u8>("/a", &json!({})).await.unwrap(), 7);
    answers.await.unwrap();
}

#[tokio::test]
async fn what_is_no_answer_of_ours_says_so() {
    let fake = fake(vec![
        answer("502 Bad Gateway", version::OURS, "<html>"),
        String::new(),
    ]);
    let (mut client, _) = client(&fake).await;
    let error = client.get::<Value>("/a").await.unwrap_err().to_string();
    assert!(error.contains("status 502"), "{error}");
    let error = client.get::<Value>("/a").await.unwrap_err();
    assert!(matches!(error, ClientError::Interrupted { .. }), "{error}");
}

#[tokio::test]
async fn no_socket_and_a_dead_socket_are_no_daemon() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("mcpm.sock");
    let refused = Client::connect(&socket, Box::new(|_| {}))
        .await
        .err()
        .unwrap();
    assert!(matches!(refused, ClientError::NoDaemon { .. }), "{refused}");
    drop(UnixListener::bind(&socket).unwrap());
    let refused = Client::connect(&socket, Box::new(|_| {}))
        .await
        .err()
        .unwrap();
    assert!(matches!(refused, ClientError::NoDaemon { .. }), "{refused}");
}

#[tokio::test]
async fn lines_come_one_by_one_however_they_are_cut() {
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let body = [
        chunk("1\n2"),
        chunk("2\n"),
        chunk("3\n4\n5"),
        chunk("\n"),
        chunk(""),
    ]
    .concat();
    let fake = fake(vec![format!("{head}{body}")]);
    let (mut client, _) = client(&fake).await;
    let mut lines = client.stream::<u8>("/a").await.unwrap();
    let mut got = Vec::new();
    while let Some(line) = lines.next().await.unwrap() {
        got.push(line);
    }
    assert_eq!(got, [1, 22, 3, 4, 5]);
}

#[tokio::test]
async fn stop_waits_for_the_end_of_the_connection_and_of_the_process() {
    let mut process = std::process::Command::new("sleep")
        .arg("60")
        .spawn()
        .unwrap();
    let info = json!({
        "version": version::OURS, "pid": process.id(), "startedAt": "2026-11-23T00:00:00Z",
        "home": "/h", "listen": null, "publicUrl": "", "warnings": []
    });
    let stopped = answer("202 Accepted", version::OURS, "");
    let fake = fake(vec![
        answer("200 OK", version::OURS, &info.to_string()),
        stopped,
    ]);
    let (mut client, _) = client(&fake).await;
    let request = StopRequest { keep: true };
    let mut stop = Box::pin(client.stop(&request));
    let early = timeout(Duration::from_millis(100), &mut stop).await;
    assert!(early.is_err(), "the process still runs");
    process.kill().unwrap();
    stop.await.unwrap();
    process.wait().unwrap();
    assert!(fake.asked.lock().unwrap()[1].ends_with("{\"keep\":true}"));
}
