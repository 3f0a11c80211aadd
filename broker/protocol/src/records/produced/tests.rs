use super::*;
use crate::records::{Batch, BatchBuilder, BatchOptions, golden, stamp};
use crate::{LeaderEpoch, Offset, ProducerId};

fn rules(case: &golden::Verdict<'_>, validation: Validation) -> ProduceRules {
    ProduceRules {
        message_bytes_max: 4096,
        timestamp_type: if case.log_append_time {
            TimestampType::LogAppendTime
        } else {
            TimestampType::CreateTime
        },
        before_ms_max: case.before_ms_max,
        after_ms_max: case.after_ms_max,
        compacted: case.compacted,
        validation,
        ..ProduceRules::new(Timestamp(golden::NOW))
    }
}

type Outcome = Result<ProducedBatch, ProduceError>;

fn judge(case: &golden::Verdict<'_>, validation: Validation) -> (Outcome, String) {
    let rules = rules(case, validation);
    let outcome = validate(Bytes::from(case.bytes.clone()), &rules);
    let answer = answer(&outcome, &rules);
    (outcome, answer)
}

/// What a broker would answer, in the words of the golden file.
fn answer(outcome: &Outcome, rules: &ProduceRules) -> String {
    match outcome {
        Ok(batch) => {
            let append_time = match rules.timestamp_type {
                TimestampType::LogAppendTime => Some(rules.now),
                TimestampType::CreateTime => None,
            };
            let payload = batch.payload();
            let header = stamp(
                &batch.header,
                &payload,
                Offset::ZERO,
                LeaderEpoch(0),
                append_time,
            );
            let log = [&header[..], &payload].concat();
            let (batch, _) = Batch::parse(&log).expect("a stamped batch");
            assert!(batch.crc_is_valid(), "stamping keeps the checksum right");
            format!(
                "OK:{}:{}",
                batch.header().attributes.0,
                batch.header().max_timestamp
            )
        }
        Err(error) => {
            let code = match error.kind() {
                ProduceErrorKind::InvalidRecord => "INVALID_RECORD",
                ProduceErrorKind::CorruptMessage => "CORRUPT_MESSAGE",
                ProduceErrorKind::MessageTooLarge => "MESSAGE_TOO_LARGE",
                ProduceErrorKind::InvalidTimestamp => "INVALID_TIMESTAMP",
                ProduceErrorKind::UnsupportedCompressionType => "UNSUPPORTED_COMPRESSION_TYPE",
                ProduceErrorKind::Undecodable => "UNKNOWN_SERVER_ERROR",
            };
            let indices: Vec<_> = error
                .record_errors()
                .map(|record| record.batch_index.to_string())
                .collect();
            format!("{code}:{}", indices.join(","))
        }
    }
}

/// The deliberate differences: records whose offsets do not count up from 0, and a negative record
/// length, which Kafka overlooks in compressed batches although its own consumer fails on it.
fn is_deliberately_refused(outcome: &Outcome) -> bool {
    matches!(
        outcome,
        Err(ProduceError::Records(RecordsError::Record { reason, .. }))
            if reason.starts_with("its offset ") || *reason == "its length is negative"
    )
}

