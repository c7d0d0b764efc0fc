//! Usage: how much of each service was used on each day.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::List;
use super::door::{Admin, Query, Reply, User};
use super::error::{Answer, ApiError};
use super::paging::PageQuery;
use super::state::Api;
use crate::ids::{Day, ServiceType, UserId};
use crate::store::histogram::{bucket, least};
use crate::store::{BadCursor, Histogram, Usage, UsageFilter, UsageKey, UsageRow};

/// Numbers that were counted.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UsageCounts {
    /// Requests that the service answered, and those that failed.
    pub requests: u64,
    /// Those of them with a status of 500 and above, of the service or of the router.
    pub errors: u64,
    /// Bytes of bodies that came from clients.
    pub bytes_in: u64,
    /// Bytes of bodies that the service answered.
    pub bytes_out: u64,
    /// How long it took until answers began; `null` when there was no request.
    pub latency: Option<Latency>,
}

/// How long answers took until their heads were there, in milliseconds.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Latency {
    /// Their mean.
    pub mean_ms: f64,
    /// Half of them took no longer; quantiles are off by an eighth at most.
    pub p50_ms: f64,
    /// Nine of ten took no longer.
    pub p90_ms: f64,
    /// 99 of a hundred took no longer.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
    /// How many took how long: what adds up over rows, as quantiles do not. Without empty buckets.
    pub histogram: Vec<LatencyBucket>,
}

/// A bucket of a histogram.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LatencyBucket {
    /// The shortest latency that counts here, in microseconds: 0, 64, 80, 96, 112, 128, 160 and so on,
    /// four for each doubling.
    pub from_us: u64,
    /// How many.
    pub count: u64,
}

/// One day of one service.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DayUsage {
    /// Of UTC, such as `2026-11-26`.
    pub day: String,
    /// Service type.
    pub service: String,
    /// How much.
    pub usage: UsageCounts,
}

/// The same with its user.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AdminDayUsage {
    /// Whose. May have been removed since.
    pub user: String,
    /// Of UTC, such as `2026-11-26`.
    pub day: String,
    /// Service type.
    pub service: String,
    /// How much.
    pub usage: UsageCounts,
}

/// Answer of `GET /api/v1/user/usage`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UsageReport {
    /// This page: a row for each day and service, the oldest day first.
    pub items: Vec<DayUsage>,
    /// Pass as `cursor` to get the next page; `null` when this was the last.
    pub next_cursor: Option<String>,
    /// All rows that were asked for, added up; on the first page only.
    pub totals: Option<UsageCounts>,
}

/// Which days and services of one's own.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct OwnQuery {
    /// First day, such as `2026-11-01`.
    from: Option<String>,
    /// Last day.
    to: Option<String>,
    /// Service type.
    service: Option<String>,
    /// `nextCursor` of the page before.
    cursor: Option<String>,
    /// Entries of one page, at most 1000; 200 when not given.
    limit: Option<u32>,
}

/// Which users, days and services.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct AdminQuery {
    /// Whose.
    user: Option<String>,
    /// First day, such as `2026-11-01`.
    from: Option<String>,
    /// Last day.
    to: Option<String>,
    /// Service type.
    service: Option<String>,
    /// `nextCursor` of the page before.
    cursor: Option<String>,
    /// Entries of one page, at most 1000; 200 when not given.
    limit: Option<u32>,
}

impl UsageCounts {
    /// The numbers as they are shown.
    pub fn of(usage: &Usage) -> Self {
        Self {
            requests: usage.requests,
            errors: usage.errors,
            bytes_in: usage.bytes_in,
            bytes_out: usage.bytes_out,
            latency: Latency::of(usage),
        }
    }

    /// The numbers behind the texts, to be added up with others.
    pub fn numbers(&self) -> Usage {
        let mut usage = Usage {
            requests: self.requests,
            errors: self.errors,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            ..Usage::default()
        };
        if let Some(latency) = &self.latency {
            let mut latencies = Histogram::default();
            for LatencyBucket { from_us, count } in &latency.histogram {
                latencies.add(bucket(*from_us), *count);
            }
            usage.latency_max_us = micros(latency.max_ms);
            usage.latency_us = micros(latency.mean_ms * latencies.total() as f64);
            usage.latencies = latencies;
        }
        usage
    }
}

impl Latency {
    fn of(usage: &Usage) -> Option<Self> {
        let quantile = |per_mille| usage.quantile(per_mille).map(millis);
        let count = usage.latencies.total().max(1);
        let buckets = usage.latencies.buckets();
        Some(Self {
            mean_ms: usage.latency_us as f64 / count as f64 / 1000.0,
            p50_ms: quantile(500)?,
            p90_ms: quantile(900)?,
            p99_ms: quantile(990)?,
            max_ms: millis(usage.latency_max_us),
            histogram: buckets
                .map(|(bucket, count)| LatencyBucket {
                    from_us: least(bucket),
                    count,
                })
                .collect(),
        })
    }
}

fn millis(us: u64) -> f64 {
    us as f64 / 1000.0
}

fn micros(ms: f64) -> u64 {
    (ms * 1000.0).round() as u64
}

// ── handlers ──

