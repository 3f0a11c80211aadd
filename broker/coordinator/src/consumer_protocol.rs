//! What consumers of the classic protocol tell each other through the coordinator: the subscription
//! in JoinGroup's metadata, the assignment in SyncGroup's.
//!
//! ```text
//! int16 version, then ConsumerProtocolSubscription or ConsumerProtocolAssignment of that version
//! ```
//!
//! The coordinator reads them to know which topics a classic group reads, and to let classic
//! members and those of the new protocol be in one group; only then does it write them.
//!
//! A newer version only ever adds fields at the end. So one that is newer than this code is read as
//! the newest it knows, and bytes that follow are no error.

use std::borrow::Cow;
use std::collections::BTreeSet;

use esker_protocol::messages::{
    consumer_protocol_assignment::{ConsumerProtocolAssignment, TopicPartition},
    consumer_protocol_subscription::ConsumerProtocolSubscription,
};
use esker_protocol::primitive::{
    Decode, DecodeError, Encode, EncodeError, Message, Reader, Writer,
};

/// The protocol type of groups whose metadata and assignments these are.
pub const PROTOCOL_TYPE: &str = "consumer";

/// The version of a subscription or an assignment, at most the newest that is known: what a member
/// that sent it understands in return.
///
/// # Errors
///
/// There are no two bytes, or they are a negative number.
pub fn version(bytes: &[u8]) -> Result<i16, DecodeError> {
    known_version::<ConsumerProtocolSubscription<'_>>(&mut Reader::new(bytes))
}

/// Reads a member's subscription.
///
/// # Errors
///
/// The version is negative, or the bytes are not a subscription of it.
pub fn decode_subscription(bytes: &[u8]) -> Result<ConsumerProtocolSubscription<'_>, DecodeError> {
    decode(bytes)
}

/// Reads the topics of a member's subscription and nothing that follows them but user data: whatever
/// the version, even a subscription of which the rest is broken says what is read.
///
/// # Errors
///
/// The bytes do not begin with a version, topics and user data.
pub fn decode_topics(bytes: &[u8]) -> Result<Vec<Cow<'_, str>>, DecodeError> {
    let mut reader = Reader::new(bytes);
    reader.int16()?;
    Ok(ConsumerProtocolSubscription::decode(&mut reader, 0)?.topics)
}

/// Reads a member's assignment.
///
/// # Errors
///
/// The version is negative, or the bytes are not an assignment of it.
pub fn decode_assignment(bytes: &[u8]) -> Result<ConsumerProtocolAssignment<'_>, DecodeError> {
    decode(bytes)
}

/// Writes the assignment of a member whose subscription had that [`version`], without user data.
///
/// # Errors
///
/// The version does not exist, or a topic's name is longer than names can be.
pub fn encode_assignment<'a>(
    version: i16,
    topics: impl IntoIterator<Item = (&'a str, &'a BTreeSet<i32>)>,
) -> Result<Vec<u8>, EncodeError> {
    let topics = topics
        .into_iter()
        .map(|(topic, partitions)| TopicPartition {
            topic: Cow::Borrowed(topic),
            partitions: partitions.iter().copied().collect(),
        });
    let assignment = ConsumerProtocolAssignment {
        assigned_partitions: topics.collect(),
        user_data: None,
    };
    let mut writer = Writer::new();
    writer.int16(version);
    assignment.encode(&mut writer, version)?;
    Ok(Vec::from(writer.into_bytes()))
}

fn decode<'a, M: Message + Decode<'a>>(bytes: &'a [u8]) -> Result<M, DecodeError> {
    let mut reader = Reader::new(bytes);
    let version = known_version::<M>(&mut reader)?;
    M::decode(&mut reader, version)
}

