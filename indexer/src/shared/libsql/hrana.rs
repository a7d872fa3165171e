//! Hrana 3 over HTTP: statements in, rows out, one POST a call.
//!
//! Owns the protocol, the token, and which failures are what. A transaction is one batch: each statement runs if the one before
//! it did, the last commits, and what was not committed is rolled back by the same request. Does not know any table.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value as Json, json};

use crate::fts5::Value;
use crate::shared::address::SharedAddress;
use crate::shared::{CALL_DEADLINE_SECONDS, SharedError};

/// How long connecting may take, in seconds.
const CONNECT_DEADLINE_SECONDS: u64 = 10;
/// The largest answer read, in bytes.
const MAX_ANSWER_BYTES: usize = 64 << 20;
/// How long an idle connection is kept, in seconds.
const IDLE_SECONDS: u64 = 90;

/// A server and the right to use it.
pub(super) struct Client {
    http: reqwest::Client,
    address: SharedAddress,
    url: String,
}

/// A statement and its parameters.
#[derive(Clone, Debug)]
pub(super) struct Statement {
    sql: String,
    args: Vec<Json>,
}

impl Statement {
    pub(super) fn new(sql: impl Into<String>) -> Self {
        Self {
            sql: sql.into(),
            args: Vec::new(),
        }
    }

    pub(super) fn sql(mut self, sql: impl Into<String>) -> Self {
        self.sql = sql.into();
        self
    }

    /// The same with the parameters of another statement behind its own.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.args.extend(other.args);
        self
    }

    pub(super) fn integer(self, value: i64) -> Self {
        self.value(Value::Integer(value))
    }

    pub(super) fn count(self, value: usize) -> Self {
        self.integer(i64::try_from(value).unwrap_or(i64::MAX))
    }

    pub(super) fn text(self, value: impl Into<String>) -> Self {
        self.value(Value::Text(value.into()))
    }

    /// Many rows as one text, for `json_each`.
    pub(super) fn rows(self, rows: &[Json]) -> Self {
        let rows = serde_json::to_string(rows).unwrap_or_default();
        self.text(rows)
    }

    /// Integers travel as texts, since JSON's numbers need not hold them.
    pub(super) fn value(mut self, value: Value) -> Self {
        self.args.push(match value {
            Value::Integer(number) => json!({"type": "integer", "value": number.to_string()}),
            Value::Real(number) if number.is_finite() => json!({"type": "float", "value": number}),
            Value::Null | Value::Real(_) => json!({"type": "null"}),
            Value::Text(text) => json!({"type": "text", "value": text}),
        });
        self
    }

    fn step(self, condition: Option<Json>) -> Json {
        let statement = json!({"sql": self.sql, "args": self.args, "want_rows": true});
        match condition {
            Some(condition) => json!({"condition": condition, "stmt": statement}),
            None => json!({"stmt": statement}),
        }
    }
}

/// What one statement gave.
#[derive(Default)]
pub(super) struct Answer {
    pub(super) rows: Vec<Row>,
    pub(super) affected: u64,
}

/// A row of values.
pub(super) struct Row(Vec<Json>);

impl Row {
    pub(super) fn text(&self, column: usize) -> &str {
        self.0.get(column).and_then(|cell| cell["value"].as_str()).unwrap_or("")
    }

    pub(super) fn integer(&self, column: usize) -> i64 {
        self.text(column).parse().unwrap_or(0)
    }

    /// A number that may be missing.
    pub(super) fn number(&self, column: usize) -> Option<i64> {
        self.text(column).parse().ok()
    }

    pub(super) fn real(&self, column: usize) -> f64 {
        let cell = self.0.get(column).map(|cell| &cell["value"]);
        cell.and_then(Json::as_f64).unwrap_or(0.0)
    }
}

