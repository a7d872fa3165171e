//! A query in the words of SQLite: FTS5 expressions and conditions on the tables of `SCHEMA.md`.
//!
//! Owns the translation of [`Query`], for this machine's file (`sqlite`) and for libSQL (`shared/libsql`), whose tables have
//! the same names. Every word is inside an FTS5 string and every value a parameter, so that nothing a user types is
//! syntax. Does not run anything, and ranks nothing.

use crate::query::{Comparison, Prefix, Query, Term, Test};
use crate::text::{fold, segment};

/// A parameter.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Integer(i64),
    Real(f64),
    Text(String),
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

/// The conditions on a row of `note` that the filters are, each with an AND before it, and their parameters.
pub(crate) fn filters(query: &Query) -> (String, Vec<Value>) {
    let mut sql = String::new();
    let mut values = Vec::new();
    for filter in &query.filters {
        sql.push_str(if filter.is_unwanted { " AND NOT " } else { " AND " });
        sql.push_str(&condition(&filter.test, &mut values));
    }
    // Only unwanted words: everything but what they find.
    if query.wanted.is_empty() && !query.unwanted.is_empty() {
        sql.push_str(" AND id NOT IN (SELECT rowid FROM full_text WHERE full_text MATCH ?)");
        values.push(any_of(&query.unwanted).into());
    }
    (sql, values)
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
        Test::Before(moment) => ("coalesce(modified_ns, mtime_ns) < ?", Value::Integer(*moment)),
        Test::After(moment) => ("coalesce(modified_ns, mtime_ns) >= ?", Value::Integer(*moment)),
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
            values.extend([value.clone().into(), number.map_or(Value::Null, Value::Real)]);
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
    values.push(number.map_or_else(|| Value::from(value.clone()), Value::Real));
    format!("{of_key} AND json_type(value) IN ({types}) AND json_extract(value, '$') {sign} ?{folded})")
}

/// What is wanted, without what is not.
pub(crate) fn without_unwanted(wanted: &str, query: &Query) -> String {
    if query.unwanted.is_empty() {
        return wanted.to_owned();
    }
    format!("({wanted}) NOT ({})", any_of(&query.unwanted))
}

/// All of the terms.
pub(crate) fn all_of(terms: &[Term], as_text: fn(&Term) -> String) -> String {
    terms.iter().map(as_text).collect::<Vec<_>>().join(" AND ")
}

/// One of the terms or more, with little to rank by.
pub(crate) fn any_of(terms: &[Term]) -> String {
    terms.iter().map(cheap_term).collect::<Vec<_>>().join(" OR ")
}

/// One term as an FTS5 expression, in parentheses where it needs them.
pub(crate) fn term(term: &Term) -> String {
    let (string, is_prefix) = string(term);
    let expression = match term.prefix {
        // The whole word counts beside the prefix, so that it ranks before longer ones.
        Prefix::Also => format!("({string} OR {string} *)"),
        _ if is_prefix => format!("{string} *"),
        _ => string,
    };
    if term.title_only {
        format!("(title : {expression})")
    } else {
        expression
    }
}

/// [`term`] with the same matches and less to rank by.
pub(crate) fn cheap_term(term: &Term) -> String {
    let (string, is_prefix) = string(term);
    let expression = if is_prefix { format!("{string} *") } else { string };
    if term.title_only {
        format!("(title : {expression})")
    } else {
        expression
    }
}

fn string(term: &Term) -> (String, bool) {
    let (text, ends_open) = segment::phrase(&term.text);
    (
        format!("\"{}\"", text.replace('"', " ")),
        ends_open || term.prefix != Prefix::No,
    )
}
