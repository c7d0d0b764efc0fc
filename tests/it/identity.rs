//! Users of an outside identity provider: whose JWT counts, where its keys come from, and what clients
//! and pages hear of it.

use serde_json::{Value, json};

use crate::harness::{Answer, App, Issuer, Mcpm, Signer, run, service, wait_for};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// A service that wants a token of the owner at its instance URLs.
fn guarded(name: &str) -> App {
    service(name).with("/mcp/require_auth", true).with_api_key()
}

/// Writes an ecosystem file whose `mcpm` block is this.
fn file(mcpm: &Mcpm, block: &Value, apps: impl IntoIterator<Item = App>) -> String {
    let path = mcpm.ecosystem(apps);
    let text = std::fs::read_to_string(path).unwrap();
    let mut whole: Value = serde_json::from_str(&text).unwrap();
    whole["mcpm"] = block.clone();
    mcpm.write("ecosystem.json", &whole.to_string())
}

/// These apps, under this `mcpm` block.
fn start(block: &Value, apps: impl IntoIterator<Item = App>) -> Mcpm {
    let mcpm = Mcpm::new();
    let file = file(&mcpm, block, apps);
    mcpm.ok(&["start", &file]);
    mcpm
}

fn ask(mcpm: &Mcpm, method: &str, url: &str, token: &str) -> Answer {
    let value = format!("Bearer {token}");
    mcpm.send(method, url, &[("Authorization", &value)], b"")
        .read()
}

fn services(mcpm: &Mcpm, token: &str) -> Answer {
    let url = format!("{}/api/v1/services", mcpm.origin());
    ask(mcpm, "GET", &url, token)
}

fn code(answer: &Answer) -> String {
    let code = answer.json()["code"].as_str().map(str::to_owned);
    code.unwrap_or_default()
}

/// Status, headers and body, but for what differs from request to request.
fn without_ids(answer: Answer) -> (u16, Vec<(String, String)>, Value) {
    let mut body = answer.json();
    body["requestId"] = Value::Null;
    let mut headers = answer.headers;
    headers.retain(|(name, _)| !["date", "x-mcpm-request-id"].contains(&name.as_str()));
    (answer.status, headers, body)
}