#[test]
fn full_validation_answers_as_kafka_does() {
    let mut differences = Vec::new();
    let mut judged = 0;
    for case in golden::verdicts() {
        let (outcome, ours) = judge(&case, Validation::Full);
        judged += 1;
        if ours != case.verdict && !is_deliberately_refused(&outcome) {
            differences.push(format!(
                "{}: kafka {}, ours {ours}",
                case.name, case.verdict
            ));
        }
    }
    assert!(judged > 400);
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn default_validation_differs_only_in_what_records_alone_show() {
    // What only a walk can see: damaged payloads under a right checksum, a maximum below the truth.
    let only_in_records = [
        "payload-",
        "damaged-",
        "codec-",
        "count-delta-",
        "max-",
        "base-",
    ];
    let mut differences = Vec::new();
    let mut accepted = 0;
    for case in golden::verdicts() {
        let (outcome, ours) = judge(&case, Validation::Default);
        let (full, _) = judge(&case, Validation::Full);
        assert!(
            outcome.is_ok() || full.is_err(),
            "{}: refused too much",
            case.name
        );
        if ours == case.verdict || is_deliberately_refused(&outcome) {
            continue;
        }
        accepted += 1;
        let explained = only_in_records
            .iter()
            .any(|prefix| case.name.starts_with(prefix))
            && outcome.is_ok()
            && !case.compacted;
        if !explained {
            differences.push(format!(
                "{}: kafka {}, ours {ours}",
                case.name, case.verdict
            ));
        }
    }
    assert!(accepted > 0, "the default mode does walk after all");
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn zstd_needs_produce_7() {
    let rules = ProduceRules {
        zstd_allowed: false,
        ..ProduceRules::new(Timestamp(golden::NOW))
    };
    let error = validate(golden::batch("three-zstd").into(), &rules).unwrap_err();
    assert_eq!(error.kind(), ProduceErrorKind::UnsupportedCompressionType);
    assert!(validate(golden::batch("three-lz4").into(), &rules).is_ok());
}

#[test]
fn no_log_is_asked_about_bytes_that_are_not_one_batch() {
    let batch = golden::batch("three-none");
    let rules = ProduceRules::new(Timestamp(golden::NOW));
    let refusal = |bytes: &[u8]| validate(Bytes::copy_from_slice(bytes), &rules).unwrap_err();
    let two = [&batch[..], &batch].concat();
    let mut old = batch.clone();
    old[16] = 1;
    for bytes in [&batch[..40], &two, &old] {
        assert!(refusal(bytes).is_before_the_log());
    }
    let mut damaged = batch.clone();
    damaged[8..12].copy_from_slice(&10_i32.to_be_bytes());
    assert!(refusal(&damaged).is_before_the_log());
    let mut placed = batch.clone();
    placed[7] = 1;
    assert_eq!(refusal(&placed), ProduceError::BaseOffset(1));
    let mut short = batch.clone();
    short[8..12].copy_from_slice(&40_i32.to_be_bytes());
    for bytes in [placed, short] {
        assert!(!refusal(&bytes).is_before_the_log());
    }
}

#[test]
fn a_batch_of_a_transaction_is_known_by_its_header() {
    let plain = golden::batch("three-none");
    let mut transactional = plain.clone();
    transactional[22] |= 16;
    let two = [&transactional[..], &plain].concat();
    for (bytes, expected) in [
        (&plain[..], false),
        (&transactional, true),
        (&two, true),
        (&transactional[..40], false),
        (b"", false),
    ] {
        assert_eq!(is_transactional(bytes), Ok(expected));
    }
    transactional[16] = 3;
    assert_eq!(is_transactional(&transactional), Err(BatchError::Magic(3)));
}

#[test]
fn bytes_behind_the_batch_are_dropped() {
    let batch = golden::batch("three-none");
    let sent = [&batch[..], &batch[..40]].concat();
    let rules = ProduceRules::new(Timestamp(golden::NOW));
    let produced = validate(sent.into(), &rules).unwrap();
    assert_eq!(produced.bytes, batch);
    assert_eq!(produced.payload(), batch[BatchHeader::BYTES..]);
}

#[test]
fn the_size_limit_is_inclusive() {
    let batch = golden::batch("three-none");
    let limit = u32::try_from(batch.len()).unwrap();
    let rules = |message_bytes_max| ProduceRules {
        message_bytes_max,
        ..ProduceRules::new(Timestamp(golden::NOW))
    };
    assert!(validate(batch.clone().into(), &rules(limit)).is_ok());
    let error = validate(batch.into(), &rules(limit - 1)).unwrap_err();
    assert_eq!(
        error,
        ProduceError::TooLarge {
            bytes: limit as usize,
            max: limit - 1
        }
    );
}

fn keyless(count: i32, options: BatchOptions) -> Bytes {
    let mut builder = BatchBuilder::new(options);
    for _ in 0..count {
        builder
            .append(Timestamp(golden::NOW), None, Some(&[0; 1000]), &[])
            .unwrap();
    }
    builder.build().unwrap()
}

#[test]
fn a_reply_names_a_bounded_number_of_records() {
    let rules = ProduceRules {
        compacted: true,
        ..ProduceRules::new(Timestamp(golden::NOW))
    };
    let error = validate(keyless(500, BatchOptions::default()), &rules).unwrap_err();
    assert!(matches!(error, ProduceError::Rejected { count: 500, .. }));
    assert_eq!(error.record_errors().count(), 100);
    assert!(
        error.to_string().starts_with(
            "500 records are refused, the first because Compacted topic cannot accept"
        )
    );
}

#[test]
fn bombs_are_refused_where_records_are_walked() {
    for compression in golden::codecs() {
        let bomb = keyless(
            900,
            BatchOptions {
                compression,
                ..BatchOptions::default()
            },
        );
        let caps = Caps {
            output_bytes_max: 100_000,
            ratio_max: 1000,
            free_bytes: 100_000,
        };
        let rules = ProduceRules {
            caps,
            ..ProduceRules::new(Timestamp(golden::NOW))
        };
        assert!(
            validate(bomb.clone(), &rules).is_ok(),
            "not looked into by default"
        );
        let full = ProduceRules {
            validation: Validation::Full,
            ..rules
        };
        let error = validate(bomb, &full).unwrap_err();
        assert_eq!(error.kind(), ProduceErrorKind::Undecodable, "{compression}");
    }
}

#[test]
fn idempotent_batches_pass_with_their_sequence() {
    let options = BatchOptions {
        producer_id: ProducerId(5),
        base_sequence: i32::MAX,
        ..BatchOptions::default()
    };
    let rules = ProduceRules::new(Timestamp(golden::NOW));
    let produced = validate(keyless(3, options), &rules).unwrap();
    assert_eq!(produced.header.last_sequence(), 1);
    let bad = BatchOptions {
        base_sequence: -1,
        ..options
    };
    let error = validate(keyless(3, bad), &rules).unwrap_err();
    assert_eq!(
        error,
        ProduceError::Sequence {
            producer_id: 5,
            base_sequence: -1
        }
    );
}

#[test]
fn every_cut_and_flip_is_survived_in_both_modes() {
    for codec in Compression::ALL {
        let good = golden::batch(&format!("three-{codec}"));
        for validation in [Validation::Default, Validation::Full] {
            let rules = ProduceRules {
                validation,
                ..ProduceRules::new(Timestamp(golden::NOW))
            };
            for length in 0..good.len() {
                let outcome = validate(Bytes::copy_from_slice(&good[..length]), &rules);
                assert_eq!(
                    outcome,
                    Err(ProduceError::NoBatch),
                    "{codec} cut at {length}"
                );
            }
            for position in 0..good.len() {
                for bit in 0..8 {
                    let mut bad = good.clone();
                    bad[position] ^= 1 << bit;
                    let outcome = validate(bad.into(), &rules);
                    // The leader epoch alone is neither checked nor covered.
                    let accepted = (12..16).contains(&position);
                    assert_eq!(
                        outcome.is_ok(),
                        accepted,
                        "{codec} byte {position} bit {bit}"
                    );
                }
            }
        }
    }
}

/// What is built here skips the looking, and not the rules.
#[test]
fn a_built_batch_is_judged_as_its_bytes_are() {
    let now = Timestamp(1_000_000);
    let times = [now, Timestamp(now.0 - 5_000), Timestamp::NONE];
    let keys = [Some(&b"key"[..]), None];
    let codecs = [Compression::None, Compression::Lz4];
    let mut answers = std::collections::BTreeMap::new();
    // What no producer builds, and a caller here might.
    let odd = [
        BatchOptions::default(),
        BatchOptions {
            control: true,
            ..BatchOptions::default()
        },
        BatchOptions {
            timestamp_type: TimestampType::LogAppendTime,
            ..BatchOptions::default()
        },
        BatchOptions {
            base_offset: Offset(5),
            ..BatchOptions::default()
        },
        BatchOptions {
            producer_id: ProducerId(1),
            ..BatchOptions::default()
        },
    ];
    for (options, delta) in odd.into_iter().flat_map(|odd| [(odd, 1), (odd, 2)]) {
        let mut builder = BatchBuilder::new(options);
        builder.append(now, Some(b"key"), Some(b"1"), &[]).unwrap();
        let gap = builder.append_at(delta, now, Some(b"key"), Some(b"2"), &[]);
        gap.unwrap();
        for rules in rules_of_a_built_batch(now) {
            let expected = validate(builder.build().unwrap(), &rules);
            let built = builder.clone().into_built().unwrap();
            assert_eq!(
                validate_built(built, &rules),
                expected,
                "{options:?} {rules:?}"
            );
        }
    }
    for (first, second) in times.iter().flat_map(|a| times.map(|b| (*a, b))) {
        for (key, codec) in keys
            .iter()
            .flat_map(|key| codecs.map(|codec| (*key, codec)))
        {
            for transactional in [false, true] {
                let mut builder = BatchBuilder::new(BatchOptions {
                    compression: codec,
                    transactional,
                    ..BatchOptions::default()
                });
                builder
                    .append(first, Some(b"key"), Some(b"1"), &[])
                    .unwrap();
                builder.append(second, key, Some(b"2"), &[]).unwrap();
                for rules in rules_of_a_built_batch(now) {
                    let bytes = builder.build().unwrap();
                    let built = builder.clone().into_built().unwrap();
                    let expected = validate(bytes, &rules);
                    assert_eq!(validate_built(built, &rules), expected, "{rules:?}");
                    let kind = expected.map(|_| ()).map_err(|error| error.kind());
                    *answers.entry(kind).or_insert(0) += 1;
                }
            }
        }
    }
    assert!(answers.len() >= 4, "{answers:?}");
}

fn rules_of_a_built_batch(now: Timestamp) -> Vec<ProduceRules> {
    let plain = ProduceRules {
        before_ms_max: 1_000,
        ..ProduceRules::new(now)
    };
    vec![
        plain,
        ProduceRules {
            compacted: true,
            ..plain
        },
        ProduceRules {
            validation: Validation::Full,
            ..plain
        },
        ProduceRules {
            message_bytes_max: 10,
            ..plain
        },
        ProduceRules {
            timestamp_type: TimestampType::LogAppendTime,
            ..plain
        },
        ProduceRules {
            target: Some(Target {
                codec: Compression::Zstd,
                level: None,
            }),
            ..plain
        },
    ]
}
