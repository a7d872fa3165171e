//! The filters of a query: which notes it may find at all.
//!
//! Owns their translation to SQL; every value is a parameter. Does not own words (`search`).

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::search::any_of;
use crate::query::{Comparison, Query, Test};
use crate::text::fold;

/// The notes that pass the filters, by path if there are no words to rank by; `None` if there are no filters.
pub(super) fn allowed(connection: &Connection, query: &Query) -> rusqlite::Result<Option<Vec<i64>>> {
    let mut sql = "SELECT id FROM note WHERE true".to_owned();
    let mut values = Vec::new();
    for filter in &query.filters {
        sql.push_str(if filter.is_unwanted { " AND NOT " } else { " AND " });
        sql.push_str(&condition(&filter.test, &mut values));
    }
    // Only unwanted words: everything but what they find.
    if query.wanted.is_empty() && !query.unwanted.is_empty() {
        sql.push_str(" AND id NOT IN (SELECT rowid FROM full_text WHERE full_text MATCH ?)");
        values.push(Value::from(any_of(&query.unwanted)));
    }
    if values.is_empty() {
        return Ok(None);
    }
    if query.wanted.is_empty() {
        sql.push_str(" ORDER BY path");
    }
    let mut statement = connection.prepare_cached(&sql)?;
    let ids = statement.query_map(params_from_iter(values), |row| row.get(0))?;
    ids.collect::<rusqlite::Result<Vec<i64>>>().map(Some)
}

fn condition(test: &Test, values: &mut Vec<Value>) -> String {
    let (condition, value) = match test {
        Test::Tag(tag) => {
            let key = Value::from(fold::key(tag));
            values.extend([key.clone(), key.clone()]);
            (
                "id IN (SELECT note_id FROM tag WHERE key = ? OR (key > ? || '/' AND key < ? || '0'))",
                key,
            )
        }
        Test::Path(path) => ("instr(path_key, ?) > 0", fold::key(path).into()),
        Test::Type(note_type) => ("type = ? COLLATE NOCASE", note_type.clone().into()),
        Test::Category(category) => (
            "id IN (SELECT note_id FROM observation WHERE category_key = ?)",
            fold::key(category).into(),
        ),
        Test::Before(moment) => ("coalesce(modified_ns, mtime_ns) < ?", (*moment).into()),
        Test::After(moment) => ("coalesce(modified_ns, mtime_ns) >= ?", (*moment).into()),
        Test::Property(key, compared) => return property(key, compared.as_ref(), values),
    };
    values.push(value);
    condition.to_owned()
}

/// Texts compare ignoring the case of ASCII letters, and dates as their texts; numbers compare with numbers.
fn property(key: &str, compared: Option<&(Comparison, String)>, values: &mut Vec<Value>) -> String {
    let of_key = "id IN (SELECT note_id FROM prop WHERE key = ? COLLATE NOCASE";
    values.push(key.to_owned().into());
    let Some((comparison, value)) = compared else {
        return format!("{of_key})");
    };
    let number = value.parse::<f64>().ok();
    let (types, folded) = match number {
        Some(_) => ("'integer', 'real'", ""),
        None => ("'text'", " COLLATE NOCASE"),
    };
    let sign = match comparison {
        Comparison::Equal => {
            values.extend([value.clone().into(), number.map_or(Value::Null, Value::from)]);
            return format!(
                "{of_key} AND EXISTS (SELECT 1 FROM json_each(prop.value) AS item WHERE
                CASE item.type WHEN 'true' THEN 'true' WHEN 'false' THEN 'false' ELSE CAST(item.value AS TEXT) END
                = ? COLLATE NOCASE OR item.type IN ({types}) AND item.value = ?))"
            );
        }
        Comparison::Less => "<",
        Comparison::LessOrEqual => "<=",
        Comparison::Greater => ">",
        Comparison::GreaterOrEqual => ">=",
    };
    values.push(number.map_or_else(|| Value::from(value.clone()), Value::from));
    format!("{of_key} AND json_type(value) IN ({types}) AND json_extract(value, '$') {sign} ?{folded})")
}
