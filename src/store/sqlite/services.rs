//! SQL of the published services and their health.

use rusqlite::{Connection, Row, params};

use super::column::column;
use crate::ids::{AppName, Port, ServiceType, Timestamp};
use crate::store::{HealthRow, ServiceRow};

type Result<T> = rusqlite::Result<T>;

pub(super) fn publish(conn: &Connection, services: &[ServiceRow], at: Timestamp) -> Result<()> {
    let at = at.as_millis();
    conn.prepare_cached("UPDATE service_registry SET retired_at = ?1 WHERE retired_at IS NULL")?
        .execute([at])?;
    let sql = "INSERT INTO service_registry
                   (service, app, port, display_name, category, spec, created_at, updated_at)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7)
               ON CONFLICT (service) DO UPDATE SET app = excluded.app, port = excluded.port,
                   display_name = excluded.display_name, category = excluded.category,
                   spec = excluded.spec, updated_at = excluded.updated_at, retired_at = NULL";
    let mut upsert = conn.prepare_cached(sql)?;
    for service in services {
        upsert.execute(params![
            service.service.as_str(),
            service.app.as_str(),
            service.port.get(),
            service.display_name,
            service.category,
            service.spec,
            at,
        ])?;
    }
    Ok(())
}

pub(super) fn list(conn: &Connection) -> Result<Vec<ServiceRow>> {
    let sql = "SELECT service, app, port, display_name, category, spec FROM service_registry
               WHERE retired_at IS NULL ORDER BY service";
    let mut query = conn.prepare_cached(sql)?;
    let rows = query.query_map([], |row| {
        let number: u16 = row.get(2)?;
        Ok(ServiceRow {
            service: column(row, 0, ServiceType::parse)?,
            app: column(row, 1, AppName::parse)?,
            port: Port::new(number).ok_or(rusqlite::Error::IntegralValueOutOfRange(2, 0))?,
            display_name: row.get(3)?,
            category: row.get(4)?,
            spec: row.get(5)?,
        })
    })?;
    rows.collect()
}

pub(super) fn put_health(conn: &Connection, records: &[HealthRow]) -> Result<()> {
    let sql = "INSERT OR REPLACE INTO service_health_status
                   (service, last_check, response_us, consecutive_failures, good_checks,
                    total_checks, last_failure)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let mut upsert = conn.prepare_cached(sql)?;
    for record in records {
        upsert.execute(params![
            record.service.as_str(),
            record.last_check.map(Timestamp::as_millis),
            record.response_us.map(number),
            record.consecutive_failures,
            number(record.good_checks),
            number(record.total_checks),
            record.last_failure,
        ])?;
    }
    Ok(())
}

pub(super) fn health(conn: &Connection) -> Result<Vec<HealthRow>> {
    let sql = "SELECT service, last_check, response_us, consecutive_failures, good_checks,
                   total_checks, last_failure
               FROM service_health_status ORDER BY service";
    let mut query = conn.prepare_cached(sql)?;
    query.query_map([], record)?.collect()
}

fn record(row: &Row<'_>) -> Result<HealthRow> {
    Ok(HealthRow {
        service: column(row, 0, ServiceType::parse)?,
        last_check: row.get::<_, Option<i64>>(1)?.map(Timestamp::from_millis),
        response_us: row.get::<_, Option<i64>>(2)?.map(i64::unsigned_abs),
        consecutive_failures: row.get(3)?,
        good_checks: row.get::<_, i64>(4)?.unsigned_abs(),
        total_checks: row.get::<_, i64>(5)?.unsigned_abs(),
        last_failure: row.get(6)?,
    })
}

/// SQLite's integers are signed.
fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
