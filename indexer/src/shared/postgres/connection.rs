//! The connections to one PostgreSQL: one that writes and one that reads, made when first needed and again when they broke.
//!
//! Owns connecting, parameters, which failures are what, and transactions: all their statements are sent at once, and a failed
//! one makes the server refuse the rest. Does not know any table. No lock is held while the network is waited for; writers
//! take turns by a permit, since two transactions must not mix on one connection.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt as _, join_all};
use tokio::sync::Semaphore;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Config, NoTls};

use super::tls::Tls;
use crate::shared::address::SharedAddress;
use crate::shared::{CALL_DEADLINE_SECONDS, SharedError};

/// How long connecting may take, in seconds.
const CONNECT_DEADLINE_SECONDS: u64 = 10;
/// How long an idle connection goes without a sign of life, in seconds.
const KEEPALIVE_SECONDS: u64 = 30;

/// A value for a statement.
pub(super) enum Parameter {
    Text(String),
    Integer(i64),
    Real(f64),
    Bytes(Vec<u8>),
}

impl Parameter {
    fn typed(&self) -> (&(dyn ToSql + Sync), Type) {
        match self {
            Self::Text(text) => (text, Type::TEXT),
            Self::Integer(number) => (number, Type::INT8),
            Self::Real(number) => (number, Type::FLOAT8),
            Self::Bytes(bytes) => (bytes, Type::BYTEA),
        }
    }
}

/// A statement and its parameters.
pub(super) struct Statement {
    sql: String,
    parameters: Vec<Parameter>,
}

impl Statement {
    pub(super) fn new(sql: impl Into<String>) -> Self {
        Self {
            sql: sql.into(),
            parameters: Vec::new(),
        }
    }

    pub(super) fn with(mut self, parameter: Parameter) -> Self {
        self.parameters.push(parameter);
        self
    }

    pub(super) fn count(self, value: usize) -> Self {
        self.with(Parameter::Integer(i64::try_from(value).unwrap_or(i64::MAX)))
    }

    fn typed(&self) -> Vec<(&(dyn ToSql + Sync), Type)> {
        self.parameters.iter().map(Parameter::typed).collect()
    }
}

/// A row of values; one of another type than asked for is empty.
pub(super) struct Row(tokio_postgres::Row);

impl Row {
    pub(super) fn text(&self, column: usize) -> String {
        self.0.try_get(column).unwrap_or_default()
    }

    pub(super) fn integer(&self, column: usize) -> i64 {
        self.0.try_get(column).unwrap_or_default()
    }

    /// A number that may be missing.
    pub(super) fn number(&self, column: usize) -> Option<i64> {
        self.0.try_get(column).ok()
    }

    pub(super) fn real(&self, column: usize) -> f64 {
        self.0.try_get(column).unwrap_or_default()
    }

    pub(super) fn bytes(&self, column: usize) -> Vec<u8> {
        self.0.try_get(column).unwrap_or_default()
    }
}

/// A place for a connection.
type Slot = Mutex<Option<Arc<Client>>>;

/// A server and the right to use it.
pub(super) struct Connection {
    address: SharedAddress,
    config: Config,
    /// `None` on a machine that trusts no certificates, where a server nearby can still be asked without.
    tls: Option<Tls>,
    reader: Slot,
    writer: Slot,
    write_permit: Semaphore,
}

impl Connection {
    pub(super) fn new(address: &SharedAddress) -> Result<Self, SharedError> {
        let action = "read the address of the shared index";
        // The certificate is always checked here, which is what these two ask for.
        let url = address.secret.url.replace("sslmode=verify-full", "sslmode=require");
        let url = url.replace("sslmode=verify-ca", "sslmode=require");
        let mut config: Config = url
            .parse()
            .map_err(|_| SharedError::address("has a parameter that PostgreSQL does not know"))?;
        config
            .application_name("notefs")
            .connect_timeout(Duration::from_secs(CONNECT_DEADLINE_SECONDS))
            .keepalives_idle(Duration::from_secs(KEEPALIVE_SECONDS))
            .tcp_user_timeout(Duration::from_secs(CALL_DEADLINE_SECONDS));
        if let Some(password) = &address.secret.token {
            config.password(password);
        }
        let tls = match Tls::new() {
            Ok(tls) => Some(tls),
            Err(_) if config.get_ssl_mode() != SslMode::Require => None,
            Err(error) => return Err(SharedError::failed(address, action, error)),
        };
        Ok(Self {
            address: address.clone(),
            config,
            tls,
            reader: Slot::default(),
            writer: Slot::default(),
            write_permit: Semaphore::new(1),
        })
    }

