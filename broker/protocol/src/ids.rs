//! Identifiers and positions: newtypes wherever two integers could be swapped.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};
use std::str::FromStr;

/// A Kafka offset: the position of a record in its partition's log. Ends are exclusive.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(pub i64);

impl Offset {
    /// The first offset of every log.
    pub const ZERO: Offset = Offset(0);

    /// The largest offset that exists.
    pub const MAX: Offset = Offset(i64::MAX);
}

impl Add<i64> for Offset {
    type Output = Offset;
    fn add(self, count: i64) -> Offset {
        Offset(self.0 + count)
    }
}

impl AddAssign<i64> for Offset {
    fn add_assign(&mut self, count: i64) {
        self.0 += count;
    }
}

impl Sub<Offset> for Offset {
    type Output = i64;
    fn sub(self, other: Offset) -> i64 {
        self.0 - other.0
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The epoch of a partition's leadership; -1 on the wire means none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaderEpoch(pub i32);

impl LeaderEpoch {
    /// No epoch: the log has never had a leader, or the client gave none.
    pub const NONE: LeaderEpoch = LeaderEpoch(-1);

    /// The epoch that follows.
    #[must_use]
    pub fn next(self) -> LeaderEpoch {
        LeaderEpoch(self.0 + 1)
    }
}

impl fmt::Display for LeaderEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The id of a broker, `node.id`: 0 or more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BrokerId(pub i32);

impl fmt::Display for BrokerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The id of an idempotent or transactional producer; -1 on the wire means none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProducerId(pub i64);

impl ProducerId {
    /// No producer id: the batch is not idempotent.
    pub const NONE: ProducerId = ProducerId(-1);
}

impl fmt::Display for ProducerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The epoch of a producer id; -1 means none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProducerEpoch(pub i16);

impl ProducerEpoch {
    /// No producer epoch.
    pub const NONE: ProducerEpoch = ProducerEpoch(-1);
}

impl fmt::Display for ProducerEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Milliseconds since the Unix epoch; -1 means none (Kafka's `NO_TIMESTAMP`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// No timestamp.
    pub const NONE: Timestamp = Timestamp(-1);
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The 128-bit identity of a topic (KIP-516), or of a cluster or a log directory.
///
/// Its text form is Kafka's: 22 characters of unpadded base64url.
#[derive(Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId(pub [u8; 16]);

const BASE64_URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

impl TopicId {
    /// The id that names no topic.
    pub const ZERO: TopicId = TopicId([0; 16]);

    /// Makes an id from random bytes, or `None` for the few values that Kafka never hands out:
    /// zero, one (its metadata topic), and those whose text begins with `-`.
    #[must_use]
    pub fn from_random(bytes: [u8; 16]) -> Option<TopicId> {
        let mut bytes = bytes;
        // RFC 4122 version 4, variant 1, as java.util.UUID.randomUUID makes them.
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        let id = TopicId(bytes);
        (!id.to_string().starts_with('-')).then_some(id)
    }

    /// Lower-case hexadecimal, as object names and metadata keys write it.
    #[must_use]
    pub fn to_hex(self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Reads what [`TopicId::to_hex`] wrote.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<TopicId> {
        if text.len() != 32 || !text.is_ascii() {
            return None;
        }
        let mut bytes = [0; 16];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(text.get(index * 2..index * 2 + 2)?, 16).ok()?;
        }
        Some(TopicId(bytes))
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = u128::from_be_bytes(self.0);
        // 128 bits are 21 full characters and one of two bits, which stand at the top of the last.
        for index in 0..21 {
            let sextet = (value >> (122 - 6 * index)) & 0x3f;
            write!(f, "{}", char::from(BASE64_URL[sextet as usize]))?;
        }
        write!(
            f,
            "{}",
            char::from(BASE64_URL[((value & 0x3) << 4) as usize])
        )
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TopicId({self})")
    }
}

/// The text is not 22 characters of base64url.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a 22-character base64url id")]
pub struct ParseIdError(String);

impl FromStr for TopicId {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<TopicId, ParseIdError> {
        let error = || ParseIdError(text.chars().take(64).collect());
        if text.len() != 22 {
            return Err(error());
        }
        let mut value: u128 = 0;
        for (index, byte) in text.bytes().enumerate() {
            let sextet = BASE64_URL
                .iter()
                .position(|&c| c == byte)
                .ok_or_else(error)? as u128;
            if index < 21 {
                value = (value << 6) | sextet;
            } else if sextet & 0x0f == 0 {
                value = (value << 2) | (sextet >> 4);
            } else {
                return Err(error());
            }
        }
        Ok(TopicId(value.to_be_bytes()))
    }
}

/// Hash collections with a fixed hasher, so that one run is like the next.
#[expect(
    clippy::disallowed_types,
    reason = "the hasher given here has fixed keys"
)]
pub mod hash {
    use std::collections::{HashMap, HashSet};
    use std::hash::{BuildHasherDefault, DefaultHasher};

    /// See [`crate::FixedHashMap`].
    pub type Map<K, V> = HashMap<K, V, BuildHasherDefault<DefaultHasher>>;
    /// See [`crate::FixedHashSet`].
    pub type Set<K> = HashSet<K, BuildHasherDefault<DefaultHasher>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_id_text_is_kafkas_base64url_and_reads_back() {
        let id = TopicId([0xff; 16]);
        assert_eq!(id.to_string(), "_____________________w");
        assert_eq!(id.to_string().parse::<TopicId>(), Ok(id));
        let id = TopicId([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
        assert_eq!(id.to_string(), "AAECAwQFBgcICQoLDA0ODw");
        assert_eq!(id.to_string().parse::<TopicId>(), Ok(id));
        assert_eq!(TopicId::from_hex(&id.to_hex()), Some(id));
    }

    #[test]
    fn bad_topic_id_text_is_refused() {
        for text in [
            "",
            "AAECAwQFBgcICQoLDA0OD",
            "AAECAwQFBgcICQoLDA0OD!",
            "AAECAwQFBgcICQoLDA0ODx",
        ] {
            assert!(text.parse::<TopicId>().is_err(), "{text}");
        }
    }
}
