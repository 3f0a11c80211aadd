use std::io::Write;
use std::process::{Command, Stdio};

use bytes::Bytes;
use esker_protocol::records::Batches;
use esker_protocol::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};
use proptest::prelude::*;

use super::frame::raw_frame;
use super::{
    EncodeError, Encoded, Encoder, FRAME_BYTES, FrameError, Index, decode_frame, encode_object,
    open_tail,
};
use crate::source::{OpenTransaction, Outcome, SegmentSource};
use crate::testing::{BatchPlan, EPOCH, Segment, partition, random, segment, segments};

fn encode(sources: Vec<SegmentSource>) -> (Bytes, Encoded) {
    encode_object(&partition(), EPOCH, sources).expect("the sources are whole")
}

fn open(object: &Bytes, encoded: &Encoded) -> Index {
    let position = usize::try_from(encoded.index_position).unwrap();
    open_tail(&object[position..], encoded.index_position).expect("it was just encoded")
}

fn decode(object: &Bytes, index: &Index) -> Vec<u8> {
    let mut all = Vec::new();
    for at in &index.frames {
        let start = usize::try_from(at.position).unwrap();
        let frame = decode_frame(&object[start..start + at.compressed_bytes as usize], at).unwrap();
        all.extend_from_slice(frame.bytes());
    }
    all
}

fn concat(segments: &[Segment]) -> Vec<u8> {
    segments
        .iter()
        .flat_map(|segment| segment.bytes.iter().copied())
        .collect()
}

/// Segments large enough for several frames, some of which do not compress.
fn several_frames() -> Vec<Segment> {
    let random = random(4);
    let mut next = Offset(1000);
    let mut made = Vec::new();
    for number in 0..3 {
        let plan = |n: i64| BatchPlan {
            records: 4,
            value_bytes: 30_000,
            timestamp: 100 * number + n,
            epoch: LeaderEpoch(3 + i32::try_from(number).unwrap()),
            noise: number == 1,
        };
        let plans: Vec<_> = (0..20).map(plan).collect();
        let segment = segment(next, &plans, &random);
        next = segment.end;
        made.push(segment);
    }
    made
}

/// Runs the zstd tool; none where it is not installed.
fn zstd(arguments: &[&str], input: &[u8]) -> Option<(bool, Vec<u8>)> {
    let spawned = Command::new("zstd")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = spawned else {
        eprintln!("zstd is not installed: its view of objects is not tested");
        return None;
    };
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    #[expect(
        clippy::disallowed_methods,
        reason = "a pipe needs a writer beside its reader"
    )]
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    let _ = writer.join();
    Some((output.status.success(), output.stdout))
}

#[test]
fn the_zstd_tool_restores_the_segments_byte_for_byte() {
    for made in [segments(Offset::ZERO, 4, 30), several_frames()] {
        let (object, _) = encode(made.iter().map(Segment::source).collect());
        let Some((restored, bytes)) = zstd(&["-d", "-c", "-q"], &object) else {
            return;
        };
        assert!(restored && bytes == concat(&made));
        assert!(zstd(&["-t", "-q"], &object).unwrap().0);
        let mut damaged = object.to_vec();
        damaged[object.len() / 3] ^= 4;
        assert!(
            !zstd(&["-t", "-q"], &damaged).unwrap().0,
            "frames carry checksums"
        );
    }
}

#[test]
fn a_raw_frame_is_a_zstd_frame() {
    let noise: Vec<u8> = (0..3 * FRAME_BYTES / 16)
        .flat_map({
            let random = random(3);
            move |_| random().to_le_bytes()
        })
        .collect();
    for length in [
        0,
        1,
        255,
        256,
        65_791,
        65_792,
        128 << 10,
        (128 << 10) + 1,
        300_000,
        noise.len(),
    ] {
        let bytes = &noise[..length];
        let frame = raw_frame(bytes);
        assert_eq!(zstd::bulk::decompress(&frame, length).unwrap(), bytes);
        if let Some((restored, found)) = zstd(&["-d", "-c", "-q"], &frame) {
            assert!(restored && found == bytes, "{length}");
        }
        let mut damaged = frame.clone();
        let last = damaged.len() - 1;
        damaged[last] ^= 1;
        assert!(
            zstd::bulk::decompress(&damaged, length).is_err(),
            "its checksum is checked"
        );
    }
}

