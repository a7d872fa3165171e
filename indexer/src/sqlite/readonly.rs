//! Queries in SQL that a user writes: they read, and do nothing else.
//!
//! Owns the connection they run on. It is opened read-only; an authorizer lets through reading and harmless functions
//! only, so that no other file is attached and no setting is changed; rows, bytes, time and the size of values are bounded.

use std::time::{Duration, Instant};

use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OpenFlags, Row};
use serde_json::Value;

use super::{Database, connect};
use crate::error::IndexError;
use crate::model::Table;

/// How long a query may run.
const DEADLINE: Duration = Duration::from_secs(10);
/// Steps of the database's machine between two looks at the clock.
const STEPS_PER_LOOK: i32 = 1_000;
/// Longest text or blob that a query may make, in bytes.
const MAX_VALUE_BYTES: i32 = 16 << 20;
/// What an answer may hold, in bytes of its values; beyond it they are left out.
const MAX_TABLE_BYTES: usize = 8 << 20;
/// Longest query, in bytes.
const MAX_SQL_BYTES: i32 = 100_000;

/// Functions that read or write outside the database, or change how it works.
const FORBIDDEN_FUNCTIONS: [&str; 4] = ["load_extension", "fts3_tokenizer", "readfile", "writefile"];

impl Database {
    /// The first `max_rows` rows of what `sql` selects.
    pub(crate) fn query(&self, sql: &str, max_rows: usize) -> Result<Table, IndexError> {
        let mut connection = connect(self.path(), OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let refused = |error: rusqlite::Error| IndexError::Query { reason: reason(&error) };
        restrict(&mut connection).map_err(refused)?;
        select(&connection, sql, max_rows).map_err(refused)
    }
}

fn restrict(connection: &mut Connection) -> rusqlite::Result<()> {
    connection.execute_batch("PRAGMA query_only = 1; PRAGMA cache_size = -4096")?;
    connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)?;
    connection.set_limit(Limit::SQLITE_LIMIT_SQL_LENGTH, MAX_SQL_BYTES)?;
    connection.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0)?;
    let until = Instant::now() + DEADLINE;
    connection.progress_handler(STEPS_PER_LOOK, Some(move || Instant::now() > until))?;
    connection.authorizer(Some(allowed))
}

fn allowed(context: AuthContext<'_>) -> Authorization {
    let is_reading = match context.action {
        AuthAction::Select | AuthAction::Read { .. } | AuthAction::Recursive => true,
        AuthAction::Function { function_name } => !FORBIDDEN_FUNCTIONS
            .iter()
            .any(|forbidden| function_name.eq_ignore_ascii_case(forbidden)),
        // The full-text table asks by itself whether somebody has written.
        AuthAction::Pragma {
            pragma_name,
            pragma_value: None,
        } => pragma_name.eq_ignore_ascii_case("data_version"),
        _ => false,
    };
    if is_reading {
        Authorization::Allow
    } else {
        Authorization::Deny
    }
}

fn select(connection: &Connection, sql: &str, max_rows: usize) -> rusqlite::Result<Table> {
    let mut statement = connection.prepare(sql)?;
    let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let mut table = Table {
        columns,
        rows: Vec::new(),
        has_more: false,
    };
    let mut bytes = 0;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        table.has_more = table.rows.len() >= max_rows || bytes > MAX_TABLE_BYTES;
        if table.has_more {
            break;
        }
        let values = values(row, table.columns.len(), &mut bytes)?;
        table.rows.push(values);
    }
    table.has_more |= bytes > MAX_TABLE_BYTES;
    Ok(table)
}

fn values(row: &Row<'_>, count: usize, bytes: &mut usize) -> rusqlite::Result<Vec<Value>> {
    let value = |column| {
        *bytes += size_of::<Value>();
        Ok(match row.get_ref(column)? {
            ValueRef::Null => Value::Null,
            ValueRef::Integer(number) => Value::from(number),
            ValueRef::Real(number) => Value::from(number),
            ValueRef::Text(text) | ValueRef::Blob(text) => {
                *bytes += text.len();
                if *bytes > MAX_TABLE_BYTES {
                    Value::Null
                } else {
                    Value::from(String::from_utf8_lossy(text))
                }
            }
        })
    };
    (0..count).map(value).collect()
}

/// What the database said, in words for who wrote the query.
fn reason(error: &rusqlite::Error) -> String {
    match error.sqlite_error_code() {
        Some(ErrorCode::OperationInterrupted) => format!("it ran longer than {} s", DEADLINE.as_secs()),
        Some(ErrorCode::AuthorizationForStatementDenied) => "only reading is allowed".to_owned(),
        Some(ErrorCode::ReadOnly) => "only reading is allowed".to_owned(),
        _ => error.to_string(),
    }
}
