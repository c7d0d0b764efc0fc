//! SQL of usage.

use rusqlite::types::{ToSql, Type};
use rusqlite::{Connection, Error, OptionalExtension, Row, params};

use super::column::column;
use crate::ids::{Day, ServiceType, UserId};
use crate::store::{Histogram, Page, Usage, UsageFilter, UsageKey, UsageRow};

type Result<T> = rusqlite::Result<T>;

/// The write lock is held from before the first row is read, so that another daemon on the same file
/// adds before or after, and nothing is lost between reading a histogram and writing it.
pub(super) fn add(conn: &Connection, rows: &[UsageRow]) -> Result<()> {
    let mut stored = conn.prepare_cached(
        "SELECT histogram FROM service_usage WHERE day = ?1 AND user_id = ?2 AND service = ?3",
    )?;
    let mut upsert = conn.prepare_cached(
        "INSERT INTO service_usage (day, user_id, service, requests, errors, bytes_in, bytes_out,
             latency_us, latency_max, histogram)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
         ON CONFLICT (day, user_id, service) DO UPDATE SET
             requests = requests + excluded.requests,
             errors = errors + excluded.errors,
             bytes_in = bytes_in + excluded.bytes_in,
             bytes_out = bytes_out + excluded.bytes_out,
             latency_us = latency_us + excluded.latency_us,
             latency_max = max(latency_max, excluded.latency_max),
             histogram = excluded.histogram",
    )?;
    for UsageRow { key, usage } in rows {
        let (day, user) = (key.day.number(), key.user.as_str());
        let service = key.service.as_str();
        let before: Option<Option<Vec<u8>>> = stored
            .query_row(params![day, user, service], |row| row.get(0))
            .optional()?;
        upsert.execute(params![
            day,
            user,
            service,
            integer(usage.requests),
            integer(usage.errors),
            integer(usage.bytes_in),
            integer(usage.bytes_out),
            integer(usage.latency_us),
            integer(usage.latency_max_us),
            merged(before.flatten(), &usage.latencies),
        ])?;
    }
    Ok(())
}

/// One that cannot be read, such as that of a newer release, stays as it is: the numbers count on.
fn merged(before: Option<Vec<u8>>, added: &Histogram) -> Vec<u8> {
    let Some(before) = before else {
        return added.encode();
    };
    match Histogram::decode(&before) {
        Ok(mut all) => {
            all.merge(added);
            all.encode()
        }
        Err(_) => before,
    }
}

pub(super) fn page(
    conn: &Connection,
    filter: &UsageFilter,
    after: Option<&UsageKey>,
    limit: u32,
) -> Result<Page<UsageRow, UsageKey>> {
    let from = filter.from.map_or(i64::MIN, Day::number);
    let to = filter.to.map_or(i64::MAX, Day::number);
    let one_more = i64::from(limit) + 1;
    let user = filter.user.as_ref().map(UserId::as_str);
    let service = filter.service.as_ref().map(ServiceType::as_str);
    let place = after.map(|key| (key.day.number(), key.user.as_str(), key.service.as_str()));
    let mut sql = String::from(
        "SELECT day, user_id, service, requests, errors, bytes_in, bytes_out, latency_us,
             latency_max, histogram
         FROM service_usage WHERE day BETWEEN :from AND :to",
    );
    let mut values: Vec<(&str, &dyn ToSql)> =
        vec![(":from", &from), (":to", &to), (":limit", &one_more)];
    if let Some(user) = &user {
        sql += " AND user_id = :user";
        values.push((":user", user));
    }
    if let Some(service) = &service {
        sql += " AND service = :service";
        values.push((":service", service));
    }
    if let Some((day, user, service)) = &place {
        sql += " AND (day, user_id, service) > (:last_day, :last_user, :last_service)";
        values.push((":last_day", day));
        values.push((":last_user", user));
        values.push((":last_service", service));
    }
    sql += " ORDER BY day, user_id, service LIMIT :limit";
    let mut query = conn.prepare_cached(&sql)?;
    let rows = query.query_map(values.as_slice(), usage_row)?;
    let mut items = rows.collect::<Result<Vec<_>>>()?;
    let more = items.len() > limit as usize;
    items.truncate(limit as usize);
    let last = items.last().map(|row| row.key.clone());
    let next = last.filter(|_| more);
    Ok(Page { items, next })
}

fn usage_row(row: &Row<'_>) -> Result<UsageRow> {
    let number = |index| Ok::<_, Error>(row.get::<_, i64>(index)?.unsigned_abs());
    let latencies = match row.get::<_, Option<Vec<u8>>>(9)? {
        Some(bytes) => Histogram::decode(&bytes)
            .map_err(|error| Error::FromSqlConversionFailure(9, Type::Blob, Box::new(error)))?,
        None => Histogram::default(),
    };
    Ok(UsageRow {
        key: UsageKey {
            day: Day::from_number(row.get(0)?),
            user: column(row, 1, UserId::parse)?,
            service: column(row, 2, ServiceType::parse)?,
        },
        usage: Usage {
            requests: number(3)?,
            errors: number(4)?,
            bytes_in: number(5)?,
            bytes_out: number(6)?,
            latency_us: number(7)?,
            latency_max_us: number(8)?,
            latencies,
        },
    })
}

pub(super) fn counts(
    conn: &Connection,
    user: &UserId,
    from: Day,
) -> Result<Vec<(ServiceType, u64)>> {
    let sql = "SELECT service, sum(requests) FROM service_usage WHERE user_id = ?1 AND day >= ?2
               GROUP BY service ORDER BY service";
    let mut query = conn.prepare_cached(sql)?;
    let rows = query.query_map(params![user.as_str(), from.number()], |row| {
        Ok((
            column(row, 0, ServiceType::parse)?,
            row.get::<_, i64>(1)?.unsigned_abs(),
        ))
    })?;
    rows.collect()
}

pub(super) fn forget_before(conn: &Connection, day: Day, limit: u32) -> Result<u64> {
    let sql = "DELETE FROM service_usage WHERE (day, user_id, service) IN
                   (SELECT day, user_id, service FROM service_usage WHERE day < ?1 LIMIT ?2)";
    let gone = conn
        .prepare_cached(sql)?
        .execute(params![day.number(), limit])?;
    Ok(gone as u64)
}

/// SQLite's integers are signed; nobody counts so far.
fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
