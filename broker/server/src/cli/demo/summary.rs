//! What the demo tells: a line when each step has ended, and a summary that explains itself.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use esker_protocol::Offset;
use esker_tier::inspect::Bucket;

use super::stream::{Pass, Read, Written};
use super::{LOCAL_SEGMENTS, PARTITIONS, Place, Plan, TOPIC, is_colourful};
use crate::cli::{Failure, say, table};
use crate::partition::Partition;

/// What a partition has on local disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) local_start: Offset,
    pub(super) end: Offset,
}

/// What lies on local disk.
#[derive(Debug)]
pub(super) struct Hot {
    pub(super) partitions: Vec<Range>,
    bytes: u64,
}

impl Hot {
    pub(super) fn of(partitions: &[Arc<Partition>]) -> Hot {
        let mut partitions: Vec<&Arc<Partition>> = partitions
            .iter()
            .filter(|partition| &*partition.topic == TOPIC)
            .collect();
        partitions.sort_by_key(|partition| partition.index);
        let range = |partition: &&Arc<Partition>| Range {
            local_start: partition.log.local_start_offset(),
            end: partition.high_watermark(),
        };
        Hot {
            bytes: partitions
                .iter()
                .flat_map(|partition| partition.log.segments())
                .map(|segment| segment.bytes)
                .sum(),
            partitions: partitions.iter().map(range).collect(),
        }
    }

    fn records(&self) -> u64 {
        let records = |range: &Range| u64::try_from(range.end - range.local_start).unwrap_or(0);
        self.partitions.iter().map(records).sum()
    }

    /// Records whose only copy is in the object store.
    fn cold_records(&self) -> u64 {
        self.partitions
            .iter()
            .map(|range| u64::try_from(range.local_start.0).unwrap_or(0))
            .sum()
    }
}

/// What lies in the object store.
#[derive(Debug, Default)]
pub(super) struct Cold {
    objects: u64,
    bytes: u64,
    log_bytes: u64,
    records: u64,
}

impl Cold {
    pub(super) async fn of(bucket: &Bucket) -> Result<Cold, Failure> {
        let mut cold = Cold::default();
        let listing = bucket.list(None).await.map_err(Failure::failed)?;
        for (place, contents) in &listing.partitions {
            let Some(name) = contents.newest_head() else {
                continue;
            };
            let head = bucket
                .head(place, &name.to_string())
                .await
                .map_err(Failure::failed)?;
            cold.objects += contents.objects.len() as u64;
            cold.bytes += head.object_bytes(head.log_start);
            cold.log_bytes += head.segment_bytes(head.log_start);
            cold.records += u64::try_from(head.tier_end - head.log_start).unwrap_or(0);
        }
        Ok(cold)
    }

    fn ratio(&self) -> f64 {
        self.log_bytes as f64 / self.bytes.max(1) as f64
    }
}

/// Colours where they are wanted.
pub(super) struct Style {
    colours: bool,
}

