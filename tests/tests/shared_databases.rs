//! The shared index on real servers: the same notes and the same questions in SQLite, libSQL and PostgreSQL.
//!
//! Owns starting the servers and what each of them is asked. `corpus` has the notes and the questions with their
//! answers, `versions` the writers that meet, `edits` what happens at random, `hostile` what is made to hurt.

#[path = "shared_databases/corpus.rs"]
mod corpus;
#[path = "shared_databases/edits.rs"]
mod edits;
#[path = "shared_databases/hostile.rs"]
mod hostile;
#[path = "shared_databases/versions.rs"]
mod versions;

use std::future::Future;
use std::io::Write as _;

use anyhow::{Context, Result, ensure};
use notefs_indexer::{ObjectVersion, SharedAddress, SharedChange, SharedError, SharedIndex, SharedRow};
use notefs_tests::postgres::Postgres;
use notefs_tests::sqld::Sqld;

const SECRET: &str = "s3cret-of-nobody";

fn wait_for<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(future)
}

/// The `n`th version of an object, as the machine `writer` wrote it.
fn version(etag: &str, stored_ms: i64, writer: &str) -> ObjectVersion {
    ObjectVersion {
        etag: etag.into(),
        stored_ms,
        writer: writer.into(),
        write_id: format!("{writer}-{etag}"),
    }
}

fn upsert(path: &[u8], version: ObjectVersion, replaces: Option<&str>, text: &[u8]) -> SharedChange {
    SharedChange::Upsert {
        path: path.into(),
        version,
        replaces: replaces.map(Into::into),
        bytes: text.into(),
        total_bytes: text.len() as u64,
        mtime_ns: 1_000_000_000,
    }
}

fn gone(path: &[u8], version: ObjectVersion) -> SharedChange {
    SharedChange::Gone {
        path: path.into(),
        version,
    }
}

async fn open(url: &str, vault: &str) -> Result<SharedIndex> {
    Ok(SharedIndex::open(&url.parse::<SharedAddress>()?, vault).await?)
}

/// All that a vault holds, by two ways that must agree.
async fn everything(index: &SharedIndex, page: usize) -> Result<Vec<SharedRow>> {
    let mut by_path: Vec<SharedRow> = Vec::new();
    loop {
        let after = by_path.last().map_or(&b""[..], |row| &row.path).to_vec();
        let rows = index.paths_after(&after, page).await?;
        let is_end = rows.is_empty();
        by_path.extend(rows);
        if is_end {
            break;
        }
    }
    let (mut by_change, mut cursor) = (Vec::new(), 0);
    loop {
        let (rows, next) = index.changes_after(cursor, page).await?;
        if rows.is_empty() {
            break;
        }
        ensure!(
            rows.iter().all(|row| row.seq > cursor) && next > cursor,
            "the cursor goes on"
        );
        cursor = next;
        by_change.extend(rows);
    }
    by_change.sort_by(|a, b| a.path.cmp(&b.path));
    ensure!(
        by_path == by_change,
        "by path and by change:\n{by_path:#?}\n{by_change:#?}"
    );
    Ok(by_path)
}

fn seed() -> u64 {
    let given = std::env::var("NOTEFS_TEST_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    given.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.map_or(1, |now| u64::from(now.subsec_nanos()) + 1)
    })
}

/// The whole suite on one server.
async fn suite(url: &str) -> Result<()> {
    corpus::questions(url).await.context("questions")?;
    versions::writers_in_both_orders(url)
        .await
        .context("writers in both orders")?;
    versions::what_is_gone(url).await.context("what is gone")?;
    versions::repetition(url).await.context("repetition")?;
    versions::two_writers_at_once(url)
        .await
        .context("two writers at once")?;
    let seed = seed();
    writeln!(std::io::stderr(), "NOTEFS_TEST_SEED={seed}")?;
    versions::random_orders(url, seed).await.context("random orders")?;
    edits::all_indexes_find_the_same(url, seed).await.context("edits")?;
    hostile::notes(url).await.context("hostile notes")?;
    hostile::queries(url).await.context("hostile queries")?;
    Ok(())
}

#[test]
fn libsql_answers_as_sqlite_does() -> Result<()> {
    let mut server = Sqld::start()?;
    wait_for(async {
        suite(&server.url()).await?;
        hostile::what_is_refused(&server.url(), &|sql| server.run(sql), hostile::TRIGGER_OF_SQLITE).await?;
        let index = open(&server.url(), "again").await?;
        comes_and_goes(&index, || server.kill()).await?;
        server.start_again()?;
        is_back(&index).await
    })
}

#[test]
fn postgres_answers_as_sqlite_does() -> Result<()> {
    let mut server = Postgres::start()?;
    wait_for(async {
        suite(&server.url("test")).await?;
        hostile::what_is_refused(
            &server.url("test"),
            &|sql| server.run(sql).map(drop),
            hostile::TRIGGER_OF_POSTGRES,
        )
        .await?;
        let index = open(&server.url("test"), "again").await?;
        comes_and_goes(&index, || server.kill()).await?;
        server.start_again()?;
        is_back(&index).await
    })
}

