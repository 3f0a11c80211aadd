//! Mutational fuzzing on stable Rust: valid messages are damaged and read, and nothing may panic.
//!
//! `FUZZ_ITERATIONS` says how often each target runs, `FUZZ_SEED` where it starts; a failure prints
//! the seed of its iteration, which alone reproduces it with `FUZZ_ITERATIONS=1`.

#[path = "messages/codecs.rs"]
#[expect(dead_code, reason = "the other tests use more of it")]
mod codecs;

use codecs::{CODECS, Codec};
use esker_protocol::api::ApiKey;
use esker_protocol::frame;
use esker_protocol::sample::Random;

const ITERATIONS: u64 = 20_000;

#[expect(clippy::disallowed_methods, reason = "a test's own knobs")]
fn knob(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .map_or(default, |text| text.parse().expect("a number"))
}

/// Runs `target` under consecutive seeds, naming the one that fails.
fn fuzz(target: impl Fn(&mut Random)) {
    let first = knob("FUZZ_SEED", 0);
    for seed in first..first + knob("FUZZ_ITERATIONS", ITERATIONS) {
        let run = std::panic::AssertUnwindSafe(|| target(&mut Random::new(seed)));
        // What went wrong has been printed by then.
        let passed = std::panic::catch_unwind(run).is_ok();
        assert!(passed, "again by FUZZ_SEED={seed} FUZZ_ITERATIONS=1");
    }
}

fn any_version(codec: &Codec, random: &mut Random) -> i16 {
    let count = u64::from(codec.versions.max.abs_diff(codec.versions.min)) + 1;
    codec.versions.min + random.below(count) as i16
}

fn any_codec(random: &mut Random) -> &'static Codec {
    &CODECS[random.below(CODECS.len() as u64) as usize]
}

fn position(bytes: &[u8], random: &mut Random) -> usize {
    random.below(bytes.len().max(1) as u64) as usize
}

/// Damages `bytes` in one to four ways.
fn mutate(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    for _ in 0..=random.below(4) {
        let at = position(bytes, random);
        match random.below(7) {
            0 => bytes
                .iter_mut()
                .skip(at)
                .take(1)
                .for_each(|byte| *byte ^= 1 << random.below(8)),
            1 => bytes.truncate(at),
            2 => bytes.insert(at, random.next_u64() as u8),
            3 => {
                // Splice: the front of one message, the back of another.
                bytes.truncate(at);
                bytes.extend_from_slice(other.get(position(other, random)..).unwrap_or_default());
            }
            4 => {
                // A length becomes one of the values that lengths go wrong with.
                let value = [
                    0x7fff_ffff,
                    0x8000_0000,
                    0xffff_ffff,
                    0x7fff_0000,
                    0x0100_0000_u32,
                ];
                let value = value[random.below(5) as usize].to_be_bytes();
                let end = (at + 4).min(bytes.len());
                bytes.splice(at.min(end)..end, value);
            }
            5 => {
                // The largest compact length.
                let end = (at + 1).min(bytes.len());
                bytes.splice(at.min(end)..end, [0xff, 0xff, 0xff, 0xff, 0x0f]);
            }
            _ => bytes.iter_mut().skip(at).take(8).for_each(|byte| *byte = 0),
        }
    }
}

fn mutated_sample(codec: &Codec, version: i16, random: &mut Random) -> Vec<u8> {
    let mut bytes = (codec.sample)(random, version).bytes;
    let other = (codec.sample)(random, version).bytes;
    mutate(&mut bytes, &other, random);
    bytes
}

#[test]
fn damaged_messages_never_panic_nor_grow() {
    fuzz(|random| {
        let codec = any_codec(random);
        let version = any_version(codec, random);
        let bytes = mutated_sample(codec, version, random);
        if let Ok(read) = (codec.reencode)(&bytes, version) {
            // The shortest form of what was read: a value beyond its bytes would be made up.
            assert!(
                read.bytes.len() <= bytes.len(),
                "{} version {version}",
                codec.name
            );
            let again = (codec.reencode)(&read.bytes, version);
            assert_eq!(
                again.as_ref(),
                Ok(&read),
                "{} version {version}",
                codec.name
            );
        }
    });
}

#[test]
fn random_bytes_never_panic() {
    fuzz(|random| {
        let codec = any_codec(random);
        let version = any_version(codec, random);
        let length = random.below(256);
        let bytes: Vec<u8> = (0..length).map(|_| random.next_u64() as u8).collect();
        let _ = (codec.reencode)(&bytes, version);
    });
}

#[test]
fn damaged_request_frames_never_panic() {
    fuzz(|random| {
        let key = ApiKey::ALL[random.below(ApiKey::ALL.len() as u64) as usize];
        let codec = |suffix: &str| {
            let name = format!("{key}{suffix}");
            CODECS
                .iter()
                .find(|codec| codec.name == name)
                .expect("every API has messages")
        };
        let version = any_version(codec("Request"), random);

        let mut bytes = header(key, version, random);
        bytes.extend((codec("Request").sample)(random, version).bytes);
        let other = bytes.clone();
        mutate(&mut bytes, &other, random);
        if let Ok(request) = frame::decode_request(&bytes) {
            let name = format!("{}Request", request.api);
            let codec = CODECS
                .iter()
                .find(|codec| codec.name == name)
                .expect("it exists");
            let _ = (codec.reencode)(request.body.remaining(), request.version);
        }

        let mut bytes = vec![0, 0, 0, 1, 0];
        bytes.extend((codec("Response").sample)(random, version).bytes);
        let other = bytes.clone();
        mutate(&mut bytes, &other, random);
        if let Ok((_, body)) = frame::decode_response(&bytes, key, version) {
            let _ = (codec("Response").reencode)(body.remaining(), version);
        }
    });
}

/// The header that stands before a request of that version.
fn header(key: ApiKey, version: i16, random: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(key.number().to_be_bytes());
    bytes.extend(version.to_be_bytes());
    bytes.extend((random.next_u64() as i32).to_be_bytes());
    bytes.extend([0, 2, b'i', b'd']);
    if key.request_header_version(version) == 2 {
        bytes.push(0);
    }
    bytes
}