#[test]
fn data_that_does_not_compress_is_stored_raw() {
    let made = several_frames();
    let (object, encoded) = encode(made.iter().map(Segment::source).collect());
    let index = open(&object, &encoded);
    let ratio = |at: &super::FrameAt| f64::from(at.compressed_bytes) / f64::from(at.bytes);
    let raw = index.frames.iter().filter(|at| ratio(at) > 1.0).count();
    assert!(raw >= 1, "{:?}", index.frames);
    assert!(
        index
            .frames
            .iter()
            .all(|at| at.compressed_bytes < at.bytes + 100)
    );
    assert!(encoded.object_bytes < encoded.segment_bytes / 2);
}

#[test]
fn an_index_says_all_there_is_to_know() {
    let mut made = several_frames();
    made[0].aborted.push(crate::source::AbortedTransaction {
        first_offset: Offset(900),
        producer_id: ProducerId(77),
        last_offset: Offset(1100),
        last_stable_offset: Offset(1101),
    });
    made[1].aborted = made[0].aborted.clone();
    let mut sources: Vec<_> = made.iter().map(Segment::source).collect();
    sources[2].open_transactions.push(OpenTransaction {
        producer_id: ProducerId(5),
        producer_epoch: ProducerEpoch(2),
        first_offset: Offset(1170),
        outcome: Outcome::Commit,
        coordinator_epoch: 4,
    });
    let (object, encoded) = encode(sources.clone());
    let index = open(&object, &encoded);
    assert_eq!((index.topic_id, index.partition), (partition().topic_id, 3));
    assert_eq!((index.base, index.end), (Offset(1000), made[2].end));
    assert_eq!(index.segments.len(), 3);
    for (at, source) in index.segments.iter().zip(&sources) {
        assert_eq!(
            (at.base, at.end, at.bytes),
            (source.base, source.end, source.bytes)
        );
        assert_eq!(at.offset_index().unwrap(), source.offset_index);
        assert_eq!(at.time_index().unwrap(), source.time_index);
    }
    assert_eq!(
        index.aborted, made[0].aborted,
        "once, though it overlaps two segments"
    );
    assert_eq!(
        index.epochs,
        [
            (LeaderEpoch(3), Offset(1000)),
            (LeaderEpoch(4), made[1].base),
            (LeaderEpoch(5), made[2].base)
        ]
    );
    assert_eq!(index.producers, sources[2].producer_snapshot);
    assert_eq!(index.open_transactions, sources[2].open_transactions);
    assert_eq!(encoded.last_epoch, LeaderEpoch(5));
    assert_eq!(decode(&object, &index), concat(&made));
    let slim = index.clone().without_local_indexes();
    assert!(slim.memory_bytes() < index.memory_bytes());
    for offset in index.base.0..index.end.0 {
        let at = index.frames[index.frame_of(Offset(offset)).unwrap()];
        assert!(at.base.0 <= offset && offset < at.end.0);
    }
    assert_eq!(
        (index.frame_of(Offset(999)), index.frame_of(index.end)),
        (None, None)
    );
}

#[test]
fn an_encoder_takes_bounded_memory_and_gives_the_same_bytes_every_time() {
    let made = several_frames();
    let sources: Vec<_> = made.iter().map(Segment::source).collect();
    let (whole, encoded) = encode(sources.clone());
    let mut encoder = Encoder::new(&partition(), EPOCH, sources).unwrap();
    let mut pieces = Vec::new();
    while let Some(piece) = encoder.next_piece().unwrap() {
        assert!(piece.len() < FRAME_BYTES + 200_000);
        pieces.push(piece);
    }
    assert_eq!(pieces.concat(), whole);
    assert_eq!(encoder.encoded(), Some(&encoded));
    assert_eq!(esker_protocol::records::crc32c(&whole), encoded.checksum);
    assert_eq!(whole.len() as u64, encoded.object_bytes);
}

