//! A real MCP client (rmcp's) at instance URLs, in both eras of the protocol.

use rmcp::model::{
    CallToolRequestParams, CallToolResult, ClientRequest, ProgressNotificationParam,
    ProtocolVersion, ServerResult,
};
use rmcp::service::{
    ClientLifecycleMode, ClientServiceExt, NotificationContext, PeerRequestOptions, RunningService,
};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::{ClientHandler, RoleClient};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::harness::{Mcpm, demo, kill};

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

type Connected = (
    RunningService<RoleClient, Client>,
    mpsc::Receiver<ProgressNotificationParam>,
);

async fn connect(url: &str, era: ClientLifecycleMode) -> Connected {
    let config = StreamableHttpClientTransportConfig::with_uri(url.to_owned());
    let transport = StreamableHttpClientTransport::from_config(config);
    let (sender, progress) = mpsc::channel(100);
    let client = Client(sender).serve_with_lifecycle(transport, era).await;
    (client.expect("a session"), progress)
}

/// `initialize`, and 2026-07-28 with its `server/discover`.
fn eras() -> [ClientLifecycleMode; 2] {
    let preferred_versions = vec![ProtocolVersion::V_2026_07_28];
    [
        ClientLifecycleMode::Initialize,
        ClientLifecycleMode::Discover { preferred_versions },
    ]
}

fn call(name: &'static str, arguments: Value) -> CallToolRequestParams {
    CallToolRequestParams::new(name).with_arguments(arguments.as_object().unwrap().clone())
}

fn text(result: &CallToolResult) -> &str {
    &result.content[0].as_text().unwrap().text
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

#[test]
fn a_client_connects_lists_and_calls() {
    let mcpm = Mcpm::start([demo("demo")]);
    let url = mcpm.instance("alice", "demo");
    runtime().block_on(async {
        for era in eras() {
            let (client, mut progress) = connect(&url, era).await;
            let tools = client.list_all_tools().await.unwrap();
            let names: Vec<_> = tools.iter().map(|tool| &*tool.name).collect();
            assert_eq!(names, ["echo", "whoami", "count"]);
            let said = client
                .call_tool(call("echo", json!({ "message": "hi" })))
                .await
                .unwrap();
            assert_eq!(text(&said), "hi");

            // Steps arrive while the call still runs.
            let count = call("count", json!({ "to": 3, "delay_ms": 400 }));
            let request = ClientRequest::CallToolRequest(rmcp::model::Request::new(count));
            let options = PeerRequestOptions::no_options();
            let handle = client
                .send_cancellable_request(request, options)
                .await
                .unwrap();
            let answer = tokio::spawn(handle.await_response());
            for step in 1..=3 {
                assert_eq!(progress.recv().await.unwrap().progress, f64::from(step));
                assert!(
                    step > 1 || !answer.is_finished(),
                    "the result came with step {step}"
                );
            }
            match answer.await.unwrap().unwrap() {
                ServerResult::CallToolResult(result) => assert_eq!(text(&result), "counted to 3"),
                other => panic!("{other:?}"),
            }
            client.cancel().await.unwrap();
        }
    });
}

#[test]
fn two_users_of_one_process_each_see_their_own() {
    let mcpm = Mcpm::start([demo("demo")]);
    // Long names make long keys, of which the demo shows both ends.
    let users = ["alice-of-example", "bob-of-example"];
    let urls = users.map(|user| (user, mcpm.instance(user, "demo")));
    runtime().block_on(async {
        let mut clients = Vec::new();
        for (user, url) in &urls {
            let (client, _) = connect(url, ClientLifecycleMode::Initialize).await;
            clients.push((*user, client));
        }
        for _ in 0..20 {
            for (user, client) in &clients {
                let result = client.call_tool(call("whoami", json!({}))).await.unwrap();
                let seen = result.structured_content.unwrap();
                let credential = format!("Bearer {}…-key", &user[..3]);
                assert_eq!(
                    (&seen["user"], &seen["credential"]),
                    (&json!(user), &json!(credential))
                );
            }
        }
    });
}

#[test]
fn a_client_does_not_notice_that_its_service_was_killed() {
    let mcpm = Mcpm::start([demo("demo")]);
    let url = mcpm.instance("alice", "demo");
    runtime().block_on(async {
        let (client, _) = connect(&url, ClientLifecycleMode::Initialize).await;
        for _ in 0..3 {
            let list = mcpm.wait_until(|list| list["demo"].pid != 0);
            kill(list["demo"].pid, "KILL");
            let result = client.call_tool(call("whoami", json!({}))).await.unwrap();
            assert_eq!(result.structured_content.unwrap()["user"], "alice");
        }
    });
}
