//! A log as a list of batches, and everything that follows from it.

use std::collections::BTreeMap;

use esker_protocol::records::{
    BatchBuilder, BatchHeader, BatchOptions, ProduceRules, ProducedBatch, stamp, validate,
};
use esker_protocol::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};
use esker_storage::{Log, LogConfig, ProducedRange, SegmentInfo};

#[derive(Debug, Clone)]
pub struct ModelBatch {
    pub header: BatchHeader,
    pub bytes: Vec<u8>,
    pub sent: ProducedBatch,
}

#[derive(Debug, Clone, Default)]
pub struct Model {
    pub batches: Vec<ModelBatch>,
    /// What was acknowledged must survive.
    pub acknowledged: i64,
    /// The durable end as it was seen last in this process: after a start it is not at once what was
    /// acknowledged.
    pub shown: i64,
    pub log_start: i64,
    pub log_start_durable: i64,
    pub epoch: i32,
}

/// What a test wants to send.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    pub records: i32,
    pub value_bytes: usize,
    pub producer: Option<i64>,
    pub timestamp: i64,
}

/// A batch as a producer sends it.
pub fn produce(wanted: Wanted, base_sequence: i32) -> ProducedBatch {
    let options = match wanted.producer {
        None => BatchOptions::default(),
        Some(id) => BatchOptions {
            producer_id: ProducerId(id),
            producer_epoch: ProducerEpoch(0),
            base_sequence,
            ..BatchOptions::default()
        },
    };
    let mut builder = BatchBuilder::new(options);
    for index in 0..wanted.records {
        let value = vec![(wanted.timestamp as u8) ^ (index as u8); wanted.value_bytes];
        let timestamp = Timestamp(wanted.timestamp + i64::from(index % 3));
        builder
            .append(timestamp, Some(b"key"), Some(&value), &[])
            .unwrap();
    }
    let rules = ProduceRules::new(Timestamp(wanted.timestamp));
    validate(builder.build().unwrap(), &rules).unwrap()
}

impl Model {
    pub fn end(&self) -> i64 {
        self.batches
            .last()
            .map_or(0, |batch| batch.header.next_offset().0)
    }

    pub fn next_sequence(&self, producer: i64) -> i32 {
        let mut own = self.batches.iter().rev();
        let last = own.find(|batch| batch.header.producer_id == ProducerId(producer));
        last.map_or(0, |batch| batch.header.last_sequence() + 1)
    }

    pub fn push(&mut self, sent: ProducedBatch) {
        let payload = sent.payload();
        let base = Offset(self.end());
        let stamped = stamp(&sent.header, &payload, base, LeaderEpoch(self.epoch), None);
        let bytes = [&stamped[..], &payload].concat();
        self.batches.push(ModelBatch {
            header: BatchHeader::parse(&bytes).unwrap(),
            bytes,
            sent,
        });
    }

    pub fn cut(&mut self, end: i64) {
        self.batches
            .retain(|batch| batch.header.next_offset().0 <= end);
        self.acknowledged = self.acknowledged.min(self.end());
        self.shown = self.shown.min(self.end());
        self.log_start = self.log_start.min(self.end());
        self.log_start_durable = self.log_start_durable.min(self.end());
    }

    /// The latest five batches of each producer.
    pub fn producers(&self) -> BTreeMap<i64, Vec<ProducedRange>> {
        let mut producers: BTreeMap<i64, Vec<ProducedRange>> = BTreeMap::new();
        for batch in self
            .batches
            .iter()
            .filter(|batch| batch.header.has_producer())
        {
            let ranges = producers.entry(batch.header.producer_id.0).or_default();
            ranges.push(ProducedRange {
                last_sequence: batch.header.last_sequence(),
                last_offset: batch.header.last_offset(),
                offset_delta: batch.header.last_offset_delta,
                timestamp: batch.header.max_timestamp,
            });
            if ranges.len() > 5 {
                ranges.remove(0);
            }
        }
        producers
    }

    /// Compares everything that can be asked of the log with what the batches say.
    pub fn compare(&self, log: &Log, config: &LogConfig) -> Result<(), String> {
        if log.written_end().0 != self.end() {
            return Err(format!("end is {}, not {}", log.written_end(), self.end()));
        }
        self.compare_bytes(log)?;
        let producers: BTreeMap<i64, Vec<ProducedRange>> = log
            .producers()
            .entries
            .into_iter()
            .map(|entry| (entry.producer_id.0, entry.batches))
            .collect();
        if producers != self.producers() {
            return Err(format!(
                "producers are {producers:?}, not {:?}",
                self.producers()
            ));
        }
        for batch in self
            .batches
            .iter()
            .filter(|one| one.header.base_offset.0 >= self.log_start)
        {
            let epoch = log.epoch_at(batch.header.base_offset);
            if epoch != Some(batch.header.partition_leader_epoch) {
                let at = batch.header.base_offset;
                return Err(format!("epoch at {at} is {epoch:?}"));
            }
        }
        for segment in log.segments() {
            self.compare_segment(log, segment, config)?;
        }
        self.compare_timestamps(log)
    }