#[test]
fn a_damaged_segment_becomes_no_object() {
    let made = &segments(Offset::ZERO, 1, 10)[0];
    for position in (0..made.bytes.len()).step_by(7) {
        let mut bytes = made.bytes.to_vec();
        bytes[position] ^= 0x20;
        // Producer and leader stamp the leader epoch after the CRC was taken: only a batch that goes
        // back in epochs can be told there.
        let in_batch = Batches::new(&made.bytes)
            .map(|batch| batch.unwrap().bytes().len())
            .scan(0, |end, length| Some(std::mem::replace(end, *end + length)))
            .take_while(|start| *start <= position)
            .last()
            .map(|start| position - start);
        if (12..16).contains(&in_batch.unwrap()) {
            continue;
        }
        let damaged = Segment {
            bytes: bytes.into(),
            ..made.clone()
        };
        let result = encode_object(&partition(), EPOCH, vec![damaged.source()]);
        assert!(result.is_err_and(|error| error.is_damage()), "{position}");
    }
}

#[test]
fn sources_that_do_not_fit_together_are_refused() {
    let made = segments(Offset::ZERO, 3, 5);
    let gap = vec![made[0].source(), made[2].source()];
    assert!(matches!(
        encode_object(&partition(), EPOCH, gap),
        Err(EncodeError::Sources(_))
    ));
    assert!(matches!(
        encode_object(&partition(), EPOCH, vec![]),
        Err(EncodeError::Sources(_))
    ));
    let mut late = made[0].source();
    late.end = Offset(late.end.0 + 1);
    let result = encode_object(&partition(), EPOCH, vec![late]);
    assert!(matches!(result, Err(EncodeError::Mismatch { .. })));
    let mut short = made[0].source();
    short.bytes -= 1;
    assert!(encode_object(&partition(), EPOCH, vec![short]).is_err_and(|e| e.is_damage()));
}

#[test]
fn a_segment_cut_at_a_batch_becomes_an_object_of_its_rest() {
    let made = &segments(Offset::ZERO, 1, 10)[0];
    let cut = made.cut_at(Offset(12));
    let (object, encoded) = encode(vec![cut.source()]);
    assert_eq!((encoded.base, encoded.end), (Offset(12), made.end));
    assert_eq!(encoded.epochs, [(EPOCH, Offset(12))]);
    assert_eq!(decode(&object, &open(&object, &encoded)), cut.bytes);
}

#[test]
fn damaged_ends_and_frames_are_refused_and_never_panic() {
    let made = segments(Offset::ZERO, 2, 10);
    let (object, encoded) = encode(made.iter().map(Segment::source).collect());
    let index = open(&object, &encoded);
    let split = usize::try_from(encoded.index_position).unwrap();
    let tail = &object[split..];
    for position in 0..tail.len() {
        for bit in [0x01, 0x80] {
            let mut damaged = tail.to_vec();
            damaged[position] ^= bit;
            assert!(
                open_tail(&damaged, encoded.index_position).is_err(),
                "{position}"
            );
        }
        assert!(open_tail(&tail[..position], encoded.index_position).is_err());
    }
    assert!(open_tail(tail, encoded.index_position + 1).is_err());
    let at = &index.frames[0];
    let frame = &object[..at.compressed_bytes as usize];
    for position in 0..frame.len() {
        for bit in [0x01, 0x10, 0x80] {
            let mut damaged = frame.to_vec();
            damaged[position] ^= bit;
            // A bit that zstd does not look at may be turned; then the bytes are the right ones.
            if let Ok(decoded) = decode_frame(&damaged, at) {
                assert_eq!(decoded.bytes(), &concat(&made), "{position} {bit:x}");
            }
        }
        assert!(decode_frame(&frame[..position], at).is_err());
    }
}