impl Style {
    pub(super) fn of_stdout() -> Style {
        Style {
            colours: is_colourful(),
        }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colours {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    fn bold(&self, text: &str) -> String {
        self.paint("1", text)
    }

    fn cold(&self, text: &str) -> String {
        self.paint("36", text)
    }

    fn hot(&self, text: &str) -> String {
        self.paint("33", text)
    }

    fn good(&self, text: &str) -> String {
        self.paint("32", text)
    }

    fn quiet(&self, text: &str) -> String {
        self.paint("2", text)
    }
}

pub(super) fn begin(plan: &Plan, place: &Place, address: SocketAddr, style: &Style) {
    say(style.bold("A clickstream through a Kafka broker with tiered storage"));
    say("");
    say(format!(
        "  broker   {address} in this process; everything below goes through TCP"
    ));
    say(format!("  files    {}", place.directory.display()));
    say(format!(
        "  topic    {TOPIC}: {PARTITIONS} partitions in segments of {}; the newest {LOCAL_SEGMENTS} of each stay on local disk",
        table::size(plan.segment_bytes),
    ));
    say("");
}

fn step(number: u32, name: &str, text: &str, style: &Style) {
    let name = style.bold(&format!("{number} {name:<8}"));
    say(format!("  {name} {text}"));
}

pub(super) fn streamed(written: &Written, style: &Style) {
    let text = format!(
        "{} events, {}, in {}: {} events/s, each on disk before it was acknowledged",
        count(written.records()),
        table::size(written.bytes()),
        seconds(written.took),
        count(rate(written.records(), written.took)),
    );
    step(1, "stream", &text, style);
}

pub(super) fn offloaded(hot: &Hot, cold: &Cold, waited: Duration, style: &Style) {
    let text = format!(
        "{} of log went to the object store as {} objects, done {} after the last event",
        table::size(cold.log_bytes),
        count(cold.objects),
        seconds(waited),
    );
    step(2, "offload", &text, style);
    let text = format!(
        "the local copies of {} events went; {} events stay on local disk",
        count(hot.cold_records()),
        count(hot.records()),
    );
    say(format!("             {text}"));
}

pub(super) fn read_back(read: &Read, tier_bytes: u64, style: &Style) {
    let pass = |pass: &Pass, from: &str| {
        format!(
            "{} events {from} in {}: {} events/s, {}/s",
            count(pass.records),
            seconds(pass.took),
            count(rate(pass.records, pass.took)),
            table::size(rate(pass.bytes, pass.took)),
        )
    };
    let cold = style.cold("from the object store");
    step(3, "read", &pass(&read.cold, &cold), style);
    say(format!(
        "             {}",
        pass(&read.hot, &style.hot("from local disk"))
    ));
    let served = table::size(tier_bytes);
    say(style.quiet(&format!(
        "             the same consumer read both; the broker counted {served} served from objects"
    )));
}

/// The last words.
pub(super) struct Summary<'a> {
    pub(super) plan: &'a Plan,
    pub(super) place: &'a Place,
    pub(super) read: &'a Read,
    pub(super) hot: &'a Hot,
    pub(super) cold: &'a Cold,
    pub(super) took: Duration,
}

impl Summary<'_> {
    pub(super) fn show(&self, style: &Style) {
        let Summary {
            plan, hot, cold, ..
        } = self;
        say("");
        say(style.bold("Where the events are now"));
        say(format!(
            "  {}    {:>9} of log files; the newest events, and segments that are still being filled",
            style.hot("hot, local disk"),
            table::size(hot.bytes),
        ));
        say(format!(
            "  {} {:>9} in {} zstd objects, which hold {} of log: {:.1} to 1",
            style.cold("cold, object store"),
            table::size(cold.bytes),
            count(cold.objects),
            table::size(cold.log_bytes),
            cold.ratio(),
        ));
        let both = (hot.records() + cold.records).saturating_sub(plan.events);
        say(style.quiet(&format!(
            "  {} events are in both: sealed, offloaded, and still kept as a local cache",
            count(both)
        )));
        say("");
        let Read {
            cold: from_cold,
            hot: from_hot,
            ..
        } = self.read;
        say(style.good(&format!(
            "Verified: {} cold and {} hot events, in order, at the right offsets, byte for byte (hash per partition).",
            count(from_cold.records),
            count(from_hot.records),
        )));
        say(format!("Took {}.", seconds(self.took)));
        say("");
        self.next(style);
    }

    fn next(&self, style: &Style) {
        let directory = self.place.directory.display();
        say(style.bold("Try next"));
        if self.place.stays {
            say(format!("  esker dev --data-dir {directory}"));
            say(style.quiet("      serve these files to any Kafka client on 127.0.0.1:9092"));
            say(format!(
                "  esker tier stat --object-store file://{directory}/objects"
            ));
            say(style.quiet("      what the object store holds; also: ls, cat --records, verify"));
            say(format!(
                "  zstd -dc {directory}/objects/*/*/0/*.log.zst | head -c 300"
            ));
            say(style.quiet("      objects are plain zstd files of Kafka's own log format"));
        } else {
            say("  esker dev");
            say(style.quiet(
                "      a broker on 127.0.0.1:9092 for any Kafka client; data in ./esker-data",
            ));
            say("  esker demo --keep");
            say(style.quiet("      the same, and the files stay to be looked at (these are gone)"));
        }
    }
}

fn rate(count: u64, took: Duration) -> u64 {
    let seconds = took.as_secs_f64();
    if seconds > 0.0 {
        (count as f64 / seconds) as u64
    } else {
        count
    }
}

fn seconds(took: Duration) -> String {
    if took < Duration::from_secs(1) {
        format!("{} ms", took.as_millis())
    } else {
        format!("{:.1} s", took.as_secs_f64())
    }
}

/// A number for people: `200,000`.
fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_commas() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(count(number), text);
        }
    }

    #[test]
    fn colours_appear_only_where_they_are_wanted() {
        let plain = Style { colours: false };
        assert_eq!(plain.bold("a") + &plain.cold("b") + &plain.good("c"), "abc");
        assert!(Style { colours: true }.hot("a").contains('\x1b'));
    }

    #[test]
    fn rates_are_per_second() {
        assert_eq!(rate(100, Duration::from_millis(500)), 200);
        assert_eq!(rate(100, Duration::ZERO), 100);
    }
}
