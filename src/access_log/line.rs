//! How a request looks in the access log. Pure.

use std::fmt::{self, Write};
use std::net::IpAddr;
use std::time::Duration;

use http::{HeaderValue, Method};
use serde_json::json;

use crate::config::settings::AccessLogForm;
use crate::ids::{PublicId, ServiceType, Timestamp};

/// Longest method of MCP that is shown, and longest part of a path of the API: tickets and ids of URLs
/// are longer.
const WORD_MAX: usize = 64;
const PART_MAX: usize = 16;
/// Stands for what is not shown.
const HIDDEN: &str = "…";

/// One request, when it is over.
#[derive(Clone, Debug)]
pub struct Line {
    /// When its head had come.
    pub at: Timestamp,
    /// Its id.
    pub request_id: HeaderValue,
    /// Address of the client.
    pub client: IpAddr,
    /// Whose it was, if it was an instance's.
    pub instance: Option<PublicId>,
    /// The same instance's service.
    pub service: Option<ServiceType>,
    /// Method of HTTP.
    pub method: Method,
    /// What may be shown of its path.
    pub path: Option<Box<str>>,
    /// Of the answer; `None` where there was none any more.
    pub status: Option<u16>,
    /// Why the router has refused it.
    pub code: Option<&'static str>,
    /// Of the body, from the client.
    pub bytes_in: u64,
    /// Of the body, to the client.
    pub bytes_out: u64,
    /// To the end of the answer.
    pub took: Duration,
    /// Method of MCP, where it was read.
    pub mcp: Option<Box<str>>,
}

impl Line {
    /// As text, with its line feed; empty where none is wanted.
    pub fn text(&self, form: AccessLogForm) -> String {
        match form {
            AccessLogForm::Off => String::new(),
            AccessLogForm::Text => self.plain(),
            AccessLogForm::Json => self.json(),
        }
    }

    fn plain(&self) -> String {
        let mut text = String::with_capacity(160);
        let or = |word: Option<&str>| word.unwrap_or("-").to_owned();
        let written = write!(
            text,
            "{} {} {} {} {} {} {} {} {} {} {} {} {}",
            self.at,
            self.request_id.to_str().unwrap_or("-"),
            self.client,
            or(self.instance.as_ref().map(PublicId::as_str)),
            or(self.service.as_ref().map(ServiceType::as_str)),
            self.method,
            Plain(&or(self.path.as_deref())),
            self.status
                .map_or_else(|| "-".to_owned(), |it| it.to_string()),
            or(self.code),
            self.bytes_in,
            self.bytes_out,
            Millis(self.took),
            Plain(&or(self.mcp.as_deref())),
        );
        written.expect("a text takes all words");
        text.push('\n');
        text
    }

    fn json(&self) -> String {
        let millis = self.took.as_micros() as f64 / 1000.0;
        let line = json!({
            "time": self.at,
            "requestId": self.request_id.to_str().ok(),
            "client": self.client,
            "instance": self.instance.as_ref().map(PublicId::as_str),
            "service": self.service.as_ref().map(ServiceType::as_str),
            "method": self.method.as_str(),
            "path": self.path,
            "status": self.status,
            "code": self.code,
            "bytesIn": self.bytes_in,
            "bytesOut": self.bytes_out,
            "durationMs": millis,
            "mcpMethod": self.mcp,
        });
        format!("{line}\n")
    }
}

/// The rest of an instance's path, without what it has of the id in its URL, however it is encoded.
pub(super) fn rest(rest: &str, id: &str) -> Box<str> {
    let plain = percent_encoding::percent_decode_str(rest).collect::<Vec<u8>>();
    let secret = id.rsplit('_').next().unwrap_or(id).as_bytes();
    let holds = !secret.is_empty() && memchr::memmem::find(&plain, secret).is_some();
    let shown = if holds { HIDDEN } else { rest };
    format!("/{}", shown.trim_start_matches('/')).into()
}

/// A path of the API without tickets, and without ids that somebody has put there by mistake.
pub(super) fn own(path: &str) -> Box<str> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let part = |part: &str| {
        if part.len() <= PART_MAX && part.bytes().all(plain) {
            part.to_owned()
        } else {
            HIDDEN.to_owned()
        }
    };
    let parts: Vec<String> = path.split('/').map(part).collect();
    parts.join("/").into()
}

