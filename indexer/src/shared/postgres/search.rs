//! Search in PostgreSQL: conditions on its tables, and its own rank.
//!
//! Owns the SELECT; every value is a parameter. Notes whose title is the query come first, then the best by rank, then by
//! path. Does not cut snippets, nor put words into PostgreSQL's types (`vector`).

use super::Postgres;
use super::connection::{Parameter, Statement};
use super::vector;
use crate::query::{Comparison, Query, Test};
use crate::shared::SharedError;
use crate::shared::hits::{EXACT_TITLE_SCORE, Found, MAX_EXACT_TITLES, Page};
use crate::shared::rows::clean;
use crate::text::fold;

/// What a match counts by weight: D body, C path and properties, B headings and tags, A title; divided by the logarithm of the
/// note's length.
const RANK: &str = "ts_rank('{0.1, 0.25, 0.5, 1.0}', t.words, q.words, 1)";

/// The text of a condition, with its parameters as they come.
struct Conditions {
    parameters: Vec<Parameter>,
}

impl Conditions {
    fn text(&mut self, text: &str) -> String {
        self.push(Parameter::Text(clean(text)))
    }

    fn push(&mut self, parameter: Parameter) -> String {
        self.parameters.push(parameter);
        format!("${}", self.parameters.len())
    }

    fn count(&mut self, count: usize) -> String {
        self.push(Parameter::Integer(i64::try_from(count).unwrap_or(i64::MAX)))
    }

    /// The filters, each with an AND before it.
    fn filters(&mut self, query: &Query) -> String {
        let mut sql = String::new();
        for filter in &query.filters {
            sql.push_str(if filter.is_unwanted { " AND NOT " } else { " AND " });
            sql.push_str(&self.condition(&filter.test));
        }
        // Not part of the words wanted, where it would spoil the rank.
        if let Some(unwanted) = vector::unwanted(query) {
            let unwanted = self.text(&unwanted);
            sql.push_str(&format!(" AND NOT t.words @@ {unwanted}::tsquery"));
        }
        sql
    }

