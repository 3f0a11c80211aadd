//! What consumers of the classic protocol tell each other through a coordinator: subscriptions and
//! assignments, each behind an int16 version. Newer versions begin like the newest that is known.
//!
//! Source: Kafka's `ConsumerProtocolSubscription` and `ConsumerProtocolAssignment`.

use bytes::Bytes;

use crate::messages::{ConsumerProtocolAssignment, ConsumerProtocolSubscription};
use crate::primitive::{
    Decode, DecodeError, Encode, EncodeError, Message, Reader, VersionRange, Writer,
};

/// Reads a subscription and its version.
///
/// # Errors
/// The bytes are none.
pub fn subscription(bytes: &[u8]) -> Result<(i16, ConsumerProtocolSubscription<'_>), DecodeError> {
    decode(bytes, <ConsumerProtocolSubscription<'_>>::VERSIONS)
}

/// Reads an assignment.
///
/// # Errors
/// The bytes are none.
pub fn assignment(bytes: &[u8]) -> Result<ConsumerProtocolAssignment<'_>, DecodeError> {
    Ok(decode(bytes, <ConsumerProtocolAssignment<'_>>::VERSIONS)?.1)
}

/// Writes a subscription of this version.
///
/// # Errors
/// There is no such version, or a string is longer than the format can say.
pub fn encode_subscription(
    subscription: &ConsumerProtocolSubscription<'_>,
    version: i16,
) -> Result<Bytes, EncodeError> {
    encode(subscription, version)
}

/// Writes an assignment for a member whose subscription had that version.
///
/// # Errors
/// A string is longer than the format can say.
pub fn encode_assignment(
    assignment: &ConsumerProtocolAssignment<'_>,
    version: i16,
) -> Result<Bytes, EncodeError> {
    let known = <ConsumerProtocolAssignment<'_>>::VERSIONS;
    encode(assignment, version.clamp(0, known.max))
}

fn encode(message: &impl Encode, version: i16) -> Result<Bytes, EncodeError> {
    let mut writer = Writer::new();
    writer.int16(version);
    message.encode(&mut writer, version)?;
    Ok(writer.into_bytes())
}

fn decode<'a, T: Decode<'a>>(
    bytes: &'a [u8],
    versions: VersionRange,
) -> Result<(i16, T), DecodeError> {
    let mut reader = Reader::new(bytes);
    let version = reader.int16()?;
    let value = T::decode(&mut reader, version.min(versions.max))?;
    Ok((version.min(versions.max), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_versions_begin_like_the_newest_and_older_ones_are_none() {
        let sent = ConsumerProtocolAssignment {
            user_data: Some(b"data".into()),
            ..ConsumerProtocolAssignment::default()
        };
        let encoded = encode_assignment(&sent, i16::MAX).unwrap();
        assert_eq!(encoded.first_chunk(), Some(&[0, 3]));
        let with_version = |version: i16| [&version.to_be_bytes(), &encoded[2..]].concat();
        for version in [0, 3, 4, i16::MAX] {
            assert_eq!(assignment(&with_version(version)).unwrap(), sent);
        }
        assert!(assignment(&with_version(-1)).is_err());
        assert!(assignment(&encoded[..1]).is_err());
        let sent = ConsumerProtocolSubscription::default();
        let encoded = encode_subscription(&sent, 2).unwrap();
        assert_eq!(subscription(&encoded).unwrap(), (2, sent));
        assert!(encode_subscription(&ConsumerProtocolSubscription::default(), 4).is_err());
    }
}
