//! SQL of what is remembered of credentials that were checked.

use rusqlite::{Connection, OptionalExtension, params};

use crate::ids::{ServiceType, Timestamp, UserId};
use crate::store::{CHECKS_MAX, Check, CheckKey};

type Result<T> = rusqlite::Result<T>;

pub(super) fn one(conn: &Connection, key: &CheckKey, now: Timestamp) -> Result<Option<Check>> {
    let sql = "SELECT valid, checked_at, expires_at FROM api_key_validation_cache
               WHERE user_id = ?1 AND service = ?2 AND hash = ?3 AND expires_at > ?4";
    let mut query = conn.prepare_cached(sql)?;
    let (user, service) = (key.user.as_str(), key.service.as_str());
    query
        .query_row(params![user, service, key.hash, now.as_millis()], |row| {
            Ok(Check {
                is_good: row.get(0)?,
                asked_at: Timestamp::from_millis(row.get(1)?),
                until: Timestamp::from_millis(row.get(2)?),
            })
        })
        .optional()
}

pub(super) fn put(conn: &Connection, key: &CheckKey, check: &Check) -> Result<()> {
    let sql = "INSERT INTO api_key_validation_cache
                   (user_id, service, hash, valid, checked_at, expires_at)
               SELECT id, ?2, ?3, ?4, ?5, ?6 FROM users WHERE id = ?1
               ON CONFLICT (user_id, service, hash) DO UPDATE
               SET valid = excluded.valid, checked_at = excluded.checked_at,
                   expires_at = excluded.expires_at
               WHERE checked_at <= excluded.checked_at";
    conn.prepare_cached(sql)?.execute(params![
        key.user.as_str(),
        key.service.as_str(),
        key.hash,
        check.is_good,
        check.asked_at.as_millis(),
        check.until.as_millis(),
    ])?;
    let sql = "DELETE FROM api_key_validation_cache WHERE (user_id, service, hash) IN
                   (SELECT user_id, service, hash FROM api_key_validation_cache WHERE user_id = ?1
                    ORDER BY checked_at DESC LIMIT -1 OFFSET ?2)";
    conn.prepare_cached(sql)?
        .execute(params![key.user.as_str(), CHECKS_MAX])?;
    Ok(())
}

pub(super) fn forget(conn: &Connection, user: &UserId, service: &ServiceType) -> Result<()> {
    let sql = "DELETE FROM api_key_validation_cache WHERE user_id = ?1 AND service = ?2";
    conn.prepare_cached(sql)?
        .execute([user.as_str(), service.as_str()])?;
    Ok(())
}

pub(super) fn forget_before(conn: &Connection, now: Timestamp, limit: u32) -> Result<u64> {
    let sql = "DELETE FROM api_key_validation_cache WHERE (user_id, service, hash) IN
                   (SELECT user_id, service, hash FROM api_key_validation_cache
                    WHERE expires_at <= ?1 LIMIT ?2)";
    let gone = conn
        .prepare_cached(sql)?
        .execute(params![now.as_millis(), limit])?;
    Ok(gone as u64)
}
