//! SQL of the audit log and of the daemon's named values.

use rusqlite::types::ToSql;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};

use super::column::optional_column;
use crate::ids::{PublicId, ServiceType, Timestamp, UserId};
use crate::store::{AuditEntry, AuditFilter, AuditRow, Setting};

type Result<T> = rusqlite::Result<T>;

pub(super) fn append(conn: &Connection, entries: &[AuditEntry]) -> Result<()> {
    let sql = "INSERT INTO audit_log
                   (at, actor, action, user_id, service, public_id, address, request_id, detail)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    let mut insert = conn.prepare_cached(sql)?;
    for entry in entries {
        insert.execute(params![
            entry.at.as_millis(),
            entry.actor,
            entry.action,
            entry.user.as_ref().map(UserId::as_str),
            entry.service.as_ref().map(ServiceType::as_str),
            entry.public.as_ref().map(PublicId::as_str),
            entry.address,
            entry.request_id,
            entry.detail,
        ])?;
    }
    Ok(())
}

/// Only what is asked for stands in the statement, so that SQLite can choose an index by it.
pub(super) fn list(
    conn: &Connection,
    filter: &AuditFilter,
    before: Option<i64>,
    limit: u32,
) -> Result<Vec<AuditRow>> {
    let AuditFilter {
        actor,
        user,
        service,
        public,
        action,
        since,
        until,
    } = filter;
    let mut sql = "SELECT number, at, actor, action, user_id, service, public_id, address,
                          request_id, detail
                   FROM audit_log WHERE number < ?"
        .to_owned();
    let mut values: Vec<Box<dyn ToSql>> = vec![Box::new(before.unwrap_or(i64::MAX))];
    let mut only = |condition: &str, value: Box<dyn ToSql>| {
        sql.push_str(" AND ");
        sql.push_str(condition);
        values.push(value);
    };
    if let Some(actor) = actor {
        only("actor = ?", Box::new(actor.clone()));
    }
    if let Some(user) = user {
        only("user_id = ?", Box::new(user.as_str().to_owned()));
    }
    if let Some(service) = service {
        only("service = ?", Box::new(service.as_str().to_owned()));
    }
    if let Some(public) = public {
        only("public_id = ?", Box::new(public.as_str().to_owned()));
    }
    if let Some(action) = action {
        only("action >= ?", Box::new(action.clone()));
        // Nothing that begins so comes after it.
        only("action < ?", Box::new(format!("{action}{}", char::MAX)));
    }
    if let Some(since) = since {
        only("at >= ?", Box::new(since.as_millis()));
    }
    if let Some(until) = until {
        only("at < ?", Box::new(until.as_millis()));
    }
    sql.push_str(" ORDER BY number DESC LIMIT ?");
    values.push(Box::new(limit));
    let mut query = conn.prepare_cached(&sql)?;
    let rows = query.query_map(params_from_iter(values), read)?;
    rows.collect()
}

fn read(row: &Row<'_>) -> Result<AuditRow> {
    Ok(AuditRow {
        number: row.get(0)?,
        entry: AuditEntry {
            at: Timestamp::from_millis(row.get(1)?),
            actor: row.get(2)?,
            action: row.get(3)?,
            user: optional_column(row, 4, UserId::parse)?,
            service: optional_column(row, 5, ServiceType::parse)?,
            public: optional_column(row, 6, PublicId::parse)?,
            address: row.get(7)?,
            request_id: row.get(8)?,
            detail: row.get(9)?,
        },
    })
}

pub(super) fn forget_before(conn: &Connection, before: Timestamp, limit: u32) -> Result<u64> {
    let sql = "DELETE FROM audit_log WHERE number IN
                   (SELECT number FROM audit_log WHERE at < ?1 ORDER BY at, number LIMIT ?2)";
    let gone = conn
        .prepare_cached(sql)?
        .execute(params![before.as_millis(), limit])?;
    Ok(gone as u64)
}

pub(super) fn setting(conn: &Connection, name: &str) -> Result<Option<Vec<u8>>> {
    let mut query = conn.prepare_cached("SELECT value FROM settings WHERE name = ?1")?;
    query.query_row([name], |row| row.get(0)).optional()
}

pub(super) fn put_setting(conn: &Connection, name: &str, value: &[u8]) -> Result<()> {
    let sql = "INSERT INTO settings (name, value) VALUES (?1, ?2)
               ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    conn.prepare_cached(sql)?.execute(params![name, value])?;
    Ok(())
}

pub(super) fn keep_setting(conn: &Connection, name: &str, value: Vec<u8>) -> Result<Vec<u8>> {
    let sql = "INSERT INTO settings (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO NOTHING";
    conn.prepare_cached(sql)?.execute(params![name, value])?;
    Ok(setting(conn, name)?.unwrap_or(value))
}

pub(super) fn swap_settings(
    conn: &Connection,
    guard: &Setting,
    changes: &[Setting],
) -> Result<bool> {
    if setting(conn, &guard.name)? != guard.value {
        return Ok(false);
    }
    for change in changes {
        match &change.value {
            Some(value) => put_setting(conn, &change.name, value)?,
            None => {
                conn.prepare_cached("DELETE FROM settings WHERE name = ?1")?
                    .execute([change.name.as_str()])?;
            }
        }
    }
    Ok(true)
}
