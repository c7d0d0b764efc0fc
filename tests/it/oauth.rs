//! OAuth 2: from a user's browser to the token in the request, and what becomes of tokens after that.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{Answer, CLIENT_SECRET, Mcpm, Provider, request, service, wait_for};

/// A service whose users consent at this provider.
fn start(provider: &Provider) -> Mcpm {
    start_with(provider, &json!({}), |_| {})
}

fn start_with(provider: &Provider, settings: &Value, change: impl FnOnce(&mut Value)) -> Mcpm {
    let mcpm = Mcpm::new();
    let secret = mcpm.write("client-secret", &format!("{CLIENT_SECRET}\n"));
    let mut auth = json!({ "type": "oauth2", "oauth": provider.block(&secret) });
    change(&mut auth);
    let demo = service("demo")
        .with("/mcp/allow_private", true)
        .with("/mcp/auth", auth);
    let path = mcpm.ecosystem([demo]);
    let mut whole: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    whole["mcpm"] = settings.clone();
    let file = mcpm.write("ecosystem.json", &whole.to_string());
    mcpm.ok(&["start", &file]);
    mcpm
}

fn code(answer: &Answer) -> String {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    body["code"].as_str().unwrap_or_default().to_owned()
}

fn get(mcpm: &Mcpm, url: &str, headers: &[(&str, &str)]) -> Answer {
    mcpm.send("GET", url, headers, b"").read()
}

/// Asks for a start address.
#[track_caller]
fn begin(mcpm: &Mcpm, user: &str, body: &Value) -> String {
    let path = "/api/v1/services/demo/oauth/start";
    let answer = mcpm.api(user, "POST", path, &body.to_string());
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["startUrl"].as_str().unwrap().to_owned()
}

/// A browser on its way: the cookie it has got, and where the provider sends it back to.
struct Way {
    cookie: String,
    callback: String,
}

/// From the start address to the provider, and what that says.
#[track_caller]
fn go(mcpm: &Mcpm, start: &str) -> Way {
    let opened = mcpm.get(start);
    assert_eq!(opened.status, 303, "{opened:?}");
    let cookie = opened.header("set-cookie").unwrap().to_owned();
    let asked = mcpm.get(opened.header("location").unwrap());
    assert_eq!(asked.status, 302, "{asked:?}");
    Way {
        cookie: cookie.split(';').next().unwrap().to_owned(),
        callback: asked.header("location").unwrap().to_owned(),
    }
}

fn arrive(mcpm: &Mcpm, way: &Way) -> Answer {
    get(mcpm, &way.callback, &[("Cookie", &way.cookie)])
}

