//! SQL of instances and their credentials.

use rusqlite::{Connection, OptionalExtension, Row, ToSql, params};

use super::column::{column, optional_column, owner_disabled};
use super::{instance_life, sessions, users};
use crate::failpoint;
use crate::ids::{Label, PublicId, ServiceType, Timestamp, UserId};
use crate::store::{
    Added, CredentialState, InstanceCursor, InstanceFilter, InstanceRow, NewInstance, Page, Reseal,
    Rotation, Stays, StoredInstance,
};

type Result<T> = rusqlite::Result<T>;

pub(super) fn add(conn: &Connection, new: &NewInstance) -> Result<Added> {
    match users::is_enabled(conn, &new.user)? {
        None => return Ok(Added::NoUser),
        Some(false) => return Ok(Added::UserDisabled),
        Some(true) => {}
    }
    let sql = "INSERT INTO user_service_instances
                   (public_id, user_id, service, hash, sealed_id, created_at, label, expires_at,
                    disabled_at)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO NOTHING";
    let made = conn.prepare_cached(sql)?.execute(params![
        new.public.as_str(),
        new.user.as_str(),
        new.service.as_str(),
        new.hash,
        new.sealed_id,
        new.created_at.as_millis(),
        new.label.as_ref().map(Label::as_str),
        new.expires_at.map(Timestamp::as_millis),
        new.disabled_at.map(Timestamp::as_millis),
    ])?;
    if made == 0 {
        return Ok(Added::Taken);
    }
    failpoint::reach("instance.half_added");
    let sql = "INSERT INTO credentials (public_id, sealed, updated_at) VALUES (?1, ?2, ?3)";
    conn.prepare_cached(sql)?.execute(params![
        new.public.as_str(),
        new.sealed_credential,
        new.created_at.as_millis(),
    ])?;
    instance_life::forget_terms(conn, &new.user, &new.service)?;
    Ok(Added::Done)
}

pub(super) fn replace_credential(
    conn: &Connection,
    public: &PublicId,
    sealed: &[u8],
    at: Timestamp,
) -> Result<bool> {
    let sql = "UPDATE credentials SET sealed = ?2, updated_at = ?3, expires_at = NULL
               WHERE public_id = ?1";
    let changed =
        conn.prepare_cached(sql)?
            .execute(params![public.as_str(), sealed, at.as_millis()])?;
    failpoint::reach("instance.half_replaced");
    let sql = "UPDATE user_service_instances SET credential_expired_at = NULL
               WHERE public_id = ?1 AND credential_expired_at IS NOT NULL";
    conn.prepare_cached(sql)?.execute([public.as_str()])?;
    Ok(changed > 0)
}

pub(super) fn set_credential_state(
    conn: &Connection,
    public: &PublicId,
    sealed: &[u8],
    state: CredentialState,
) -> Result<bool> {
    // Of two times the first one stays; no time takes any away.
    let sql = "UPDATE user_service_instances
               SET credential_expired_at = CASE WHEN ?3 IS NULL THEN NULL
                   ELSE ifnull(credential_expired_at, ?3) END
               WHERE public_id = ?1 AND EXISTS
                   (SELECT 1 FROM credentials WHERE public_id = ?1 AND sealed = ?2)";
    let expired_at = state.expired_at().map(Timestamp::as_millis);
    let changed =
        conn.prepare_cached(sql)?
            .execute(params![public.as_str(), sealed, expired_at])?;
    Ok(changed > 0)
}

pub(super) fn rotate(conn: &Connection, rotation: &Rotation) -> Result<bool> {
    let sql = "UPDATE user_service_instances SET hash = ?3, sealed_id = ?4, rotated_at = ?5
               WHERE public_id = ?1 AND hash = ?2";
    let changed = conn.prepare_cached(sql)?.execute(params![
        rotation.public.as_str(),
        rotation.old_hash,
        rotation.new_hash,
        rotation.sealed_id,
        rotation.at.as_millis(),
    ])?;
    failpoint::reach("instance.half_rotated");
    // The URL under which they were had is dead.
    if changed > 0 {
        sessions::end_all(conn, &rotation.public)?;
    }
    Ok(changed > 0)
}

const ROW: &str = concat!(
    "SELECT number, public_id, user_id, service, hash, created_at, last_used_at,
        expires_at, disabled_at, ",
    owner_disabled!(),
    ", label, rotated_at, credential_expired_at,
        (SELECT updated_at FROM credentials c
         WHERE c.public_id = user_service_instances.public_id)
     FROM user_service_instances"
);

const STORED: &str = concat!(
    "SELECT number, i.public_id, user_id, service, hash, created_at,
        last_used_at, i.expires_at, disabled_at, ",
    owner_disabled!(),
    ", label, rotated_at, credential_expired_at, updated_at, sealed_id, sealed
    FROM user_service_instances i JOIN credentials c ON c.public_id = i.public_id"
);

