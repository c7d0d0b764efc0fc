//! SQL of users and tokens.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::column::{column, optional_column, owner_disabled};
use super::instances;
use crate::failpoint;
use crate::ids::{GroupName, Timestamp, UserId};
use crate::store::{
    ENDED_TOKENS_KEPT, InstanceRow, NewToken, NewUser, TOKENS_MAX, TokenAdded, TokenChoice,
    TokenOwner, TokenRow, UserRow,
};

type Result<T> = rusqlite::Result<T>;

pub(super) fn add(conn: &Connection, user: &NewUser, token: &NewToken) -> Result<bool> {
    if !add_user(conn, user)? {
        return Ok(false);
    }
    insert_token(conn, token)?;
    Ok(true)
}

/// `true`: there was none of that name, and now there is, without a token.
pub(super) fn add_user(conn: &Connection, user: &NewUser) -> Result<bool> {
    let is_new = add_missing(conn, &user.id, user.created_at)?;
    if is_new && user.group.is_some() {
        set_group(conn, &user.id, user.group.as_ref())?;
    }
    Ok(is_new)
}

/// The same, in no group.
pub(super) fn add_missing(conn: &Connection, id: &UserId, at: Timestamp) -> Result<bool> {
    let sql = "INSERT INTO users (id, created_at) VALUES (?1, ?2) ON CONFLICT (id) DO NOTHING";
    let mut insert = conn.prepare_cached(sql)?;
    Ok(insert.execute(params![id.as_str(), at.as_millis()])? > 0)
}

const USER: &str = "SELECT id, created_at,
    (SELECT count(*) FROM user_service_instances i WHERE i.user_id = users.id), disabled_at,
    group_name FROM users";

fn time(row: &Row<'_>, index: usize) -> Result<Option<Timestamp>> {
    let millis = row.get::<_, Option<i64>>(index)?;
    Ok(millis.map(Timestamp::from_millis))
}

fn user(row: &Row<'_>) -> Result<UserRow> {
    Ok(UserRow {
        id: column(row, 0, UserId::parse)?,
        created_at: Timestamp::from_millis(row.get(1)?),
        instances: row.get::<_, i64>(2)?.unsigned_abs(),
        disabled_at: time(row, 3)?,
        group: optional_column(row, 4, GroupName::parse)?,
    })
}

pub(super) fn set_group(conn: &Connection, id: &UserId, group: Option<&GroupName>) -> Result<bool> {
    let changed = conn
        .prepare_cached("UPDATE users SET group_name = ?2 WHERE id = ?1")?
        .execute(params![id.as_str(), group.map(GroupName::as_str)])?;
    Ok(changed > 0)
}

pub(super) fn grouped(
    conn: &Connection,
    after: Option<&UserId>,
    limit: u32,
) -> Result<Vec<(UserId, GroupName)>> {
    let sql = "SELECT id, group_name FROM users
               WHERE group_name IS NOT NULL AND id > ?1 ORDER BY id LIMIT ?2";
    let mut query = conn.prepare_cached(sql)?;
    let after = after.map_or("", UserId::as_str);
    let row = |row: &Row<'_>| {
        Ok((
            column(row, 0, UserId::parse)?,
            column(row, 1, GroupName::parse)?,
        ))
    };
    query.query_map(params![after, limit], row)?.collect()
}

pub(super) fn one(conn: &Connection, id: &UserId) -> Result<Option<UserRow>> {
    let mut query = conn.prepare_cached(&format!("{USER} WHERE id = ?1"))?;
    query.query_row([id.as_str()], user).optional()
}

pub(super) fn list(conn: &Connection, after: Option<&UserId>, limit: u32) -> Result<Vec<UserRow>> {
    let sql = format!("{USER} WHERE id > ?1 ORDER BY id LIMIT ?2");
    let mut query = conn.prepare_cached(&sql)?;
    // No id is empty, so all come after the empty text.
    let after = after.map_or("", UserId::as_str);
    query.query_map(params![after, limit], user)?.collect()
}

pub(super) fn remove(conn: &Connection, id: &UserId) -> Result<Option<Vec<InstanceRow>>> {
    let instances = instances::rows_of_user(conn, id)?;
    // Tokens, instances, credentials and sessions go with it: ON DELETE CASCADE.
    let gone = conn
        .prepare_cached("DELETE FROM users WHERE id = ?1")?
        .execute([id.as_str()])?;
    failpoint::reach("user.half_removed");
    Ok((gone > 0).then_some(instances))
}

pub(super) fn switch(
    conn: &Connection,
    id: &UserId,
    off: Option<Timestamp>,
) -> Result<Option<bool>> {
    let sql = "UPDATE users SET disabled_at = ?2
               WHERE id = ?1 AND (disabled_at IS NULL) <> (?2 IS NULL)";
    let changed = conn
        .prepare_cached(sql)?
        .execute(params![id.as_str(), off.map(Timestamp::as_millis)])?;
    let changed = changed > 0;
    Ok((changed || is_enabled(conn, id)?.is_some()).then_some(changed))
}

/// `None` when there is no such user.
pub(super) fn is_enabled(conn: &Connection, id: &UserId) -> Result<Option<bool>> {
    conn.prepare_cached("SELECT disabled_at IS NULL FROM users WHERE id = ?1")?
        .query_row([id.as_str()], |row| row.get(0))
        .optional()
}

