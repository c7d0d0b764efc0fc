//! Columns that hold a noun: parsed as strictly as at any other door.

use rusqlite::Row;
use rusqlite::types::Type;

use crate::ids::IdError;

/// Whether the user of a row is switched off. A query names the partial index itself: it is empty
/// or small, while there may be a million users.
macro_rules! owner_disabled {
    () => {
        "EXISTS (SELECT 1 FROM users o INDEXED BY users_disabled
             WHERE o.id = user_id AND o.disabled_at IS NOT NULL)"
    };
}
pub(super) use owner_disabled;

/// A text column.
pub(super) fn column<T>(
    row: &Row<'_>,
    index: usize,
    parse: fn(&str) -> Result<T, IdError>,
) -> rusqlite::Result<T> {
    checked(index, row.get_ref(index)?.as_str()?, parse)
}

/// A text column that may be NULL.
pub(super) fn optional_column<T>(
    row: &Row<'_>,
    index: usize,
    parse: fn(&str) -> Result<T, IdError>,
) -> rusqlite::Result<Option<T>> {
    let text = row.get_ref(index)?.as_str_or_null()?;
    text.map(|text| checked(index, text, parse)).transpose()
}

fn checked<T>(
    index: usize,
    text: &str,
    parse: fn(&str) -> Result<T, IdError>,
) -> rusqlite::Result<T> {
    parse(text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(index, Type::Text, Box::new(error))
    })
}