#[test]
fn a_jwt_is_a_token_of_its_user_and_of_nobody_else() {
    let (rsa, point) = (Signer::rsa_1(), Signer::p256());
    let issuer = Issuer::start(&[rsa.jwk("rsa"), point.jwk("point")]);
    let provider = json!({"issuer": issuer.name(), "audience": "mcpm", "allow_private": true});
    let block = json!({ "identity_provider": provider });
    let mcpm = start(&block, [guarded("demo")]);
    let url = mcpm.instance("alice", "demo");
    mcpm.token("bob");
    for alice in [
        rsa.token("rsa", &issuer.claims("alice")),
        point.token("point", &issuer.claims("alice")),
    ] {
        assert_eq!(services(&mcpm, &alice).status, 200);
        let mine = format!("{}/api/v1/user/instances", mcpm.origin());
        let mine = ask(&mcpm, "GET", &mine, &alice).json();
        assert_eq!(mine["items"][0]["service"], "demo");
        // Never the operator.
        let admin = format!("{}/api/v1/admin/users", mcpm.origin());
        assert_eq!(ask(&mcpm, "GET", &admin, &alice).status, 403);
        // Nor for longer than the provider says.
        let tokens = format!("{}/api/v1/user/tokens", mcpm.origin());
        let bearer = format!("Bearer {alice}");
        let headers = [
            ("Authorization", bearer.as_str()),
            ("Content-Type", "application/json"),
        ];
        assert_eq!(
            mcpm.send("POST", &tokens, &headers, b"{}").read().status,
            403
        );
        let seen = ask(&mcpm, "POST", &url, &alice);
        assert_eq!(seen.status, 200, "{seen:?}");
        assert_eq!(seen.json()["headers"]["x-mcpm-user-id"], "alice");
        assert_eq!(
            seen.json()["headers"]["authorization"],
            "Bearer alice-key",
            "the JWT stays with the router"
        );
    }
    let bob = rsa.token("rsa", &issuer.claims("bob"));
    let foreign = ask(&mcpm, "POST", &url, &bob);
    assert_eq!(
        (foreign.status, code(&foreign).as_str()),
        (404, "unknown_instance")
    );

    // Whatever is wrong, the answer is one and the same.
    let with = |name: &str, value: Value| {
        let mut claims = issuer.claims("alice");
        claims[name] = value;
        rsa.token("rsa", &claims)
    };
    let good = rsa.token("rsa", &issuer.claims("alice"));
    let header = json!({"alg": "none"}).to_string();
    let unsigned = rsa.sign(&header, &issuer.claims("alice").to_string());
    let public = rsa.jwk("rsa")["n"].as_str().unwrap().to_owned();
    let bad = [
        "mcpm_u_wrong".to_owned(),
        rsa.token("rsa", &issuer.claims("nobody")),
        Signer::rsa_2().token("rsa", &issuer.claims("alice")),
        rsa.token("unknown", &issuer.claims("alice")),
        with("exp", json!(1)),
        with("aud", json!("other")),
        with("iss", json!("https://evil.example")),
        format!("{good}x"),
        format!("{}.", unsigned.rsplit_once('.').unwrap().0),
        Signer::secret(&public).token("rsa", &issuer.claims("alice")),
        good.replace('.', ""),
        format!("{good}{}", "x".repeat(9000)),
    ];
    let refused = without_ids(services(&mcpm, &bad[0]));
    assert_eq!(
        (refused.0, &refused.2["code"]),
        (401, &json!("unauthorized"))
    );
    let at_instance = without_ids(ask(&mcpm, "POST", &url, &bad[0]));
    for token in &bad[1..] {
        assert_eq!(without_ids(services(&mcpm, token)), refused, "{token}");
        let answer = ask(&mcpm, "POST", &url, token);
        assert_eq!(without_ids(answer), at_instance, "{token}");
    }
    // A user who is removed is out at once, however long their token lasts.
    assert_eq!(services(&mcpm, &good).status, 200);
    mcpm.ok(&["users", "rm", "alice"]);
    assert_eq!(without_ids(services(&mcpm, &good)), refused);
    let log = mcpm.daemon_log();
    assert!(!log.contains(good.rsplit_once('.').unwrap().1), "{log}");
}

#[test]
fn what_was_begun_with_a_jwt_ends_with_it() {
    let rsa = Signer::rsa_1();
    let issuer = Issuer::start(&[rsa.jwk("rsa")]);
    let block = json!({ "identity_provider": {
        "issuer": issuer.name(), "audience": "mcpm", "allow_private": true, "leeway": "0s",
    } });
    let mcpm = start(&block, [guarded("demo")]);
    let url = mcpm.instance("alice", "demo");
    let jwt = |seconds: i64| {
        let mut claims = issuer.claims("alice");
        claims["exp"] = json!(claims["iat"].as_i64().unwrap() + seconds);
        rsa.token("rsa", &claims)
    };
    let open = |token: &str| {
        let value = format!("Bearer {token}");
        let headers = [("Authorization", value.as_str())];
        let mut stream = mcpm.send("GET", &format!("{url}/events"), &headers, b"");
        assert_eq!(stream.event().as_deref(), Some("first"));
        stream
    };
    let (long, short) = (jwt(3600), jwt(3));
    let (mut stays, ends) = (open(&long), open(&short));
    let over = || (services(&mcpm, &short).status == 401).then_some(());
    wait_for(over, "the token to expire");
    let release = format!("{url}/release");
    assert_eq!(ask(&mcpm, "GET", &release, &long).status, 204);
    assert_eq!(stays.event().as_deref(), Some("second"), "others go on");
    let whole = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| ends.read()));
    assert!(whole.is_err(), "not a byte after its end: {whole:?}");
}