    fn condition(&mut self, test: &Test) -> String {
        match test {
            Test::Tag(tag) => {
                let key = self.text(&fold::key(tag));
                format!(
                    "note.id IN (SELECT note_id FROM notefs.tag
                     WHERE key = {key} OR (key > {key} || '/' AND key < {key} || '0'))"
                )
            }
            Test::Path(path) => format!("strpos(note.path_key, {}) > 0", self.text(&fold::key(path))),
            Test::Type(kind) => format!("lower(note.type) = {}", self.text(&kind.to_ascii_lowercase())),
            Test::Category(category) => {
                let key = self.text(&fold::key(category));
                format!(
                    "note.id IN (SELECT note_id FROM notefs.observation
                     WHERE left(category_key, 256) = left({key}, 256) AND category_key = {key})"
                )
            }
            Test::Before(moment) => self.moment("<", *moment),
            Test::After(moment) => self.moment(">=", *moment),
            Test::Property(key, compared) => self.property(key, compared.as_ref()),
        }
    }

    fn moment(&mut self, sign: &str, moment: i64) -> String {
        let moment = self.push(Parameter::Integer(moment));
        format!("coalesce(note.modified_ns, note.mtime_ns) {sign} {moment}")
    }

    /// As in `fts5`: texts ignoring the case of ASCII letters, numbers with numbers; a list is equal to each of its items.
    fn property(&mut self, key: &str, compared: Option<&(Comparison, String)>) -> String {
        let key = self.text(&key.to_ascii_lowercase());
        let of_key = format!(
            "note.id IN (SELECT note_id FROM notefs.prop
             WHERE left(lower(key), 256) = left({key}, 256) AND lower(key) = {key}"
        );
        let Some((comparison, value)) = compared else {
            return format!("{of_key})");
        };
        let number = value.parse::<f64>().ok().filter(|number| number.is_finite());
        let sign = match comparison {
            Comparison::Equal => {
                let text = self.text(&value.to_ascii_lowercase());
                let is_number = number.map_or_else(String::new, |number| {
                    let number = self.push(Parameter::Real(number));
                    format!(
                        " OR CASE jsonb_typeof(item) WHEN 'number' THEN (item #>> '{{}}')::float8 = {number} ELSE false END"
                    )
                });
                return format!(
                    "{of_key} AND EXISTS (SELECT 1 FROM jsonb_path_query(
                       CASE jsonb_typeof(value) WHEN 'object' THEN jsonb_path_query_array(value, '$.*') ELSE value END, '$[*]'
                     ) AS item WHERE lower(item #>> '{{}}' COLLATE \"C\") = {text}{is_number}))"
                );
            }
            Comparison::Less => "<",
            Comparison::LessOrEqual => "<=",
            Comparison::Greater => ">",
            Comparison::GreaterOrEqual => ">=",
        };
        match number {
            Some(number) => {
                let number = self.push(Parameter::Real(number));
                format!(
                    "{of_key} AND CASE jsonb_typeof(value) WHEN 'number'
                     THEN (value #>> '{{}}')::float8 {sign} {number} ELSE false END)"
                )
            }
            None => {
                let text = self.text(&value.to_ascii_lowercase());
                format!(
                    "{of_key} AND jsonb_typeof(value) = 'string'
                     AND lower(value #>> '{{}}' COLLATE \"C\") {sign} {text} COLLATE \"C\")"
                )
            }
        }
    }
}

impl Postgres {
    pub(in crate::shared) async fn search(&self, query: &Query, page: Page) -> Result<Vec<Found>, SharedError> {
        let statement = self.select(query, page);
        let rows = self.connection.query("search the shared index", &statement).await?;
        let found = rows.iter().map(|row| Found {
            path: row.bytes(0),
            title: row.text(1),
            score: row.real(2),
            body: row.text(3),
            body_line: usize::try_from(row.integer(4)).unwrap_or(1),
        });
        Ok(found.collect())
    }

    fn select(&self, query: &Query, page: Page) -> Statement {
        let mut conditions = Conditions {
            parameters: vec![Parameter::Integer(self.vault_id)],
        };
        let filters = conditions.filters(query);
        let (words, score) = match vector::wanted(query) {
            None => (String::new(), "0::float8".to_owned()),
            Some(wanted) => {
                let wanted = conditions.text(&wanted);
                let title = conditions.text(&query.plain_text().unwrap_or_default());
                let score = format!(
                    "{RANK}::float8 + CASE WHEN note.id IN (SELECT id FROM notefs.note WHERE vault_id = $1 AND gone = 0
                       AND title_flat = {title} AND title_flat <> '' ORDER BY path LIMIT {MAX_EXACT_TITLES})
                     THEN {EXACT_TITLE_SCORE} ELSE 0 END"
                );
                let words = format!(" CROSS JOIN (SELECT {wanted}::tsquery AS words) AS q");
                (words, score)
            }
        };
        let matching = if words.is_empty() {
            ""
        } else {
            " AND t.words @@ q.words"
        };
        let (limit, offset) = (conditions.count(page.limit), conditions.count(page.offset));
        let scanned = conditions.count(page.scanned_chars);
        let sql = format!(
            "SELECT best.path, best.title, best.score, left(t.body, {scanned}::int), t.body_line::bigint
             FROM (SELECT note.id, note.path, note.title, {score} AS score
               FROM notefs.note AS note JOIN notefs.note_text AS t ON t.note_id = note.id{words}
               WHERE note.vault_id = $1 AND note.gone = 0{filters}{matching}
               ORDER BY score DESC, note.path LIMIT {limit} OFFSET {offset}) AS best
             JOIN notefs.note_text AS t ON t.note_id = best.id ORDER BY best.score DESC, best.path"
        );
        conditions
            .parameters
            .into_iter()
            .fold(Statement::new(sql), Statement::with)
    }
}