/// The whole way; answers the instance's URL.
#[track_caller]
fn connect(mcpm: &Mcpm, user: &str) -> String {
    let way = go(mcpm, &begin(mcpm, user, &json!({})));
    let answer = arrive(mcpm, &way);
    assert_eq!(answer.status, 200, "{answer:?}");
    instance(mcpm, user)["instanceUrl"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[track_caller]
fn instance(mcpm: &Mcpm, user: &str) -> Value {
    mcpm.api(user, "GET", "/api/v1/services/demo/instance", "")
        .json()
}

/// The token that the service sees; or the code of a refusal.
fn seen(url: &str) -> String {
    let answer = request("GET", url, &[], b"").read();
    if answer.status != 200 {
        return code(&answer);
    }
    let seen = answer.json()["headers"]["authorization"].clone();
    seen.as_str().unwrap_or_default().to_owned()
}

#[track_caller]
fn until(url: &str, wanted: &str) {
    wait_for(|| (seen(url) == wanted).then_some(()), wanted);
}

#[test]
fn a_user_consents_in_a_browser_and_the_service_gets_the_token() {
    let provider = Provider::start();
    let mcpm = start(&provider);
    let offered = mcpm.api("alice", "GET", "/api/v1/services/demo", "").json();
    assert_eq!(offered["authType"], "oauth2");
    assert_eq!(offered["oauth"]["scopes"], json!(["read", "write"]));

    let start = begin(&mcpm, "alice", &json!({}));
    // Who only looks at a link does not use it up.
    assert_eq!(mcpm.send("HEAD", &start, &[], b"").status, 405);
    let prefetch = get(&mcpm, &start, &[("Sec-Purpose", "prefetch")]);
    assert_eq!(prefetch.status, 405);
    let opened = mcpm.get(&start);
    assert_eq!(opened.status, 303);
    let cookie = opened.header("set-cookie").unwrap();
    for part in [
        "HttpOnly",
        "SameSite=Lax",
        "Path=/api/v1/oauth/callback",
        "Max-Age=600",
    ] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert!(!cookie.contains("Secure"), "plain HTTP: {cookie}");
    assert_eq!(code(&mcpm.get(&start)), "oauth_unknown", "it counts once");
    let asked = mcpm.get(opened.header("location").unwrap());
    let way = Way {
        cookie: cookie.split(';').next().unwrap().to_owned(),
        callback: asked.header("location").unwrap().to_owned(),
    };
    let headers = [("Cookie", way.cookie.as_str()), ("Accept", "text/html,*/*")];
    let page = get(&mcpm, &way.callback, &headers);
    assert_eq!(page.status, 200, "{page:?}");
    assert!(
        page.header("content-type")
            .unwrap()
            .starts_with("text/html")
    );
    assert!(page.text().contains("Connected") && page.text().contains("alice"));
    let url = instance(&mcpm, "alice")["instanceUrl"]
        .as_str()
        .unwrap()
        .to_owned();
    let secret = url
        .trim_start_matches(&mcpm.origin())
        .split('/')
        .nth(1)
        .unwrap();
    assert!(!page.text().contains(secret), "no URL on a page");
    assert_eq!(seen(&url), "Bearer access-0-0");
    // A code comes once.
    let again = arrive(&mcpm, &way);
    assert_eq!(
        (again.status, code(&again).as_str()),
        (404, "oauth_unknown")
    );
    let page = get(&mcpm, &way.callback, &headers);
    assert_eq!(page.status, 404);
    assert!(
        page.header("content-type")
            .unwrap()
            .starts_with("text/html")
    );

    // Another time the URL stays.
    assert_eq!(connect(&mcpm, "alice"), url);
    assert_eq!(seen(&url), "Bearer access-1-0");
    let audit = mcpm.ok(&["audit", "--json", "--user", "alice"]);
    for action in [
        "oauth.start",
        "oauth.finish",
        "instance.create",
        "instance.credential",
    ] {
        assert!(audit.contains(action), "{action} in {audit}");
    }
    // Nothing of it lies about.
    let mut files = mcpm.daemon_log().into_bytes();
    for name in ["mcpm.db", "mcpm.db-wal", "run.db"] {
        files.extend(fs::read(mcpm.home().join(name)).unwrap_or_default());
    }
    files.extend(audit.into_bytes());
    for planted in [
        "access-0-0",
        "refresh-0-0",
        "refresh-1-0",
        CLIENT_SECRET,
        secret,
    ] {
        let found = files
            .windows(planted.len())
            .any(|at| at == planted.as_bytes());
        assert!(!found, "{planted}");
    }
}

#[test]
fn a_way_that_is_not_the_users_own_leads_nowhere() {
    let provider = Provider::start();
    let mcpm = start(&provider);
    let none = |user: &str| {
        let answer = mcpm.api(user, "GET", "/api/v1/services/demo/instance", "");
        assert_eq!(answer.status, 404, "{answer:?}");
    };
    let refused = |answer: Answer, status: u16, wanted: &str| {
        assert_eq!((answer.status, code(&answer).as_str()), (status, wanted));
    };
    // A state that nobody has given out, and none at all.
    let callback = format!("{}/api/v1/oauth/callback", mcpm.origin());
    refused(
        mcpm.get(&format!("{callback}?code=x&state=made-up")),
        404,
        "oauth_unknown",
    );
    refused(mcpm.get(&format!("{callback}?code=x")), 400, "bad_request");
    refused(
        mcpm.get(&format!("{callback}?state=a&state=b")),
        400,
        "bad_request",
    );
    // Another browser, with no cookie or with that of its own way.
    let way = go(&mcpm, &begin(&mcpm, "alice", &json!({})));
    let other = go(&mcpm, &begin(&mcpm, "bob", &json!({})));
    refused(mcpm.get(&way.callback), 403, "oauth_other_browser");
    let crossed = get(&mcpm, &way.callback, &[("Cookie", &other.cookie)]);
    refused(crossed, 403, "oauth_other_browser");
    let (name, _) = way.cookie.split_once('=').unwrap();
    let (_, value) = other.cookie.split_once('=').unwrap();
    let forged = format!("{name}={value}");
    let crossed = get(&mcpm, &way.callback, &[("Cookie", &forged)]);
    refused(crossed, 403, "oauth_other_browser");
    none("alice");
    // Which ends nothing for the right one.
    assert_eq!(arrive(&mcpm, &way).status, 200);
    none("bob");

    // Another provider, the same one without its name, a no.
    for issuer in [Some("https://evil.example"), None] {
        provider.set_issuer(issuer);
        let way = go(&mcpm, &begin(&mcpm, "bob", &json!({})));
        refused(arrive(&mcpm, &way), 400, "oauth_issuer");
    }
    provider.set_issuer(Some(provider.block("")["issuer"].as_str().unwrap()));
    provider.deny(Some("access_denied"));
    let way = go(&mcpm, &begin(&mcpm, "bob", &json!({})));
    refused(arrive(&mcpm, &way), 400, "oauth_denied");
    refused(arrive(&mcpm, &way), 404, "oauth_unknown");
    provider.deny(Some("%3Cscript%3Ealert(1)%3C/script%3E"));
    let way = go(&mcpm, &begin(&mcpm, "bob", &json!({})));
    let headers = [("Cookie", way.cookie.as_str()), ("Accept", "text/html")];
    let page = get(&mcpm, &way.callback, &headers);
    assert_eq!(page.status, 400);
    assert!(!page.text().contains("<script"), "{}", page.text());
    none("bob");
    let audit = mcpm.ok(&["audit", "--json", "--action", "oauth.refused"]);
    assert!(
        audit.contains("oauth_issuer") && audit.contains("oauth_denied"),
        "{audit}"
    );

    // A code of another way is no code of this one: PKCE.
    provider.deny(None);
    let (way, other) = (
        go(&mcpm, &begin(&mcpm, "bob", &json!({}))),
        go(&mcpm, &begin(&mcpm, "bob", &json!({}))),
    );
    let code_of = |way: &Way| {
        let (_, rest) = way.callback.split_once("code=").unwrap();
        rest.split('&').next().unwrap().to_owned()
    };
    let swapped = Way {
        callback: way.callback.replace(&code_of(&way), &code_of(&other)),
        cookie: way.cookie,
    };
    refused(arrive(&mcpm, &swapped), 400, "oauth_refused");
    none("bob");

    // What such a service does not take.
    let key = mcpm.api(
        "bob",
        "POST",
        "/api/v1/services/demo/authenticate",
        r#"{"apiKey":"x"}"#,
    );
    refused(key, 400, "oauth_needed");
    let away = json!({"returnTo": "https://evil.example/"}).to_string();
    let answer = mcpm.api("bob", "POST", "/api/v1/services/demo/oauth/start", &away);
    refused(answer, 400, "bad_request");
}

#[test]
fn a_product_gets_its_users_back() {
    let provider = Provider::start();
    let settings = json!({"cors": {"origins": ["https://app.example"]}});
    let mcpm = start_with(&provider, &settings, |_| {});
    let to = json!({"returnTo": "https://app.example/done?x=1"});
    let way = go(&mcpm, &begin(&mcpm, "alice", &to));
    let back = arrive(&mcpm, &way);
    assert_eq!(back.status, 303, "{back:?}");
    assert_eq!(
        back.header("location"),
        Some("https://app.example/done?x=1&oauth=connected&service=demo")
    );
    provider.deny(Some("access_denied"));
    let way = go(&mcpm, &begin(&mcpm, "alice", &to));
    assert_eq!(
        arrive(&mcpm, &way).header("location"),
        Some("https://app.example/done?x=1&oauth=failed&service=demo&code=oauth_denied")
    );
}

#[test]
fn many_requests_at_once_make_one_refresh() {
    let provider = Provider::start();
    let mcpm = start(&provider);
    provider.set_life(1);
    let url = connect(&mcpm, "alice");
    provider.set_life(3600);
    provider.hold(true);
    // Until the token is due, requests go out with it.
    std::thread::scope(|scope| {
        let probes: Vec<_> = std::iter::from_fn(|| {
            let wanted = provider.waiting() == 0;
            wanted.then(|| {
                let probe = scope.spawn(|| seen(&url));
                wait_for(
                    || (probe.is_finished() || provider.waiting() > 0).then_some(()),
                    "a token to become due",
                );
                probe
            })
        })
        .collect();
        let requests: Vec<_> = (0..50).map(|_| scope.spawn(|| seen(&url))).collect();
        provider.hold(false);
        for request in probes.into_iter().chain(requests) {
            let token = request.join().unwrap();
            let known = ["Bearer access-0-0", "Bearer access-0-1"];
            assert!(known.contains(&token.as_str()), "{token}");
        }
    });
    until(&url, "Bearer access-0-1");
    assert_eq!((provider.refreshes(), provider.reuses()), (1, 0));
}

/// Asks until the token is at least so young; answers its number.
#[track_caller]
fn refreshed(url: &str, least: usize) -> usize {
    let ask = || {
        let token = seen(url);
        let number: usize = token.strip_prefix("Bearer access-0-")?.parse().ok()?;
        (number >= least).then_some(number)
    };
    wait_for(ask, "a refreshed token")
}

#[test]
fn refresh_tokens_that_rotate_are_never_used_twice_whatever_ends() {
    let provider = Provider::start();
    let mcpm = start(&provider);
    // Long enough for a daemon to die before the next refresh is begun.
    provider.set_life(4);
    let url = connect(&mcpm, "alice");
    let first = refreshed(&url, 1);
    mcpm.kill_daemon();
    mcpm.ok(&["ls"]);
    refreshed(&url, first + 1);
    // What streams goes on over a refresh.
    provider.set_life(1);
    let mut stream = mcpm.send("GET", &format!("{url}/events"), &[], b"");
    assert_eq!(stream.event().as_deref(), Some("first"));
    let next = refreshed(&url, provider.refreshes() + 2);
    assert_eq!(mcpm.get(&format!("{url}/release")).status, 204);
    assert_eq!(stream.event().as_deref(), Some("second"));
    // A daemon that ends in order waits for what the provider has done already.
    provider.hold(true);
    std::thread::scope(|scope| {
        let mut probes = Vec::new();
        while provider.waiting() == 0 {
            let probe = scope.spawn(|| seen(&url));
            let far = || (probe.is_finished() || provider.waiting() > 0).then_some(());
            wait_for(far, "a refresh");
            probes.push(probe);
        }
        let mut ending = mcpm.spawn(&["kill", "--keep"]);
        provider.hold(false);
        assert_eq!(ending.code(), Some(0));
    });
    mcpm.ok(&["ls"]);
    refreshed(&url, next + 1);
    assert_eq!(provider.reuses(), 0);
}

#[test]
fn a_consent_that_is_taken_back_is_shown_and_mended() {
    let provider = Provider::start();
    let mcpm = start(&provider);
    provider.set_life(1);
    let url = connect(&mcpm, "alice");
    provider.take_back();
    until(&url, "credentials_expired");
    assert_eq!(mcpm.get(&url).status, 403);
    let shown = instance(&mcpm, "alice");
    assert!(shown["credentialsExpiredAt"].is_string(), "{shown}");
    assert!(mcpm.ok(&["instances"]).contains("credentials expired"));
    assert!(mcpm.ok(&["audit"]).contains("instance.credential_expired"));
    // The provider has said its last word, which is durable.
    let asked = provider.refreshes();
    mcpm.kill_daemon();
    mcpm.ok(&["ls"]);
    until(&url, "credentials_expired");
    assert_eq!(provider.refreshes(), asked);
    provider.set_life(3600);
    assert_eq!(connect(&mcpm, "alice"), url);
    assert_eq!(seen(&url), "Bearer access-1-0");
    assert!(instance(&mcpm, "alice")["credentialsExpiredAt"].is_null());
}

#[test]
fn a_provider_that_is_down_makes_no_consent_expire() {
    let provider = Provider::start();
    let mcpm = start(&provider);
    provider.set_life(1);
    let url = connect(&mcpm, "alice");
    provider.set_up(false);
    until(&url, "credentials_unavailable");
    let answer = mcpm.get(&url);
    assert_eq!(answer.status, 503);
    assert!(answer.header("retry-after").is_some());
    assert!(instance(&mcpm, "alice")["credentialsExpiredAt"].is_null());
    let begun = go(&mcpm, &begin(&mcpm, "bob", &json!({})));
    let failed = arrive(&mcpm, &begun);
    assert_eq!(
        (failed.status, code(&failed).as_str()),
        (502, "oauth_unavailable")
    );
    provider.set_life(3600);
    provider.set_up(true);
    until(&url, "Bearer access-0-1");
}

/// Has the service say 401 so often that it is looked into.
#[track_caller]
fn refuse(mcpm: &Mcpm, url: &str) {
    for _ in 0..3 {
        assert_eq!(mcpm.get(&format!("{url}/status/401")).status, 401);
    }
}

#[test]
fn a_token_that_is_refused_is_refreshed_once_before_anything_expires() {
    let provider = Provider::start();
    let rule = json!({ "url": provider.me() });
    let mcpm = start_with(&provider, &json!({}), |auth| auth["validate"] = rule);
    let (alices, bobs) = (connect(&mcpm, "alice"), connect(&mcpm, "bob"));
    // It is the request that is refused: the provider's API takes the token.
    let asked = provider.asked();
    refuse(&mcpm, &alices);
    let checked = || (provider.asked() > asked).then_some(());
    wait_for(checked, "the question");
    assert!(instance(&mcpm, "alice")["refusedSince"].is_string());
    assert_eq!(seen(&alices), "Bearer access-0-0");
    // It is the token, and the next one is good.
    provider.take_from(1);
    refuse(&mcpm, &bobs);
    until(&bobs, "Bearer access-1-1");
    let own = instance(&mcpm, "bob");
    assert!(own["credentialsExpiredAt"].is_null() && own["refusedSince"].is_null());
    assert_eq!(provider.refreshes(), 1);
    // It is the consent: the next one is as bad.
    let carols = {
        provider.take_from(0);
        connect(&mcpm, "carol")
    };
    provider.take_from(u64::MAX);
    refuse(&mcpm, &carols);
    until(&carols, "credentials_expired");
    assert_eq!((provider.refreshes(), provider.reuses()), (2, 0));
    let told = mcpm.ok(&["audit", "--json", "--action", "instance.credential_expired"]);
    assert!(told.contains("carol") && !told.contains("bob"), "{told}");
    // What the provider has taken back is told by its refusal.
    provider.take_from(0);
    let daves = connect(&mcpm, "dave");
    provider.take_from(u64::MAX);
    provider.take_back();
    refuse(&mcpm, &daves);
    until(&daves, "credentials_expired");
    assert_eq!(provider.refreshes(), 3);
}

#[test]
fn without_a_rule_a_token_that_is_refused_is_refreshed_and_nothing_is_concluded() {
    let provider = Provider::start();
    let mcpm = start(&provider);
    let url = connect(&mcpm, "alice");
    refuse(&mcpm, &url);
    let refreshed = || (provider.refreshes() == 1).then_some(());
    wait_for(refreshed, "a refresh");
    until(&url, "Bearer access-0-1");
    // Not again and again.
    refuse(&mcpm, &url);
    refuse(&mcpm, &url);
    let own = instance(&mcpm, "alice");
    assert!(own["refusedSince"].is_string() && own["credentialsExpiredAt"].is_null());
    assert_eq!(seen(&url), "Bearer access-0-1");
    assert_eq!(provider.refreshes(), 1);
}

#[test]
fn a_daemon_that_dies_between_exchange_and_answer_leaves_nothing_half_done() {
    let provider = Provider::start();
    let mcpm = start(&provider);
    let way = go(&mcpm, &begin(&mcpm, "alice", &json!({})));
    provider.hold(true);
    std::thread::scope(|scope| {
        // Its answer never comes.
        let (origin, way) = (mcpm.origin(), &way);
        let cut = scope.spawn(move || {
            let host = origin.trim_start_matches("http://").to_owned();
            let path = way.callback.trim_start_matches(&origin).to_owned();
            let mut stream = std::net::TcpStream::connect(&host).unwrap();
            let head = format!(
                "GET {path} HTTP/1.1\r\nHost: {host}\r\nCookie: {}\r\n\r\n",
                way.cookie
            );
            std::io::Write::write_all(&mut stream, head.as_bytes()).unwrap();
            let mut all = Vec::new();
            let _ = std::io::Read::read_to_end(&mut stream, &mut all);
            all
        });
        wait_for(|| (provider.waiting() == 1).then_some(()), "the exchange");
        mcpm.kill_daemon();
        assert_eq!(cut.join().unwrap(), b"");
    });
    provider.hold(false);
    mcpm.ok(&["ls"]);
    let answer = mcpm.api("alice", "GET", "/api/v1/services/demo/instance", "");
    assert_eq!(answer.status, 404, "{answer:?}");
    assert_eq!(code(&arrive(&mcpm, &way)), "oauth_unknown");
    let url = connect(&mcpm, "alice");
    assert_eq!(seen(&url), "Bearer access-1-0");
}

#[test]
fn what_is_removed_is_revoked_at_the_provider() {
    let provider = Provider::start();
    let mcpm = start(&provider);
    connect(&mcpm, "alice");
    connect(&mcpm, "bob");
    let gone = mcpm.api("alice", "DELETE", "/api/v1/services/demo/instance", "");
    assert_eq!(gone.status, 204);
    let revoked = |token: &str| {
        let known = || provider.revoked().iter().any(|found| found == token);
        wait_for(|| known().then_some(()), token);
    };
    revoked("refresh-0-0");
    mcpm.ok(&["users", "rm", "bob"]);
    revoked("refresh-1-0");
}

#[test]
fn whoever_is_gone_meanwhile_is_not_connected() {
    let provider = Provider::start();
    let mcpm = start(&provider);
    let way = |user: &str| go(&mcpm, &begin(&mcpm, user, &json!({})));
    let (alice, bob, carol) = (way("alice"), way("bob"), way("carol"));
    mcpm.ok(&["users", "rm", "alice"]);
    mcpm.ok(&["users", "add", "alice"]);
    mcpm.ok(&["users", "revoke", "bob", "--all"]);
    mcpm.ok(&["users", "disable", "carol"]);
    let asked = provider.asked();
    for (way, wanted) in [
        (alice, "withdrawn"),
        (bob, "withdrawn"),
        (carol, "user_disabled"),
    ] {
        let answer = arrive(&mcpm, &way);
        assert_eq!((answer.status, code(&answer).as_str()), (409, wanted));
    }
    assert_eq!(provider.asked(), asked, "the code is not taken there");
    let list = mcpm.ok(&["instances", "--json"]);
    assert!(!list.contains("demo"), "{list}");
}
