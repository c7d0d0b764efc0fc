//! SQL of the audit log and of the daemon's named values.

use rusqlite::{Connection, OptionalExtension, params};

use super::column::optional_column;
use crate::ids::{PublicId, ServiceType, Timestamp, UserId};
use crate::store::{AuditEntry, AuditRow, Setting};

type Result<T> = rusqlite::Result<T>;

pub(super) fn append(conn: &Connection, entries: &[AuditEntry]) -> Result<()> {
    let sql = "INSERT INTO audit_log
                   (at, actor, action, user_id, service, public_id, request_id, detail)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let mut insert = conn.prepare_cached(sql)?;
    for entry in entries {
        insert.execute(params![
            entry.at.as_millis(),
            entry.actor,
            entry.action,
            entry.user.as_ref().map(UserId::as_str),
            entry.service.as_ref().map(ServiceType::as_str),
            entry.public.as_ref().map(PublicId::as_str),
            entry.request_id,
            entry.detail,
        ])?;
    }
    Ok(())
}

pub(super) fn list(conn: &Connection, before: Option<i64>, limit: u32) -> Result<Vec<AuditRow>> {
    let sql = "SELECT number, at, actor, action, user_id, service, public_id, request_id, detail
               FROM audit_log WHERE number < ?1 ORDER BY number DESC LIMIT ?2";
    let mut query = conn.prepare_cached(sql)?;
    let rows = query.query_map(params![before.unwrap_or(i64::MAX), limit], |row| {
        Ok(AuditRow {
            number: row.get(0)?,
            entry: AuditEntry {
                at: Timestamp::from_millis(row.get(1)?),
                actor: row.get(2)?,
                action: row.get(3)?,
                user: optional_column(row, 4, UserId::parse)?,
                service: optional_column(row, 5, ServiceType::parse)?,
                public: optional_column(row, 6, PublicId::parse)?,
                request_id: row.get(7)?,
                detail: row.get(8)?,
            },
        })
    })?;
    rows.collect()
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
