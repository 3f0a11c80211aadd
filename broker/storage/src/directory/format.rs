//! Opening a directory: formatting an empty one, refusing another's, reading what it recorded.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex, OnceLock};

use esker_protocol::{Offset, TopicId};

use super::clean_points::CleanPoints;
use super::durable_ends::{self, Content, JOURNAL, PartitionKey, Recorded};
use super::ends_file::EndsFile;
use super::journal::{self, Journal};
use super::logs::read_topic_id;
use super::meta::{self, Meta, MetaError};
use super::names::{DirectoryName, PARTITION_METADATA, decode_partition_metadata, parse_directory};
use super::shared::Shared;
use crate::config::{CommitMode, DirectoryConfig, Durability, Identity};
use crate::disk::{DirEntry, Disk, DiskLock, FileSystem, OpenMode, read_all, replace_file};
use crate::error::OpenError;
use crate::files::Files;

/// The file that a clean stop leaves.
pub(crate) const CLEAN_SHUTDOWN: &str = ".esker_clean_shutdown";
const LOCK: &str = ".lock";
/// The end of a log of which the records prove nothing.
pub(super) const UNKNOWN_END: Offset = Offset(-1);
/// The end of the journal's own entry while there must be a journal.
const JOURNAL_IN_USE: Offset = Offset(1);

pub(super) struct Opened {
    pub(super) shared: Arc<Shared>,
    pub(super) meta: Meta,
    pub(super) clean_shutdown: Option<TopicId>,
    pub(super) records_lost: bool,
    pub(super) lock: Box<dyn DiskLock>,
}

/// What was recorded of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RecordedEnd {
    /// Nothing: no round has published it.
    Nothing,
    /// These ends.
    Known(Recorded),
    /// The records were lost or damaged: they prove nothing, and all damage counts (P6).
    Unknown,
}

impl From<Option<Recorded>> for RecordedEnd {
    fn from(recorded: Option<Recorded>) -> RecordedEnd {
        match recorded {
            None => RecordedEnd::Nothing,
            Some(recorded) if recorded.end == UNKNOWN_END => RecordedEnd::Unknown,
            Some(recorded) => RecordedEnd::Known(recorded),
        }
    }
}

pub(super) fn encode_clean_shutdown(incarnation: TopicId) -> String {
    format!("{{\"v\":0,\"incarnation\":\"{incarnation}\"}}\n")
}

fn decode_clean_shutdown(text: &str) -> Option<TopicId> {
    let text = text
        .trim_end()
        .strip_prefix("{\"v\":0,\"incarnation\":\"")?;
    text.strip_suffix("\"}")?.parse().ok()
}

pub(super) fn open(
    disk: Arc<dyn Disk>,
    config: DirectoryConfig,
    identity: &Identity,
    random: &mut dyn FnMut() -> [u8; 16],
) -> Result<Opened, OpenError> {
    let path = config.path.clone();
    let failed = |source: io::Error| OpenError::Io {
        path: path.clone(),
        source,
    };
    let existing = if disk.exists(&path).map_err(failed)? {
        examine(disk.as_ref(), &path, identity)?
    } else {
        create_durably(disk.as_ref(), &path).map_err(failed)?;
        None
    };
    // Before the first write, so that this handle is told of every failed write-back.
    let file_system = disk.open_file_system(&path).map_err(failed)?;
    let lock = disk
        .lock_exclusive(&path.join(LOCK))
        .map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => OpenError::InUse(path.clone()),
            _ => failed(error),
        })?;
    let meta = match existing {
        Some(_) => examine(disk.as_ref(), &path, identity)?.ok_or_else(|| OpenError::Damaged {
            path: path.join(meta::FILE_NAME),
            reason: "vanished while the directory was being opened".to_owned(),
        })?,
        None => make(disk.as_ref(), &path, identity, random).map_err(failed)?,
    };
    let journals = config.commit == CommitMode::Journal && config.durability == Durability::Durable;
    let ends = open_ends(disk.as_ref(), (&path, meta.directory_id), journals)?;
    let records_lost = ends.knows_nothing_of_some();
    let clean_shutdown = read_text(disk.as_ref(), &path.join(CLEAN_SHUTDOWN)).map_err(failed)?;
    let settled = ends.get(JOURNAL).map_or(0, |entry| entry.journal_sequence);
    let file = match journals {
        true => Some(disk.open_journal(&path.join(journal::FILE_NAME))),
        false => None,
    };
    let file = file.transpose().map_err(failed)?;
    let journal = Journal::new(file, meta.directory_id, config.journal_bytes_max, settled);
    let clean = clean_shutdown.is_some();
    let clean_points = CleanPoints::read(disk.as_ref(), &path).map_err(failed)?;
    let shared = share(
        disk,
        config,
        file_system,
        (ends, journal),
        clean_points,
        clean,
    );
    Ok(Opened {
        shared: Arc::new(shared),
        meta,
        clean_shutdown: clean_shutdown.as_deref().and_then(decode_clean_shutdown),
        records_lost,
        lock,
    })
}

