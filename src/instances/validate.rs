//! Asks an external service whether a credential is right.
//!
//! Only an explicit good answer counts. "Wrong" is what the user can mend; "unfit" is a field that
//! leads to nobody who could be asked, and the user's to mend as well; a limit that was hit, a service
//! that is down or an address of the operator's that the guard refused is "could not check", and says
//! why. No user learns at which address a name is, or that there is such a name in here.
//! The filling of templates is pure; values are opened here because this is a place where they
//! leave. No verdict shows a value.

use bytes::Bytes;
use data_encoding::BASE64;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Method, Request, StatusCode, Uri};
use zeroize::Zeroizing;

use crate::config::spec::{InjectSpec, JsonCheck, ValidateSpec};
use crate::outbound::{Outbound, OutboundError, encode, origin};
use crate::problem::chain;
use crate::vault::Fields;

/// What the external service thinks of a credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It said yes.
    Good,
    /// It said no.
    Wrong {
        /// For the user: who said what.
        why: String,
    },
    /// Nobody was asked, since these fields make no address that can be.
    Unfit {
        /// For the user: which fields.
        why: String,
    },
    /// It said neither.
    CouldNotCheck {
        /// For the user and the log: what stood in the way.
        why: String,
    },
}

/// Why a template could not be filled. Shows names, never values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A `{` without its `}`.
    #[error("a template of `validate` has a `{{` without `}}`")]
    Unclosed,
    /// No value for a field.
    #[error("`validate` needs the field `{0}`, which was not given")]
    NoValue(String),
    /// Not an address after filling.
    #[error("`validate.url` with these fields is not an address")]
    Url,
    /// Not a method.
    #[error("`validate.method` is not an HTTP method")]
    Method,
    /// Not a header after filling.
    #[error("the header `{0}` of `validate` with these fields is not one")]
    Header(String),
}

/// Asks the external service about the credential in `fields`.
pub async fn validate(spec: &ValidateSpec, fields: &Fields, outbound: &Outbound) -> Verdict {
    let request = match build(spec, fields) {
        Ok(request) => request,
        Err(error) => return no_request(&error, &spec.url),
    };
    let origin = origin(request.uri());
    match outbound.call(request).await {
        Ok(answer) => {
            let verdict = judge(answer.status, &answer.headers, &spec.expect, &origin);
            match (&verdict, &spec.json) {
                (Verdict::Good, Some(check)) => look(check, &answer.body, &origin),
                _ => verdict,
            }
        }
        Err(error) => no_answer(&error, &spec.url),
    }
}

/// What a request that could not be made says.
fn no_request(error: &TemplateError, template: &str) -> Verdict {
    let given = fields_in(template);
    match error {
        TemplateError::Url if !given.is_empty() => Verdict::Unfit {
            why: format!(
                "with the given {} there is no address that could be asked",
                listed(&given)
            ),
        },
        error => Verdict::CouldNotCheck {
            why: error.to_string(),
        },
    }
}

/// What a call without an answer says. A host that a user has named and that is not called is told alike
/// whether it is there or not.
fn no_answer(error: &OutboundError, template: &str) -> Verdict {
    let given = host_fields(template);
    match error {
        OutboundError::Address
        | OutboundError::UserInfo { .. }
        | OutboundError::Resolve { .. }
        | OutboundError::Private { .. }
            if !given.is_empty() =>
        {
            tracing::debug!(error = %chain(error), "a user has named a host that is not called");
            Verdict::Unfit {
                why: format!(
                    "{} must lead to a host that may be asked from here, and does not",
                    listed(&given)
                ),
            }
        }
        OutboundError::Private { host, .. } => {
            tracing::warn!(error = %chain(error), "a service's `validate.url` is not asked");
            Verdict::CouldNotCheck {
                why: format!(
                    "`{host}` is not at a public address; the operator can set `allow_private` on \
                     the service"
                ),
            }
        }
        error => Verdict::CouldNotCheck { why: chain(error) },
    }
}

/// Names of the fields in a template.
fn fields_in(template: &str) -> Vec<&str> {
    let opened = template.split('{').skip(1);
    opened
        .filter_map(|rest| Some(rest.split_once('}')?.0))
        .collect()
}

/// Those that say which host is asked.
fn host_fields(template: &str) -> Vec<&str> {
    let end = |text: &str| text.find(['/', '?', '#']).unwrap_or(text.len());
    match template.split_once("://") {
        _ if template.starts_with('{') => fields_in(template).into_iter().take(1).collect(),
        Some((_, rest)) => fields_in(&rest[..end(rest)]),
        None => Vec::new(),
    }
}

