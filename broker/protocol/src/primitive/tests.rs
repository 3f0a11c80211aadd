use bytes::Bytes;

use super::*;
use crate::messages::{
    ConsumerGroupHeartbeatResponse, ConsumerGroupMemberMetadataValue, FetchRequest,
    MetadataRequest, OffsetCommitValue,
    consumer_group_heartbeat_response::Assignment,
    consumer_group_member_metadata_value::ClassicMemberMetadata,
    fetch_request::{FetchPartition, FetchTopic},
};

fn written(write: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer::new();
    write(&mut writer);
    writer.into_bytes().to_vec()
}

fn encoded(message: &impl Encode, version: i16) -> Result<Vec<u8>, EncodeError> {
    let mut writer = Writer::new();
    message.encode(&mut writer, version)?;
    assert_eq!(writer.len(), writer.finish().iter().map(Bytes::len).sum());
    let mut writer = Writer::new();
    message.encode(&mut writer, version)?;
    Ok(writer.into_bytes().to_vec())
}

#[test]
fn unsigned_varints_have_seven_bits_a_byte() {
    let check = |value: u32, bytes: &[u8]| {
        assert_eq!(written(|writer| writer.unsigned_varint(value)), bytes);
        assert_eq!(Reader::new(bytes).unsigned_varint(), Ok(value));
    };
    check(0, &[0]);
    check(127, &[0x7f]);
    check(128, &[0x80, 1]);
    check(300, &[0xac, 2]);
    check(u32::MAX, &[0xff, 0xff, 0xff, 0xff, 0x0f]);
}

#[test]
fn varints_beyond_32_bits_are_refused() {
    for bytes in [
        [0xff, 0xff, 0xff, 0xff, 0x1f],
        [0x80, 0x80, 0x80, 0x80, 0x80],
    ] {
        assert_eq!(
            Reader::new(&bytes).unsigned_varint(),
            Err(DecodeError::VarintTooLong)
        );
    }
    let cut = Reader::new(&[0x80]).unsigned_varint();
    assert_eq!(
        cut,
        Err(DecodeError::UnexpectedEnd {
            wanted: 1,
            remaining: 0
        })
    );
}

#[test]
fn strings_are_checked_for_length_and_utf8() {
    let check = |bytes: &[u8], flexible, expected| {
        let result = Reader::new(bytes).nullable_string(flexible);
        assert_eq!(
            result.map(|text| text.map(|text| text.into_owned())),
            expected
        );
    };
    check(&[0, 3, 0xc3, 0xa9, b'x'], false, Ok(Some("éx".to_owned())));
    check(&[4, 0xc3, 0xa9, b'x'], true, Ok(Some("éx".to_owned())));
    check(&[0xff, 0xff], false, Ok(None));
    check(&[0], true, Ok(None));
    check(&[1], true, Ok(Some(String::new())));
    check(&[0, 2, 0xc3, 0x28], false, Err(DecodeError::InvalidUtf8));
    check(&[0xff, 0xfe], false, Err(DecodeError::InvalidLength(-2)));
    check(
        &[0, 2, b'a'],
        false,
        Err(DecodeError::UnexpectedEnd {
            wanted: 2,
            remaining: 1,
        }),
    );
    // 32768 bytes, which only the compact form could say.
    check(
        &[0x81, 0x80, 2],
        true,
        Err(DecodeError::InvalidLength(32768)),
    );
    assert_eq!(
        Reader::new(&[0xff, 0xff]).string(false),
        Err(DecodeError::UnexpectedNull)
    );

    let long = "x".repeat(STRING_BYTES_MAX + 1);
    let refused = EncodeError::TooLong {
        length: 32768,
        max: 32767,
    };
    assert_eq!(Writer::new().string(&long, true), Err(refused.clone()));
    assert_eq!(Writer::new().string(&long, false), Err(refused));
}

#[test]
fn counts_and_lengths_are_held_against_what_remains() {
    let huge = 0x7fff_ffff_u32.to_be_bytes();
    let count = 0x7fff_ffff;
    let refused = Err(DecodeError::CountTooLarge {
        count,
        remaining: 0,
    });
    assert_eq!(Reader::new(&huge).array::<i8>(0, false), refused);
    assert_eq!(
        Reader::new(&huge).bytes(false),
        Err(DecodeError::UnexpectedEnd {
            wanted: count,
            remaining: 0
        })
    );
    // 8 bytes hold two int32, not three.
    let mut three = vec![0, 0, 0, 3];
    three.extend([0; 8]);
    let refused = Err(DecodeError::CountTooLarge {
        count: 3,
        remaining: 8,
    });
    assert_eq!(Reader::new(&three).array::<i32>(0, false), refused);
    let refused = Err(DecodeError::CountTooLarge {
        count: 4,
        remaining: 2,
    });
    assert_eq!(Reader::new(&[5, 1, 1]).strings(true), refused);
}

