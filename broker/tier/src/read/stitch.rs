//! Reads against a plain model: whatever frames, objects, caches and limits lie between, every batch
//! comes once, in order, and none is left out.

use super::*;
use crate::object::{FRAME_BYTES, Frame, FrameAt, decode_frame, encode_object, open_tail};
use crate::testing::{BatchPlan, EPOCH, Tier, partition, random, segment};
use crate::upload::UploadConfig;

/// Logs in an ordinary run, and in a long one (`FULL=1`).
const SEEDS: u64 = 12;
const SEEDS_FULL: u64 = 500;
/// Sequences of reads of each log.
const WALKS: usize = 12;

/// The batches of a log: base, end and bytes of each.
type Model = Vec<(Offset, Offset, Bytes)>;

/// A batch of one record, of roughly so many bytes that do not compress.
fn plan(value_bytes: usize) -> BatchPlan {
    BatchPlan {
        records: 1,
        value_bytes,
        timestamp: 1,
        epoch: EPOCH,
        noise: true,
    }
}

/// Offloads segments of batches of these sizes.
async fn offloaded(tier: &mut Tier, segments: &[Vec<BatchPlan>]) -> Model {
    let numbers = random(4);
    let mut made = Vec::new();
    let mut next = Offset::ZERO;
    for plans in segments {
        let segment = segment(next, plans, &numbers);
        next = segment.end;
        made.push(segment);
    }
    tier.offload(&made).await;
    let mut model = Vec::new();
    for segment in &made {
        for found in esker_protocol::records::Batches::new(&segment.bytes) {
            let found = found.unwrap();
            let header = found.header();
            let bytes = Bytes::copy_from_slice(found.bytes());
            model.push((header.base_offset, header.next_offset(), bytes));
        }
    }
    model
}

