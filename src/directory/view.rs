//! `DATA/directory.sqlite`: the directory for people with SQL, without passwords.
//!
//! Derived and never read by the server. It carries a digest of the rows it should hold; at start
//! a file that is damaged, of another form, or whose digest is not that of the directory is
//! written anew. After that only what changed is written. Runs on the blocking pool.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde::Serialize;

use super::account::{Account, Alias, Domain};
use super::snapshot::Snapshot;
use crate::base::AccountId;

/// Raised with every change of [`SCHEMA`].
const FORM: i64 = 2;

const SCHEMA: &str = "
    CREATE TABLE domains (name TEXT PRIMARY KEY, alias_of TEXT) WITHOUT ROWID;
    CREATE TABLE accounts (
        id INTEGER PRIMARY KEY, address TEXT NOT NULL, partition INTEGER NOT NULL,
        kind TEXT NOT NULL, class TEXT NOT NULL, entitlements TEXT NOT NULL, language TEXT,
        timezone TEXT, disabled INTEGER NOT NULL, quota_bytes INTEGER, quota_messages INTEGER,
        created_ms INTEGER NOT NULL,
        removed_ms INTEGER);
    CREATE TABLE names (name TEXT PRIMARY KEY, account INTEGER NOT NULL) WITHOUT ROWID;
    CREATE INDEX names_by_account ON names (account);
    CREATE TABLE aliases (
        alias TEXT NOT NULL, place INTEGER NOT NULL, target TEXT NOT NULL,
        PRIMARY KEY (alias, place)) WITHOUT ROWID;
    CREATE TABLE meta (digest INTEGER NOT NULL);
    INSERT INTO meta VALUES (0);";

/// The view and what it holds.
pub struct View {
    path: PathBuf,
    open: Option<Open>,
}

struct Open {
    connection: Connection,
    settled: Snapshot,
    digest: i64,
}

impl View {
    pub fn new(path: PathBuf) -> View {
        View { path, open: None }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Brings the file up to `snapshot`. After an error the next call starts from the file.
    pub fn settle(&mut self, snapshot: &Snapshot) -> rusqlite::Result<()> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.open(snapshot)?,
        };
        let change = open.connection.transaction()?;
        let digest = write_changes(&change, &open.settled, snapshot, open.digest)?;
        change.commit()?;
        open.digest = digest;
        open.settled = snapshot.clone();
        self.open = Some(open);
        Ok(())
    }

    /// Opens a file that holds just what `snapshot` has, or makes it anew.
    fn open(&self, snapshot: &Snapshot) -> rusqlite::Result<Open> {
        let digest = digest_of(snapshot);
        if let Ok(Some(connection)) = existing(&self.path, digest) {
            return Ok(Open {
                connection,
                settled: snapshot.clone(),
                digest,
            });
        }
        tracing::info!(path = %self.path.display(), "directory view is written anew");
        for ending in ["", "-wal", "-shm", "-journal"] {
            let mut name = self.path.clone().into_os_string();
            name.push(ending);
            // What is not there needs no removing; what cannot be removed fails below.
            let _ = std::fs::remove_file(name);
        }
        let connection = connect(&self.path)?;
        connection.execute_batch(SCHEMA)?;
        connection.pragma_update(None, "user_version", FORM)?;
        Ok(Open {
            connection,
            settled: snapshot.emptied(),
            digest: 0,
        })
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // Derived: what a power cut takes is found by the digest and written again.
    connection.pragma_update(None, "synchronous", "OFF")?;
    Ok(connection)
}

fn existing(path: &Path, digest: i64) -> rusqlite::Result<Option<Connection>> {
    if !path.exists() {
        return Ok(None);
    }
    let connection = connect(path)?;
    let form: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let whole: String = connection.pragma_query_value(None, "quick_check", |row| row.get(0))?;
    if form != FORM || whole != "ok" {
        return Ok(None);
    }
    let found: Option<i64> = connection
        .query_row("SELECT digest FROM meta", [], |row| row.get(0))
        .optional()?;
    Ok((found == Some(digest)).then_some(connection))
}

/// The sum of a hash of each row: the same in whatever order rows came.
fn digest_of(snapshot: &Snapshot) -> i64 {
    let mut digest = 0;
    for (_, domain) in snapshot.domains.iter() {
        add(&mut digest, "domain", domain);
    }
    for (_, account) in snapshot.accounts.iter() {
        add(&mut digest, "account", &**account);
    }
    for row in snapshot.names.iter() {
        add(&mut digest, "name", &row);
    }
    for (_, alias) in snapshot.aliases.iter() {
        add(&mut digest, "alias", &**alias);
    }
    digest
}