fn known_version<M: Message>(reader: &mut Reader<'_>) -> Result<i16, DecodeError> {
    let version = reader.int16()?.min(M::VERSIONS.max);
    if M::VERSIONS.contains(version) {
        return Ok(version);
    }
    Err(DecodeError::UnsupportedVersion {
        message: M::NAME,
        version,
        versions: M::VERSIONS,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    // From `ConsumerProtocol` of Kafka 4.3.0: topics clicks and orders, user data 01 02, owned
    // clicks-7, orders-0 and orders-1, generation 5, rack `rack-a`; each version as far as it goes.
    const SUBSCRIPTIONS: [&str; 4] = [
        "0000000000020006636c69636b7300066f7264657273000000020102",
        "0001000000020006636c69636b7300066f7264657273000000020102000000020006636c69636b7300000001\
         0000000700066f7264657273000000020000000000000001",
        "0002000000020006636c69636b7300066f7264657273000000020102000000020006636c69636b7300000001\
         0000000700066f726465727300000002000000000000000100000005",
        "0003000000020006636c69636b7300066f7264657273000000020102000000020006636c69636b7300000001\
         0000000700066f72646572730000000200000000000000010000000500067261636b2d61",
    ];

    /// Without topics, user data, owned partitions, generation and rack, version 3.
    const NO_SUBSCRIPTION: &str = "000300000000ffffffff00000000ffffffffffff";

    /// The assignment of clicks-7, orders-0 and orders-1, but for its version.
    const ASSIGNMENT: &str =
        "000000020006636c69636b73000000010000000700066f7264657273000000020000000000000001ffffffff";

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len())
            .step_by(2)
            .map(|index| u8::from_str_radix(&hex[index..index + 2], 16).expect("hex"))
            .collect()
    }

    #[test]
    fn subscriptions_of_every_version_are_read() {
        for (version, hex) in (0..).zip(SUBSCRIPTIONS) {
            let bytes = bytes(hex);
            assert_eq!(super::version(&bytes), Ok(version));
            let subscription = decode_subscription(&bytes).expect("a subscription");
            assert_eq!(subscription.topics, ["clicks", "orders"]);
            assert_eq!(subscription.user_data.as_deref(), Some(&[1, 2][..]));
            let owned: Vec<_> = subscription
                .owned_partitions
                .iter()
                .map(|owned| (owned.topic.as_ref(), owned.partitions.as_slice()))
                .collect();
            if version >= 1 {
                assert_eq!(owned, [("clicks", &[7][..]), ("orders", &[0, 1][..])]);
            } else {
                assert!(owned.is_empty());
            }
            let generation_id = if version >= 2 { 5 } else { -1 };
            assert_eq!(subscription.generation_id, generation_id);
            let rack_id = (version >= 3).then_some("rack-a");
            assert_eq!(subscription.rack_id.as_deref(), rack_id);
        }
    }

    #[test]
    fn an_empty_subscription_is_read() {
        let bytes = bytes(NO_SUBSCRIPTION);
        let subscription = decode_subscription(&bytes).expect("a subscription");
        assert_eq!(subscription, ConsumerProtocolSubscription::default());
    }

    #[test]
    fn a_newer_version_is_read_as_the_newest_that_is_known() {
        let newest = bytes(SUBSCRIPTIONS[3]);
        let mut newer = newest.clone();
        newer[1] = 9;
        newer.extend(b"a field of the future");
        assert_eq!(version(&newer), Ok(3));
        assert_eq!(decode_subscription(&newer), decode_subscription(&newest));
    }

    #[test]
    fn bytes_after_the_end_are_no_error() {
        let mut bytes = bytes(SUBSCRIPTIONS[0]);
        bytes.push(0x99);
        assert!(decode_subscription(&bytes).is_ok());
    }

    #[test]
    fn a_negative_version_is_an_error_unless_only_topics_are_read() {
        let mut bytes = bytes(SUBSCRIPTIONS[0]);
        bytes[..2].copy_from_slice(&[0xff, 0xff]);
        assert!(version(&bytes).is_err());
        assert!(decode_subscription(&bytes).is_err());
        assert!(decode_assignment(&bytes).is_err());
        assert_eq!(decode_topics(&bytes).expect("topics"), ["clicks", "orders"]);
    }

    #[test]
    fn topics_are_read_where_the_rest_is_broken() {
        let whole = bytes(SUBSCRIPTIONS[3]);
        let cut = &whole[..bytes(SUBSCRIPTIONS[0]).len() + 3];
        assert!(decode_subscription(cut).is_err());
        assert_eq!(decode_topics(cut).expect("topics"), ["clicks", "orders"]);
    }

    #[test]
    fn assignments_are_written_and_read_as_kafka_writes_them() {
        let clicks = BTreeSet::from([7]);
        let orders = BTreeSet::from([0, 1]);
        let topics = BTreeMap::from([("clicks", &clicks), ("orders", &orders)]);
        for version in 0..=3 {
            let written = encode_assignment(version, topics.clone()).expect("an assignment");
            assert_eq!(written, bytes(&format!("{version:04x}{ASSIGNMENT}")));
            let read = decode_assignment(&written).expect("an assignment");
            let read = read.assigned_partitions.iter();
            let read: Vec<_> = read
                .map(|of| (of.topic.as_ref(), of.partitions.clone()))
                .collect();
            assert_eq!(read, [("clicks", vec![7]), ("orders", vec![0, 1])]);
        }
        assert!(encode_assignment(4, topics).is_err());
    }

    #[test]
    fn an_assignment_with_user_data_is_read() {
        let bytes = bytes("0003000000000000000109");
        let assignment = decode_assignment(&bytes).expect("an assignment");
        assert!(assignment.assigned_partitions.is_empty());
        assert_eq!(assignment.user_data.as_deref(), Some(&[9][..]));
    }

    #[test]
    fn what_is_cut_short_is_an_error() {
        for hex in SUBSCRIPTIONS {
            let whole = bytes(hex);
            for end in 0..whole.len() {
                assert!(
                    decode_subscription(&whole[..end]).is_err(),
                    "{end} of {hex}"
                );
            }
        }
    }

    #[test]
    fn a_count_that_the_bytes_cannot_hold_is_an_error() {
        for hex in ["00007fffffff", "000080000000", "00000000000100"] {
            assert!(decode_subscription(&bytes(hex)).is_err(), "{hex}");
            assert!(decode_topics(&bytes(hex)).is_err(), "{hex}");
            assert!(decode_assignment(&bytes(hex)).is_err(), "{hex}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_a_value_or_an_error(bytes: Vec<u8>) {
            let _ = decode_subscription(&bytes);
            let _ = decode_topics(&bytes);
            let _ = decode_assignment(&bytes);
        }

        #[test]
        fn mutated_subscriptions_end_in_a_value_or_an_error(
            which in 0..4_usize, position: prop::sample::Index, byte: u8
        ) {
            let mut bytes = bytes(SUBSCRIPTIONS[which]);
            let position = position.index(bytes.len());
            bytes[position] = byte;
            let _ = decode_subscription(&bytes);
            let _ = decode_topics(&bytes);
            let _ = decode_assignment(&bytes);
        }
    }
}