#[test]
fn users_come_by_another_claim_and_on_first_sight_where_that_is_set() {
    let rsa = Signer::rsa_1();
    let issuer = Issuer::start(&[rsa.jwk("rsa")]);
    let block = json!({ "identity_provider": {
        "issuer": issuer.name(), "audience": ["a", "mcpm"], "jwks_url": format!("{}/keys", issuer.name()),
        "user_claim": "email", "user_prefix": "corp:", "create_users": true, "required_scope": "mcp",
        "allow_private": true,
    } });
    let mcpm = start(&block, [service("demo")]);
    let token = |scope: &str| {
        let mut claims = issuer.claims("1");
        claims["email"] = json!("carol@example.com");
        claims["scope"] = json!(scope);
        rsa.token("rsa", &claims)
    };
    assert_eq!(services(&mcpm, &token("other")).status, 401);
    assert!(!mcpm.ok(&["users"]).contains("carol"));
    assert_eq!(services(&mcpm, &token("other mcp")).status, 200);
    assert!(mcpm.ok(&["users"]).contains("corp:carol@example.com"));
    let added = mcpm.ok(&["audit", "--json", "--action", "user.add"]);
    let added: Value = serde_json::from_str(&added).unwrap();
    assert_eq!(added["items"].as_array().unwrap().len(), 1, "{added}");
    let carol = "corp:carol@example.com";
    assert_eq!(added["items"][0]["user"], carol);
    assert_eq!(added["items"][0]["actor"], format!("user:{carol}"));
    let lacks = services(&mcpm, &token("other"));
    assert_eq!(
        (lacks.status, code(&lacks).as_str()),
        (403, "insufficient_scope")
    );
}

#[test]
fn keys_of_a_file_rotate_while_the_daemon_runs() {
    let (one, two) = (Signer::rsa_1(), Signer::rsa_2());
    let issuer = "https://id.example.com";
    let mcpm = Mcpm::new();
    let put = |key: Value| {
        let next = mcpm.write("keys.next", &json!({ "keys": [key] }).to_string());
        std::fs::rename(next, mcpm.folder().join("keys.json")).unwrap();
    };
    put(one.jwk("1"));
    let path = mcpm.folder().join("keys.json");
    let block = json!({ "identity_provider": {
        "issuer": issuer, "audience": "mcpm", "jwks_file": path, "create_users": true,
    } });
    let file = file(&mcpm, &block, [service("demo")]);
    mcpm.ok(&["start", &file]);
    let claims = crate::harness::claims(issuer, "alice");
    let (by_one, by_two) = (one.token("1", &claims), two.token("2", &claims));
    assert_eq!(services(&mcpm, &by_one).status, 200);
    assert_eq!(services(&mcpm, &by_two).status, 401);
    put(two.jwk("2"));
    let accepted = || (services(&mcpm, &by_two).status == 200).then_some(());
    wait_for(accepted, "the new key to count");
    assert_eq!(services(&mcpm, &by_one).status, 401, "the old one is gone");
    // What is no set of keys changes nothing, and is told.
    mcpm.write("keys.json", "<html>");
    let told = || mcpm.run(&["ls"]).stderr.contains("keys.json").then_some(());
    let asked = || {
        assert_eq!(services(&mcpm, &by_two).status, 200);
        told()
    };
    wait_for(asked, "a warning that names the file");
}

#[test]
fn a_provider_that_is_down_is_told_from_a_wrong_token_and_missed_no_longer_than_needed() {
    let rsa = Signer::rsa_1();
    let issuer = Issuer::start(&[rsa.jwk("rsa")]);
    issuer.set_up(false);
    let block = json!({ "identity_provider": {
        "issuer": issuer.name(), "audience": "mcpm", "allow_private": true, "create_users": true,
    } });
    let mcpm = start(&block, [guarded("demo")]);
    let url = mcpm.instance("alice", "demo");
    let alice = rsa.token("rsa", &issuer.claims("alice"));
    let unchecked = services(&mcpm, &alice);
    assert_eq!(
        (unchecked.status, code(&unchecked).as_str()),
        (503, "identity_unavailable")
    );
    assert!(unchecked.header("retry-after").is_some());
    let unchecked = ask(&mcpm, "POST", &url, &alice);
    assert_eq!(
        (unchecked.status, code(&unchecked).as_str()),
        (503, "identity_unavailable")
    );
    // Tokens of our own do not need it.
    assert_eq!(ask(&mcpm, "POST", &url, &mcpm.token("alice")).status, 200);
    let warned = mcpm.run(&["ls"]).stderr;
    assert!(warned.contains(issuer.name()), "{warned}");
    issuer.set_up(true);
    let accepted = || (services(&mcpm, &alice).status == 200).then_some(());
    wait_for(accepted, "the keys to be had");
    issuer.set_up(false);
    let bob = rsa.token("rsa", &issuer.claims("bob"));
    assert_eq!(services(&mcpm, &bob).status, 200, "the last keys count");
    assert!(!mcpm.run(&["ls"]).stderr.contains(issuer.name()));
}

