//! Records of `__consumer_offsets` in Kafka's formats.
//!
//! ```text
//! key    int16 type    | fields of the type's key schema, version 0
//! value  int16 version | fields of the value schema; no value is a tombstone
//! ```
//! Source: the `coordinator-key` and `coordinator-value` descriptors of Apache Kafka 4.3.0.

#[cfg(test)]
use bytes::Bytes;
use esker_protocol::messages::{
    ConsumerGroupCurrentMemberAssignmentKey, ConsumerGroupCurrentMemberAssignmentValue,
    ConsumerGroupMemberMetadataKey, ConsumerGroupMemberMetadataValue, ConsumerGroupMetadataKey,
    ConsumerGroupMetadataValue, ConsumerGroupPartitionMetadataKey,
    ConsumerGroupPartitionMetadataValue, ConsumerGroupRegularExpressionKey,
    ConsumerGroupRegularExpressionValue, ConsumerGroupTargetAssignmentMemberKey,
    ConsumerGroupTargetAssignmentMemberValue, ConsumerGroupTargetAssignmentMetadataKey,
    ConsumerGroupTargetAssignmentMetadataValue, GroupMetadataKey, GroupMetadataValue,
    LegacyOffsetCommitKey, LegacyOffsetCommitValue, OffsetCommitKey, OffsetCommitValue,
};
use esker_protocol::primitive::{
    CoordinatorRecord, Decode, DecodeError, EncodeError, Message, Reader, Writer,
};

/// A record that cannot be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The bytes are no record of their type.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The values do not fit the format: a string is too long.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// Most records fit; larger ones grow the buffer.
const BYTES_EXPECTED: usize = 256;