fn share(
    disk: Arc<dyn Disk>,
    config: DirectoryConfig,
    file_system: Arc<dyn FileSystem>,
    (ends, journal): (EndsFile, Journal),
    clean_points: CleanPoints,
    clean_marker: bool,
) -> Shared {
    Shared {
        files: Files::new(disk.clone(), config.open_files_max),
        disk,
        config,
        file_system,
        failed: OnceLock::new(),
        stopped: AtomicBool::new(false),
        dirty: Mutex::default(),
        open: Mutex::default(),
        opening: Mutex::default(),
        ends: Mutex::new(ends),
        unrecorded: Mutex::default(),
        journal: Mutex::new(journal),
        unsettled: Mutex::default(),
        short_of_files: AtomicBool::new(false),
        not_void: Mutex::default(),
        opened: Mutex::default(),
        clean_points: Mutex::new(clean_points),
        names_unsynced: AtomicBool::new(false),
        rounds_since_record: AtomicU32::new(0),
        started_clean: clean_marker,
        clean_marker: Mutex::new(clean_marker),
        turns: Mutex::default(),
        log_id_next: AtomicU64::new(0),
    }
}

/// Makes a directory and its missing parents, durably.
fn create_durably(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    let mut parents = Vec::new();
    for made in path.ancestors().filter(|one| !one.as_os_str().is_empty()) {
        if disk.exists(made)? {
            break;
        }
        let parent = made
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        parents.push(parent.unwrap_or(Path::new(".")));
    }
    disk.create_dir_all(path)?;
    parents
        .into_iter()
        .try_for_each(|parent| disk.sync_dir(parent))
}