#[test]
fn arrays_share_one_allowance_of_memory() {
    // Empty compact strings: one byte each on the wire and 24 in memory. One such array with as
    // many bytes behind it stays within 16 times the whole; two of them do not.
    let count = 100_000;
    let mut array = written(|writer| writer.unsigned_varint(count + 1));
    array.resize(array.len() + count as usize, 1);
    let bytes = array.repeat(2);
    let mut reader = Reader::new(&bytes);
    assert_eq!(
        reader.strings(true).map(|strings| strings.len()),
        Ok(count as usize)
    );
    let refused = reader.strings(true);
    assert!(
        matches!(refused, Err(DecodeError::AllocationTooLarge { .. })),
        "{refused:?}"
    );
}

#[test]
fn tags_ascend_unknown_ones_are_skipped_and_known_ones_end_where_they_say() {
    let read = |bytes: &[u8]| {
        let mut found = None;
        let mut reader = Reader::new(bytes);
        let result = reader.tagged_fields(|tag, reader| {
            if tag != 1 {
                return Ok(false);
            }
            found = Some(reader.int16()?);
            Ok(true)
        });
        result.map(|()| (found, reader.remaining().len()))
    };
    assert_eq!(read(&[0]), Ok((None, 0)));
    assert_eq!(
        read(&[3, 0, 2, 9, 9, 1, 2, 0, 5, 7, 0, 0xee]),
        Ok((Some(5), 1))
    );
    assert_eq!(
        read(&[2, 1, 2, 0, 5, 1, 0]),
        Err(DecodeError::TagOrder {
            previous: 1,
            tag: 1
        })
    );
    assert_eq!(
        read(&[2, 2, 0, 0, 0]),
        Err(DecodeError::TagOrder {
            previous: 2,
            tag: 0
        })
    );
    assert_eq!(
        read(&[1, 1, 3, 0, 5, 9]),
        Err(DecodeError::TaggedFieldSize { tag: 1, excess: 1 })
    );
    let cut = DecodeError::UnexpectedEnd {
        wanted: 2,
        remaining: 1,
    };
    assert_eq!(
        read(&[1, 1, 1, 0, 5]),
        Err(cut),
        "a field does not reach beyond its size"
    );
    assert!(
        read(&[0xff, 0xff, 0xff, 0xff, 0x0f]).is_err(),
        "as many tags as an int can say"
    );
}

#[test]
fn a_version_refuses_what_it_cannot_carry_and_drops_what_may_be_ignored() {
    let partition = FetchPartition {
        last_fetched_epoch: 3,
        ..Default::default()
    };
    let topic = FetchTopic {
        partitions: vec![partition],
        ..Default::default()
    };
    let request = FetchRequest {
        topics: vec![topic],
        ..Default::default()
    };
    assert!(encoded(&request, 12).is_ok());
    assert_eq!(
        encoded(&request, 11),
        Err(EncodeError::FieldNotInVersion {
            field: "FetchPartition.LastFetchedEpoch",
            version: 11
        })
    );
    // The rack is ignorable: older brokers lose nothing by not knowing it.
    let request = FetchRequest {
        rack_id: "r".into(),
        ..Default::default()
    };
    assert!(encoded(&request, 4).is_ok());

    let request = MetadataRequest {
        topics: None,
        ..Default::default()
    };
    assert_eq!(
        encoded(&request, 0),
        Err(EncodeError::NullNotInVersion {
            field: "MetadataRequest.Topics",
            version: 0
        })
    );
    let versions = VersionRange::new(0, 13);
    assert_eq!(
        encoded(&request, 14),
        Err(EncodeError::UnsupportedVersion {
            message: "MetadataRequest",
            version: 14,
            versions
        })
    );
}