async fn comes_and_goes(index: &SharedIndex, kill: impl FnOnce()) -> Result<()> {
    index
        .apply(&[upsert(b"a.md", version("1", 1, "m"), None, b"kept")])
        .await?;
    kill();
    let failures = [
        index.row(b"a.md").await.err(),
        index.search("kept", 1, 0).await.err(),
        index.apply(&[gone(b"a.md", version("1", 1, "m"))]).await.err(),
    ];
    for failure in failures {
        let failure = failure.context("a server that is gone answers nothing")?;
        ensure!(failure.away() && failure.retryable(), "{failure:?}");
    }
    Ok(())
}

/// The same handle works again.
async fn is_back(index: &SharedIndex) -> Result<()> {
    index
        .apply(&[upsert(b"b.md", version("2", 2, "m"), None, b"kept too")])
        .await?;
    let rows = everything(index, 10).await?;
    ensure!(rows.len() == 2 && rows.iter().all(|row| !row.gone), "{rows:#?}");
    ensure!(index.search("kept", 10, 0).await?.len() == 2);
    Ok(())
}

#[test]
fn a_token_is_checked_and_never_shown() -> Result<()> {
    let server = Sqld::with_tokens()?;
    let host = server.address();
    let (all, read) = (server.token("rw")?, server.token("ro")?);
    wait_for(async {
        let index = open(&format!("libsql://{host}?tls=0&authToken={all}"), "v").await?;
        index
            .apply(&[upsert(b"a.md", version("1", 1, "m"), None, b"text")])
            .await?;
        ensure!(!format!("{index:?} {}", index.address()).contains(&all));

        let refused = open(&format!("http://{host}?authToken={SECRET}"), "v").await;
        is_refused(refused.map(drop), SECRET)?;
        is_refused(open(&server.url(), "v").await.map(drop), SECRET)?;

        let address: SharedAddress = server.url().parse()?;
        let reader = SharedIndex::open(&address.with_token(Some(read.clone())), "v").await?;
        ensure!(reader.search("text", 1, 0).await?.len() == 1);
        let written = reader.apply(&[gone(b"a.md", version("1", 1, "m"))]).await;
        is_refused(written.map(drop).map_err(Into::into), &read)
    })
}

#[test]
fn a_password_is_checked_and_never_shown() -> Result<()> {
    let server = Postgres::start()?;
    server.run(&format!("CREATE USER guarded PASSWORD '{SECRET}'"))?;
    server.run("GRANT CREATE ON DATABASE postgres TO guarded")?;
    wait_for(async {
        let wrong = SECRET.to_uppercase();
        let refused = open(&server.url(&format!("guarded:{wrong}")), "v").await;
        is_refused(refused.map(drop), &wrong)?;
        let address: SharedAddress = server.url("guarded").parse()?;
        let index = SharedIndex::open(&address.with_token(Some(SECRET.into())), "v").await?;
        ensure!(!format!("{index:?} {}", index.address()).contains(SECRET));
        index
            .apply(&[upsert(b"a.md", version("1", 1, "m"), None, b"text")])
            .await?;
        ensure!(index.search("text", 1, 0).await?.len() == 1);
        // A server without TLS is not spoken to where TLS is asked for.
        let plain = open(&format!("{}?sslmode=require", server.url("test")), "v").await;
        ensure!(plain.is_err());
        Ok(())
    })
}

fn is_refused(result: Result<()>, secret: &str) -> Result<()> {
    let error = result.err().context("nobody may do that")?;
    let error = error.downcast::<SharedError>()?;
    let text = format!("{error} {error:?}");
    ensure!(text.contains("refused") && !text.contains(secret), "{text}");
    ensure!(!error.retryable() && !error.away(), "{text}");
    Ok(())
}

/// What the first migration alone had made.
const UNDO_SECOND_MIGRATION: &str = "
    DROP TABLE notefs.name;
    DROP INDEX notefs.note_by_path, notefs.link_by_whole_key, notefs.link_by_slug_key;
    ALTER TABLE notefs.note ADD UNIQUE (vault_id, path);
    DELETE FROM notefs.migration WHERE number = 2";

#[test]
fn a_database_of_before_is_brought_up_to_date_and_keeps_its_notes() -> Result<()> {
    let server = Postgres::start()?;
    let url = server.url("test");
    let note = |path: &[u8], etag| upsert(path, version(etag, 1, "m"), None, b"an otter [[b]]");
    wait_for(async {
        open(&url, "v").await?.apply(&[note(b"a.md", "1")]).await?;
        server.run(UNDO_SECOND_MIGRATION)?;
        let index = open(&url, "v").await?;
        index.apply(&[note(b"b.md", "2")]).await?;
        ensure!(everything(&index, 10).await?.len() == 2, "a note is missing");
        ensure!(index.around(b"b.md").await?.len() == 2, "who links to it is not known");
        ensure!(
            index.was_older() && !open(&url, "v").await?.was_older(),
            "nobody would compare"
        );
        // What was there is no known version, so that it is told again, and its names with it.
        ensure!(
            index.row(b"a.md").await?.is_some_and(|row| row.version.etag.is_empty()),
            "it would not be told again"
        );
        index
            .apply(&[
                note(b"a.md", "1"),
                upsert(b"c.md", version("3", 1, "m"), None, b"[[a]]"),
            ])
            .await?;
        ensure!(index.around(b"a.md").await?.len() == 3, "who links to it is not known");
        ensure!(
            index.row(b"a.md").await?.is_some_and(|row| row.version.etag == "1"),
            "it is told"
        );
        Ok(())
    })
}