/// A method of MCP as it may stand in a line.
pub(super) fn word(method: &str) -> Box<str> {
    let end = method.floor_char_boundary(WORD_MAX);
    method[..end].into()
}

/// What is no visible character of ASCII, as an escape: a line stays a line, and a column a column.
struct Plain<'a>(&'a str);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '…' | '!'..='~' => f.write_char(c)?,
                c => write!(f, "{}", c.escape_unicode())?,
            }
        }
        Ok(())
    }
}

/// Milliseconds with three digits behind the point.
struct Millis(Duration);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.as_micros();
        write!(f, "{}.{:03}", micros / 1000, micros % 1000)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(path: Option<&str>, mcp: Option<&str>) -> Line {
        Line {
            at: Timestamp::parse("2026-11-27T01:02:03.004Z").unwrap(),
            request_id: HeaderValue::from_static("r1"),
            client: "192.0.2.7".parse().unwrap(),
            instance: PublicId::parse("ins_7f3k2m4qxw5t").ok(),
            service: ServiceType::parse("demo").ok(),
            method: Method::POST,
            path: path.map(Into::into),
            status: Some(200),
            code: None,
            bytes_in: 12,
            bytes_out: 345,
            took: Duration::from_micros(5_250),
            mcp: mcp.map(Into::into),
        }
    }

    #[test]
    fn a_line_has_its_columns_and_json_its_names() {
        let one = line(Some("/mcp"), Some("tools/call"));
        assert_eq!(
            one.text(AccessLogForm::Text),
            "2026-11-27T01:02:03.004Z r1 192.0.2.7 ins_7f3k2m4qxw5t demo POST /mcp 200 - 12 345 5.250 tools/call\n"
        );
        let refused = Line {
            instance: None,
            service: None,
            status: Some(404),
            code: Some("unknown_instance"),
            ..line(None, None)
        };
        let text = refused.text(AccessLogForm::Text);
        assert!(text.contains(" - - POST - 404 unknown_instance "), "{text}");
        let json: serde_json::Value = serde_json::from_str(&one.text(AccessLogForm::Json)).unwrap();
        assert_eq!(json["time"], "2026-11-27T01:02:03.004Z");
        assert_eq!(json["instance"], "ins_7f3k2m4qxw5t");
        assert_eq!(
            (&json["bytesOut"], &json["durationMs"]),
            (&345.into(), &5.25.into())
        );
        assert_eq!(one.text(AccessLogForm::Off), "");
    }

    #[test]
    fn nothing_of_an_id_is_in_a_path() {
        let id = "dem_abcdefghijklmnopqrstuvwxyz";
        for (given, shown) in [
            ("", "/"),
            ("mcp", "/mcp"),
            ("/a/b", "/a/b"),
            ("dem_abcdefghijklmnopqrstuvwxyz/x", "/…"),
            ("x/%61bcdefghijklmnopqrstuvwxyz", "/…"),
        ] {
            assert_eq!(&*rest(given, id), shown, "{given}");
        }
        for (given, shown) in [
            (
                "/api/v1/services/demo/authenticate",
                "/api/v1/services/demo/authenticate",
            ),
            (
                "/api/v1/admin/instances/ins_7f3k2m4qxw5t",
                "/api/v1/admin/instances/ins_7f3k2m4qxw5t",
            ),
            (
                "/api/v1/oauth/start/abcdefghijklmnopqrst",
                "/api/v1/oauth/start/…",
            ),
            ("/api/dem_abcdefghijklmnopqrstuvwxyz", "/api/…"),
            ("/metrics", "/metrics"),
        ] {
            assert_eq!(&*own(given), shown);
        }
    }

    proptest! {
        #[test]
        fn whatever_was_sent_is_one_line(path in any::<String>(), method in any::<String>()) {
            let one = line(Some(&path), Some(&word(&method)));
            let text = one.text(AccessLogForm::Text);
            prop_assert_eq!(text.matches(['\n', '\r']).count(), 1);
            prop_assert!(text.split(' ').count() <= 13);
            prop_assert_eq!(one.text(AccessLogForm::Json).matches('\n').count(), 1);
        }

        #[test]
        fn an_id_is_hidden_wherever_it_stands(before in "[a-z/%]{0,8}", after in "[a-z/]{0,8}") {
            let shown = rest(&format!("{before}secretsecret{after}"), "dem_secretsecret");
            prop_assert_eq!(&*shown, "/…");
        }
    }
}
