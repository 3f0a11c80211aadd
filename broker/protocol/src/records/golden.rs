//! The golden files that Apache Kafka's own classes made; `testdata/records/Golden.java` says how.

use super::Compression;

/// The clock of every case, in Kafka and here.
pub(super) const NOW: i64 = 1_700_000_000_000;

/// One of Kafka's batches by name.
pub(super) fn batch(name: &str) -> Vec<u8> {
    include_str!("../../testdata/records/batches.txt")
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
        .map(unhex)
        .unwrap_or_else(|| panic!("no golden batch {name}"))
}

/// The codecs that compress, which are those with streams.
pub(super) fn codecs() -> impl Iterator<Item = Compression> {
    Compression::ALL
        .into_iter()
        .filter(|codec| *codec != Compression::None)
}

/// What Kafka says to a produced batch.
pub(super) struct Verdict<'a> {
    pub(super) name: &'a str,
    pub(super) log_append_time: bool,
    pub(super) compacted: bool,
    pub(super) before_ms_max: i64,
    pub(super) after_ms_max: i64,
    pub(super) verdict: &'a str,
    pub(super) bytes: Vec<u8>,
}

pub(super) fn verdicts() -> impl Iterator<Item = Verdict<'static>> {
    include_str!("../../testdata/records/verdicts.txt")
        .lines()
        .map(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            Verdict {
                name: fields[0],
                log_append_time: fields[1] == "LogAppendTime",
                compacted: fields[2] == "true",
                before_ms_max: fields[3].parse().expect("a number"),
                after_ms_max: fields[4].parse().expect("a number"),
                verdict: fields[5],
                bytes: fields.get(6).map(|hex| unhex(hex)).unwrap_or_default(),
            }
        })
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal"))
        .collect()
}
