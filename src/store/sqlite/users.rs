//! SQL of users and tokens.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::column::column;
use super::instances;
use crate::ids::{Timestamp, UserId};
use crate::store::{InstanceRow, NewToken, NewUser, TokenOwner, TokenRow, UserRow};

type Result<T> = rusqlite::Result<T>;

pub(super) fn add(conn: &Connection, user: &NewUser, token: &NewToken) -> Result<bool> {
    if !ensure(conn, user)? {
        return Ok(false);
    }
    insert_token(conn, token)?;
    Ok(true)
}

pub(super) fn ensure(conn: &Connection, user: &NewUser) -> Result<bool> {
    let sql = "INSERT INTO users (id, created_at) VALUES (?1, ?2) ON CONFLICT (id) DO NOTHING";
    let made = conn
        .prepare_cached(sql)?
        .execute(params![user.id.as_str(), user.created_at.as_millis()])?;
    Ok(made > 0)
}

const USER: &str = "SELECT id, created_at,
    (SELECT count(*) FROM user_service_instances i WHERE i.user_id = users.id) FROM users";

fn user(row: &Row<'_>) -> Result<UserRow> {
    Ok(UserRow {
        id: column(row, 0, UserId::parse)?,
        created_at: Timestamp::from_millis(row.get(1)?),
        instances: row.get::<_, i64>(2)?.unsigned_abs(),
    })
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
    // Tokens, instances and credentials go with it: ON DELETE CASCADE.
    let gone = conn
        .prepare_cached("DELETE FROM users WHERE id = ?1")?
        .execute([id.as_str()])?;
    Ok((gone > 0).then_some(instances))
}

pub(super) fn add_token(conn: &Connection, token: &NewToken) -> Result<bool> {
    if let TokenOwner::User(id) = &token.owner
        && !exists(conn, id)?
    {
        return Ok(false);
    }
    insert_token(conn, token)?;
    Ok(true)
}

pub(super) fn exists(conn: &Connection, id: &UserId) -> Result<bool> {
    conn.prepare_cached("SELECT 1 FROM users WHERE id = ?1")?
        .exists([id.as_str()])
}

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

const TOKEN: &str = "SELECT number, hash, user_id, name, created_at, expires_at, revoked_at
    FROM user_tokens";

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
        expires_at: row.get::<_, Option<i64>>(5)?.map(Timestamp::from_millis),
        revoked_at: row.get::<_, Option<i64>>(6)?.map(Timestamp::from_millis),
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

pub(super) fn revoke_token(conn: &Connection, number: i64, at: Timestamp) -> Result<bool> {
    let sql = "UPDATE user_tokens SET revoked_at = ?2 WHERE number = ?1 AND revoked_at IS NULL";
    Ok(conn
        .prepare_cached(sql)?
        .execute(params![number, at.as_millis()])?
        > 0)
}