fn row_hash(table: &str, row: &impl Serialize) -> i64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(table.as_bytes());
    hasher.update(&serde_json::to_vec(row).expect("plain data has a JSON form"));
    let hash = hasher.finalize();
    i64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("eight of 32"))
}

fn add(digest: &mut i64, table: &str, row: &impl Serialize) {
    *digest = digest.wrapping_add(row_hash(table, row));
}

/// One row for another.
fn swap<T: Serialize>(digest: &mut i64, table: &str, was: Option<T>, now: Option<T>) {
    if let Some(was) = was {
        *digest = digest.wrapping_sub(row_hash(table, &was));
    }
    if let Some(now) = now {
        add(digest, table, &now);
    }
}

/// Writes the difference; returns the digest of what is then there.
fn write_changes(
    change: &Transaction<'_>,
    old: &Snapshot,
    new: &Snapshot,
    mut digest: i64,
) -> rusqlite::Result<i64> {
    let mut result = Ok(());
    new.domains.diff(&old.domains, |name, was, now| {
        swap(&mut digest, "domain", was, now);
        attempt(&mut result, || write_domain(change, name, now));
    });
    new.accounts.diff(&old.accounts, |id, was, now| {
        swap(
            &mut digest,
            "account",
            was.map(Arc::as_ref),
            now.map(Arc::as_ref),
        );
        attempt(&mut result, || write_account(change, *id, now));
    });
    new.names.diff(&old.names, |name, was, now| {
        swap(
            &mut digest,
            "name",
            was.map(|id| (name, id)),
            now.map(|id| (name, id)),
        );
        attempt(&mut result, || write_name(change, name, now));
    });
    new.aliases.diff(&old.aliases, |from, was, now| {
        swap(
            &mut digest,
            "alias",
            was.map(Arc::as_ref),
            now.map(Arc::as_ref),
        );
        attempt(&mut result, || write_alias(change, from, now));
    });
    result?;
    change.execute("UPDATE meta SET digest = ?1", [digest])?;
    Ok(digest)
}

/// Does nothing more after the first error.
fn attempt(result: &mut rusqlite::Result<()>, f: impl FnOnce() -> rusqlite::Result<()>) {
    if result.is_ok() {
        *result = f();
    }
}

fn write_domain(
    change: &Transaction<'_>,
    name: &str,
    domain: Option<&Domain>,
) -> rusqlite::Result<()> {
    match domain {
        Some(domain) => change
            .prepare_cached("INSERT OR REPLACE INTO domains VALUES (?1, ?2)")?
            .execute(params![name, domain.alias_of])?,
        None => change.execute("DELETE FROM domains WHERE name = ?1", [name])?,
    };
    Ok(())
}

fn write_account(
    change: &Transaction<'_>,
    id: AccountId,
    account: Option<&Arc<Account>>,
) -> rusqlite::Result<()> {
    let id = signed(id.0);
    let Some(a) = account else {
        change.execute("DELETE FROM accounts WHERE id = ?1", [id])?;
        return Ok(());
    };
    let allowed: Vec<String> = a.allowed().iter().map(|e| e.to_string()).collect();
    change
        .prepare_cached(
            "INSERT OR REPLACE INTO accounts
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        )?
        .execute(params![
            id,
            a.address,
            a.partition.0,
            a.kind.to_string(),
            a.class.to_string(),
            allowed.join(" "),
            a.language,
            a.timezone,
            a.disabled,
            a.quota.map(|quota| signed(quota.0)),
            a.quota_messages.map(signed),
            a.created.0,
            a.removed.map(|time| time.0),
        ])?;
    Ok(())
}

fn write_name(
    change: &Transaction<'_>,
    name: &str,
    id: Option<&AccountId>,
) -> rusqlite::Result<()> {
    match id {
        Some(id) => change
            .prepare_cached("INSERT OR REPLACE INTO names VALUES (?1, ?2)")?
            .execute(params![name, signed(id.0)])?,
        None => change.execute("DELETE FROM names WHERE name = ?1", [name])?,
    };
    Ok(())
}

fn write_alias(
    change: &Transaction<'_>,
    from: &str,
    alias: Option<&Arc<Alias>>,
) -> rusqlite::Result<()> {
    change.execute("DELETE FROM aliases WHERE alias = ?1", [from])?;
    let Some(alias) = alias else { return Ok(()) };
    let mut insert = change.prepare_cached("INSERT INTO aliases VALUES (?1, ?2, ?3)")?;
    for (place, target) in (0i64..).zip(&alias.to) {
        insert.execute(params![from, place, target])?;
    }
    Ok(())
}

/// SQLite's integers are signed; nothing of ours comes near the difference.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
