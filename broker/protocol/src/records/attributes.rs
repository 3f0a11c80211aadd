//! The attributes word of a batch.
//!
//! ```text
//! bit  15..7    6               5        4              3               2..0
//!      unused   delete horizon  control  transactional  timestamp type  codec
//! ```

use super::compression::Compression;

/// Who set the timestamps of a batch, and of a topic.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TimestampType {
    /// The producer: every record has its own.
    #[default]
    CreateTime,
    /// The leader: every record has the batch's maximum, which is the leader's clock.
    LogAppendTime,
}

/// The codec bits name no codec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("compression codec {0} does not exist")]
pub struct UnknownCompression(pub i16);

/// The attributes of a batch.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attributes(pub i16);

const CODEC_MASK: i16 = 0b111;
const LOG_APPEND_TIME: i16 = 1 << 3;
const TRANSACTIONAL: i16 = 1 << 4;
const CONTROL: i16 = 1 << 5;
const DELETE_HORIZON: i16 = 1 << 6;
const KNOWN_BITS: i16 = 0b111_1111;

impl Attributes {
    /// The codec of the records.
    pub fn compression(self) -> Result<Compression, UnknownCompression> {
        let codec = self.0 & CODEC_MASK;
        Compression::from_codec(codec).ok_or(UnknownCompression(codec))
    }

    /// Who set the timestamps.
    #[must_use]
    pub fn timestamp_type(self) -> TimestampType {
        if self.has(LOG_APPEND_TIME) {
            TimestampType::LogAppendTime
        } else {
            TimestampType::CreateTime
        }
    }

    /// Whether the records belong to a transaction.
    #[must_use]
    pub fn is_transactional(self) -> bool {
        self.has(TRANSACTIONAL)
    }

    /// Whether the batch holds a control record.
    #[must_use]
    pub fn is_control(self) -> bool {
        self.has(CONTROL)
    }

    /// Whether the base timestamp is the time after which compaction may drop tombstones.
    #[must_use]
    pub fn has_delete_horizon(self) -> bool {
        self.has(DELETE_HORIZON)
    }

    /// The same with another codec.
    #[must_use]
    pub fn with_compression(self, compression: Compression) -> Attributes {
        Attributes((self.0 & !CODEC_MASK) | compression.codec())
    }

    /// The same with another timestamp type.
    #[must_use]
    pub fn with_timestamp_type(self, timestamp_type: TimestampType) -> Attributes {
        self.with(
            LOG_APPEND_TIME,
            timestamp_type == TimestampType::LogAppendTime,
        )
    }

    /// The same, transactional or not.
    #[must_use]
    pub fn with_transactional(self, transactional: bool) -> Attributes {
        self.with(TRANSACTIONAL, transactional)
    }

    /// The same, control or not.
    #[must_use]
    pub fn with_control(self, control: bool) -> Attributes {
        self.with(CONTROL, control)
    }

    /// The same, with or without a delete horizon.
    #[must_use]
    pub fn with_delete_horizon(self, delete_horizon: bool) -> Attributes {
        self.with(DELETE_HORIZON, delete_horizon)
    }

    /// The same without the bits that have no meaning, as whoever rewrites the word must leave it.
    #[must_use]
    pub fn known(self) -> Attributes {
        Attributes(self.0 & KNOWN_BITS)
    }

    fn has(self, bit: i16) -> bool {
        self.0 & bit != 0
    }

    fn with(self, bit: i16, set: bool) -> Attributes {
        Attributes(if set { self.0 | bit } else { self.0 & !bit })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_kafkas() {
        let attributes = Attributes::default()
            .with_compression(Compression::Zstd)
            .with_timestamp_type(TimestampType::LogAppendTime)
            .with_transactional(true)
            .with_control(true)
            .with_delete_horizon(true);
        assert_eq!(attributes, Attributes(0b111_1100));
        assert_eq!(attributes.compression(), Ok(Compression::Zstd));
        assert_eq!(attributes.with_control(false), Attributes(0b101_1100));
        assert_eq!(
            attributes
                .with_timestamp_type(TimestampType::CreateTime)
                .timestamp_type(),
            TimestampType::CreateTime
        );
    }

    #[test]
    fn codecs_five_to_seven_do_not_exist() {
        for codec in 5..8 {
            assert_eq!(
                Attributes(codec).compression(),
                Err(UnknownCompression(codec))
            );
        }
    }
}
