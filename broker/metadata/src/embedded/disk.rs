//! The file: a redb database with one table of keys and one of numbers.
//!
//! ```text
//!   entries   key -> create revision u64 | mod revision u64 | lease i64, 0 for none | value
//!                    (little-endian)
//!   numbers   "format" -> 1, "revision" -> the store's, "opens" -> how often it was opened
//! ```

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use redb::{
    Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, TableDefinition,
    TableError,
};

use crate::state::{Batch, State};
use crate::store::{Entry, LeaseId, Revision};

const ENTRIES: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("entries");
const NUMBERS: TableDefinition<'static, &str, u64> = TableDefinition::new("numbers");

/// The format that this code writes, and the highest that it reads.
const FORMAT: u64 = 1;
/// The keys are mirrored in memory, so redb's own cache only serves its writes.
const CACHE_BYTES: usize = 4 * 1024 * 1024;
/// Lease ids of one process; those of the next begin above.
const LEASES_PER_OPEN_BITS: u32 = 32;

/// Why the store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A later version wrote the file.
    #[error(
        "metadata file {path} has format version {found}, and this version of Esker knows \
         {FORMAT} at most"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The version that was found.
        found: u64,
    },
    /// Another process uses the file.
    #[error("metadata file {path} is in use by another process")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file is damaged, or no metadata file.
    #[error("metadata file {path} cannot be used: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file cannot be read or written.
    #[error("metadata file {path} cannot be opened: {reason}")]
    Storage {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
}

/// The open file.
pub(super) struct Disk {
    database: Database,
    opens: u64,
}

impl Disk {
    /// Opens the file, or makes it, and ends all leases.
    pub(super) fn open(path: &Path) -> Result<(Disk, State), OpenError> {
        let storage = |error: io::Error| OpenError::Storage {
            path: path.to_owned(),
            reason: error.to_string(),
        };
        if !path.try_exists().map_err(storage)? {
            create(path)?;
        }
        let database = builder()
            .open(path)
            .map_err(|error| database_error(path, error))?;
        Disk::load(database, path)
    }

    /// Reads an open database, which has its tables.
    pub(super) fn load(database: Database, path: &Path) -> Result<(Disk, State), OpenError> {
        let (entries, revision, opens) = read(&database, path)?;
        let disk = Disk {
            database,
            opens: opens + 1,
        };
        let mut state = State::new(entries, revision);
        let mut batch = state.batch();
        state.delete_orphans(&mut batch);
        // Committed also when no lease was left: the number of this opening must be durable before
        // a lease id is made of it.
        disk.commit(&batch).map_err(|reason| OpenError::Storage {
            path: path.to_owned(),
            reason,
        })?;
        state.commit(batch);
        Ok((disk, state))
    }

    /// The first lease id of this process; no other process gave it.
    pub(super) fn lease_base(&self) -> i64 {
        i64::try_from(self.opens << LEASES_PER_OPEN_BITS).unwrap_or(i64::MAX)
    }

    /// Makes a batch durable. After an error nobody knows whether it is.
    pub(super) fn commit(&self, batch: &Batch) -> Result<(), String> {
        self.try_commit(batch).map_err(|error| error.to_string())
    }

    fn try_commit(&self, batch: &Batch) -> Result<(), redb::Error> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        {
            let mut entries = transaction.open_table(ENTRIES)?;
            for (key, entry) in batch.changes() {
                match entry {
                    Some(entry) => {
                        entries.insert(key, encode(entry).as_slice())?;
                    }
                    None => {
                        entries.remove(key)?;
                    }
                }
            }
            let mut numbers = transaction.open_table(NUMBERS)?;
            numbers.insert("revision", batch.revision().0)?;
            numbers.insert("opens", self.opens)?;
        }
        transaction.commit()?;
        Ok(())
    }
}

fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

