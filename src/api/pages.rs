//! The few pages that people see instead of JSON: small, without scripts, and escaped.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{
    ACCEPT, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderMap, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};

/// Nothing is loaded, nothing runs, and no other page shows it.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

const STYLE: &str = "body{font:1rem/1.5 system-ui,sans-serif;margin:15vh auto;max-width:34rem;\
                     padding:0 1rem;color:#222;background:#fff}code{color:#666}\
                     @media(prefers-color-scheme:dark){body{color:#ddd;background:#111}}";

/// A page that says one thing.
pub(super) struct Page<'a> {
    /// HTTP status.
    pub(super) status: StatusCode,
    /// In a word or two.
    pub(super) title: &'a str,
    /// In a sentence; never a secret.
    pub(super) text: &'a str,
    /// What programs would read, for support.
    pub(super) code: Option<&'a str>,
}

/// Marks an answer that is a page: its status says no less than a problem's.
#[derive(Clone, Copy, Debug)]
pub(super) struct IsPage;

/// Is it a browser that asks?
pub(super) fn wants_html(headers: &HeaderMap) -> bool {
    let accepts = headers.get_all(ACCEPT).iter();
    let mut accepts = accepts.filter_map(|value| value.to_str().ok());
    accepts.any(|value| value.contains("text/html"))
}

impl IntoResponse for Page<'_> {
    fn into_response(self) -> Response {
        let (title, text) = (escaped(self.title), escaped(self.text));
        let code = self.code.map_or_else(String::new, |code| {
            format!("<p><code>{}</code></p>", escaped(code))
        });
        let page = format!(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
             content=\"width=device-width\"><title>{title}</title><style>{STYLE}</style></head>\
             <body><h1>{title}</h1><p>{text}</p>{code}</body></html>\n"
        );
        let mut response = Response::new(Body::from(page));
        *response.status_mut() = self.status;
        response.extensions_mut().insert(IsPage);
        let headers = response.headers_mut();
        for (name, value) in [
            (CONTENT_TYPE, "text/html; charset=utf-8"),
            (CONTENT_SECURITY_POLICY, POLICY),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (X_FRAME_OPTIONS, "DENY"),
            (REFERRER_POLICY, "no-referrer"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

/// As text in HTML.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_text() {
        assert_eq!(
            escaped("<script>alert(\"x\" + 'y')&"),
            "&lt;script&gt;alert(&quot;x&quot; + &#39;y&#39;)&amp;"
        );
    }

    #[test]
    fn a_page_loads_nothing() {
        let page = Page {
            status: StatusCode::NOT_FOUND,
            title: "T",
            text: "x",
            code: None,
        };
        let response = page.into_response();
        assert_eq!(response.status(), 404);
        let policy = response.headers()[CONTENT_SECURITY_POLICY]
            .to_str()
            .unwrap();
        assert!(policy.starts_with("default-src 'none'"));
        assert!(response.extensions().get::<IsPage>().is_some());
    }
}
