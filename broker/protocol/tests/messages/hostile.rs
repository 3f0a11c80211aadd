use esker_protocol::messages::{MetadataRequest, ProduceRequest};
use esker_protocol::primitive::{ALLOCATION_PER_BYTE_MAX, Decode, DecodeError, Reader};
use esker_protocol::sample::Random;

use crate::codecs::every_version;

/// Longer samples are cut in random places rather than everywhere.
const CUTS_MAX: usize = 200;

#[test]
fn a_message_cut_anywhere_is_refused() {
    for (codec, version) in every_version() {
        let mut random = Random::new(u64::from(version.unsigned_abs()));
        for _ in 0..3 {
            let bytes = (codec.sample)(&mut random, version).bytes;
            for cut in 0..bytes.len().min(CUTS_MAX) {
                let end = match bytes.len() {
                    length if length <= CUTS_MAX => cut,
                    length => random.below(length as u64) as usize,
                };
                let result = (codec.reencode)(&bytes[..end], version);
                assert!(
                    result.is_err(),
                    "{} version {version} cut at {end}",
                    codec.name
                );
            }
        }
    }
}

#[test]
fn a_byte_too_many_is_noticed() {
    for (codec, version) in every_version() {
        let mut bytes = (codec.sample)(&mut Random::new(1), version).bytes;
        bytes.push(0);
        let result = (codec.reencode)(&bytes, version);
        assert_eq!(
            result,
            Err(DecodeError::TrailingBytes(1)),
            "{} {version}",
            codec.name
        );
    }
}

#[test]
fn versions_outside_the_range_are_refused() {
    for (codec, _) in every_version() {
        for version in [
            codec.versions.min - 1,
            codec.versions.max + 1,
            i16::MIN,
            i16::MAX,
        ] {
            let result = (codec.reencode)(&[0; 64], version);
            let refused = matches!(result, Err(DecodeError::UnsupportedVersion { .. }));
            assert!(refused, "{} version {version}", codec.name);
        }
    }
}

#[test]
fn a_count_beyond_the_bytes_is_refused_before_memory_is_asked_for() {
    // A null transactional id, acks, a timeout, and a count of topics that 4 GiB could not hold.
    let mut bytes = vec![
        0xff, 0xff, 0xff, 0xff, 0, 0, 0x75, 0x30, 0x7f, 0xff, 0xff, 0xff,
    ];
    bytes.extend([0; 100]);
    let result = ProduceRequest::decode(&mut Reader::new(&bytes), 3);
    let count = i32::MAX as usize;
    assert_eq!(
        result,
        Err(DecodeError::CountTooLarge {
            count,
            remaining: 100
        })
    );
}

#[test]
fn memory_is_bounded_by_the_bytes_even_if_every_element_is_there() {
    // Empty names: two bytes each on the wire, twenty times that in memory.
    let count: u32 = 1_000_000;
    let mut bytes = count.to_be_bytes().to_vec();
    bytes.resize(4 + 2 * count as usize, 0);
    let result = MetadataRequest::decode(&mut Reader::new(&bytes), 0);
    assert!(
        matches!(result, Err(DecodeError::AllocationTooLarge { .. })),
        "{result:?}"
    );

    // As many names of a usual length are no trouble, and the vector is exactly as large.
    let name = [&[0, 7][..], &[b'a'; 7]].concat();
    let mut bytes = 1000_u32.to_be_bytes().to_vec();
    bytes.extend(name.repeat(1000));
    let request = MetadataRequest::decode(&mut Reader::new(&bytes), 0).expect("1000 topics");
    let topics = request.topics.expect("not null");
    assert_eq!((topics.len(), topics.capacity()), (1000, 1000));
    assert!(topics.capacity() * size_of_val(&topics[0]) < bytes.len() * ALLOCATION_PER_BYTE_MAX);
}

#[test]
fn null_where_a_version_allows_none_is_refused() {
    let null = (-1_i32).to_be_bytes();
    let result = MetadataRequest::decode(&mut Reader::new(&null), 0);
    assert_eq!(result, Err(DecodeError::UnexpectedNull));
    let request = MetadataRequest::decode(&mut Reader::new(&null), 1).expect("null from 1 on");
    assert_eq!(request.topics, None);
}