#[test]
fn a_secret_comes_from_the_daemons_environment_and_goes_nowhere() {
    let mcpm = Mcpm::new();
    let issuer = "https://id.example.com/auth";
    let block = json!({ "identity_provider": {
        "issuer": issuer, "audience": "mcpm", "secret_env": "MCPM_JWT_SECRET", "create_users": true,
    } });
    let file = file(&mcpm, &block, [service("demo")]);
    let mut command = mcpm.command(&["start", &file]);
    command.env("MCPM_JWT_SECRET", SECRET);
    let ran = run(command, "");
    assert_eq!(ran.code, Some(0), "{ran}");
    let claims = crate::harness::claims(issuer, "alice");
    let good = Signer::secret(SECRET).token("any", &claims);
    assert_eq!(services(&mcpm, &good).status, 200);
    let other = Signer::secret("another secret of thirty-two bytes").token("any", &claims);
    assert_eq!(services(&mcpm, &other).status, 401);
    let config = mcpm.ok(&["config"]);
    assert!(
        config.contains(issuer) && config.contains("MCPM_JWT_SECRET"),
        "{config}"
    );
    let pid = mcpm.list()["demo"].pid;
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
    let environment = String::from_utf8_lossy(&environment);
    let log = mcpm.daemon_log();
    for (place, text) in [
        ("config", config.as_str()),
        ("the log", log.as_str()),
        ("a service", &*environment),
    ] {
        assert!(!text.contains(SECRET), "{place}");
    }
}

#[test]
fn an_instance_is_an_oauth_resource_whether_it_is_there_or_not() {
    let block = json!({
        "public_url": "https://mcp.example.com",
        "identity_provider": {
            "issuer": "https://id.example.com", "audience": "mcpm", "required_scope": "mcp read",
            "jwks_file": "/nonexistent/keys.json",
        },
    });
    let mcpm = start(&block, [guarded("demo"), service("open").with_api_key()]);
    let instance = |user: &str, service: &str| {
        let url = mcpm.instance(user, service);
        url.replace("https://mcp.example.com", "")
    };
    let (demo, open) = (instance("alice", "demo"), instance("alice", "open"));
    let at = |path: &str| format!("{}{path}", mcpm.origin());
    let well_known = |path: &str| at(&format!("/.well-known/oauth-protected-resource{path}"));

    let refused = mcpm.send("POST", &at(&demo), &[], b"{}").read();
    assert_eq!(refused.status, 401);
    let resource = format!(
        "resource_metadata=\"https://mcp.example.com/.well-known/oauth-protected-resource{demo}\""
    );
    let challenge = format!("Bearer {resource}, scope=\"mcp read\"");
    assert_eq!(refused.header("www-authenticate"), Some(challenge.as_str()));
    let wrong = ask(&mcpm, "POST", &at(&demo), "mcpm_u_wrong");
    let challenge = format!("Bearer error=\"invalid_token\", {resource}, scope=\"mcp read\"");
    assert_eq!(wrong.header("www-authenticate"), Some(challenge.as_str()));

    let unknown = "/dem_000000000000_aaaaaaaaaaaaaaaaaaaaaaaaaa/demo";
    for path in [demo.as_str(), unknown] {
        for rest in ["", "/mcp"] {
            let url = format!("{path}{rest}");
            let answer = mcpm.get(&well_known(&url));
            assert_eq!(answer.status, 200, "{url}");
            assert_eq!(answer.header("content-type"), Some("application/json"));
            assert_eq!(
                answer.json(),
                json!({
                    "resource": format!("https://mcp.example.com{url}"),
                    "authorization_servers": ["https://id.example.com"],
                    "bearer_methods_supported": ["header"],
                    "scopes_supported": ["mcp", "read"],
                })
            );
        }
    }
    // A service whose URL alone is the secret is no resource, and nothing else is one.
    for url in [
        well_known(&open),
        well_known(""),
        well_known("/x/nothing"),
        well_known("/api/v1"),
        at("/.well-known/oauth-authorization-server"),
        at("/.well-known/openid-configuration"),
        at("/register"),
    ] {
        let answer = mcpm.get(&url);
        assert_eq!(
            (answer.status, code(&answer).as_str()),
            (404, "not_found"),
            "{url}"
        );
        assert_eq!(
            answer.header("content-type"),
            Some("application/json"),
            "{url}"
        );
    }
    assert_eq!(mcpm.get(&at(&open)).status, 200);
}

