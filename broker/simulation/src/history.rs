//! What clients did and saw, and what must therefore be true of the log.
//!
//! Checked of every partition, at every read:
//! - what was acknowledged is there, at its offset, with its content, once;
//! - what was once shown never changes, whichever tier it is read from and whatever crashed;
//! - what is shown was sent; offsets have no holes; leader epochs never fall along the log;
//! - log start and high watermark never go back, also over restarts (P5: nothing is shown before
//!   it is durable).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use esker_protocol::records::{Batch, Caps};

use crate::trace::Trace;

/// A partition of one life of a topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// The topic's name.
    pub(crate) topic: String,
    /// The partition.
    pub(crate) partition: i32,
    /// Which of the topics that had the name.
    pub(crate) life: u32,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)?;
        if self.life > 0 {
            write!(f, " (life {})", self.life)
        } else {
            Ok(())
        }
    }
}

/// The content of one record; its number stands at the beginning of the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) timestamp: i64,
    pub(crate) key: Option<Bytes>,
    pub(crate) value: Bytes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    InDoubt,
    Acknowledged,
    Refused,
}

struct Sent {
    place: Place,
    content: Content,
    fate: Fate,
    /// Where it was acknowledged or seen.
    offset: Option<i64>,
}

#[derive(Default)]
struct Partition {
    /// What is known to stand at an offset: the record's number and, once seen, its epoch.
    known: BTreeMap<i64, (u64, Option<i32>)>,
    log_start: i64,
    high_watermark: i64,
}

#[derive(Default)]
struct State {
    sent: BTreeMap<u64, Sent>,
    partitions: BTreeMap<Place, Partition>,
    acknowledged: u64,
    seen: u64,
}

/// Where a log starts, and the end of what may be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) log_start: i64,
    pub(crate) end: i64,
}

/// The history of one run; clones are the same one.
#[derive(Clone)]
pub(crate) struct History {
    state: Arc<Mutex<State>>,
    trace: Trace,
}

/// The digits of a record's number at the beginning of its value.
pub(crate) const NUMBER_DIGITS: usize = 10;

