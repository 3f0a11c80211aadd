//! A partition's life under every fault of the store at once, seed by seed: nothing that is committed
//! is ever lost or read wrongly, and nothing else is ever seen.

use std::time::Duration;

use esker_protocol::{Offset, Timestamp};
use tokio::time::timeout;

use super::*;
use crate::collect::{Collector, Limits};
use crate::fault::{Fault, Operation, Rates};
use crate::pointer::advance_log_start;
use crate::read::{ReadConfig, ReadError};
use crate::testing::{EPOCH, Tier, partition, random, segments};

/// Lives in an ordinary run, and in a long one (`FULL=1`).
const SEEDS: u64 = 40;
const SEEDS_FULL: u64 = 2000;

const FAULTS: [(Operation, Fault, u32); 16] = [
    (Operation::Put, Fault::Fail, 60),
    (Operation::Put, Fault::FailAfter, 40),
    (Operation::Put, Fault::Hang, 20),
    (Operation::Put, Fault::HangAfter, 20),
    (Operation::Put, Fault::Zombie, 40),
    (Operation::Part, Fault::Fail, 60),
    (Operation::Start, Fault::HangAfter, 40),
    (Operation::Complete, Fault::FailAfter, 80),
    (Operation::Get, Fault::Fail, 50),
    (Operation::Get, Fault::Hang, 20),
    (Operation::Get, Fault::Truncate, 30),
    (Operation::Get, Fault::Flip, 30),
    (Operation::Get, Fault::NotFound, 20),
    (Operation::Get, Fault::Slow(Duration::from_secs(2)), 50),
    (Operation::List, Fault::Stale(3), 200),
    (Operation::Delete, Fault::FailAfter, 100),
];

const LIMITS: Limits = Limits {
    file_delete_delay_ms: 100,
    manifest_retention_ms: 5000,
    reader_grace_ms: 1000,
};

fn config(seed: u64) -> (UploadConfig, ReadConfig) {
    let upload = UploadConfig {
        object_bytes_max: if seed.is_multiple_of(2) {
            2000
        } else {
            64 << 20
        },
        // Small parts make multipart uploads of some objects.
        part_bytes: if seed.is_multiple_of(3) {
            500
        } else {
            PART_BYTES
        },
        verification: Verification::ReadBack,
    };
    let read = ReadConfig {
        frame_bytes_max: if seed.is_multiple_of(5) { 0 } else { 64 << 10 },
        metadata_bytes_max: 16 << 10,
        read_ahead_bytes_max: 1 << 20,
    };
    (upload, read)
}

async fn live(seed: u64) -> String {
    let (upload, read) = config(seed);
    let mut tier = Tier::new(upload, &read);
    let collector = Collector::new(Arc::new(tier.faults.clone()), tier.reader.clone());
    let choose = random(seed);
    let mut trace = String::new();
    tier.faults.set_rates(
        Rates {
            permille: FAULTS.to_vec(),
        },
        seed * 2 + 1,
    );
    for step in 0..60_i64 {
        let now = Timestamp(2_000_000 + 700 * step);
        match choose() % 8 {
            0..=2 => offload(&mut tier, &choose, now).await,
            3..=5 => read_somewhere(&tier, &choose).await,
            6 => {
                let behind = i64::try_from(choose() % 60).unwrap();
                let to = Offset(tier.pointer.tier_end.0 - behind);
                tier.pointer = advance_log_start(&tier.pointer, to, None, EPOCH);
            }
            _ => {
                let place = partition();
                if let Ok(listing) = collector.list(&place).await {
                    // Errors of a round end it early, and that is all that they may do.
                    let (pointer, uploader) = (&tier.pointer, &tier.uploader);
                    let _ = collector
                        .collect(&place, &listing, pointer, uploader, &LIMITS, now)
                        .await;
                }
            }
        }
        if choose().is_multiple_of(5) {
            tier.faults.release().await.unwrap();
        }
        trace += &format!("{:?}\n", tier.pointer);
    }
    tier.faults.heal();
    let start = tier.pointer.log_start;
    assert_eq!(
        tier.read_all(start, 1 << 20).await,
        tier.expected(start),
        "seed {seed}"
    );
    trace
}

async fn offload(tier: &mut Tier, choose: &Random, now: Timestamp) {
    let count = 1 + (choose() % 3) as usize;
    let made = segments(tier.pointer.tier_end, count, 4);
    let sources = made.iter().map(|segment| segment.source()).collect();
    let place = partition();
    let progress = Progress::default();
    let upload = tier.uploader.upload(Request {
        partition: &place,
        epoch: EPOCH,
        sources,
        previous: &tier.pointer,
        previous_manifest: None,
        now,
        progress: &progress,
    });
    let patience = Duration::from_millis(u64::try_from(choose() % 600_000).unwrap());
    let Ok(done) = timeout(patience, upload).await else {
        return;
    };
    let commit = match done {
        Ok(commit) => commit,
        Err(error) => {
            assert!(error.is_retriable(), "{error}");
            return;
        }
    };
    match choose() % 6 {
        // The transaction is refused.
        0 => tier.uploader.abandoned(&commit),
        // Its outcome is not known at first; it turns out to be done, or not.
        1 => {
            if choose().is_multiple_of(2) {
                tier.pointer = commit.pointer.clone();
                tier.log.extend_from_slice(&made);
            }
            tier.uploader.resolve(&commit, &tier.pointer);
        }
        _ => {
            tier.pointer = commit.rebase(&tier.pointer).unwrap();
            tier.uploader.committed(&commit);
            tier.log.extend_from_slice(&made);
        }
    }
}

async fn read_somewhere(tier: &Tier, choose: &Random) {
    let end = tier.pointer.tier_end.0;
    let offset = Offset(i64::try_from(choose() % 400).unwrap() % (end + 2));
    let bytes_max = (choose() % 5000) as usize;
    let read = tier
        .reader
        .read(&partition(), &tier.pointer, offset, bytes_max, true)
        .await;
    match read {
        Ok(read) => {
            assert!(read.next > offset && offset >= tier.pointer.log_start);
            let expected = tier.expected(offset);
            assert!(
                expected.starts_with(&read.bytes.concat()),
                "other bytes at {offset}"
            );
        }
        Err(ReadError::OutOfRange { .. }) => assert!(offset < tier.pointer.log_start),
        Err(ReadError::NotInTier { .. }) => assert!(offset.0 >= end),
        Err(error) => assert!(error.is_retriable(), "{error}"),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long to test is the caller's choice"
)]
fn seeds() -> u64 {
    if std::env::var("FULL").is_ok_and(|value| value == "1") {
        SEEDS_FULL
    } else {
        SEEDS
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_committed_is_lost_or_read_wrongly_under_any_fault() {
    for seed in 1..=seeds() {
        live(seed).await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_seed_is_one_life() {
    for seed in [3, 8] {
        let first = live(seed).await;
        assert!(first.contains("version: 1"), "something was committed");
        assert_eq!(first, live(seed).await, "seed {seed}");
    }
}