fn listed(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

/// Who would be asked about these fields: for people, without a path.
pub(super) fn asked(spec: &ValidateSpec, fields: &Fields) -> Option<String> {
    build(spec, fields)
        .ok()
        .map(|request| origin(request.uri()))
}

/// The request that asks.
fn build(spec: &ValidateSpec, fields: &Fields) -> Result<Request<Bytes>, TemplateError> {
    let method: Method = spec.method.parse().map_err(|_| TemplateError::Method)?;
    let mut request = Request::new(Bytes::new());
    let url = with_query(&spec.url, &spec.send, fields)?;
    *request.uri_mut() = fill_url(&url, fields)?;
    *request.method_mut() = method;
    send(&spec.send, fields, request.headers_mut())?;
    Ok(request)
}

/// The template of the address with the parameters that are sent, which encoding leaves no braces. As in the router, one whose
/// field was not given (only an optional one may be missing) is left out.
fn with_query(url: &str, send: &InjectSpec, fields: &Fields) -> Result<String, TemplateError> {
    let mut url = url.to_owned();
    for (name, template) in &send.query {
        if let Some(value) = optional(fill(template, fields, str::to_owned))? {
            url.push(if url.contains('?') { '&' } else { '?' });
            url.push_str(&format!("{}={}", encode(name), encode(&value)));
        }
    }
    Ok(url)
}

/// The headers that are sent.
fn send(send: &InjectSpec, fields: &Fields, headers: &mut HeaderMap) -> Result<(), TemplateError> {
    let filled = |template: &str| optional(fill(template, fields, str::to_owned));
    for (name, template) in &send.headers {
        let bad = || TemplateError::Header(name.clone());
        let header: HeaderName = name.parse().map_err(|_| bad())?;
        if let Some(filled) = filled(template)? {
            headers.insert(header, secret(&filled).ok_or_else(bad)?);
        }
    }
    if let Some((user, word)) = &send.basic
        && let (Some(user), Some(word)) = (filled(user)?, filled(word)?)
    {
        // RFC 7617 §2.
        let pair = Zeroizing::new(format!("{}:{}", *user, *word));
        let basic = Zeroizing::new(format!("Basic {}", BASE64.encode(pair.as_bytes())));
        let bad = || TemplateError::Header(AUTHORIZATION.to_string());
        headers.insert(AUTHORIZATION, secret(&basic).ok_or_else(bad)?);
    }
    Ok(())
}

/// Refuses line breaks and other control characters; letters beyond ASCII go as they are.
fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_bytes(text.as_bytes()).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// A template that is left out when a field of it was not given.
fn optional<T>(filled: Result<T, TemplateError>) -> Result<Option<T>, TemplateError> {
    match filled {
        Ok(filled) => Ok(Some(filled)),
        Err(TemplateError::NoValue(_)) => Ok(None),
        Err(other) => Err(other),
    }
}

/// Fills an address. Values are percent-encoded, so that none adds a path, a query or another host;
/// only a template that begins with a field (`{base_url}/api/me`, for software that users host
/// themselves) takes that one as an address. The guard of `outbound` holds for either.
fn fill_url(template: &str, fields: &Fields) -> Result<Uri, TemplateError> {
    let filled = match template
        .strip_prefix('{')
        .and_then(|rest| rest.split_once('}'))
    {
        Some((name, rest)) => {
            let base = fields
                .get(name)
                .ok_or_else(|| TemplateError::NoValue(name.into()))?;
            if base.contains(['?', '#', '@', '\\']) {
                return Err(TemplateError::Url);
            }
            format!(
                "{}{}",
                base.trim_end_matches('/'),
                *fill(rest, fields, encode)?
            )
        }
        None => fill(template, fields, encode)?.to_string(),
    };
    let uri: Uri = filled.parse().map_err(|_| TemplateError::Url)?;
    let host = uri.host().unwrap_or_default();
    let climbs = uri.path().split('/').any(|part| matches!(part, "." | ".."));
    // A value in the host part must itself have been a piece of a host name.
    if host.is_empty() || host.contains('%') || climbs {
        return Err(TemplateError::Url);
    }
    Ok(uri)
}

/// Puts values into `{field}` places.
fn fill(
    template: &str,
    fields: &Fields,
    encode: impl Fn(&str) -> String,
) -> Result<Zeroizing<String>, TemplateError> {
    let mut filled = Zeroizing::new(String::with_capacity(template.len()));
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, behind) = after.split_once('}').ok_or(TemplateError::Unclosed)?;
        let value = fields
            .get(name)
            .ok_or_else(|| TemplateError::NoValue(name.into()))?;
        filled.push_str(before);
        filled.push_str(&encode(value));
        rest = behind;
    }
    filled.push_str(rest);
    Ok(filled)
}

/// What an answer means.
fn judge(status: StatusCode, headers: &HeaderMap, expect: &[u16], origin: &str) -> Verdict {
    let good = |status| match expect {
        [] => status == 200,
        expect => expect.contains(&status),
    };
    let why = format!("`{origin}` answered {status}");
    // Some APIs say 403 when a limit is hit; then the key may well be right.
    let limited = headers.contains_key(RETRY_AFTER)
        || headers
            .get("x-ratelimit-remaining")
            .is_some_and(|left| left == "0");
    match status.as_u16() {
        code if good(code) => Verdict::Good,
        403 if limited => Verdict::CouldNotCheck { why },
        // The way of asking was refused, which is the operator's to mend, or the time of it.
        405 | 406 | 407 | 408 | 415 | 425 | 429 => Verdict::CouldNotCheck { why },
        400..=499 => Verdict::Wrong { why },
        _ => Verdict::CouldNotCheck { why },
    }
}

/// What the body of an answer with a good status means. What is no JSON says neither yes nor no: so
/// answer proxies and pages of errors.
fn look(check: &JsonCheck, body: &[u8], origin: &str) -> Verdict {
    let at = &check.at;
    let Ok(body) = serde_json::from_slice::<serde_json::Value>(body) else {
        return Verdict::CouldNotCheck {
            why: format!("`{origin}` answered something that is no JSON"),
        };
    };
    let found = body.pointer(at);
    let good = match (&check.is, found) {
        (_, None) => false,
        (Some(wanted), Some(found)) => found == wanted,
        (None, Some(found)) => !found.is_null() && found != &serde_json::Value::Bool(false),
    };
    if good {
        return Verdict::Good;
    }
    // What stands there may be anything, also what was sent: it is not repeated.
    let said = if found.is_some() {
        "says no"
    } else {
        "is missing"
    };
    Verdict::Wrong {
        why: format!("`{at}` {said} in the answer of `{origin}`"),
    }
}

#[cfg(test)]
mod tests;