/// Days and services as they are written.
fn filter(from: Option<&str>, to: Option<&str>, service: Option<&str>) -> Answer<UsageFilter> {
    let day = |text: Option<&str>| text.map(Day::parse).transpose();
    let bad = |error: crate::ids::IdError| ApiError::bad_request(error.to_string());
    let (from, to) = (day(from).map_err(bad)?, day(to).map_err(bad)?);
    if let (Some(from), Some(to)) = (from, to)
        && from > to
    {
        let detail = format!("`from` ({from}) is after `to` ({to})");
        return Err(ApiError::bad_request(detail));
    }
    let service = service.map(ServiceType::parse).transpose().map_err(bad)?;
    Ok(UsageFilter {
        user: None,
        service,
        from,
        to,
    })
}

fn place(cursor: Option<&str>) -> Answer<Option<UsageKey>> {
    let place = cursor.map(str::parse::<UsageKey>).transpose();
    place.map_err(|_: BadCursor| ApiError::bad_request("`cursor` is none of ours"))
}

/// My usage, a row for each day and service, and all of it added up.
#[utoipa::path(get, path = "/api/v1/user/usage", params(OwnQuery), tag = "usage",
    responses((status = 200, body = UsageReport)))]
pub(super) async fn mine(
    User(user): User,
    State(api): State<Api>,
    Query(query): Query<OwnQuery>,
) -> Answer<Reply<UsageReport>> {
    let OwnQuery {
        from,
        to,
        service,
        cursor,
        limit,
    } = query;
    let asked = filter(from.as_deref(), to.as_deref(), service.as_deref())?;
    let after = place(cursor.as_deref())?;
    let size = PageQuery { cursor, limit }.size();
    let own = api.ledger.own(&user, asked).await?;
    let page = api.ledger.page(&own, after.as_ref(), size).await?;
    let totals = match after {
        None => Some(UsageCounts::of(&api.ledger.total(&own).await?)),
        Some(_) => None,
    };
    let day = |UsageRow { key, usage }: UsageRow| DayUsage {
        day: key.day.to_string(),
        service: key.service.to_string(),
        usage: UsageCounts::of(&usage),
    };
    Ok(Reply(UsageReport {
        items: page.items.into_iter().map(day).collect(),
        next_cursor: page.next.map(|next| next.to_string()),
        totals,
    }))
}

/// Everybody's usage, a row for each day, user and service, the oldest day first.
#[utoipa::path(get, path = "/api/v1/admin/usage", params(AdminQuery), tag = "usage",
    responses((status = 200, body = List<AdminDayUsage>)))]
pub(super) async fn admin_list(
    _: Admin,
    State(api): State<Api>,
    Query(query): Query<AdminQuery>,
) -> Answer<Reply<List<AdminDayUsage>>> {
    let AdminQuery {
        user,
        from,
        to,
        service,
        cursor,
        limit,
    } = query;
    let user = user.as_deref().map(UserId::parse).transpose();
    let user = user.map_err(|error| ApiError::bad_request(error.to_string()))?;
    let asked = UsageFilter {
        user,
        ..filter(from.as_deref(), to.as_deref(), service.as_deref())?
    };
    let after = place(cursor.as_deref())?;
    let size = PageQuery { cursor, limit }.size();
    let page = api.ledger.page(&asked, after.as_ref(), size).await?;
    let day = |UsageRow { key, usage }: UsageRow| AdminDayUsage {
        user: key.user.to_string(),
        day: key.day.to_string(),
        service: key.service.to_string(),
        usage: UsageCounts::of(&usage),
    };
    Ok(Reply(List {
        items: page.items.into_iter().map(day).collect(),
        next_cursor: page.next.map(|next| next.to_string()),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_adds_up_again() {
        let mut usage = Usage {
            requests: 3,
            errors: 1,
            bytes_in: 10,
            bytes_out: 20,
            latency_us: 1_000_450,
            latency_max_us: 1_000_000,
            ..Usage::default()
        };
        for us in [150, 300, 1_000_000] {
            usage.latencies.add(bucket(us), 1);
        }
        let shown = UsageCounts::of(&usage);
        assert_eq!(shown.numbers(), usage);
        let latency = shown.latency.unwrap();
        assert_eq!(latency.max_ms, 1000.0);
        assert!(
            latency.p50_ms < 0.4 && latency.p99_ms > 800.0,
            "{latency:?}"
        );
        let nothing = UsageCounts::of(&Usage::default());
        assert!(nothing.latency.is_none());
        assert!(nothing.numbers().is_nothing());
    }

    #[test]
    fn days_are_dates_in_their_order() {
        let asked = filter(Some("2026-11-01"), Some("2026-11-30"), Some("figma")).unwrap();
        assert_eq!(asked.from.unwrap().to_string(), "2026-11-01");
        let said = |from, to| filter(from, to, None).unwrap_err().detail;
        assert!(said(Some("yesterday"), None).contains("write a date"));
        assert!(said(Some("2026-11-02"), Some("2026-11-01")).contains("is after"));
        assert!(place(Some("nonsense")).is_err());
        assert!(place(None).unwrap().is_none());
    }
}