#[test]
fn pages_that_the_operator_names_may_call_and_read_and_others_may_not() {
    let app = "https://app.example.com";
    let block = json!({ "cors": { "origins": [app] } });
    let mcpm = start(&block, [guarded("demo")]);
    let url = mcpm.instance("alice", "demo");
    let api = format!("{}/api/v1/services", mcpm.origin());
    let preflight = |url: &str, origin: &str| {
        let headers = [
            ("Origin", origin),
            ("Access-Control-Request-Method", "POST"),
            (
                "Access-Control-Request-Headers",
                "authorization,mcp-session-id",
            ),
        ];
        mcpm.send("OPTIONS", url, &headers, b"").read()
    };
    for at in [url.as_str(), &api] {
        let asked = preflight(at, app);
        assert_eq!(asked.status, 204, "{asked:?}");
        assert_eq!(asked.header("access-control-allow-origin"), Some(app));
        let allowed = asked.header("access-control-allow-headers");
        assert_eq!(allowed, Some("authorization,mcp-session-id"));
        assert_eq!(asked.header("access-control-allow-credentials"), None);
        let foreign = preflight(at, "https://evil.example");
        assert_eq!(foreign.status, 403);
        assert_eq!(foreign.header("access-control-allow-origin"), None);
        // A refusal can be read, too: it says where a token is to be had.
        let refused = mcpm.send("GET", at, &[("Origin", app)], b"").read();
        assert_eq!(refused.status, 401);
        assert_eq!(refused.header("access-control-allow-origin"), Some(app));
        let exposed = refused.header("access-control-expose-headers").unwrap();
        assert!(exposed.contains("WWW-Authenticate") && exposed.contains("Mcp-Session-Id"));
        assert_eq!(refused.header("vary"), Some("Origin"));
    }
    let token = format!("Bearer {}", mcpm.token("alice"));
    let headers = [("Origin", app), ("Authorization", token.as_str())];
    let answer = mcpm.send("POST", &url, &headers, b"{}").read();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("access-control-allow-origin"), Some(app));
    let own = mcpm.get(&api);
    assert_eq!(own.header("access-control-allow-origin"), None);
    assert_eq!(own.header("vary"), Some("Origin"));
}

#[test]
fn mistakes_of_the_block_refuse_the_file_with_their_places() {
    let mcpm = Mcpm::new();
    let text = r#"{ "mcpm": { "identity_provider": {
  "issuer": "https://id.example.com", "audience": "mcpm",
  "algorithms": ["RS256", "HS256"],
  "secret": "hunter2 hunter2" },
  "cors": { "origins": ["*"] } },
  "apps": [] }"#;
    let file = mcpm.write("bad.json", text);
    let complaint = mcpm.fails(&["start", &file]);
    for part in [
        "bad.json:3:17",
        "never stands beside",
        "bad.json:4:3",
        "bad.json:5:24",
    ] {
        assert!(complaint.contains(part), "{part}: {complaint}");
    }
    assert!(!complaint.contains("hunter2"), "{complaint}");
}
