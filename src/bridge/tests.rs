//! The bridges through the real listener, with a real MCP client.

use std::collections::HashMap;
use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rmcp::model::{
    CallToolRequestParams, CallToolResult, ClientRequest, JsonObject, ProgressNotificationParam,
    ProtocolVersion, ServerResult,
};
use rmcp::service::{
    ClientLifecycleMode, ClientServiceExt, NotificationContext, PeerRequestOptions, RunningService,
};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::{ClientHandler, RoleClient, ServerHandler};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use super::demo::Demo;
use super::rest::handler_from_text;
use super::serve::{Guard, serve};
use crate::outbound::{Outbound, Policy};
use crate::secret::Secret;

/// Ends its server on drop.
struct Server {
    url: String,
    stop: Option<oneshot::Sender<()>>,
    ended: tokio::task::JoinHandle<()>,
}

async fn start(handler: impl ServerHandler + Clone) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let guard = Guard::Secret(Secret::new("s3cret".to_owned()));
    let (stop, stopped) = oneshot::channel();
    let ended = tokio::spawn(serve(listener, handler, guard, async move {
        let _ = stopped.await;
    }));
    Server {
        url,
        stop: Some(stop),
        ended,
    }
}

/// Hands on progress as it arrives.
struct Client(mpsc::Sender<ProgressNotificationParam>);

impl ClientHandler for Client {
    async fn on_progress(
        &self,
        progress: ProgressNotificationParam,
        _: NotificationContext<RoleClient>,
    ) {
        let _ = self.0.send(progress).await;
    }
}

/// The two eras: `initialize`, and 2026-07-28 with its `server/discover`.
fn eras() -> [ClientLifecycleMode; 2] {
    let preferred_versions = vec![ProtocolVersion::V_2026_07_28];
    [
        ClientLifecycleMode::Initialize,
        ClientLifecycleMode::Discover { preferred_versions },
    ]
}

type Connected = (
    RunningService<RoleClient, Client>,
    mpsc::Receiver<ProgressNotificationParam>,
);

async fn connect(server: &Server, user: &str, era: ClientLifecycleMode) -> Connected {
    let headers = [
        ("x-mcpm-router-secret", "s3cret".to_owned()),
        ("x-mcpm-user-id", user.to_owned()),
        ("x-mcpm-instance-id", format!("ins_{user}")),
        ("authorization", format!("Bearer sk-0123456789-{user}")),
    ];
    let headers: HashMap<_, _> = headers
        .into_iter()
        .map(|(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::try_from(value).unwrap(),
            )
        })
        .collect();
    let config = StreamableHttpClientTransportConfig::with_uri(format!("{}/mcp", server.url))
        .custom_headers(headers);
    let transport = StreamableHttpClientTransport::from_config(config);
    let (sender, receiver) = mpsc::channel(100);
    (
        Client(sender)
            .serve_with_lifecycle(transport, era)
            .await
            .unwrap(),
        receiver,
    )
}

fn call(name: &'static str, arguments: Value) -> CallToolRequestParams {
    let arguments: JsonObject = arguments.as_object().unwrap().clone();
    CallToolRequestParams::new(name).with_arguments(arguments)
}

fn text(result: &CallToolResult) -> &str {
    &result.content[0].as_text().unwrap().text
}

#[tokio::test]
async fn clients_of_both_eras_list_and_call() {
    let server = start(Demo).await;
    for era in eras() {
        let (client, _) = connect(&server, "alice", era).await;
        let tools = client.list_all_tools().await.unwrap();
        let names: Vec<_> = tools.iter().map(|tool| &*tool.name).collect();
        assert_eq!(names, ["echo", "whoami", "count"]);
        let said = client
            .call_tool(call("echo", json!({ "message": "hi" })))
            .await
            .unwrap();
        assert_eq!(text(&said), "hi");
        let wrong = client
            .call_tool(call("echo", json!({ "message": 1 })))
            .await
            .unwrap();
        assert_eq!(wrong.is_error, Some(true));
        assert!(client.call_tool(call("nonsense", json!({}))).await.is_err());
        client.cancel().await.unwrap();
    }
}

#[tokio::test]
async fn two_callers_of_one_process_each_see_their_own() {
    let server = start(Demo).await;
    let (alice, _a) = connect(&server, "alice", ClientLifecycleMode::Initialize).await;
    let (bob, _b) = connect(&server, "bob%C3%B6", ClientLifecycleMode::Initialize).await;
    for _ in 0..5 {
        let ask = || call("whoami", json!({}));
        let (of_alice, of_bob) = tokio::join!(alice.call_tool(ask()), bob.call_tool(ask()));
        let seen = of_alice.unwrap().structured_content.unwrap();
        assert_eq!(
            (&seen["user"], &seen["instance"]),
            (&json!("alice"), &json!("ins_alice"))
        );
        assert_eq!(seen["credential"], "Bearer sk-…lice");
        let seen = of_bob.unwrap().structured_content.unwrap();
        assert_eq!(
            (&seen["user"], &seen["credential"]),
            (&json!("bobö"), &json!("Bearer sk-…3%B6"))
        );
    }
}