/// Those whose users are not switched off.
const ENABLED: &str = concat!("NOT ", owner_disabled!());

fn instance(row: &Row<'_>) -> Result<InstanceRow> {
    let time = |index| -> Result<Option<Timestamp>> {
        Ok(row
            .get::<_, Option<i64>>(index)?
            .map(Timestamp::from_millis))
    };
    Ok(InstanceRow {
        public: column(row, 1, PublicId::parse)?,
        user: column(row, 2, UserId::parse)?,
        service: column(row, 3, ServiceType::parse)?,
        hash: row.get(4)?,
        created_at: Timestamp::from_millis(row.get(5)?),
        last_used_at: time(6)?,
        expires_at: time(7)?,
        disabled_at: time(8)?,
        owner_disabled: row.get(9)?,
        label: optional_column(row, 10, Label::parse)?,
        rotated_at: time(11)?,
        credential: time(12)?.into(),
        credential_at: Timestamp::from_millis(row.get(13)?),
    })
}

fn stored(row: &Row<'_>) -> Result<StoredInstance> {
    Ok(StoredInstance {
        row: instance(row)?,
        sealed_id: row.get(14)?,
        sealed_credential: row.get(15)?,
    })
}

pub(super) fn of(
    conn: &Connection,
    user: &UserId,
    service: &ServiceType,
) -> Result<Option<StoredInstance>> {
    let sql = format!("{STORED} WHERE user_id = ?1 AND service = ?2");
    let mut query = conn.prepare_cached(&sql)?;
    query
        .query_row([user.as_str(), service.as_str()], stored)
        .optional()
}

pub(super) fn by_hash(conn: &Connection, hash: &[u8; 32]) -> Result<Option<InstanceRow>> {
    let mut query = conn.prepare_cached(&format!("{ROW} WHERE hash = ?1"))?;
    query.query_row([hash], instance).optional()
}

pub(super) fn stored_by_hash(conn: &Connection, hash: &[u8; 32]) -> Result<Option<StoredInstance>> {
    let mut query = conn.prepare_cached(&format!("{STORED} WHERE hash = ?1"))?;
    query.query_row([hash], stored).optional()
}

pub(super) fn by_public(conn: &Connection, public: &PublicId) -> Result<Option<InstanceRow>> {
    let mut query = conn.prepare_cached(&format!("{ROW} WHERE public_id = ?1"))?;
    query.query_row([public.as_str()], instance).optional()
}

pub(super) fn of_user(conn: &Connection, user: &UserId) -> Result<Vec<StoredInstance>> {
    let sql = format!("{STORED} WHERE user_id = ?1 ORDER BY service");
    let mut query = conn.prepare_cached(&sql)?;
    query.query_map([user.as_str()], stored)?.collect()
}

pub(super) fn rows_of_user(conn: &Connection, user: &UserId) -> Result<Vec<InstanceRow>> {
    let sql = format!("{ROW} WHERE user_id = ?1 ORDER BY service");
    let mut query = conn.prepare_cached(&sql)?;
    query.query_map([user.as_str()], instance)?.collect()
}

pub(super) fn page(
    conn: &Connection,
    filter: &InstanceFilter,
    after: Option<InstanceCursor>,
    limit: u32,
) -> Result<Page<InstanceRow, InstanceCursor>> {
    let after = after.map_or(0, |cursor| cursor.0);
    let rows = i64::from(limit) + 1;
    let user = filter.user.as_ref().map(UserId::as_str);
    let service = filter.service.as_ref().map(ServiceType::as_str);
    let now = filter.active.map_or(0, |(_, now)| now.as_millis());
    let mut sql = format!("{ROW} WHERE number > :after");
    let mut values: Vec<(&str, &dyn ToSql)> = vec![
        (":after", &after as &dyn ToSql),
        (":rows", &rows as &dyn ToSql),
    ];
    // Only what is asked for stands in the statement, so that each form of it finds its index.
    if user.is_some() {
        sql += " AND user_id = :user";
        values.push((":user", &user as &dyn ToSql));
    }
    if service.is_some() {
        sql += " AND service = :service";
        values.push((":service", &service as &dyn ToSql));
    }
    if let Some((active, _)) = filter.active {
        sql += if active { ACTIVE } else { INACTIVE };
        values.push((":now", &now as &dyn ToSql));
    }
    sql += " ORDER BY number LIMIT :rows";
    let mut query = conn.prepare_cached(&sql)?;
    let rows = query.query_map(values.as_slice(), |row| {
        Ok((InstanceCursor(row.get(0)?), instance(row)?))
    })?;
    Ok(cut(rows.collect::<Result<_>>()?, limit))
}

const ACTIVE: &str = concat!(
    " AND disabled_at IS NULL AND (expires_at IS NULL OR expires_at > :now) AND NOT ",
    owner_disabled!()
);

