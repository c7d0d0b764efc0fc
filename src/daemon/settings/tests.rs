//! Which source wins, and what a start is told.

use super::*;

fn source(name: &str, listen: &str) -> Source {
    let settings = Settings {
        listen: Some(listen.parse().unwrap()),
        ..Settings::default()
    };
    Source {
        name: name.into(),
        settings,
    }
}

#[test]
fn the_stronger_source_wins_and_is_named() {
    let sources = Sources {
        strong: vec![
            source("flag", "127.0.0.1:1"),
            source("MCPM_LISTEN", "127.0.0.1:2"),
        ],
        files: vec![source("/e.json", "127.0.0.1:3")],
    };
    let chosen = choose(&sources).unwrap();
    assert_eq!(chosen.listen.port(), 1);
    assert_eq!(chosen.rows("u")[0].source, "flag");
    assert_eq!(chosen.rows("u")[1].source, "default");
}

#[test]
fn a_start_that_loses_is_told_and_one_that_agrees_is_not() {
    let mut sources = Sources {
        strong: vec![source("MCPM_LISTEN", "127.0.0.1:2")],
        files: Vec::new(),
    };
    let now = choose(&sources).unwrap();
    let wish = |by: &str, listen: &str| {
        choose(&Sources {
            strong: vec![source(by, listen)],
            files: Vec::new(),
        })
        .unwrap()
    };
    let said = now.refused(&wish("/e.json", "127.0.0.1:3"));
    assert_eq!(
        said,
        "`listen` is `127.0.0.1:2` (MCPM_LISTEN), /e.json says `127.0.0.1:3`"
    );
    assert_eq!(now.refused(&wish("/e.json", "127.0.0.1:2")), "");
    assert_eq!(now.refused(&choose(&Sources::default()).unwrap()), "");
    // An idle daemon takes the shell's word for its own environment's, not for a flag.
    sources.take_shell(&[source("MCPM_LISTEN", "127.0.0.1:4")]);
    assert_eq!(choose(&sources).unwrap().listen.port(), 4);
    assert_eq!(sources.strong.len(), 1);
    sources.strong.insert(0, source(FLAG, "127.0.0.1:5"));
    sources.take_shell(&[source("MCPM_LISTEN", "127.0.0.1:6")]);
    let now = choose(&sources).unwrap();
    assert_eq!(now.listen.port(), 5);
    assert_ne!(now.refused(&wish("MCPM_LISTEN", "127.0.0.1:6")), "");
}

#[test]
fn books_are_kept_as_long_as_somebody_says() {
    let shown = |retention| {
        let settings = Settings {
            retention,
            ..Settings::default()
        };
        let file = Source {
            name: "/e.json".into(),
            settings,
        };
        let sources = Sources {
            strong: Vec::new(),
            files: vec![file],
        };
        let rows = choose(&sources).unwrap().rows("u");
        let row = rows.into_iter().find(|row| row.name == "retention");
        let row = row.unwrap();
        (row.name, row.value, row.source)
    };
    let row =
        |value: &str, source: &str| ("retention".to_owned(), value.to_owned(), source.to_owned());
    assert_eq!(shown(None), row("usage 180d, audit 365d", "default"));
    let spec = RetentionSpec {
        usage_days: Some(0),
        audit_days: None,
    };
    assert_eq!(
        shown(Some(spec)),
        row("usage for ever, audit 365d", "/e.json")
    );
}

#[test]
fn files_may_not_differ() {
    let files = vec![
        source("/e.json", "127.0.0.1:3"),
        source("/h/mcpm.json", "127.0.0.1:4"),
    ];
    let error = choose(&Sources {
        strong: Vec::new(),
        files,
    })
    .unwrap_err()
    .to_string();
    assert!(
        error.contains("/e.json") && error.contains("/h/mcpm.json"),
        "{error}"
    );
}

#[test]
fn a_webhook_is_shown_without_its_path_and_another_path_is_another_one() {
    let said = |url: &str| {
        let settings = Settings {
            audit_webhook: Some(url.to_owned()),
            ..Settings::default()
        };
        let file = Source {
            name: "/e.json".into(),
            settings,
        };
        choose(&Sources {
            strong: Vec::new(),
            files: vec![file],
        })
        .unwrap()
    };
    let one = said("https://hooks.example.com/T0/hunter2");
    let shown = one.rows("u");
    let row = shown.iter().find(|row| row.name == "audit.webhook");
    assert_eq!(row.unwrap().value, "https://hooks.example.com/…");
    let other = said("https://hooks.example.com/T0/hunter3");
    assert!(one.same_values(&one) && !one.same_values(&other));
    assert!(!other.difference(&one).contains("hunter"));
    assert_eq!(one.webhook().unwrap().path(), "/T0/hunter2");
}

#[test]
fn the_environment_is_read_as_a_file_is() {
    let read = |name: &'static str, text: &'static str| {
        from_environment(move |asked| (asked == name).then(|| text.to_owned()))
    };
    let one = |name, text| read(name, text).unwrap().remove(0).settings;
    let local = "127.0.0.1:8080".parse().ok();
    assert_eq!(one("MCPM_LISTEN", "8080").listen, local);
    assert_eq!(one("MCPM_LISTEN", "localhost:8080").listen, local);
    let url = one("MCPM_PUBLIC_URL", "https://a.example/").public_url;
    assert_eq!(url.as_deref(), Some("https://a.example"));
    assert_eq!(one("MCPM_MAX_BODY", "2M").max_body, Some(2 << 20));
    assert_eq!(one("MCPM_REQUIRE_AUTH", "true").require_auth, Some(true));
    let proxies = one("MCPM_TRUSTED_PROXIES", "127.0.0.1, 10.0.0.0/8").trusted_proxies;
    assert_eq!(listed(&proxies.unwrap()), "127.0.0.1; 10.0.0.0/8");
    let header = one("MCPM_TRUSTED_HEADER", "Forwarded").trusted_header;
    assert_eq!(header, Some(TrustedHeader::Forwarded));
    assert_eq!(
        one("MCPM_PROXY_PROTOCOL", "true").proxy_protocol,
        Some(true)
    );
    for (name, text, write) in [
        ("MCPM_LISTEN", "example.com:80", "127.0.0.1:8080"),
        (
            "MCPM_PUBLIC_URL",
            "https://a.example/path",
            "without a path",
        ),
        ("MCPM_PUBLIC_URL", "https://u:p@a.example", "an origin"),
        ("MCPM_REQUIRE_AUTH", "yes", "`true`"),
        ("MCPM_MAX_BODY", "0", "`8M`"),
        ("MCPM_TRUSTED_PROXIES", "10.0.0.1/8", "10.0.0.0/8"),
        ("MCPM_TRUSTED_HEADER", "X-Real-IP", "`forwarded`"),
    ] {
        let said = read(name, text).unwrap_err();
        assert!(said.starts_with(&format!("{name} is `{text}`")), "{said}");
        assert!(said.contains(write), "{said}");
    }
    assert!(read("MCPM_LISTEN", "").unwrap().is_empty());
}
