//! A mutational driver on stable Rust: batches that were changed in place, cut, spliced, and whose
//! lengths were inflated never panic, and never decompress beyond their caps.
//!
//! `FUZZ_ITERATIONS` sets the number of mutants, `FUZZ_SEED` where they begin.

use bytes::Bytes;
use esker_protocol::records::{
    Attributes, Batch, BatchBuilder, BatchHeader, BatchOptions, Batches, Caps, Compression,
    EndTransactionMarker, Header, ProduceRules, Validation, control_type, crc32c, search, validate,
};
use esker_protocol::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};

const ITERATIONS_DEFAULT: u64 = 20_000;
const CAPS: Caps = Caps {
    output_bytes_max: 1 << 20,
    ratio_max: 100,
    free_bytes: 1 << 16,
};

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

fn corpus() -> Vec<Vec<u8>> {
    let mut corpus = Vec::new();
    for compression in Compression::ALL {
        for records in [1, 3, 40] {
            let mut builder = BatchBuilder::new(BatchOptions {
                compression,
                producer_id: ProducerId(7),
                producer_epoch: ProducerEpoch(0),
                base_sequence: 0,
                ..BatchOptions::default()
            });
            for index in 0..records {
                let value = format!("value {index} ").repeat(index + 1);
                let headers = [
                    Header {
                        key: b"name",
                        value: Some(b"text"),
                    },
                    Header {
                        key: b"",
                        value: None,
                    },
                ];
                let key = (index % 2 == 0).then_some(&b"key"[..]);
                builder
                    .append(
                        Timestamp(1000 + index as i64),
                        key,
                        Some(value.as_bytes()),
                        &headers,
                    )
                    .expect("fits");
            }
            corpus.push(builder.build().expect("builds").to_vec());
        }
    }
    let marker = EndTransactionMarker {
        commit: true,
        coordinator_epoch: 1,
    };
    let batch = marker.to_batch(
        ProducerId(7),
        ProducerEpoch(0),
        Timestamp(1),
        Offset(5),
        LeaderEpoch(0),
    );
    corpus.push(batch.to_vec());
    corpus
}

fn mutate(random: &mut Random, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = corpus[random.below(corpus.len())].clone();
    for _ in 0..=random.below(4) {
        if bytes.is_empty() {
            break;
        }
        let at = random.below(bytes.len());
        match random.below(7) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = random.next() as u8,
            2 => bytes.truncate(at),
            3 => {
                let other = &corpus[random.below(corpus.len())];
                bytes.truncate(at);
                bytes.extend_from_slice(&other[random.below(other.len())..]);
            }
            4 => {
                // Length and count fields of every kind are runs of these bytes.
                let run = (at + 1 + random.below(5)).min(bytes.len());
                let value = [0x00, 0x7f, 0x80, 0xff][random.below(4)];
                bytes[at..run].fill(value);
            }
            5 => bytes.insert(at, random.next() as u8),
            _ => {
                bytes.remove(at);
            }
        }
    }
    // Half of the mutants get a right length and checksum, or nothing behind them would be reached.
    if random.below(2) == 0 && bytes.len() >= BatchHeader::BYTES {
        let length = i32::try_from(bytes.len() - 12).expect("small");
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        bytes[16] = 2;
        if random.below(4) == 0 {
            let attributes = Attributes(random.below(256) as i16);
            bytes[21..23].copy_from_slice(&attributes.0.to_be_bytes());
        }
        let crc = crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    }
    bytes
}

/// Reads whatever can be read; returns whether it was a sound batch.
fn exercise(bytes: &[u8]) -> bool {
    let mut sound = false;
    for batch in Batches::with_partial_tail(bytes).flatten() {
        let _ = search::first_at_or_after(&batch, Timestamp(1010), &CAPS);
        let _ = search::first_of_max_timestamp(&batch, &CAPS);
        let limit = CAPS.limit(batch.payload().len());
        let Ok(records) = batch.records(&CAPS) else {
            continue;
        };
        assert!(records.size_in_bytes() <= limit.max(batch.payload().len()));
        for record in records.iter().flatten() {
            assert_eq!(record.headers.iter().count(), record.headers.len());
            let _ = control_type(&record);
            let _ = EndTransactionMarker::decode(&record);
        }
        sound |= batch.crc_is_valid() && records.iter().all(|record| record.is_ok());
    }
    sound
}

#[test]
fn mutants_of_batches_are_survived() {
    let number = |name, default| {
        #[expect(
            clippy::disallowed_methods,
            reason = "the switches of a test, not of the product"
        )]
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(default)
    };
    let iterations: u64 = number("FUZZ_ITERATIONS", ITERATIONS_DEFAULT);
    let seed: u64 = number("FUZZ_SEED", 1);
    let corpus = corpus();
    assert!(
        corpus.iter().all(|bytes| exercise(bytes)),
        "the corpus itself is sound"
    );
    let mut accepted = 0u64;
    for index in 0..iterations {
        // Each mutant has its own seed, so that a failure names the one that made it.
        let mutant = seed.wrapping_add(index).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut random = Random(mutant);
        let bytes = mutate(&mut random, &corpus);
        let survived = std::panic::catch_unwind(|| {
            exercise(&bytes);
            let mut accepted = false;
            for validation in [Validation::Default, Validation::Full] {
                let rules = ProduceRules {
                    validation,
                    caps: CAPS,
                    compacted: index % 4 == 0,
                    ..ProduceRules::new(Timestamp(2000))
                };
                if let Ok(batch) = validate(Bytes::copy_from_slice(&bytes), &rules) {
                    let (view, rest) = Batch::parse(&batch.bytes).expect("what was validated");
                    assert!(rest.is_empty() && view.crc_is_valid());
                    if validation == Validation::Full {
                        assert!(exercise(&batch.bytes), "full validation read every record");
                    }
                    accepted = true;
                }
            }
            accepted
        });
        match survived {
            Ok(was_accepted) => accepted += u64::from(was_accepted),
            Err(_) => panic!(
                "FUZZ_SEED={} FUZZ_ITERATIONS=1 fails",
                seed.wrapping_add(index)
            ),
        }
    }
    assert!(
        iterations < 1000 || accepted > iterations / 100,
        "mutants reach the inside: {accepted}"
    );
}
