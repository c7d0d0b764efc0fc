//! SQL of what happens to instances after they were made, and of many that are added at once.

use rusqlite::{Connection, OptionalExtension, params};

use super::{instances, users};
use crate::ids::{Label, PublicId, ServiceType, Timestamp, UserId};
use crate::store::{Added, InstanceRow, NewInstance, Proposal, Standing, Terms};

type Result<T> = rusqlite::Result<T>;

pub(super) fn add_all(
    conn: &Connection,
    rows: &[NewInstance],
    missing_users: Option<Timestamp>,
) -> Result<Vec<Added>> {
    let add = |new: &NewInstance| -> Result<Added> {
        let Some(at) = missing_users else {
            return instances::add(conn, new);
        };
        let is_new_user = users::add_missing(conn, &new.user, at)?;
        let added = instances::add(conn, new)?;
        if is_new_user && added != Added::Done {
            users::remove(conn, &new.user)?;
        }
        Ok(added)
    };
    rows.iter().map(add).collect()
}

pub(super) fn standings(conn: &Connection, proposals: &[Proposal]) -> Result<Vec<Standing>> {
    let own = "SELECT hash FROM user_service_instances WHERE user_id = ?1 AND service = ?2";
    let mut own = conn.prepare_cached(own)?;
    let mut taken = conn.prepare_cached("SELECT 1 FROM user_service_instances WHERE hash = ?1")?;
    let stands = |proposal: &Proposal| -> Result<Standing> {
        let place = [proposal.user.as_str(), proposal.service.as_str()];
        let enabled = users::is_enabled(conn, &proposal.user)?;
        Ok(Standing {
            has_user: enabled.is_some(),
            user_disabled: enabled == Some(false),
            own: own.query_row(place, |row| row.get(0)).optional()?,
            is_taken: match &proposal.hash {
                Some(hash) => taken.exists([hash])?,
                None => false,
            },
        })
    };
    proposals.iter().map(stands).collect()
}

pub(super) fn change_terms(
    conn: &Connection,
    public: &PublicId,
    before: &Terms,
    after: &Terms,
) -> Result<bool> {
    let sql = "UPDATE user_service_instances SET label = ?5, expires_at = ?6, disabled_at = ?7
               WHERE public_id = ?1 AND label IS ?2 AND expires_at IS ?3 AND disabled_at IS ?4";
    let changed = conn.prepare_cached(sql)?.execute(params![
        public.as_str(),
        before.label.as_ref().map(Label::as_str),
        before.expires_at.map(Timestamp::as_millis),
        before.disabled_at.map(Timestamp::as_millis),
        after.label.as_ref().map(Label::as_str),
        after.expires_at.map(Timestamp::as_millis),
        after.disabled_at.map(Timestamp::as_millis),
    ])?;
    Ok(changed > 0)
}

/// What an operator has laid down for an instance that goes.
pub(super) fn keep_terms(conn: &Connection, gone: &InstanceRow) -> Result<()> {
    if gone.expires_at.is_none() && gone.disabled_at.is_none() {
        return Ok(());
    }
    let sql = "INSERT OR REPLACE INTO kept_terms (user_id, service, expires_at, disabled_at)
               VALUES (?1, ?2, ?3, ?4)";
    conn.prepare_cached(sql)?.execute(params![
        gone.user.as_str(),
        gone.service.as_str(),
        gone.expires_at.map(Timestamp::as_millis),
        gone.disabled_at.map(Timestamp::as_millis),
    ])?;
    Ok(())
}

pub(super) fn kept_terms(
    conn: &Connection,
    user: &UserId,
    service: &ServiceType,
) -> Result<Option<Terms>> {
    let sql = "SELECT expires_at, disabled_at FROM kept_terms WHERE user_id = ?1 AND service = ?2";
    let mut query = conn.prepare_cached(sql)?;
    let time = |at: Option<i64>| at.map(Timestamp::from_millis);
    let found = query.query_row([user.as_str(), service.as_str()], |row| {
        Ok(Terms {
            label: None,
            expires_at: time(row.get(0)?),
            disabled_at: time(row.get(1)?),
        })
    });
    found.optional()
}

pub(super) fn forget_terms(conn: &Connection, user: &UserId, service: &ServiceType) -> Result<()> {
    let sql = "DELETE FROM kept_terms WHERE user_id = ?1 AND service = ?2";
    conn.prepare_cached(sql)?
        .execute([user.as_str(), service.as_str()])?;
    Ok(())
}