    fn compare_bytes(&self, log: &Log) -> Result<(), String> {
        let start = log.local_start_offset().max(log.start_offset());
        let mut at = start;
        let mut batches = self
            .batches
            .iter()
            .filter(|batch| batch.header.next_offset() > start)
            .peekable();
        let mut bytes_max = 1;
        while at.0 < self.end() {
            let read = log
                .read(at, bytes_max, Offset::MAX, true)
                .map_err(|error| format!("read at {at}: {error}"))?;
            let mut rest = &read.bytes[..];
            while !rest.is_empty() {
                let batch = batches.next().ok_or("more batches than were written")?;
                rest = rest
                    .strip_prefix(&batch.bytes[..])
                    .ok_or_else(|| format!("other bytes at {}", batch.header.base_offset))?;
            }
            if read.next <= at {
                return Err(format!("no progress at {at}"));
            }
            at = read.next;
            bytes_max = (bytes_max * 3) % 5000 + 1;
        }
        match batches.peek() {
            None => Ok(()),
            Some(batch) => Err(format!("batch at {} is missing", batch.header.base_offset)),
        }
    }

    fn compare_segment(
        &self,
        log: &Log,
        segment: SegmentInfo,
        config: &LogConfig,
    ) -> Result<(), String> {
        if !segment.sealed {
            return Ok(());
        }
        let export = log
            .export(segment.base)
            .map_err(|error| format!("export of {}: {error}", segment.base))?
            .ok_or("a sealed segment is not there")?;
        let mut offsets = Vec::new();
        let mut times: Vec<(Timestamp, Offset)> = Vec::new();
        let (mut position, mut since) = (0, 0);
        let mut max = (Timestamp(-1), Offset(0));
        let mut bytes = Vec::new();
        let inside =
            |batch: &&ModelBatch| (segment.base..segment.end).contains(&batch.header.base_offset);
        for batch in self.batches.iter().filter(inside) {
            let header = &batch.header;
            if header.max_timestamp > max.0 {
                max = (header.max_timestamp, header.last_offset());
            }
            if since > config.index_interval_bytes {
                offsets.push((header.last_offset(), position));
                if times.last().is_none_or(|last| last.0 < max.0) {
                    times.push(max);
                }
                since = 0;
            }
            position += batch.bytes.len() as u64;
            since += batch.bytes.len() as u64;
            bytes.extend_from_slice(&batch.bytes);
        }
        if times.last().is_none_or(|last| last.0 < max.0) {
            times.push(max);
        }
        let base = segment.base;
        if export.offset_index != offsets {
            return Err(format!(
                "offset index of {base}: {:?}, not {offsets:?}",
                export.offset_index
            ));
        }
        if export.time_index != times {
            return Err(format!(
                "time index of {base}: {:?}, not {times:?}",
                export.time_index
            ));
        }
        let read = export
            .read_at(0, usize::MAX)
            .map_err(|error| error.to_string())?;
        if read != bytes {
            return Err(format!("the bytes of segment {base} differ"));
        }
        let mut at_end = self.clone();
        at_end.cut(segment.end.0);
        let producers: BTreeMap<i64, Vec<ProducedRange>> = export
            .producers
            .entries
            .into_iter()
            .map(|entry| (entry.producer_id.0, entry.batches))
            .collect();
        if producers != at_end.producers() {
            return Err(format!(
                "the snapshot at {} differs: {producers:?}",
                segment.end
            ));
        }
        Ok(())
    }

    fn compare_timestamps(&self, log: &Log) -> Result<(), String> {
        let start = log.local_start_offset().max(log.start_offset());
        let step = (self.batches.len() / 4).max(1);
        for batch in self.batches.iter().step_by(step) {
            for wanted in [
                batch.header.base_timestamp.0,
                batch.header.max_timestamp.0 + 1,
            ] {
                let found = log
                    .offset_for_timestamp(Timestamp(wanted), Offset::MAX)
                    .map_err(|error| error.to_string())?
                    .map(|(timestamp, offset, _)| (timestamp.0, offset.0));
                let expected = self.first_at_or_after(start, wanted);
                if found != expected {
                    return Err(format!("timestamp {wanted}: {found:?}, not {expected:?}"));
                }
            }
        }
        Ok(())
    }

    fn first_at_or_after(&self, start: Offset, wanted: i64) -> Option<(i64, i64)> {
        let from_start = self
            .batches
            .iter()
            .filter(|one| one.header.last_offset() >= start);
        for batch in from_start {
            for index in 0..=batch.header.last_offset_delta {
                let timestamp = batch.header.base_timestamp.0 + i64::from(index % 3);
                if timestamp >= wanted {
                    return Some((timestamp, batch.header.base_offset.0 + i64::from(index)));
                }
            }
        }
        None
    }
}