/// Makes an empty store beside its place and moves it there: a crash leaves no file or a whole one.
#[expect(
    clippy::disallowed_methods,
    reason = "redb opens its file by path, so the file is made by path too, off the reactor"
)]
fn create(path: &Path) -> Result<(), OpenError> {
    let storage = |error: io::Error| OpenError::Storage {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(storage(error)),
        _ => {}
    }
    let database = builder()
        .create(&new)
        .map_err(|error| database_error(path, error))?;
    format(&database).map_err(|error| OpenError::Storage {
        path: path.to_owned(),
        reason: error.to_string(),
    })?;
    drop(database);
    std::fs::File::open(&new)
        .and_then(|file| file.sync_all())
        .map_err(storage)?;
    std::fs::rename(&new, path).map_err(storage)?;
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    std::fs::File::open(directory)
        .and_then(|file| file.sync_all())
        .map_err(storage)
}

/// Writes the tables of an empty store.
pub(super) fn format(database: &Database) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    {
        transaction.open_table(ENTRIES)?;
        let mut numbers = transaction.open_table(NUMBERS)?;
        numbers.insert("format", FORMAT)?;
        numbers.insert("revision", Revision::FIRST.0)?;
        numbers.insert("opens", 0)?;
    }
    transaction.commit()?;
    Ok(())
}

type Contents = (BTreeMap<String, Entry>, Revision, u64);

fn read(database: &Database, path: &Path) -> Result<Contents, OpenError> {
    let damaged = |reason: String| OpenError::Damaged {
        path: path.to_owned(),
        reason,
    };
    let storage = |error: redb::Error| damaged(error.to_string());
    let transaction = database
        .begin_read()
        .map_err(|error| storage(error.into()))?;
    let numbers = match transaction.open_table(NUMBERS) {
        Err(TableError::TableDoesNotExist(_)) => {
            return Err(damaged("it is a database, but not one of Esker".into()));
        }
        numbers => numbers.map_err(|error| storage(error.into()))?,
    };
    let number = |name: &str| match numbers.get(name) {
        Ok(Some(number)) => Ok(number.value()),
        Ok(None) => Err(damaged(format!("it has no {name}"))),
        Err(error) => Err(storage(error.into())),
    };
    let found = number("format")?;
    if found > FORMAT {
        return Err(OpenError::Newer {
            path: path.to_owned(),
            found,
        });
    }
    let revision = Revision(number("revision")?);
    let opens = number("opens")?;
    let table = transaction
        .open_table(ENTRIES)
        .map_err(|error| storage(error.into()))?;
    let mut entries = BTreeMap::new();
    for item in table.iter().map_err(|error| storage(error.into()))? {
        let (key, bytes) = item.map_err(|error| storage(error.into()))?;
        let key = key.value().to_owned();
        let entry = decode(&key, bytes.value())
            .ok_or_else(|| damaged(format!("the entry of {key} is too short")))?;
        entries.insert(key, entry);
    }
    Ok((entries, revision, opens))
}

fn encode(entry: &Entry) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(24 + entry.value.len());
    bytes.extend_from_slice(&entry.create_revision.0.to_le_bytes());
    bytes.extend_from_slice(&entry.mod_revision.0.to_le_bytes());
    bytes.extend_from_slice(&entry.lease.map_or(0, |lease| lease.0).to_le_bytes());
    bytes.extend_from_slice(&entry.value);
    bytes
}

fn decode(key: &str, bytes: &[u8]) -> Option<Entry> {
    let (create_revision, rest) = bytes.split_first_chunk()?;
    let (mod_revision, rest) = rest.split_first_chunk()?;
    let (lease, value) = rest.split_first_chunk()?;
    let lease = i64::from_le_bytes(*lease);
    Some(Entry {
        key: key.to_owned(),
        value: Bytes::copy_from_slice(value),
        mod_revision: Revision(u64::from_le_bytes(*mod_revision)),
        create_revision: Revision(u64::from_le_bytes(*create_revision)),
        lease: (lease != 0).then_some(LeaseId(lease)),
    })
}

fn database_error(path: &Path, error: DatabaseError) -> OpenError {
    let path = path.to_owned();
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            OpenError::InUse { path }
        }
        DatabaseError::Storage(redb::StorageError::Corrupted(reason)) => {
            OpenError::Damaged { path, reason }
        }
        error => OpenError::Storage {
            path,
            reason: error.to_string(),
        },
    }
}
