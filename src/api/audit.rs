//! `GET /api/v1/admin/audit`: who has done what, from where and when.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::List;
use super::door::{Admin, Query, Reply};
use super::error::{Answer, ApiError};
use super::paging::PageQuery;
use super::state::Api;
use crate::ids::{PublicId, ServiceType, Timestamp, UserId};
use crate::store::{AuditFilter, AuditRow};

/// Something that was done.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditEvent {
    /// Counts up.
    pub number: i64,
    /// When; of refusals the first of those that are told together.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Who: `admin` (by command), `admin:7` (with the admin token of that number), `user:alice`, `url`
    /// (whoever has the instance's URL), `nobody` (who is not known), `system` (the daemon).
    pub actor: String,
    /// What, in a stable word such as `instance.rotate`.
    pub action: String,
    /// Whose matter it was.
    pub user: Option<String>,
    /// Service type.
    pub service: Option<String>,
    /// Public number of the instance.
    pub instance: Option<String>,
    /// From where: an address, the network of an IPv6 one, or `socket`.
    pub address: Option<String>,
    /// Under which it stands in the log.
    pub request_id: Option<String>,
    /// More, for people.
    pub detail: Option<String>,
}

impl From<AuditRow> for AuditEvent {
    fn from(row: AuditRow) -> Self {
        let AuditRow { number, entry } = row;
        Self {
            number,
            at: entry.at,
            actor: entry.actor,
            action: entry.action,
            user: entry.user.map(|user| user.to_string()),
            service: entry.service.map(|service| service.to_string()),
            instance: entry.public.map(|public| public.to_string()),
            address: entry.address,
            request_id: entry.request_id,
            detail: entry.detail,
        }
    }
}

/// Which of it: entries that are all of this.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct AuditQuery {
    /// Who did it, as it stands in `actor`.
    actor: Option<String>,
    /// Whose matter it was.
    user: Option<String>,
    /// Service type.
    service: Option<String>,
    /// Public number of the instance.
    instance: Option<String>,
    /// The action, or how it begins: `isolation.` for all of a kind.
    action: Option<String>,
    /// Not before this time (RFC 3339).
    since: Option<String>,
    /// Before this time (RFC 3339).
    until: Option<String>,
    /// `nextCursor` of the page before.
    cursor: Option<String>,
    /// Entries of one page, at most 1000; 200 when not given.
    limit: Option<u32>,
}

impl AuditQuery {
    /// # Errors
    /// Something in it is not what it must be.
    fn filter(&self) -> Answer<AuditFilter> {
        let wrong = |error: crate::ids::IdError| ApiError::bad_request(error.to_string());
        let parsed = |text: &Option<String>, name: &str| {
            text.as_deref().map(|text| time(text, name)).transpose()
        };
        let user = self.user.as_deref().map(UserId::parse).transpose();
        let service = self.service.as_deref().map(ServiceType::parse).transpose();
        let public = self.instance.as_deref().map(PublicId::parse).transpose();
        Ok(AuditFilter {
            actor: self.actor.clone(),
            user: user.map_err(wrong)?,
            service: service.map_err(wrong)?,
            public: public.map_err(wrong)?,
            action: self.action.clone(),
            since: parsed(&self.since, "since")?,
            until: parsed(&self.until, "until")?,
        })
    }
}

impl AuditQuery {
    /// The page begins after this number.
    fn before(&self) -> Answer<Option<i64>> {
        let Some(text) = self.cursor.as_deref() else {
            return Ok(None);
        };
        // As we write them, and no other way to say the same.
        let number = text.parse().ok();
        let number = number.filter(|number: &i64| *number > 0 && number.to_string() == text);
        let forged = || ApiError::bad_request("`cursor` is none of ours");
        number.ok_or_else(forged).map(Some)
    }
}

fn time(text: &str, name: &str) -> Answer<Timestamp> {
    Timestamp::parse(text).ok_or_else(|| {
        let detail = format!("`{name}` is no time; write it as in `2026-11-22T23:49:07Z`");
        ApiError::bad_request(detail)
    })
}

// ── handlers ──

/// The audit log, newest first.
#[utoipa::path(get, path = "/api/v1/admin/audit", params(AuditQuery), tag = "audit",
    responses((status = 200, body = List<AuditEvent>)))]
pub(super) async fn list(
    _: Admin,
    State(api): State<Api>,
    Query(query): Query<AuditQuery>,
) -> Answer<Reply<List<AuditEvent>>> {
    let filter = query.filter()?;
    let before = query.before()?;
    let page = PageQuery {
        cursor: None,
        limit: query.limit,
    };
    let limit = page.size();
    // One more than asked for says whether there is a next page.
    let mut found = api.audit.list(filter, before, limit + 1).await?;
    let more = found.len() > limit as usize;
    found.truncate(limit as usize);
    let last = found.last().filter(|_| more);
    let next_cursor = last.map(|row| row.number.to_string());
    Ok(Reply(List {
        items: found.into_iter().map(AuditEvent::from).collect(),
        next_cursor,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Answer<AuditFilter> {
        let uri: http::Uri = format!("/api/v1/admin/audit?{query}").parse().unwrap();
        let query = axum::extract::Query::<AuditQuery>::try_from_uri(&uri).unwrap();
        query.0.filter()
    }

    #[test]
    fn a_cursor_that_is_none_of_ours_is_refused() {
        let before = |text: &str| {
            let uri = format!("/api/v1/admin/audit?cursor={text}");
            let query = axum::extract::Query::<AuditQuery>::try_from_uri(&uri.parse().unwrap());
            query.unwrap().0.before().map_err(|error| error.status)
        };
        assert_eq!(before("17"), Ok(Some(17)));
        for forged in ["", "-1", "0", "%2B17", "017", "x", "99999999999999999999"] {
            assert_eq!(
                before(forged),
                Err(http::StatusCode::BAD_REQUEST),
                "{forged}"
            );
        }
    }

    #[test]
    fn a_query_becomes_a_filter_or_says_what_is_wrong() {
        assert_eq!(read("").unwrap(), AuditFilter::default());
        let filter = read(
            "actor=admin:7&user=alice&service=demo&instance=ins_aaaabbbbcccc&action=instance.\
             &since=2026-11-22T23:49:07Z&until=2026-11-23T00:49:07%2B01:00",
        );
        let expected = AuditFilter {
            actor: Some("admin:7".to_owned()),
            user: UserId::parse("alice").ok(),
            service: ServiceType::parse("demo").ok(),
            public: PublicId::parse("ins_aaaabbbbcccc").ok(),
            action: Some("instance.".to_owned()),
            since: Timestamp::parse("2026-11-22T23:49:07Z"),
            until: Timestamp::parse("2026-11-22T23:49:07Z"),
        };
        assert_eq!(filter.unwrap(), expected);
        for (wrong, says) in [
            ("user=", "a user id has"),
            ("service=A", "`A` is not a service type"),
            (
                "instance=dem_x",
                "`dem_x` is not an instance's public number",
            ),
            ("since=2h", "`since` is no time"),
            ("until=now", "`until` is no time"),
        ] {
            let refused = read(wrong).unwrap_err();
            assert!(refused.detail.contains(says), "{refused:?}");
        }
    }
}