#[test]
fn a_tagged_field_is_written_unless_it_is_at_its_default() {
    let value = OffsetCommitValue {
        offset: 1,
        ..Default::default()
    };
    let plain = encoded(&value, 4).expect("encodes");
    assert_eq!(plain.last(), Some(&0), "no tagged fields");
    let topic_id = crate::TopicId([9; 16]);
    let tagged = encoded(&OffsetCommitValue { topic_id, ..value }, 4).expect("encodes");
    let (start, tags) = tagged.split_at(plain.len() - 1);
    assert_eq!(start, &plain[..plain.len() - 1]);
    assert_eq!(tags, [&[1, 0, 16][..], &[9; 16]].concat());
}

#[test]
fn a_nullable_structure_has_a_byte_before_it() {
    let absent = ConsumerGroupHeartbeatResponse::default();
    let bytes = encoded(&absent, 0).expect("encodes");
    assert_eq!(bytes[bytes.len() - 2..], [0xff, 0]);
    let present = ConsumerGroupHeartbeatResponse {
        assignment: Some(Assignment::default()),
        ..absent
    };
    let bytes = encoded(&present, 0).expect("encodes");
    assert_eq!(
        bytes[bytes.len() - 4..],
        [1, 1, 0, 0],
        "present, no partitions, no tags twice"
    );
}

#[test]
fn a_nullable_tagged_structure_is_null_by_0() {
    // By default it is there with defaults, as in Kafka's own class, and so takes no bytes.
    let value = ConsumerGroupMemberMetadataValue::default();
    assert_eq!(
        value.classic_member_metadata,
        Some(ClassicMemberMetadata::default())
    );
    assert_eq!(encoded(&value, 0).expect("encodes").last(), Some(&0));
    let null = ConsumerGroupMemberMetadataValue {
        classic_member_metadata: None,
        ..value
    };
    let bytes = encoded(&null, 0).expect("encodes");
    assert_eq!(
        bytes[bytes.len() - 4..],
        [1, 0, 1, 0],
        "one field, tag 0, one byte, null"
    );
    let read = ConsumerGroupMemberMetadataValue::decode(&mut Reader::new(&bytes), 0);
    assert_eq!(read, Ok(null));
}

#[test]
fn a_tagged_field_says_its_size_whatever_that_is() {
    // Elsewhere this is a chunk of its own.
    let large = Bytes::from(vec![7; SHARED_CHUNK_BYTES_MIN]);
    let with_size = |tag: u32, field: &[u8]| {
        written(|writer| {
            writer.unsigned_varint(tag);
            writer.unsigned_varint(field.len() as u32);
            writer.put_slice(field);
        })
    };
    for length in [0, 1, 127, 128, 300, 16_383, 16_384, 2_097_152] {
        let text = vec![b'x'; length];
        let bytes = written(|writer| {
            writer.int8(1);
            let field = writer.tagged(3, |writer| {
                writer.put_slice(&text);
                writer.tagged(200, |writer| {
                    writer.records(&Blob::Shared(large.clone()), true)
                })
            });
            field.expect("encodes");
            writer.int8(2);
        });
        let inner = written(|writer| {
            writer.unsigned_varint(large.len() as u32 + 1);
            writer.put_slice(&large);
        });
        let outer = [text.as_slice(), &with_size(200, &inner)].concat();
        let expected = [&[1], with_size(3, &outer).as_slice(), &[2]].concat();
        assert!(bytes == expected, "{length}");
    }
}

#[test]
fn a_writer_that_is_cleared_begins_anew() {
    let mut writer = Writer::new();
    writer.int32(1);
    let large = Blob::Shared(Bytes::from(vec![7; SHARED_CHUNK_BYTES_MIN]));
    writer.records(&large, true).expect("encodes");
    writer.int8(2);
    assert_eq!(writer.buffered(), [2]);
    writer.clear();
    assert!(writer.is_empty());
    writer.int8(3);
    assert_eq!((writer.len(), writer.buffered()), (1, &[3][..]));
    assert_eq!(writer.into_bytes(), Bytes::from_static(&[3]));
}

#[test]
fn blobs_are_equal_by_their_bytes() {
    let chunks = Blob::Chunks(vec![
        Bytes::from_static(b"ab"),
        Bytes::new(),
        Bytes::from_static(b"c"),
    ]);
    assert_eq!(chunks, Blob::Borrowed(b"abc"));
    assert_eq!(Blob::Shared(Bytes::from_static(b"abc")), chunks);
    assert_ne!(chunks, Blob::Borrowed(b"abd"));
    assert_eq!((chunks.len(), chunks.is_empty()), (3, false));
    assert_eq!(chunks.to_bytes(), Bytes::from_static(b"abc"));
    assert!(Blob::Chunks(vec![Bytes::new()]).is_empty());
}
