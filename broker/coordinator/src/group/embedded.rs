//! What consumers of the classic protocol tell each other through the coordinator: subscriptions
//! and assignments, each behind an int16 version.

use bytes::Bytes;
use esker_protocol::messages::{ConsumerProtocolAssignment, ConsumerProtocolSubscription};
use esker_protocol::primitive::{
    Decode, DecodeError, Encode, EncodeError, Message, Reader, VersionRange, Writer,
};

/// Reads a subscription and its version.
pub(crate) fn subscription(
    bytes: &[u8],
) -> Result<(i16, ConsumerProtocolSubscription<'_>), DecodeError> {
    decode(bytes, <ConsumerProtocolSubscription<'_>>::VERSIONS)
}

/// Reads an assignment.
pub(crate) fn assignment(bytes: &[u8]) -> Result<ConsumerProtocolAssignment<'_>, DecodeError> {
    Ok(decode(bytes, <ConsumerProtocolAssignment<'_>>::VERSIONS)?.1)
}

/// Writes an assignment for a member whose subscription had that version.
pub(crate) fn encode_assignment(
    assignment: &ConsumerProtocolAssignment<'_>,
    version: i16,
) -> Result<Bytes, EncodeError> {
    let version = version.clamp(0, <ConsumerProtocolAssignment<'_>>::VERSIONS.max);
    let mut writer = Writer::new();
    writer.int16(version);
    assignment.encode(&mut writer, version)?;
    Ok(writer.into_bytes())
}

// Newer versions begin like the newest that is known.
fn decode<'a, T: Decode<'a>>(
    bytes: &'a [u8],
    versions: VersionRange,
) -> Result<(i16, T), DecodeError> {
    let mut reader = Reader::new(bytes);
    let version = reader.int16()?;
    let value = T::decode(&mut reader, version.min(versions.max))?;
    Ok((version.min(versions.max), value))
}
