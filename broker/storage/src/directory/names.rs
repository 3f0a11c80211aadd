//! Names of partition directories and of the files in them.

use esker_protocol::{Offset, TopicId};

/// The longest name that file systems take.
const NAME_BYTES_MAX: usize = 255;
/// The longest topic name.
const TOPIC_BYTES_MAX: usize = 249;
/// Digits of an offset in a file name.
const OFFSET_DIGITS: usize = 20;

/// The file that says whose log a directory holds.
pub(crate) const PARTITION_METADATA: &str = "partition.metadata";
/// The file of leader epochs.
pub(crate) const EPOCH_CHECKPOINT: &str = "leader-epoch-checkpoint";

/// What a directory's name says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DirectoryName {
    /// The log of a partition.
    Partition { topic: String, partition: i32 },
    /// A deleted log.
    Deleted,
    /// A log that nobody claimed.
    Stray,
    /// None of ours.
    Other,
}

/// Reads a directory's name.
pub(crate) fn parse_directory(name: &str) -> DirectoryName {
    if name.ends_with("-delete") {
        return DirectoryName::Deleted;
    }
    if name.ends_with("-stray") {
        return DirectoryName::Stray;
    }
    match name.rsplit_once('-') {
        Some((topic, partition)) if is_topic(topic) => match partition.parse::<i32>() {
            Ok(number) if number >= 0 && number.to_string() == partition => {
                DirectoryName::Partition {
                    topic: topic.to_owned(),
                    partition: number,
                }
            }
            _ => DirectoryName::Other,
        },
        _ => DirectoryName::Other,
    }
}

/// Whether Kafka allows the topic name; nothing else may become part of a path.
pub(crate) fn is_topic(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    !name.is_empty()
        && name.len() <= TOPIC_BYTES_MAX
        && name != "."
        && name != ".."
        && name.bytes().all(allowed)
}

/// The name of a partition's directory.
pub(crate) fn partition(topic: &str, partition: i32) -> String {
    format!("{topic}-{partition}")
}

/// The name under which a log waits to be removed or claimed: `<topic>-<p>.<32 hex><suffix>`.
pub(crate) fn set_aside(topic: &str, partition: i32, unique: TopicId, suffix: &str) -> String {
    let tail = format!("-{partition}.{}{suffix}", unique.to_hex());
    let room = NAME_BYTES_MAX.saturating_sub(tail.len());
    let topic: String = topic.chars().take(room).collect();
    format!("{topic}{tail}")
}

/// The kinds of files that a segment has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FileKind {
    Log,
    OffsetIndex,
    TimeIndex,
    TransactionIndex,
    Snapshot,
}

impl FileKind {
    pub(crate) const ALL: [FileKind; 5] = [
        FileKind::Log,
        FileKind::OffsetIndex,
        FileKind::TimeIndex,
        FileKind::TransactionIndex,
        FileKind::Snapshot,
    ];

    fn extension(self) -> &'static str {
        match self {
            FileKind::Log => "log",
            FileKind::OffsetIndex => "index",
            FileKind::TimeIndex => "timeindex",
            FileKind::TransactionIndex => "txnindex",
            FileKind::Snapshot => "snapshot",
        }
    }
}

/// The name of a segment's file.
pub(crate) fn segment_file(base: Offset, kind: FileKind) -> String {
    format!(
        "{:0width$}.{}",
        base.0,
        kind.extension(),
        width = OFFSET_DIGITS
    )
}

/// Reads the name of a segment's file.
pub(crate) fn parse_segment_file(name: &str) -> Option<(Offset, FileKind)> {
    let (digits, extension) = name.split_once('.')?;
    let all_digits = digits.len() == OFFSET_DIGITS && digits.bytes().all(|b| b.is_ascii_digit());
    all_digits.then_some(())?;
    let kind = FileKind::ALL
        .into_iter()
        .find(|kind| kind.extension() == extension)?;
    Some((Offset(digits.parse().ok()?), kind))
}

/// The text of `partition.metadata`.
pub(crate) fn encode_partition_metadata(topic_id: TopicId) -> String {
    format!("version: 0\ntopic_id: {topic_id}")
}

/// Reads `partition.metadata`.
pub(crate) fn decode_partition_metadata(text: &str) -> Option<TopicId> {
    let mut lines = text.lines();
    (lines.next()? == "version: 0").then_some(())?;
    lines
        .next()?
        .strip_prefix("topic_id: ")?
        .trim()
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partition_directories_read_back_and_others_do_not() {
        let read = |name: &str| parse_directory(name);
        let of = |topic: &str, partition| DirectoryName::Partition {
            topic: topic.to_owned(),
            partition,
        };
        assert_eq!(read("clicks-0"), of("clicks", 0));
        assert_eq!(read("a-b.c_d-12"), of("a-b.c_d", 12));
        for other in [
            "clicks",
            "clicks-",
            "clicks-01",
            "-0",
            "..-0x",
            "x y-0",
            ".lock",
        ] {
            assert_eq!(read(other), DirectoryName::Other, "{other}");
        }
        assert_eq!(read("clicks-0.0123-delete"), DirectoryName::Deleted);
        assert_eq!(read("clicks-0.0123-stray"), DirectoryName::Stray);
    }

    #[test]
    fn names_set_aside_fit_a_file_system() {
        let longest = "t".repeat(TOPIC_BYTES_MAX);
        let name = set_aside(&longest, i32::MAX, TopicId([7; 16]), "-delete");
        assert_eq!(name.len(), NAME_BYTES_MAX);
        assert_eq!(parse_directory(&name), DirectoryName::Deleted);
    }

    #[test]
    fn segment_files_read_back() {
        for kind in FileKind::ALL {
            let name = segment_file(Offset(42_000), kind);
            assert_eq!(parse_segment_file(&name), Some((Offset(42_000), kind)));
        }
        assert_eq!(
            segment_file(Offset(0), FileKind::Log),
            "00000000000000000000.log"
        );
        for other in [
            "0.log",
            "0000000000000000000x.log",
            "00000000000000000000.log.tmp",
            "x",
        ] {
            assert_eq!(parse_segment_file(other), None, "{other}");
        }
    }

    #[test]
    fn partition_metadata_is_kafkas() {
        let id = TopicId([9; 16]);
        assert_eq!(
            encode_partition_metadata(id),
            format!("version: 0\ntopic_id: {id}")
        );
        assert_eq!(
            decode_partition_metadata(&encode_partition_metadata(id)),
            Some(id)
        );
        assert_eq!(
            decode_partition_metadata("version: 0\ntopic_id: nonsense"),
            None
        );
        assert_eq!(decode_partition_metadata(""), None);
    }
}
