//! SQL of MCP sessions.

use rusqlite::{Connection, OptionalExtension, params};

use super::column::column;
use crate::ids::{PublicId, Timestamp};
use crate::store::{SESSIONS_MAX, SessionRow};

type Result<T> = rusqlite::Result<T>;

pub(super) fn put(conn: &Connection, session: &SessionRow) -> Result<bool> {
    let public = session.instance.as_str();
    let sql = "INSERT INTO mcp_sessions (key, public_id, data, used_at)
               SELECT ?1, public_id, ?3, ?4 FROM user_service_instances WHERE public_id = ?2
               ON CONFLICT (key) DO UPDATE
               SET public_id = excluded.public_id, data = excluded.data,
                   used_at = max(used_at, excluded.used_at)";
    let used = session.used_at.as_millis();
    let kept =
        conn.prepare_cached(sql)?
            .execute(params![session.key, public, session.data, used])?;
    // The one that is kept is not among those that may go, whatever its clock said.
    let sql = "DELETE FROM mcp_sessions WHERE key IN
                   (SELECT key FROM mcp_sessions WHERE public_id = ?1 AND key <> ?2
                    ORDER BY used_at DESC, key DESC LIMIT -1 OFFSET ?3)";
    conn.prepare_cached(sql)?
        .execute(params![public, session.key, SESSIONS_MAX - 1])?;
    Ok(kept > 0)
}

pub(super) fn one(conn: &Connection, key: &[u8; 32]) -> Result<Option<SessionRow>> {
    let sql = "SELECT public_id, data, used_at FROM mcp_sessions WHERE key = ?1";
    let mut query = conn.prepare_cached(sql)?;
    query
        .query_row([key], |row| {
            Ok(SessionRow {
                key: *key,
                instance: column(row, 0, PublicId::parse)?,
                data: row.get(1)?,
                used_at: Timestamp::from_millis(row.get(2)?),
            })
        })
        .optional()
}

pub(super) fn end(conn: &Connection, key: &[u8; 32]) -> Result<bool> {
    let sql = "DELETE FROM mcp_sessions WHERE key = ?1";
    Ok(conn.prepare_cached(sql)?.execute([key])? > 0)
}

pub(super) fn end_all(conn: &Connection, public: &PublicId) -> Result<u64> {
    let sql = "DELETE FROM mcp_sessions WHERE public_id = ?1";
    let gone = conn.prepare_cached(sql)?.execute([public.as_str()])?;
    Ok(gone as u64)
}

pub(super) fn touch(conn: &Connection, used: &[([u8; 32], Timestamp)]) -> Result<()> {
    let sql = "UPDATE mcp_sessions SET used_at = ?2 WHERE key = ?1 AND used_at < ?2";
    let mut update = conn.prepare_cached(sql)?;
    for (key, at) in used {
        update.execute(params![key, at.as_millis()])?;
    }
    Ok(())
}

pub(super) fn forget_before(conn: &Connection, before: Timestamp, limit: u32) -> Result<u64> {
    let sql = "DELETE FROM mcp_sessions WHERE key IN
                   (SELECT key FROM mcp_sessions WHERE used_at < ?1 ORDER BY used_at LIMIT ?2)";
    let gone = conn
        .prepare_cached(sql)?
        .execute(params![before.as_millis(), limit])?;
    Ok(gone as u64)
}