/// Reads once and compares with what the model gives; says where to go on.
async fn step(
    tier: &Tier,
    model: &Model,
    offset: Offset,
    bytes_max: usize,
    at_least_one: bool,
) -> Offset {
    let read = tier
        .reader
        .read(&partition(), &tier.pointer, offset, bytes_max, at_least_one)
        .await
        .unwrap();
    let (mut expected, mut next) = (Vec::new(), offset);
    for (_, end, bytes) in model.iter().filter(|(_, end, _)| *end > offset) {
        let fits = expected.len() + bytes.len() <= bytes_max;
        if !(fits || (at_least_one && expected.is_empty())) {
            break;
        }
        expected.extend_from_slice(bytes);
        next = *end;
    }
    let facts = format!("{bytes_max} bytes from {offset}, {at_least_one}");
    assert_eq!(read.next, next, "{facts}");
    assert!(read.bytes.concat() == expected, "other bytes: {facts}");
    next
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_does_not_fit_ends_the_read() {
    // The first frame ends with a batch that is larger than what the second begins with.
    let plans = vec![
        plan(400_000),
        plan(300_000),
        plan(500_000),
        plan(10),
        plan(20),
        plan(1_100_000),
        plan(30),
    ];
    for object_bytes_max in [1, 64 << 20] {
        let upload = UploadConfig {
            object_bytes_max,
            ..UploadConfig::default()
        };
        let mut tier = Tier::new(upload, &ReadConfig::default());
        // Once within an object, once from object to object.
        let log = [plans.clone(), plans.clone(), vec![plan(5)]];
        let model = offloaded(&mut tier, &log).await;
        for (place, (base, ..)) in model.iter().enumerate() {
            let mut sum = 0;
            for (.., bytes) in model.iter().skip(place) {
                sum += bytes.len();
                for bytes_max in [sum - 1, sum, sum + 1, sum + 200] {
                    step(&tier, &model, *base, bytes_max, true).await;
                    step(&tier, &model, *base, bytes_max, false).await;
                }
            }
        }
    }
}

fn any_log(choose: &Random) -> Vec<Vec<BatchPlan>> {
    let below = |limit: usize| (choose() % limit as u128) as usize;
    let any_plan = || {
        let value_bytes = match below(4) {
            0 => below(200),
            1 => below(60_000),
            2 => below(500_000),
            // Alone as large as a frame, or nearly.
            _ => FRAME_BYTES - 1000 + below(2000),
        };
        BatchPlan {
            records: 1 + below(3) * usize::from(value_bytes < 60_000),
            ..plan(value_bytes)
        }
    };
    let any_segment = || (0..1 + below(6)).map(|_| any_plan()).collect();
    (0..1 + below(5)).map(|_| any_segment()).collect()
}

async fn walk(tier: &Tier, model: &Model, choose: &Random) {
    let below = |limit: usize| (choose() % limit as u128) as usize;
    let end = tier.pointer.tier_end;
    let mut next = Offset((choose() % end.0 as u128) as i64);
    while next < end {
        let after: Vec<_> = model.iter().filter(|(_, end, _)| *end > next).collect();
        let whole: usize = after
            .iter()
            .take(1 + below(after.len()))
            .map(|(.., bytes)| bytes.len())
            .sum();
        let bytes_max = match below(4) {
            0 => below(2000),
            1 => below(3 << 20),
            2 => FRAME_BYTES - below(300),
            // Just below, at, or just above a border of batches.
            _ => whole + below(3) - 1,
        };
        let at_least_one = below(4) > 0;
        let reached = step(tier, model, next, bytes_max, at_least_one).await;
        // Where nothing fits, the reader must ask for one.
        next = if reached == next {
            step(tier, model, next, bytes_max, true).await
        } else {
            reached
        };
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
async fn any_reads_give_every_batch_once_and_in_order() {
    for seed in 1..=seeds() {
        let choose = random(seed);
        let object_bytes_max = [1, 2 << 20, 64 << 20][(seed % 3) as usize];
        let upload = UploadConfig {
            object_bytes_max,
            ..UploadConfig::default()
        };
        // No cache, one that holds a frame or two, and one that holds all.
        let frame_bytes_max = [0, 2 << 20, 64 << 20][(seed / 3 % 3) as usize];
        let read = ReadConfig {
            frame_bytes_max,
            ..ReadConfig::default()
        };
        let mut tier = Tier::new(upload, &read);
        let model = offloaded(&mut tier, &any_log(&choose)).await;
        for _ in 0..WALKS {
            walk(&tier, &model, &choose).await;
        }
    }
}

/// The frames of one object of batches of these sizes, from offset 5 on.
fn frames_of(sizes: &[BatchPlan]) -> Vec<Arc<Frame>> {
    let made = segment(Offset(5), sizes, &random(3));
    let (object, encoded) = encode_object(&partition(), EPOCH, vec![made.source()]).unwrap();
    let position = usize::try_from(encoded.index_position).unwrap();
    let index = open_tail(&object[position..], encoded.index_position).unwrap();
    let decode = |at: &FrameAt| {
        let from = usize::try_from(at.position).unwrap();
        let compressed = &object[from..from + at.compressed_bytes as usize];
        Arc::new(decode_frame(compressed, at).unwrap())
    };
    index.frames.iter().map(decode).collect()
}

fn ready(frames: &[Arc<Frame>]) -> Vec<Pending> {
    frames.iter().cloned().map(Pending::Ready).collect()
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_is_not_read_to_its_end_is_the_last() {
    let frames = frames_of(&[plan(1000), plan(FRAME_BYTES), plan(10)]);
    assert_eq!(frames.len(), 2);
    let mut read = TierRead {
        next: Offset(5),
        ..TierRead::default()
    };
    let taken = take_frames(ready(&frames), &mut read, 10_000, true).await;
    assert_eq!(taken, Ok(()), "the second frame is not even asked");
    assert_eq!((read.next, read.bytes.len()), (Offset(6), 1));
}

#[tokio::test(start_paused = true)]
async fn frames_that_do_not_follow_on_are_refused() {
    let frames = frames_of(&[plan(FRAME_BYTES), plan(10), plan(10)]);
    assert_eq!(frames.len(), 2);
    let frame = &frames[1];
    // One below the frame, and one behind it: what lies between must not be passed over.
    for offset in [Offset(frame.base().0 - 1), frame.end()] {
        for at_least_one in [false, true] {
            let mut read = TierRead {
                next: offset,
                ..TierRead::default()
            };
            let taken = take_frames(ready(&frames[1..]), &mut read, 1 << 20, at_least_one).await;
            assert!(matches!(taken, Err(ReadError::Corrupt(_))), "{taken:?}");
            assert!(read.is_empty() && read.next == offset);
        }
    }
}
