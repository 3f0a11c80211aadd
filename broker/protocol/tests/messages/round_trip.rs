use esker_protocol::sample::Random;

use crate::codecs::{CODECS, every_version};

const SAMPLES: u64 = 40;

#[test]
fn every_message_reads_back_as_it_was_written() {
    for (codec, version) in every_version() {
        for seed in 0..SAMPLES {
            let sampled = (codec.sample)(&mut Random::new(seed), version);
            let again = (codec.reencode)(&sampled.bytes, version);
            assert_eq!(
                again,
                Ok(sampled),
                "{} version {version} seed {seed}",
                codec.name
            );
        }
    }
}

#[test]
fn samples_reach_every_kind_of_value() {
    let mut texts = String::new();
    for (codec, version) in every_version() {
        for seed in 0..SAMPLES {
            texts.push_str(&(codec.sample)(&mut Random::new(seed), version).text);
        }
    }
    for wanted in [
        "None",
        "Some([])",
        "Some(Borrowed([]))",
        "\"\"",
        "-1",
        "NaN",
        "true",
        "false",
    ] {
        assert!(texts.contains(wanted), "{wanted}");
    }
}

#[test]
fn all_messages_of_a_broker_are_there() {
    // 79 APIs with a request and a response each, two headers, 50 coordinator records, the
    // consumer protocol's two and the producer snapshot.
    let count = |suffix: &str| {
        CODECS
            .iter()
            .filter(|codec| codec.name.ends_with(suffix))
            .count()
    };
    let apis = esker_protocol::api::ApiKey::ALL.len();
    assert_eq!(count("Request"), apis);
    assert_eq!(count("Response"), apis);
    assert_eq!(count("Key") + count("Value"), 50);
    assert_eq!(CODECS.len(), 2 * apis + 2 + 50 + 3);
}