/// Few among many: found by the index `instances_with_an_end`, whose words stand here, and by the users
/// who are switched off.
const INACTIVE: &str = concat!(
    " AND number IN (
          SELECT number FROM user_service_instances
          WHERE disabled_at IS NOT NULL OR expires_at IS NOT NULL
          UNION ALL
          SELECT theirs.number FROM users off INDEXED BY users_disabled
          JOIN user_service_instances theirs ON theirs.user_id = off.id
          WHERE off.disabled_at IS NOT NULL)
      AND (disabled_at IS NOT NULL OR expires_at <= :now OR ",
    owner_disabled!(),
    ")"
);

pub(super) fn active(
    conn: &Connection,
    now: Timestamp,
    after: Option<InstanceCursor>,
    limit: u32,
) -> Result<Page<StoredInstance, InstanceCursor>> {
    let sql = format!(
        "{STORED} WHERE number > ?1 AND disabled_at IS NULL AND {ENABLED}
             AND (i.expires_at IS NULL OR i.expires_at > ?2) ORDER BY number LIMIT ?3"
    );
    let mut query = conn.prepare_cached(&sql)?;
    let after = after.map_or(0, |cursor| cursor.0);
    let rows = query.query_map(
        params![after, now.as_millis(), i64::from(limit) + 1],
        |row| Ok((InstanceCursor(row.get(0)?), stored(row)?)),
    )?;
    Ok(cut(rows.collect::<Result<_>>()?, limit))
}

pub(super) fn stored_page(
    conn: &Connection,
    after: Option<InstanceCursor>,
    limit: u32,
) -> Result<Page<StoredInstance, InstanceCursor>> {
    let sql = format!("{STORED} WHERE number > ?1 ORDER BY number LIMIT ?2");
    let mut query = conn.prepare_cached(&sql)?;
    let after = after.map_or(0, |cursor| cursor.0);
    let rows = query.query_map(params![after, i64::from(limit) + 1], |row| {
        Ok((InstanceCursor(row.get(0)?), stored(row)?))
    })?;
    Ok(cut(rows.collect::<Result<_>>()?, limit))
}

pub(super) fn reseal(conn: &Connection, values: &[Reseal]) -> Result<()> {
    let sql = "UPDATE user_service_instances SET sealed_id = ?3
               WHERE public_id = ?1 AND sealed_id = ?2";
    let mut ids = conn.prepare_cached(sql)?;
    let sql = "UPDATE credentials SET sealed = ?3 WHERE public_id = ?1 AND sealed = ?2";
    let mut credentials = conn.prepare_cached(sql)?;
    for value in values {
        let public = value.public.as_str();
        if let Some(swap) = &value.id {
            ids.execute(params![public, swap.old, swap.new])?;
        }
        if let Some(swap) = &value.credential {
            credentials.execute(params![public, swap.old, swap.new])?;
        }
    }
    Ok(())
}

/// One row more than asked for was read: it says whether there is a next page.
fn cut<T>(mut rows: Vec<(InstanceCursor, T)>, limit: u32) -> Page<T, InstanceCursor> {
    let limit = limit as usize;
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next = if more {
        rows.last().map(|(cursor, _)| *cursor)
    } else {
        None
    };
    Page {
        items: rows.into_iter().map(|(_, item)| item).collect(),
        next,
    }
}

pub(super) fn remove(
    conn: &Connection,
    public: &PublicId,
    stays: Stays,
) -> Result<Option<InstanceRow>> {
    let row = by_public(conn, public)?;
    if let (Some(row), Stays::Terms) = (&row, stays) {
        instance_life::keep_terms(conn, row)?;
    }
    // The credential and the sessions go with it: ON DELETE CASCADE.
    conn.prepare_cached("DELETE FROM user_service_instances WHERE public_id = ?1")?
        .execute([public.as_str()])?;
    failpoint::reach("instance.half_removed");
    Ok(row)
}

pub(super) fn touch(conn: &Connection, used: &[(PublicId, Timestamp)]) -> Result<()> {
    let sql = "UPDATE user_service_instances SET last_used_at = max(ifnull(last_used_at, 0), ?2)
               WHERE public_id = ?1";
    let mut update = conn.prepare_cached(sql)?;
    for (public, at) in used {
        update.execute(params![public.as_str(), at.as_millis()])?;
    }
    Ok(())
}

pub(super) fn counts(conn: &Connection) -> Result<Vec<(ServiceType, u64)>> {
    let sql = "SELECT service, count(*) FROM user_service_instances GROUP BY service
               ORDER BY service";
    let mut query = conn.prepare_cached(sql)?;
    let rows = query.query_map([], |row| {
        Ok((
            column(row, 0, ServiceType::parse)?,
            row.get::<_, i64>(1)?.unsigned_abs(),
        ))
    })?;
    rows.collect()
}