/// The text of a file, `None` when it is absent.
fn read_text(disk: &dyn Disk, path: &Path) -> io::Result<Option<String>> {
    match read_all(disk, path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads `meta.properties` and refuses another's directory; `None` when there is none to read and
/// the directory may be formatted. Changes nothing.
fn examine(disk: &dyn Disk, path: &Path, identity: &Identity) -> Result<Option<Meta>, OpenError> {
    let failed = |source: io::Error| OpenError::Io {
        path: path.to_owned(),
        source,
    };
    let file = path.join(meta::FILE_NAME);
    let Some(text) = read_text(disk, &file).map_err(failed)? else {
        return match disk
            .read_dir(path)
            .map_err(failed)?
            .into_iter()
            .find(is_foreign)
        {
            Some(entry) => Err(OpenError::Foreign {
                path: path.to_owned(),
                found: entry.name,
            }),
            None => Ok(None),
        };
    };
    let meta = Meta::decode(&text).map_err(|error| match error {
        MetaError::NewerVersion(found) => OpenError::NewerVersion {
            path: path.to_owned(),
            found,
        },
        MetaError::Missing(key) => OpenError::Damaged {
            path: file.clone(),
            reason: format!("{key} is missing"),
        },
        MetaError::Invalid(key, value) => OpenError::Damaged {
            path: file.clone(),
            reason: format!("{key} cannot be {value:?}"),
        },
    })?;
    if meta.cluster_id != identity.cluster_id {
        return Err(OpenError::OtherCluster {
            path: path.to_owned(),
            found: meta.cluster_id,
            expected: identity.cluster_id.clone(),
        });
    }
    if meta.node_id != identity.node_id.to_string() {
        return Err(OpenError::OtherNode {
            path: path.to_owned(),
            found: meta.node_id,
            expected: identity.node_id.to_string(),
        });
    }
    Ok(Some(meta))
}

/// The embedded metadata store may lie in the first log directory, and is made before it.
const EMBEDDED_METADATA: &str = "metadata.redb";

/// Whether an entry is none that formatting leaves half done, nor the file system's own.
fn is_foreign(entry: &DirEntry) -> bool {
    let ends_temporary = format!("{}.tmp", durable_ends::FILE_NAME);
    let meta_temporary = format!("{}.tmp", meta::FILE_NAME);
    let ours = [
        LOCK,
        "lost+found",
        durable_ends::FILE_NAME,
        ends_temporary.as_str(),
        &meta_temporary,
    ];
    !ours.contains(&entry.name.as_str()) && !entry.name.starts_with(EMBEDDED_METADATA)
}

/// Formats: durable ends first, so that `meta.properties` without them means that they were lost.
fn make(
    disk: &dyn Disk,
    path: &Path,
    identity: &Identity,
    random: &mut dyn FnMut() -> [u8; 16],
) -> io::Result<Meta> {
    disk.open(&path.join(durable_ends::FILE_NAME), OpenMode::Replace)?
        .sync_data()?;
    disk.sync_dir(path)?;
    let mut id = TopicId::from_random(random());
    while id.is_none() {
        id = TopicId::from_random(random());
    }
    let meta = Meta::new(identity, id.unwrap_or(TopicId::ZERO));
    replace_file(disk, &path.join(meta::FILE_NAME), meta.encode().as_bytes())?;
    disk.sync_dir(path)?;
    Ok(meta)
}

/// Reads what was recorded, replays the journal, and writes it anew, whole: a torn record at the end
/// goes, and what a failed sync may have left in memory only reaches the disk. `journals` is whether
/// this process writes a journal.
fn open_ends(
    disk: &dyn Disk,
    (path, id): (&Path, TopicId),
    journals: bool,
) -> Result<EndsFile, OpenError> {
    let failed = |source: io::Error| OpenError::Io {
        path: path.to_owned(),
        source,
    };
    let file = path.join(durable_ends::FILE_NAME);
    let content = match read_all(disk, &file) {
        Ok(bytes) => durable_ends::decode(&bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Content::Damaged,
        Err(error) => return Err(failed(error)),
    };
    let directories = disk.read_dir(path).map_err(failed)?;
    let (known, settled) = match content {
        Content::Sound(mut known) => {
            let settled = replay_journal(disk, (path, id), &directories, &mut known)?;
            let known = without_deleted(disk, path, known, &directories).map_err(failed)?;
            (known, settled)
        }
        Content::Newer(version) => {
            return Err(OpenError::NewerVersion {
                path: path.to_owned(),
                found: format!("durable-ends.log {version}"),
            });
        }
        Content::Damaged => {
            tracing::error!(path = %file.display(), "durable ends are missing or damaged; every log is checked whole");
            // Which of the journal's records are void was among them.
            set_journal_aside(disk, path).map_err(failed)?;
            (all_unknown(disk, path, &directories).map_err(failed)?, 0)
        }
    };
    let in_use = journals
        || known
            .get(&JOURNAL)
            .is_some_and(|one| one.end == JOURNAL_IN_USE);
    if journals {
        // Before the ends say that it must be there.
        disk.open(&path.join(journal::FILE_NAME), OpenMode::Create)
            .and_then(|_| disk.sync_dir(path))
            .map_err(failed)?;
    }
    let marker = Recorded {
        journal_sequence: settled,
        end: if in_use { JOURNAL_IN_USE } else { Offset::ZERO },
        ..Recorded::NOTHING
    };
    let mut known = known;
    known.insert(JOURNAL, marker);
    let ends = EndsFile::rewrite(disk, file, known).map_err(failed)?;
    disk.sync_dir(path).map_err(failed)?;
    Ok(ends)
}

/// Brings the logs' files to where the journal says they were. Where it is missing, or damaged before
/// its end, what was there is not known of any log. Returns the last sequence that was ever given out.
fn replay_journal(
    disk: &dyn Disk,
    (path, id): (&Path, TopicId),
    directories: &[DirEntry],
    known: &mut BTreeMap<PartitionKey, Recorded>,
) -> Result<i64, OpenError> {
    let file = path.join(journal::FILE_NAME);
    let failed = |source: io::Error| OpenError::Io {
        path: file.clone(),
        source,
    };
    // A void may name a record that was torn: its sequence must not be another's.
    let voids = known.values().map(|one| one.journal_sequence).max();
    let is_missing = known
        .get(&JOURNAL)
        .is_some_and(|one| one.end == JOURNAL_IN_USE)
        && !disk.exists(&file).map_err(failed)?;
    let replayed = journal::replay(disk, (path, id), known).map_err(failed)?;
    if let Some(version) = replayed.newer {
        return Err(OpenError::NewerVersion {
            path: path.to_owned(),
            found: format!("{} {version}", journal::FILE_NAME),
        });
    }
    if replayed.records > 0 {
        tracing::info!(path = %path.display(), records = replayed.records, "journal replayed");
    }
    if replayed.damaged || is_missing {
        tracing::error!(path = %file.display(), "the journal is missing or damaged; every log is checked whole");
        *known = all_unknown(disk, path, directories).map_err(failed)?;
    }
    Ok(replayed.last_sequence.max(voids.unwrap_or(0)))
}

/// Puts a journal out of the way that cannot be replayed. Nothing of it is lost.
fn set_journal_aside(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    let file = path.join(journal::FILE_NAME);
    match disk.len(&file)? {
        None | Some(0) => return Ok(()),
        Some(_) => {}
    }
    let mut number = 0u32;
    loop {
        let aside = path.join(format!("{}.{number}.aside", journal::FILE_NAME));
        if !disk.exists(&aside)? {
            tracing::error!(path = %aside.display(), "the journal is kept under this name");
            disk.rename(&file, &aside)?;
            return disk.sync_dir(path);
        }
        number += 1;
    }
}

/// Every log that is there, and every stray, with an end of which nothing is known.
fn all_unknown(
    disk: &dyn Disk,
    path: &Path,
    directories: &[DirEntry],
) -> io::Result<BTreeMap<PartitionKey, Recorded>> {
    let mut known = BTreeMap::new();
    // A stray comes first, so that a log in service of the same name is what counts.
    for (_, key) in directories
        .iter()
        .filter(|entry| parse_directory(&entry.name) == DirectoryName::Stray)
        .filter_map(|entry| set_aside(&entry.name))
    {
        let recorded = Recorded {
            end: UNKNOWN_END,
            is_stray: true,
            ..Recorded::NOTHING
        };
        known.insert(key, recorded);
    }
    for entry in directories {
        let DirectoryName::Partition { partition, .. } = parse_directory(&entry.name) else {
            continue;
        };
        let metadata = path.join(&entry.name).join(PARTITION_METADATA);
        let topic_id = read_text(disk, &metadata)?;
        if let Some(topic_id) = topic_id.as_deref().and_then(decode_partition_metadata) {
            let recorded = Recorded {
                end: UNKNOWN_END,
                ..Recorded::NOTHING
            };
            known.insert((topic_id, partition), recorded);
        }
    }
    Ok(known)
}

/// Forgets logs whose deletion was interrupted between the rename and its record.
fn without_deleted(
    disk: &dyn Disk,
    path: &Path,
    mut known: BTreeMap<PartitionKey, Recorded>,
    directories: &[DirEntry],
) -> io::Result<BTreeMap<PartitionKey, Recorded>> {
    let mut live = BTreeMap::new();
    let mut deleted = Vec::new();
    for entry in directories.iter().filter(|entry| entry.is_dir) {
        match parse_directory(&entry.name) {
            DirectoryName::Partition { topic, partition } => {
                live.insert((topic, partition), &entry.name);
            }
            DirectoryName::Deleted | DirectoryName::Stray => deleted.extend(set_aside(&entry.name)),
            DirectoryName::Other => {}
        }
    }
    for (topic, key) in deleted {
        // What is recorded as a stray was not begun anew: its record is what its directory rests on.
        let is_stray = known.get(&key).is_some_and(|recorded| recorded.is_stray);
        if is_stray || !known.contains_key(&key) {
            continue;
        }
        // The name of what was set aside has a long topic's beginning only: the id decides.
        let mut is_live = false;
        for ((name, partition), directory) in &live {
            if *partition == key.1 && name.starts_with(&topic) {
                is_live |= read_topic_id(disk, &path.join(directory))? == Some(key.0);
            }
        }
        if !is_live {
            known.remove(&key);
        }
    }
    Ok(known)
}

/// Topic, topic id and partition in `<topic>-<p>.<topic id in hex>-<suffix>`.
pub(super) fn set_aside(name: &str) -> Option<(String, PartitionKey)> {
    let (head, _) = name.rsplit_once('-')?;
    let (partition, hex) = head.rsplit_once('.')?;
    let (topic, partition) = partition.rsplit_once('-')?;
    Some((
        topic.to_owned(),
        (TopicId::from_hex(hex)?, partition.parse().ok()?),
    ))
}
