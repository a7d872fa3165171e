//! The filters of a query: which notes it may find at all.
//!
//! Owns asking for them. Does not put them into SQL (`fts5`), nor own words (`search`).

use rusqlite::types::Value as SqlValue;
use rusqlite::{Connection, params_from_iter};

use crate::fts5::{self, Value};
use crate::query::Query;

/// The notes that pass the filters, by path if there are no words to rank by; `None` if there are no filters.
pub(super) fn allowed(connection: &Connection, query: &Query) -> rusqlite::Result<Option<Vec<i64>>> {
    let (conditions, values) = fts5::filters(query);
    if values.is_empty() {
        return Ok(None);
    }
    let order = if query.wanted.is_empty() { " ORDER BY path" } else { "" };
    let mut statement = connection.prepare_cached(&format!("SELECT id FROM note WHERE true{conditions}{order}"))?;
    let values = values.into_iter().map(|value| match value {
        Value::Null => SqlValue::Null,
        Value::Integer(number) => number.into(),
        Value::Real(number) => number.into(),
        Value::Text(text) => text.into(),
    });
    let ids = statement.query_map(params_from_iter(values), |row| row.get(0))?;
    ids.collect::<rusqlite::Result<Vec<i64>>>().map(Some)
}
