//! `cleaner-offset-checkpoint`: up to where the logs of a directory have been compacted. Kafka's form.
//!
//! ```text
//! 0
//! <count>
//! <topic> <partition> <first dirty offset>
//! ```
//! It is written after a pass, and may be behind. It knows logs by their names: of a log, no more is
//! believed than its compacted end in `durable-ends.log`, which knows it by its id and its cuts.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use esker_protocol::Offset;

use crate::disk::{Disk, read_all, replace_file};

pub(crate) const FILE_NAME: &str = "cleaner-offset-checkpoint";

/// Where each log's first dirty offset is, by topic and partition.
#[derive(Debug, Default)]
pub(crate) struct CleanPoints {
    path: PathBuf,
    known: BTreeMap<(String, i32), Offset>,
}

impl CleanPoints {
    /// Reads what is there; a file that cannot be read says nothing, and every log is dirty.
    pub(crate) fn read(disk: &dyn Disk, directory: &Path) -> io::Result<CleanPoints> {
        let path = directory.join(FILE_NAME);
        let known = match read_all(disk, &path) {
            Ok(bytes) => {
                let text = std::str::from_utf8(&bytes).ok();
                text.and_then(decode).unwrap_or_default()
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error),
        };
        Ok(CleanPoints { path, known })
    }

    pub(crate) fn get(&self, topic: &str, partition: i32) -> Option<Offset> {
        self.known.get(&(topic.to_owned(), partition)).copied()
    }

    /// Forgets a log of which it must not be believed; the file says so when it is written next.
    pub(crate) fn forget(&mut self, topic: &str, partition: i32) {
        self.known.remove(&(topic.to_owned(), partition));
    }

    /// Notes where a log is dirty from, and writes the file. The caller syncs the directory.
    pub(crate) fn set(
        &mut self,
        disk: &dyn Disk,
        topic: &str,
        partition: i32,
        first_dirty: Offset,
    ) -> io::Result<()> {
        let key = (topic.to_owned(), partition);
        let before = self.known.insert(key.clone(), first_dirty);
        let written = replace_file(disk, &self.path, encode(&self.known).as_bytes());
        if written.is_err() {
            match before {
                Some(before) => self.known.insert(key, before),
                None => self.known.remove(&key),
            };
        }
        written.map(|_| ())
    }
}

fn encode(known: &BTreeMap<(String, i32), Offset>) -> String {
    let line = |((topic, partition), offset): (&(String, i32), &Offset)| {
        format!("{topic} {partition} {offset}\n")
    };
    let lines: String = known.iter().map(line).collect();
    format!("0\n{}\n{lines}", known.len())
}

fn decode(text: &str) -> Option<BTreeMap<(String, i32), Offset>> {
    if text.is_empty() {
        return Some(BTreeMap::new());
    }
    let mut lines = text.lines();
    (lines.next()? == "0").then_some(())?;
    let count: usize = lines.next()?.parse().ok()?;
    let mut known = BTreeMap::new();
    for line in lines {
        let mut fields = line.split(' ');
        let topic = fields.next()?.to_owned();
        let partition = fields.next()?.parse().ok()?;
        known.insert((topic, partition), Offset(fields.next()?.parse().ok()?));
        fields.next().is_none().then_some(())?;
    }
    (known.len() == count).then_some(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_kafkas_and_reads_back() {
        let known = BTreeMap::from([
            (("__consumer_offsets".to_owned(), 7), Offset(1234)),
            (("t".to_owned(), 0), Offset(0)),
        ]);
        assert_eq!(encode(&known), "0\n2\n__consumer_offsets 7 1234\nt 0 0\n");
        assert_eq!(decode(&encode(&known)), Some(known));
        assert_eq!(decode(""), Some(BTreeMap::new()));
        for bad in ["1\n0\n", "0\n2\nt 0 1\n", "0\n1\nt 0\n", "0\n1\nt 0 1 2\n"] {
            assert_eq!(decode(bad), None, "{bad:?}");
        }
    }
}
