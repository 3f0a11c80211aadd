//! The wire's primitive types: how integers, strings, arrays and tagged fields stand in bytes.
//!
//! [`Reader`] and [`Writer`] know types and nothing about messages; the generated `messages` know
//! the order of fields and nothing about bytes. They meet in [`Decode`] and [`Encode`].
//!
//! Invariants
//! - Whatever the bytes are, reading ends in a value or a [`DecodeError`], never in a panic.
//! - Every length and count is checked against the bytes that remain before memory is asked for,
//!   and all arrays together take at most [`ALLOCATION_PER_BYTE_MAX`] times the bytes read.
//! - What one version cannot carry is never dropped in silence, unless the descriptor says so.

mod blob;
mod error;
mod reader;
#[cfg(test)]
mod tests;
mod writer;

pub use blob::Blob;
pub use error::{DecodeError, EncodeError};
pub use reader::{ALLOCATION_BYTES_MIN, ALLOCATION_PER_BYTE_MAX, Reader};
pub use writer::{SHARED_CHUNK_BYTES_MIN, Writer};
pub(crate) use writer::{check_absent, present};

use crate::api::ApiKey;

/// What every generated file uses.
pub(crate) mod prelude {
    pub(crate) use std::borrow::Cow;

    pub(crate) use super::{
        Blob, CoordinatorRecord, Decode, DecodeError, Encode, EncodeError, Message, Reader,
        Request, Response, VersionRange, Writer, check_absent, check_decoded_version,
        check_encoded_version, present,
    };
    pub(crate) use crate::TopicId;
    pub(crate) use crate::api::ApiKey;
}

/// Strings are never longer, in the compact form neither.
pub const STRING_BYTES_MAX: usize = i16::MAX as usize;

/// An inclusive range of versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VersionRange {
    /// The oldest version.
    pub min: i16,
    /// The newest version.
    pub max: i16,
}

impl VersionRange {
    /// The range from `min` to `max`, both included.
    #[must_use]
    pub const fn new(min: i16, max: i16) -> VersionRange {
        VersionRange { min, max }
    }

    /// Whether `version` lies within.
    #[must_use]
    pub const fn contains(self, version: i16) -> bool {
        self.min <= version && version <= self.max
    }

    /// Every version, the oldest first.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = i16> {
        self.min..=self.max
    }
}

impl std::fmt::Display for VersionRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.min == self.max {
            write!(f, "{}", self.min)
        } else {
            write!(f, "{}-{}", self.min, self.max)
        }
    }
}

/// A value that can be read in each of its versions.
pub trait Decode<'a>: Sized {
    /// The fewest bytes that a value takes in any version; at least 1.
    const BYTES_MIN: usize;

    /// Reads one value. Fields that `version` lacks get their defaults.
    ///
    /// # Errors
    /// The bytes are no value of that version; the reader's position is then unspecified.
    fn decode(reader: &mut Reader<'a>, version: i16) -> Result<Self, DecodeError>;
}

/// A value that can be written in each of its versions.
pub trait Encode {
    /// Writes one value.
    ///
    /// # Errors
    /// `version` cannot carry the value; what was written so far is then worthless.
    fn encode(&self, writer: &mut Writer, version: i16) -> Result<(), EncodeError>;
}

/// A whole message, as opposed to a structure within one.
pub trait Message: Encode {
    /// Kafka's name, such as `ProduceRequest`.
    const NAME: &'static str;
    /// The versions that can be read and written.
    const VERSIONS: VersionRange;
}

/// A message that a client sends.
pub trait Request: Message {
    /// The API that it calls.
    const API_KEY: ApiKey;
    /// The answer, borrowing from the bytes that came.
    type Response<'r>: Response + Decode<'r>;
}

/// A message that a broker answers with.
pub trait Response: Message {
    /// The API that it answers.
    const API_KEY: ApiKey;
}

/// Half of a record in a coordinator's topic: on disk an int16 stands before it, which for a key is
/// this type and for a value its version.
pub trait CoordinatorRecord: Message {
    /// What the int16 before the record's key says.
    const RECORD_TYPE: i16;
}

pub(crate) fn check_decoded_version(
    message: &'static str,
    versions: VersionRange,
    version: i16,
) -> Result<(), DecodeError> {
    if versions.contains(version) {
        return Ok(());
    }
    Err(DecodeError::UnsupportedVersion {
        message,
        version,
        versions,
    })
}

pub(crate) fn check_encoded_version(
    message: &'static str,
    versions: VersionRange,
    version: i16,
) -> Result<(), EncodeError> {
    if versions.contains(version) {
        return Ok(());
    }
    Err(EncodeError::UnsupportedVersion {
        message,
        version,
        versions,
    })
}