pub(super) fn add_token(conn: &Connection, token: &NewToken) -> Result<TokenAdded> {
    if let TokenOwner::User(id) = &token.owner
        && is_enabled(conn, id)?.is_none()
    {
        return Ok(TokenAdded::NoUser);
    }
    let (_, owner) = owner_columns(&token.owner);
    let now = token.created_at.as_millis();
    let sql = format!("SELECT count(*) FROM user_tokens WHERE user_id IS ?1 AND NOT {ENDED}");
    let live: i64 = conn
        .prepare_cached(&sql)?
        .query_row(params![owner, now], |row| row.get(0))?;
    if live >= i64::from(TOKENS_MAX) {
        return Ok(TokenAdded::TooMany);
    }
    insert_token(conn, token)?;
    let number = conn.last_insert_rowid();
    let sql = format!(
        "DELETE FROM user_tokens WHERE number IN (
             SELECT number FROM user_tokens WHERE user_id IS ?1 AND {ENDED}
             ORDER BY number DESC LIMIT -1 OFFSET ?3)"
    );
    conn.prepare_cached(&sql)?
        .execute(params![owner, now, ENDED_TOKENS_KEPT])?;
    Ok(TokenAdded::Done(number))
}

/// Of a row of tokens: it opens nothing at the time `?2`, and never will.
const ENDED: &str = "(revoked_at IS NOT NULL OR ifnull(expires_at <= ?2, 0))";

fn insert_token(conn: &Connection, token: &NewToken) -> Result<()> {
    let (kind, owner) = owner_columns(&token.owner);
    let sql = "INSERT INTO user_tokens (hash, kind, user_id, name, created_at, expires_at)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    conn.prepare_cached(sql)?.execute(params![
        token.hash,
        kind,
        owner,
        token.name,
        token.created_at.as_millis(),
        token.expires_at.map(Timestamp::as_millis),
    ])?;
    Ok(())
}

fn owner_columns(owner: &TokenOwner) -> (&'static str, Option<&str>) {
    match owner {
        TokenOwner::User(id) => ("user", Some(id.as_str())),
        TokenOwner::Admin => ("admin", None),
    }
}

const TOKEN: &str = concat!(
    "SELECT number, hash, user_id, name, created_at, expires_at, revoked_at, last_used_at, ",
    owner_disabled!(),
    " FROM user_tokens"
);

fn token(row: &Row<'_>) -> Result<TokenRow> {
    let user = row.get::<_, Option<Box<str>>>(2)?;
    let owner = match user {
        Some(_) => TokenOwner::User(column(row, 2, UserId::parse)?),
        None => TokenOwner::Admin,
    };
    Ok(TokenRow {
        number: row.get(0)?,
        hash: row.get(1)?,
        owner,
        name: row.get(3)?,
        created_at: Timestamp::from_millis(row.get(4)?),
        expires_at: time(row, 5)?,
        revoked_at: time(row, 6)?,
        last_used_at: time(row, 7)?,
        owner_disabled: row.get(8)?,
    })
}

pub(super) fn token_by_hash(conn: &Connection, hash: &[u8; 32]) -> Result<Option<TokenRow>> {
    let mut query = conn.prepare_cached(&format!("{TOKEN} WHERE hash = ?1"))?;
    query.query_row([hash], token).optional()
}

pub(super) fn tokens(conn: &Connection, owner: &TokenOwner) -> Result<Vec<TokenRow>> {
    let (_, user) = owner_columns(owner);
    let sql = format!("{TOKEN} WHERE user_id IS ?1 ORDER BY number");
    let mut query = conn.prepare_cached(&sql)?;
    query.query_map([user], token)?.collect()
}

pub(super) fn revoke_tokens(
    conn: &Connection,
    owner: &TokenOwner,
    which: TokenChoice,
    at: Timestamp,
) -> Result<Option<Vec<i64>>> {
    let (_, user) = owner_columns(owner);
    if let Some(number) = which.named() {
        let sql = "SELECT 1 FROM user_tokens WHERE number = ?1 AND user_id IS ?2";
        if !conn.prepare_cached(sql)?.exists(params![number, user])? {
            return Ok(None);
        }
    }
    let sql = format!("SELECT number FROM user_tokens WHERE user_id IS ?1 AND NOT {ENDED}");
    let mut query = conn.prepare_cached(&sql)?;
    let found = query.query_map(params![user, at.as_millis()], |row| row.get(0))?;
    let mut numbers = found.collect::<Result<Vec<i64>>>()?;
    numbers.retain(|number| which.takes(*number));
    numbers.sort_unstable();
    let sql = "UPDATE user_tokens SET revoked_at = ?2 WHERE number = ?1";
    let mut update = conn.prepare_cached(sql)?;
    for number in &numbers {
        update.execute(params![number, at.as_millis()])?;
    }
    Ok(Some(numbers))
}

pub(super) fn touch_tokens(conn: &Connection, used: &[(i64, Timestamp)]) -> Result<()> {
    let sql = "UPDATE user_tokens SET last_used_at = max(ifnull(last_used_at, 0), ?2)
               WHERE number = ?1";
    let mut update = conn.prepare_cached(sql)?;
    for (number, at) in used {
        update.execute(params![number, at.as_millis()])?;
    }
    Ok(())
}