#[test]
fn a_frame_that_claims_too_much_is_refused_without_the_memory() {
    let at = super::FrameAt {
        position: 0,
        compressed_bytes: 100,
        bytes: u32::MAX,
        base: Offset(0),
        end: Offset(10),
        max_timestamp: esker_protocol::Timestamp(0),
    };
    let zeros = zstd::bulk::Compressor::new(1).map(|mut zstd| {
        zstd.set_parameter(zstd::zstd_safe::CParameter::ChecksumFlag(true))
            .unwrap();
        zstd.compress(&vec![0; 1000]).unwrap()
    });
    assert!(decode_frame(&zeros.unwrap(), &at).is_err());
}

#[test]
fn a_batch_in_the_wrong_place_is_refused() {
    // The batch is whole and its CRC right: a CRC does not cover the base offset, the frame must.
    let made = &segments(Offset(30), 1, 1)[0];
    let (object, encoded) = encode(vec![made.source()]);
    let at = open(&object, &encoded).frames[0];
    let frame = &object[..at.compressed_bytes as usize];
    assert!(decode_frame(frame, &at).is_ok());
    let elsewhere = super::FrameAt {
        base: Offset(29),
        ..at
    };
    assert!(decode_frame(frame, &elsewhere).is_err());
    let longer = super::FrameAt {
        end: at.end + 1,
        ..at
    };
    assert!(decode_frame(frame, &longer).is_err());
}

#[test]
fn a_large_batch_has_a_frame_of_its_own() {
    let plan = BatchPlan {
        records: 1,
        value_bytes: 9 << 20,
        timestamp: 5,
        epoch: EPOCH,
        noise: false,
    };
    let noise = BatchPlan {
        noise: true,
        ..plan
    };
    let made = segment(
        Offset::ZERO,
        &[BatchPlan::small(1), plan, noise, BatchPlan::small(2)],
        &random(8),
    );
    let (object, encoded) = encode(vec![made.source()]);
    let index = open(&object, &encoded);
    assert_eq!(index.frames.len(), 3);
    assert!(decode(&object, &index) == made.bytes);
}

#[test]
fn slices_hold_whole_batches_within_the_limit() {
    let made = &segments(Offset::ZERO, 1, 20)[0];
    let (object, encoded) = encode(vec![made.source()]);
    let at = open(&object, &encoded).frames[0];
    let frame = decode_frame(&object[..at.compressed_bytes as usize], &at).unwrap();
    let batches: Vec<_> = Batches::new(frame.bytes()).map(Result::unwrap).collect();
    for (number, batch) in batches.iter().enumerate() {
        for bytes_max in [0, 1, 150, 151, 400, 1000, 100_000] {
            for at_least_one in [false, true] {
                let mut expected = Vec::new();
                for batch in &batches[number..] {
                    let fits = expected.len() + batch.bytes().len() <= bytes_max;
                    if !(fits || (at_least_one && expected.is_empty())) {
                        break;
                    }
                    expected.extend_from_slice(batch.bytes());
                }
                let header = batch.header();
                for offset in [header.base_offset, header.last_offset()] {
                    let sliced = frame.slice(offset, bytes_max, at_least_one).unwrap();
                    let found = sliced.map(|(bytes, _)| bytes.to_vec()).unwrap_or_default();
                    assert_eq!(found, expected, "{offset} {bytes_max} {at_least_one}");
                }
            }
        }
    }
}

#[test]
fn a_small_slice_does_not_keep_its_frame() {
    let made = &segments(Offset::ZERO, 1, 20)[0];
    let (object, encoded) = encode(vec![made.source()]);
    let at = open(&object, &encoded).frames[0];
    let frame = decode_frame(&object[..at.compressed_bytes as usize], &at).unwrap();
    let (small, _) = frame.slice(Offset::ZERO, 1, true).unwrap().unwrap();
    let (all, _) = frame
        .slice(Offset::ZERO, usize::MAX, true)
        .unwrap()
        .unwrap();
    assert!(small.len() < all.len() / 2);
    assert!(small.is_unique() && !all.is_unique());
}