impl History {
    pub(crate) fn new(trace: Trace) -> History {
        History {
            state: Arc::default(),
            trace,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is whole in itself.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A record is about to be sent; `make` gives its content by its number. Returns the number.
    pub(crate) fn sends(&self, place: &Place, make: impl FnOnce(u64) -> Content) -> (u64, Content) {
        let mut state = self.state();
        let number = state.sent.len() as u64;
        let content = make(number);
        let sent = Sent {
            place: place.clone(),
            content: content.clone(),
            fate: Fate::InDoubt,
            offset: None,
        };
        state.sent.insert(number, sent);
        (number, content)
    }

    /// A batch was acknowledged.
    pub(crate) fn acknowledged(&self, place: &Place, numbers: &[u64], base: i64) {
        self.trace
            .note(format_args!("acknowledged {place} {base} {numbers:?}"));
        let mut problems = Vec::new();
        {
            let mut state = self.state();
            state.acknowledged += numbers.len() as u64;
            for (offset, number) in (base..).zip(numbers) {
                if let Some(sent) = state.sent.get_mut(number) {
                    sent.fate = Fate::Acknowledged;
                }
                state.place(place, offset, *number, None, &mut problems);
            }
        }
        self.report(place, problems);
    }

    /// A batch was certainly not stored, and never will be.
    pub(crate) fn refused(&self, place: &Place, numbers: &[u64], why: impl std::fmt::Display) {
        self.trace
            .note(format_args!("refused {place} {numbers:?} {why}"));
        let mut state = self.state();
        for number in numbers {
            if let Some(sent) = state.sent.get_mut(number) {
                sent.fate = Fate::Refused;
            }
        }
    }

    /// Nobody knows whether a batch was, or will be, stored.
    pub(crate) fn in_doubt(&self, place: &Place, numbers: &[u64], why: impl std::fmt::Display) {
        self.trace
            .note(format_args!("in doubt {place} {numbers:?} {why}"));
    }

    /// What was known of the bounds before a question is asked: no later answer may be behind it.
    pub(crate) fn bounds(&self, place: &Place) -> Bounds {
        let state = self.state();
        let Some(partition) = state.partitions.get(place) else {
            return Bounds::default();
        };
        let known = partition
            .known
            .last_key_value()
            .map_or(0, |(offset, _)| offset + 1);
        Bounds {
            log_start: partition.log_start,
            end: partition.high_watermark.max(known),
        }
    }

    /// A client that knew `before` when it asked was told where the log starts and ends.
    pub(crate) fn told(&self, place: &Place, before: Bounds, told: Bounds) {
        let mut problems = Vec::new();
        if told.log_start < before.log_start {
            problems.push(format!(
                "log start went back from {} to {}",
                before.log_start, told.log_start
            ));
        }
        if told.end < before.end {
            problems.push(format!(
                "the log ends at {}, and {} was acknowledged or shown",
                told.end,
                before.end - 1
            ));
        }
        {
            let mut state = self.state();
            let partition = state.partitions.entry(place.clone()).or_default();
            partition.log_start = partition.log_start.max(told.log_start);
            partition.high_watermark = partition.high_watermark.max(told.end);
        }
        self.report(place, problems);
    }

    /// A batch was read. Returns its end.
    pub(crate) fn read(&self, place: &Place, batch: &Batch<'_>, from: &str) -> i64 {
        let header = *batch.header();
        let mut problems = Vec::new();
        if !batch.crc_is_valid() {
            problems.push(format!("the batch at {} fails its CRC", header.base_offset));
        }
        match batch.records(&Caps::DEFAULT) {
            Err(error) => problems.push(format!("the batch at {}: {error}", header.base_offset)),
            Ok(records) => {
                let mut state = self.state();
                let mut expected = header.base_offset.0;
                for record in &records {
                    let record = match record {
                        Ok(record) => record,
                        Err(error) => {
                            problems.push(format!("a record from {expected} on: {error}"));
                            break;
                        }
                    };
                    if record.offset.0 != expected {
                        problems.push(format!("{} where {expected} is next", record.offset));
                    }
                    expected = record.offset.0 + 1;
                    let content = Content {
                        timestamp: record.timestamp.0,
                        key: record.key.map(Bytes::copy_from_slice),
                        value: Bytes::copy_from_slice(record.value.unwrap_or_default()),
                    };
                    let epoch = header.partition_leader_epoch.0;
                    state.show(place, record.offset.0, content, epoch, &mut problems);
                }
                if expected != header.base_offset.0 + i64::from(header.last_offset_delta) + 1 {
                    problems.push(format!("the batch at {} has holes", header.base_offset));
                }
            }
        }
        let problems = problems
            .into_iter()
            .map(|problem| format!("{problem}, read from {from}"));
        self.report(place, problems.collect());
        header.next_offset().0
    }

    /// A whole partition was read from `start` to `end`: everything known in between must have come.
    pub(crate) fn covered(&self, place: &Place, start: i64, end: i64) {
        // Retention may pass all of it while it is read.
        if start >= end {
            return;
        }
        let mut problems = Vec::new();
        {
            let mut state = self.state();
            let partition = state.partitions.entry(place.clone()).or_default();
            for (offset, (number, epoch)) in partition.known.range(start..end) {
                if epoch.is_none() {
                    problems.push(format!(
                        "record {number}, acknowledged at {offset}, is not in the log from {start} to {end}"
                    ));
                }
            }
        }
        self.report(place, problems);
    }

    /// How many records were acknowledged, and how many were read.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let state = self.state();
        (state.acknowledged, state.seen)
    }

    fn report(&self, place: &Place, problems: Vec<String>) {
        for problem in problems {
            self.trace.violation(format_args!("{place}: {problem}"));
        }
    }
}

impl State {
    /// A record stands at an offset, says an acknowledgement or a read.
    fn place(
        &mut self,
        place: &Place,
        offset: i64,
        number: u64,
        epoch: Option<i32>,
        problems: &mut Vec<String>,
    ) {
        let Some(sent) = self.sent.get_mut(&number) else {
            problems.push(format!("{offset} has record {number}, which nobody sent"));
            return;
        };
        if sent.place != *place {
            problems.push(format!("{offset} has record {number} of {}", sent.place));
        }
        if sent.fate == Fate::Refused {
            problems.push(format!("{offset} has record {number}, which was refused"));
        }
        match sent.offset {
            Some(other) if other != offset => {
                problems.push(format!("record {number} is at {other} and at {offset}"));
            }
            _ => sent.offset = Some(offset),
        }
        let partition = self.partitions.entry(place.clone()).or_default();
        let before = partition.known.range(..offset).next_back();
        if let (Some((at, (_, Some(before)))), Some(epoch)) = (before, epoch)
            && *before > epoch
        {
            problems.push(format!(
                "{offset} has epoch {epoch}, {at} before it {before}"
            ));
        }
        let known = partition.known.entry(offset).or_insert((number, epoch));
        if known.0 != number {
            problems.push(format!(
                "{offset} had record {}, now it has {number}",
                known.0
            ));
        }
        match (known.1, epoch) {
            (Some(before), Some(now)) if before != now => {
                problems.push(format!("{offset} had epoch {before}, now it has {now}"));
            }
            (None, Some(now)) => known.1 = Some(now),
            _ => {}
        }
    }

    fn show(
        &mut self,
        place: &Place,
        offset: i64,
        content: Content,
        epoch: i32,
        problems: &mut Vec<String>,
    ) {
        self.seen += 1;
        let digits = content.value.get(..NUMBER_DIGITS).unwrap_or_default();
        let number = std::str::from_utf8(digits)
            .ok()
            .and_then(|text| text.parse().ok());
        let Some(number) = number else {
            problems.push(format!("{offset} has a record without a number"));
            return;
        };
        if self
            .sent
            .get(&number)
            .is_some_and(|sent| sent.content != content)
        {
            problems.push(format!("{offset} has record {number} with another content"));
        }
        self.place(place, offset, number, Some(epoch), problems);
    }
}