macro_rules! records {
    ($($(#[$doc:meta])* $name:ident($key:ident, $value:ty, $written:literal)),+ $(,)?) => {
        /// What a record is about.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Key<'a> {
            $($(#[$doc])* $name($key<'a>),)+
        }

        /// What a record says of its key.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Value<'a> {
            $($(#[$doc])* $name($value),)+
        }

        impl<'a> Key<'a> {
            /// Reads a key; `None` for a type that this version does not know, which is skipped.
            ///
            /// # Errors
            /// The bytes are no key of their type.
            pub fn decode(bytes: &'a [u8]) -> Result<Option<Key<'a>>, RecordError> {
                let mut reader = Reader::new(bytes);
                let record_type = reader.int16()?;
                Ok(match record_type {
                    $(<$key<'static>>::RECORD_TYPE => {
                        Some(Key::$name(<$key<'a>>::decode(&mut reader, 0)?))
                    })+
                    _ => None,
                })
            }

            fn encode(&self, writer: &mut Writer) -> Result<(), RecordError> {
                match self {
                    $(Key::$name(key) => {
                        writer.int16(<$key<'static>>::RECORD_TYPE);
                        esker_protocol::primitive::Encode::encode(key, writer, 0)?;
                    })+
                }
                Ok(())
            }

            /// Reads the value of a record with this key. A version above the known ones is read as
            /// the newest known.
            ///
            /// # Errors
            /// The bytes are no value of the key's type.
            pub fn decode_value(&self, bytes: &'a [u8]) -> Result<Value<'a>, RecordError> {
                let mut reader = Reader::new(bytes);
                let version = reader.int16()?;
                Ok(match self {
                    $(Key::$name(_) => Value::$name(Decode::decode(
                        &mut reader,
                        version.min(<$value as Message>::VERSIONS.max),
                    )?),)+
                })
            }
        }

        impl Value<'_> {
            fn encode(&self, writer: &mut Writer) -> Result<(), RecordError> {
                match self {
                    $(Value::$name(value) => {
                        let version = self.version($written);
                        writer.int16(version);
                        esker_protocol::primitive::Encode::encode(value, writer, version)?;
                    })+
                }
                Ok(())
            }

            fn version(&self, written: i16) -> i16 {
                match self {
                    // Only this version can say when an offset expires.
                    Value::OffsetCommit(value) if value.expire_timestamp != -1 => 1,
                    _ => written,
                }
            }
        }
    };
}

// The last number is the version in which a value is written: what Apache Kafka 4.3.0 writes.
records! {
    /// An offset of the oldest format; only read.
    LegacyOffsetCommit(LegacyOffsetCommitKey, LegacyOffsetCommitValue<'a>, 0),
    /// A committed offset.
    OffsetCommit(OffsetCommitKey, OffsetCommitValue<'a>, 4),
    /// A classic group with its members.
    GroupMetadata(GroupMetadataKey, GroupMetadataValue<'a>, 3),
    /// The epoch of a consumer group.
    ConsumerGroupMetadata(ConsumerGroupMetadataKey, ConsumerGroupMetadataValue, 0),
    /// Topics as a consumer group saw them, before 4.1; only tombstones are written.
    ConsumerGroupPartitionMetadata(
        ConsumerGroupPartitionMetadataKey,
        ConsumerGroupPartitionMetadataValue<'a>,
        0
    ),
    /// A member of a consumer group.
    ConsumerGroupMember(ConsumerGroupMemberMetadataKey, ConsumerGroupMemberMetadataValue<'a>, 0),
    /// The epoch of a consumer group's target assignment.
    ConsumerGroupTarget(
        ConsumerGroupTargetAssignmentMetadataKey,
        ConsumerGroupTargetAssignmentMetadataValue,
        0
    ),
    /// What a member is to own.
    ConsumerGroupTargetMember(
        ConsumerGroupTargetAssignmentMemberKey,
        ConsumerGroupTargetAssignmentMemberValue,
        0
    ),
    /// What a member owns.
    ConsumerGroupCurrentMember(
        ConsumerGroupCurrentMemberAssignmentKey,
        ConsumerGroupCurrentMemberAssignmentValue,
        0
    ),
    /// The topics that a regular expression matched.
    ConsumerGroupRegex(
        ConsumerGroupRegularExpressionKey,
        ConsumerGroupRegularExpressionValue<'a>,
        0
    ),
}

/// A record of a coordinator's log.
#[derive(Debug, Clone, PartialEq)]
pub struct Record<'a> {
    /// What it is about.
    pub key: Key<'a>,
    /// What it says; `None` is a tombstone.
    pub value: Option<Value<'a>>,
}

impl<'a> Record<'a> {
    /// Reads a record; `None` for a type that this version does not know.
    ///
    /// # Errors
    /// The bytes are no record of their type.
    pub fn decode(
        key: &'a [u8],
        value: Option<&'a [u8]>,
    ) -> Result<Option<Record<'a>>, RecordError> {
        let Some(key) = Key::decode(key)? else {
            return Ok(None);
        };
        let value = value.map(|value| key.decode_value(value)).transpose()?;
        Ok(Some(Record { key, value }))
    }

    /// The bytes of key and value, in the memory of a writer, whatever that holds: one serves for many
    /// records.
    ///
    /// # Errors
    /// A string is longer than the format can say.
    pub fn encode_with<'w>(
        &self,
        writer: &'w mut Writer,
    ) -> Result<(&'w [u8], Option<&'w [u8]>), RecordError> {
        writer.clear();
        self.key.encode(writer)?;
        let key_bytes = writer.len();
        if let Some(value) = &self.value {
            value.encode(writer)?;
        }
        let bytes = writer.buffered();
        debug_assert_eq!(bytes.len(), writer.len(), "a blob is a chunk of its own");
        let key = bytes.get(..key_bytes).unwrap_or_default();
        let value = bytes.get(key_bytes..).unwrap_or_default();
        Ok((key, self.value.as_ref().map(|_| value)))
    }

    /// The bytes of key and value, each in memory of its own.
    ///
    /// # Errors
    /// A string is longer than the format can say.
    #[cfg(test)]
    pub(crate) fn encode(&self) -> Result<(Bytes, Option<Bytes>), RecordError> {
        let mut writer = Writer::with_capacity(BYTES_EXPECTED);
        let (key, value) = self.encode_with(&mut writer)?;
        let value = value.map(Bytes::copy_from_slice);
        Ok((Bytes::copy_from_slice(key), value))
    }

    /// What key and value take together, in bytes.
    ///
    /// # Errors
    /// A string is longer than the format can say.
    pub(crate) fn encoded_bytes(&self) -> Result<usize, RecordError> {
        let mut writer = Writer::with_capacity(BYTES_EXPECTED);
        self.encode_with(&mut writer)?;
        Ok(writer.len())
    }
}