#[test]
fn a_frame_refuses_an_offset_that_it_does_not_hold() {
    let made = &segments(Offset(30), 1, 20)[0];
    let (object, encoded) = encode(vec![made.source()]);
    let at = open(&object, &encoded).frames[0];
    let frame = decode_frame(&object[..at.compressed_bytes as usize], &at).unwrap();
    let (base, end) = (frame.base(), frame.end());
    assert_eq!((base, end), (made.base, made.end));
    for offset in [Offset(0), Offset(29), made.end, made.end + 1] {
        for at_least_one in [false, true] {
            assert_eq!(
                frame.slice(offset, 1000, at_least_one),
                Err(FrameError::Outside { offset, base, end })
            );
        }
    }
}

fn batch_plan() -> impl Strategy<Value = BatchPlan> {
    (
        1..5_usize,
        prop_oneof![0..200_usize, 20_000..60_000_usize],
        0..5000_i64,
        any::<bool>(),
    )
        .prop_map(|(records, value_bytes, timestamp, noise)| BatchPlan {
            records,
            value_bytes,
            timestamp,
            epoch: EPOCH,
            noise,
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_segments_come_back(plans in prop::collection::vec(prop::collection::vec(batch_plan(), 1..8), 1..6), base in 0..1_000_000_i64) {
        let random = random(11);
        let mut next = Offset(base);
        let mut made = Vec::new();
        for plans in &plans {
            let segment = segment(next, plans, &random);
            next = segment.end;
            made.push(segment);
        }
        let (object, encoded) = encode(made.iter().map(Segment::source).collect());
        let index = open(&object, &encoded);
        prop_assert!(decode(&object, &index) == concat(&made));
        prop_assert_eq!(index.data_bytes(), encoded.index_position);
    }

    #[test]
    fn no_bytes_make_an_index_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(open_tail(&bytes, 0).is_err());
    }
}

#[test]
fn golden_objects_are_read() {
    // Frames may be compressed otherwise one day; what they hold and the index may not change.
    let random = random(21);
    let quiet = BatchPlan {
        records: 3,
        value_bytes: 300,
        timestamp: 50,
        epoch: EPOCH,
        noise: false,
    };
    let noise = BatchPlan {
        noise: true,
        epoch: LeaderEpoch(8),
        ..quiet
    };
    let first = segment(Offset(100), &[quiet; 4], &random);
    let second = segment(first.end, &[quiet, noise, noise], &random);
    let made = [first, second];
    let mut sources: Vec<_> = made.iter().map(Segment::source).collect();
    sources[1].aborted.push(crate::source::AbortedTransaction {
        first_offset: Offset(101),
        producer_id: ProducerId(77),
        last_offset: Offset(110),
        last_stable_offset: Offset(111),
    });
    sources[1].open_transactions.push(OpenTransaction {
        producer_id: ProducerId(5),
        producer_epoch: ProducerEpoch(2),
        first_offset: Offset(115),
        outcome: Outcome::Abort,
        coordinator_epoch: 4,
    });
    let (object, encoded) = encode(sources);
    let golden = Bytes::from(crate::testing::golden("segments.log.zst", &object));
    let position = golden.len() - usize::try_from(super::tail_bytes(&golden).unwrap()).unwrap();
    let index = open_tail(&golden[position..], position as u64).unwrap();
    assert!(decode(&golden, &index) == concat(&made));
    let expected = open(&object, &encoded);
    assert_eq!(index.segments, expected.segments);
    assert_eq!(index.aborted, expected.aborted);
    assert_eq!(index.epochs, expected.epochs);
    assert_eq!(index.producers, expected.producers);
    assert_eq!(index.open_transactions, expected.open_transactions);
}