impl Client {
    pub(super) fn new(address: &SharedAddress) -> Result<Self, SharedError> {
        crate::shared::install_tls_provider();
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(CONNECT_DEADLINE_SECONDS))
            .timeout(Duration::from_secs(CALL_DEADLINE_SECONDS))
            .pool_idle_timeout(Duration::from_secs(IDLE_SECONDS))
            // A token is for this host alone.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| SharedError::unreachable(address, "prepare the shared index", error.without_url()))?;
        Ok(Self {
            http,
            address: address.clone(),
            url: format!("{}/v3/pipeline", address.secret.url),
        })
    }

    pub(super) fn address(&self) -> &SharedAddress {
        &self.address
    }

    /// Runs the statements one after the other, each by itself, up to the first that fails.
    pub(super) async fn run(&self, action: &str, statements: Vec<Statement>) -> Result<Vec<Answer>, SharedError> {
        let steps: Vec<Json> = statements
            .into_iter()
            .enumerate()
            .map(|(at, statement)| statement.step(at.checked_sub(1).map(succeeded)))
            .collect();
        let count = steps.len();
        let mut result = self.post(action, steps).await?;
        self.check(action, &result, count)?;
        Ok(answers(&mut result, 0..count))
    }

    /// Runs the statements as one transaction: all of them, or none.
    pub(super) async fn transaction(
        &self,
        action: &str,
        statements: Vec<Statement>,
    ) -> Result<Vec<Answer>, SharedError> {
        let mut steps = vec![Statement::new("BEGIN IMMEDIATE").step(None)];
        for statement in statements {
            steps.push(statement.step(Some(succeeded(steps.len() - 1))));
        }
        let commit = steps.len();
        steps.push(Statement::new("COMMIT").step(Some(succeeded(commit - 1))));
        let not_committed = json!({"type": "not", "cond": succeeded(commit)});
        steps.push(Statement::new("ROLLBACK").step(Some(not_committed)));
        let mut result = self.post(action, steps).await?;
        self.check(action, &result, commit + 1)?;
        Ok(answers(&mut result, 1..commit))
    }

    async fn post(&self, action: &str, steps: Vec<Json>) -> Result<Json, SharedError> {
        let away = |error: reqwest::Error| SharedError::broken(&self.address, action, &error.without_url());
        let pipeline = json!({
            "baton": null,
            "requests": [{"type": "batch", "batch": {"steps": steps}}, {"type": "close"}],
        });
        let mut request = self
            .http
            .post(&self.url)
            .header("content-type", "application/json")
            .body(pipeline.to_string());
        if let Some(token) = &self.address.secret.token {
            request = request.bearer_auth(token);
        }
        let mut response = request.send().await.map_err(away)?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(away)? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_ANSWER_BYTES {
                return Err(SharedError::failed(&self.address, action, "the answer is too long"));
            }
        }
        if !status.is_success() {
            return Err(self.refusal(action, status, &body));
        }
        let mut answer: Json = serde_json::from_slice(&body)
            .map_err(|_| SharedError::failed(&self.address, action, "the server does not speak Hrana 3"))?;
        let mut result = answer["results"][0].take();
        if result["type"] == "error" {
            return Err(self.error_of(action, &result["error"]));
        }
        Ok(result["response"]["result"].take())
    }

    /// The error of the first of the `count` steps that has one.
    fn check(&self, action: &str, result: &Json, count: usize) -> Result<(), SharedError> {
        let errors = result["step_errors"].as_array().map_or(&[][..], Vec::as_slice);
        if let Some(error) = errors.iter().take(count).find(|error| !error.is_null()) {
            return Err(self.error_of(action, error));
        }
        let done = result["step_results"].as_array().map_or(&[][..], Vec::as_slice);
        if done.len() < count || done.iter().take(count).any(Json::is_null) {
            return Err(SharedError::busy(&self.address, action, "a statement was not run"));
        }
        Ok(())
    }

    fn error_of(&self, action: &str, error: &Json) -> SharedError {
        let message = error["message"].as_str().unwrap_or("no reason given");
        let code = error["code"].as_str().unwrap_or_default();
        match code {
            "SQLITE_AUTH" => SharedError::refused(&self.address, action),
            _ if [
                "SQLITE_BUSY",
                "SQLITE_LOCKED",
                "TRANSACTION",
                "SQLITE_FULL",
                "SQLITE_IOERR",
            ]
            .iter()
            .any(|busy| code.starts_with(busy)) =>
            {
                SharedError::busy(&self.address, action, message)
            }
            _ => SharedError::rejected(&self.address, action, message),
        }
    }

    fn refusal(&self, action: &str, status: StatusCode, body: &[u8]) -> SharedError {
        let text = String::from_utf8_lossy(body);
        let said = crate::text::clip(text.trim(), 200);
        let detail = format!("the server answered {}: {said}", status.as_u16());
        match status.as_u16() {
            401 | 403 => SharedError::refused(&self.address, action),
            408 | 425 | 429 => SharedError::busy(&self.address, action, detail),
            500 => SharedError::busy(&self.address, action, detail),
            413 | 422 => SharedError::rejected(&self.address, action, detail),
            502..=599 => SharedError::unreachable(&self.address, action, detail),
            _ => SharedError::failed(&self.address, action, detail),
        }
    }
}

fn succeeded(step: usize) -> Json {
    json!({"type": "ok", "step": step})
}

fn answers(result: &mut Json, steps: std::ops::Range<usize>) -> Vec<Answer> {
    let results = &mut result["step_results"];
    steps.map(|step| answer(results[step].take())).collect()
}

fn answer(mut result: Json) -> Answer {
    let affected = result["affected_row_count"].as_u64().unwrap_or(0);
    let Json::Array(rows) = result["rows"].take() else {
        return Answer {
            rows: Vec::new(),
            affected,
        };
    };
    let rows = rows.into_iter().map(|row| match row {
        Json::Array(cells) => Row(cells),
        _ => Row(Vec::new()),
    });
    Answer {
        rows: rows.collect(),
        affected,
    }
}
