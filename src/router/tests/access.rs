//! Who reaches what, and what those hear who do not.

use super::*;

#[tokio::test]
async fn each_user_is_announced_with_their_own_credential() {
    let upstream = upstream().await;
    let world = World::new(service_spec("demo", upstream.port)).await;
    for name in ["alice", "bob"] {
        let (path, _) = world.member(name).await;
        let head = format!(
            "POST {path}/a/b?q=1 HTTP/1.1\r\nx-key: stolen\r\nx_mcpm_user_id: eve\r\n\
             cookie: a=b\r\ncontent-length: 4"
        );
        let reply = world.exchange(&head, "body").await;
        assert_eq!(reply.status, 200, "{reply:?}");
        assert!(
            reply.head.contains("referrer-policy: no-referrer"),
            "{reply:?}"
        );
        let seen = reply.json();
        assert_eq!(
            (&seen["uri"], &seen["body"]),
            (&json!("/a/b?q=1"), &json!("body"))
        );
        let headers = &seen["headers"];
        assert_eq!(headers["x-key"], format!("key-of-{name}"));
        assert_eq!(headers["x-mcpm-user-id"], name);
        assert_eq!(headers["x-mcpm-router-secret"], "router-secret");
        assert_eq!(headers["host"], format!("127.0.0.1:{}", upstream.port));
        assert!(headers.get("cookie").is_none() && headers.get("x_mcpm_user_id").is_none());
    }
    let (path, _) = world.member("carol").await;
    assert_eq!(world.get(&path).await.json()["uri"], "/mcp");
}

#[tokio::test]
async fn strangers_all_hear_the_same() {
    let upstream = upstream().await;
    let mut spec = service_spec("demo", upstream.port);
    let world = World::new(spec.clone()).await;
    let (alices, _) = world.member("alice").await;
    let (_, bobs_token) = world.member("bob").await;
    spec.require_auth = true;
    world.publish(spec, Routable::Ready);

    let unknown = world
        .get("/dem_0123456789ab_aaaaaaaaaaaaaaaaaaaaaaaaaa/demo")
        .await;
    assert_eq!(
        (unknown.status, unknown.code().as_str()),
        (404, "unknown_instance")
    );
    let with_token =
        |path: &str| format!("GET {path} HTTP/1.1\r\nauthorization: Bearer {bobs_token}");
    for head in [
        "GET /x HTTP/1.1".to_owned(),
        "GET /x/ HTTP/1.1".to_owned(),
        "GET /../demo HTTP/1.1".to_owned(),
        format!("GET {alices}x HTTP/1.1"),
        format!("GET {} HTTP/1.1", alices.trim_end_matches("/demo")),
        format!("GET {} HTTP/1.1", alices.to_uppercase()),
        with_token(&alices),
    ] {
        let reply = world.exchange(&head, "").await;
        assert_eq!(reply.without_id(), unknown.without_id(), "{head}");
    }
    assert_eq!(upstream.requests.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn where_a_token_is_needed_its_owner_passes() {
    let upstream = upstream().await;
    let mut spec = service_spec("demo", upstream.port);
    spec.require_auth = true;
    let world = World::new(spec).await;
    let (path, token) = world.member("alice").await;
    let none = world.get(&path).await;
    assert_eq!((none.status, none.code().as_str()), (401, "unauthorized"));
    assert!(none.head.contains("www-authenticate: bearer"), "{none:?}");
    let wrong = format!("GET {path} HTTP/1.1\r\nauthorization: Bearer mcpm_u_wrong");
    assert_eq!(world.exchange(&wrong, "").await.status, 401);
    let right = format!("GET {path} HTTP/1.1\r\nauthorization: bearer {token}");
    let reply = world.exchange(&right, "").await;
    assert_eq!(reply.status, 200);
    assert!(
        !reply.body.contains(&token),
        "the router's own token stays with it"
    );
}

#[tokio::test]
async fn a_host_that_is_not_ours_reaches_nothing() {
    let upstream = upstream().await;
    let world = World::new(service_spec("demo", upstream.port)).await;
    let (path, _) = world.member("alice").await;
    for path in [path.as_str(), "/api/v1/services", "/health"] {
        let mut stream = world.connect().await;
        let head =
            format!("GET {path} HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut read = Vec::new();
        stream.read_to_end(&mut read).await.unwrap();
        let reply = Reply::parse(&read);
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (421, "unknown_host"),
            "{path}"
        );
    }
    let foreign = format!("GET {path} HTTP/1.1\r\norigin: https://evil.example");
    assert_eq!(world.exchange(&foreign, "").await.code(), "foreign_origin");
    assert_eq!(upstream.requests.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn the_api_and_discovery_have_paths_of_their_own() {
    let upstream = upstream().await;
    let world = World::new(service_spec("demo", upstream.port)).await;
    let (path, _) = world.member("alice").await;
    let head = "GET /api/v1/services HTTP/1.1\r\nx-mcpm-request-id: mine";
    assert_eq!(world.exchange(head, "").await.body, "api 26");
    for probe in [
        "/.well-known/oauth-authorization-server",
        "/register",
        &format!("/.well-known/oauth-protected-resource{path}"),
        &format!("{path}/.well-known/openid-configuration"),
    ] {
        let reply = world.get(probe).await;
        assert_eq!(reply.status, 404, "{probe}");
        assert!(
            reply.head.contains("content-type: application/json"),
            "{reply:?}"
        );
    }
}