#[tokio::test]
async fn progress_arrives_one_by_one_before_the_result() {
    let server = start(Demo).await;
    for era in eras() {
        let (client, mut progress) = connect(&server, "alice", era).await;
        let params = call("count", json!({ "to": 3, "delay_ms": 100 }));
        let request = ClientRequest::CallToolRequest(rmcp::model::Request::new(params));
        let options = PeerRequestOptions::no_options();
        let handle = client
            .send_cancellable_request(request, options)
            .await
            .unwrap();
        let mut answer = tokio::spawn(handle.await_response());
        for step in 1..=3 {
            let event = progress.recv().await.unwrap();
            assert_eq!((event.progress, event.total), (f64::from(step), Some(3.0)));
            // The first steps arrive while the call still runs.
            if step < 3 {
                let early = tokio::time::timeout(Duration::from_millis(1), &mut answer).await;
                assert!(early.is_err(), "the result came with step {step}");
            }
        }
        match answer.await.unwrap().unwrap() {
            ServerResult::CallToolResult(result) => assert_eq!(text(&result), "counted to 3"),
            other => panic!("{other:?}"),
        }
    }
}

/// One request without MCP's client.
async fn raw(request: http::request::Builder, body: &'static str) -> (u16, Value) {
    let policy = Policy {
        allow_private: true,
        timeout: Duration::from_secs(5),
        max_answer: 100_000,
    };
    let request = request.body(Bytes::from_static(body.as_bytes())).unwrap();
    let answer = Outbound::new(policy).call(request).await.unwrap();
    let body = serde_json::from_slice(&answer.body)
        .unwrap_or_else(|_| String::from_utf8_lossy(&answer.body).into_owned().into());
    (answer.status.as_u16(), body)
}

#[tokio::test]
async fn only_the_router_is_served_and_health_asks_for_nothing() {
    let server = start(Demo).await;
    let mcp = format!("{}/mcp", server.url);
    let message = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    let post = || {
        Request::post(&mcp)
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
    };
    let secret = "x-mcpm-router-secret";
    let (status, problem) = raw(post(), message).await;
    assert_eq!((status, &problem["code"]), (403, &json!("router_only")));
    assert_eq!(raw(post().header(secret, "wrong"), message).await.0, 403);
    let (status, answer) = raw(post().header(secret, "s3cret"), message).await;
    assert_eq!(
        (status, answer["result"]["tools"].as_array().map(Vec::len)),
        (200, Some(3))
    );
    // No session is given out, and none is asked for.
    let old = post()
        .header(secret, "s3cret")
        .header("mcp-session-id", "of-somebody-else");
    assert_eq!(raw(old, message).await.0, 200);
    let get = Request::get(&mcp)
        .header("accept", "text/event-stream")
        .header(secret, "s3cret");
    assert_eq!(raw(get, "").await.0, 405);
    for broken in ["{broken", "[]"] {
        let (status, answer) = raw(post().header(secret, "s3cret"), broken).await;
        assert_eq!((status, &answer["error"]["code"]), (400, &json!(-32700)));
    }
    let health = format!("{}/health", server.url);
    assert_eq!(raw(Request::get(&health), "").await, (200, json!("ok\n")));
    assert_eq!(raw(Request::post(&health), "").await.0, 405);
    assert_eq!(raw(Request::get(&server.url), "").await.0, 404);
}

#[tokio::test]
async fn a_stop_lets_running_calls_end() {
    let mut server = start(Demo).await;
    let (client, mut progress) = connect(&server, "alice", ClientLifecycleMode::Initialize).await;
    let params = call("count", json!({ "to": 3, "delay_ms": 50 }));
    let running = tokio::spawn(async move { client.call_tool(params).await });
    progress.recv().await.unwrap();
    server.stop.take().unwrap().send(()).unwrap();
    assert_eq!(text(&running.await.unwrap().unwrap()), "counted to 3");
    tokio::time::timeout(Duration::from_secs(5), server.ended)
        .await
        .unwrap()
        .unwrap();
}