    pub(super) fn address(&self) -> &SharedAddress {
        &self.address
    }

    /// Runs one statement.
    pub(super) async fn query(&self, action: &str, statement: &Statement) -> Result<Vec<Row>, SharedError> {
        let client = self.client(action, &self.reader).await?;
        let rows = client.query_typed(&statement.sql, &statement.typed()).await;
        let rows = rows.map_err(|error| self.failure(action, &error))?;
        Ok(rows.into_iter().map(Row).collect())
    }

    /// Runs the statements as one transaction: all of them, or none.
    pub(super) async fn transaction(&self, action: &str, statements: Vec<Statement>) -> Result<(), SharedError> {
        let _permit = self.write_permit.acquire().await;
        let client = self.client(action, &self.writer).await?;
        // Each is sent when it is first asked for its answer, in this order. After a failure COMMIT rolls back.
        let mut answers: Vec<BoxFuture<'_, Result<u64, tokio_postgres::Error>>> = vec![command(&client, "BEGIN")];
        for statement in &statements {
            let typed = statement.typed();
            let client = &client;
            answers.push(async move { client.execute_typed(&statement.sql, &typed).await }.boxed());
        }
        answers.push(command(&client, "COMMIT"));
        let answers = join_all(answers).await;
        let first_failed = answers.into_iter().find_map(Result::err);
        first_failed.map_or(Ok(()), |error| Err(self.failure(action, &error)))
    }

    /// Runs a script without parameters.
    pub(super) async fn script(&self, action: &str, script: &str) -> Result<(), SharedError> {
        let _permit = self.write_permit.acquire().await;
        let client = self.client(action, &self.writer).await?;
        if let Err(error) = client.batch_execute(script).await {
            // It may have begun a transaction, which ends with the connection.
            take(&self.writer);
            return Err(self.failure(action, &error));
        }
        Ok(())
    }

    async fn client(&self, action: &str, slot: &Slot) -> Result<Arc<Client>, SharedError> {
        let known = slot.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(client) = known.filter(|client| !client.is_closed()) {
            return Ok(client);
        }
        let connected = self.connect().await;
        let client = connected.map_err(|error| self.failure(action, &error))?;
        // What nobody waits for any more, the server need not finish.
        let limit = format!("SET statement_timeout = {}", CALL_DEADLINE_SECONDS * 1_000);
        let set = client.batch_execute(&limit).await;
        set.map_err(|error| self.failure(action, &error))?;
        let client = Arc::new(client);
        *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&client));
        Ok(client)
    }

    /// The connection ends when the client is dropped or it breaks, which the next call sees.
    async fn connect(&self) -> Result<Client, tokio_postgres::Error> {
        match &self.tls {
            Some(tls) => {
                let (client, connection) = self.config.connect(tls.clone()).await?;
                drop(tokio::spawn(connection));
                Ok(client)
            }
            None => {
                let (client, connection) = self.config.connect(NoTls).await?;
                drop(tokio::spawn(connection));
                Ok(client)
            }
        }
    }

    fn failure(&self, action: &str, error: &tokio_postgres::Error) -> SharedError {
        let Some(said) = error.as_db_error() else {
            return SharedError::broken(&self.address, action, error);
        };
        let (code, message) = (said.code().code(), said.message());
        match code.get(..2).unwrap_or_default() {
            "28" => SharedError::refused(&self.address, action),
            _ if *said.code() == SqlState::INSUFFICIENT_PRIVILEGE => SharedError::refused(&self.address, action),
            // 57014 is our own limit of time; the rest of 57 is a server that goes or comes.
            "40" | "53" | "55" => SharedError::busy(&self.address, action, message),
            "57" if *said.code() == SqlState::QUERY_CANCELED => SharedError::busy(&self.address, action, message),
            "08" | "57" | "58" => SharedError::unreachable(&self.address, action, message),
            _ => SharedError::rejected(&self.address, action, message),
        }
    }
}

fn command<'a>(client: &'a Client, sql: &'a str) -> BoxFuture<'a, Result<u64, tokio_postgres::Error>> {
    async move { client.batch_execute(sql).await.map(|()| 0) }.boxed()
}

fn take(slot: &Slot) {
    slot.lock().unwrap_or_else(PoisonError::into_inner).take();
}