/// An API that answers what it was asked; `/status/N` answers with that status.
async fn echo_api(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body
        .collect()
        .await
        .map(|body| body.to_bytes())
        .unwrap_or_default();
    let status = head
        .uri
        .path()
        .strip_prefix("/v1/status/")
        .and_then(|code| code.parse().ok());
    let authorization = head
        .headers
        .get("authorization")
        .and_then(|value| value.to_str().ok());
    let names: Vec<_> = head.headers.keys().map(|name| name.as_str()).collect();
    let seen = json!({
        "method": head.method.as_str(),
        "uri": head.uri.to_string(),
        // Turned round, or the bridge would hide it.
        "credential": authorization.map(|text| text.chars().rev().collect::<String>()),
        "echoed": authorization,
        "headers": names,
        "body": serde_json::from_slice::<Value>(&body).ok(),
    });
    let answer = Response::builder()
        .status(status.unwrap_or(200))
        .header("content-type", "application/json");
    Ok(answer
        .body(Full::new(Bytes::from(seen.to_string())))
        .expect("a plain answer"))
}

async fn start_api() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/v1", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = hyper::service::service_fn(echo_api);
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service);
            tokio::spawn(connection);
        }
    });
    base
}

fn rest_config(base: &str) -> String {
    json!({
        "name": "echo-api", "displayName": "Echo API",
        "api": { "baseURL": base, "headers": { "X-Version": "7" } },
        "auth": { "type": "bearer_token" },
        "tools": [
            {
                "name": "get_item", "endpoint": "/items/{id}",
                "parameters": {
                    "id": { "type": "string", "required": true },
                    "page": { "type": "integer", "default": 1 },
                },
            },
            {
                "name": "make_item", "endpoint": "/items", "method": "POST",
                "parameters": { "title": { "type": "string", "required": true } },
            },
            {
                "name": "fail", "endpoint": "/status/{code}",
                "parameters": { "code": { "type": "integer", "required": true } },
            },
        ],
    })
    .to_string()
}

#[tokio::test]
async fn a_rest_service_calls_its_api_with_each_callers_own_credential() {
    let server = start(handler_from_text(&rest_config(&start_api().await), true)).await;
    let (alice, _a) = connect(&server, "alice", ClientLifecycleMode::Initialize).await;
    let (bob, _b) = connect(&server, "bob", eras()[1].clone()).await;
    let tools = alice.list_all_tools().await.unwrap();
    assert_eq!(tools[0].input_schema["required"], json!(["id"]));
    for (client, user) in [(&alice, "alice"), (&bob, "bob"), (&alice, "alice")] {
        let result = client
            .call_tool(call("get_item", json!({ "id": "a/b" })))
            .await
            .unwrap();
        let seen = result.structured_content.clone().unwrap();
        assert_eq!(
            (&seen["method"], &seen["uri"]),
            (&json!("GET"), &json!("/v1/items/a%2Fb?page=1"))
        );
        let key: String = format!("Bearer sk-0123456789-{user}")
            .chars()
            .rev()
            .collect();
        assert_eq!(seen["credential"], key);
        assert_eq!(seen["echoed"], "Bearer ***");
        let headers = seen["headers"].as_array().unwrap();
        assert!(headers.contains(&json!("x-version")));
        assert!(
            !headers
                .iter()
                .any(|name| name.as_str().unwrap().starts_with("x-mcpm"))
        );
    }
    let made = alice
        .call_tool(call("make_item", json!({ "title": "x" })))
        .await
        .unwrap();
    assert_eq!(
        made.structured_content.unwrap()["body"],
        json!({ "title": "x" })
    );
}

#[tokio::test]
async fn what_goes_wrong_at_the_api_is_a_tool_error() {
    let base = start_api().await;
    let server = start(handler_from_text(&rest_config(&base), true)).await;
    let (client, _p) = connect(&server, "alice", ClientLifecycleMode::Initialize).await;
    let ask = async |params| {
        let result: CallToolResult = client.call_tool(params).await.unwrap();
        assert_eq!(result.is_error, Some(true));
        text(&result).to_owned()
    };
    let said = ask(call("fail", json!({ "code": 422 }))).await;
    assert!(
        said.starts_with("the API answered 422 Unprocessable Entity: {"),
        "{said}"
    );
    assert!(!said.contains("sk-0123456789-alice"), "{said}");
    assert_eq!(
        ask(call("get_item", json!({}))).await,
        "argument `id` is missing"
    );
    let guarded = start(handler_from_text(&rest_config(&base), false)).await;
    let (client, _p) = connect(&guarded, "alice", ClientLifecycleMode::Initialize).await;
    let result = client
        .call_tool(call("get_item", json!({ "id": "1" })))
        .await
        .unwrap();
    assert!(text(&result).contains("not a public address"), "{result:?}");
}

#[test]
fn the_examples_are_right() {
    for text in [
        include_str!("../../examples/github/config.json"),
        include_str!("../../examples/open-meteo/config.json"),
    ] {
        let handler = handler_from_text(text, false);
        assert!(handler.get_info().instructions.is_some());
    }
}
