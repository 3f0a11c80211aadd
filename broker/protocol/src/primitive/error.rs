use super::VersionRange;

/// The bytes are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The message ends too early.
    #[error("{wanted} bytes are wanted where {remaining} remain")]
    UnexpectedEnd {
        /// The size of what should follow.
        wanted: usize,
        /// The bytes that are left.
        remaining: usize,
    },
    /// An array claims more elements than could stand in what is left.
    #[error("an array of {count} elements is claimed where {remaining} bytes remain")]
    CountTooLarge {
        /// The claim.
        count: usize,
        /// The bytes that are left.
        remaining: usize,
    },
    /// The arrays of the message would take far more memory than its bytes.
    #[error("arrays would take {wanted} bytes of memory where {allowed} are left to them")]
    AllocationTooLarge {
        /// The memory that the next array would take.
        wanted: usize,
        /// What is left of the message's allowance.
        allowed: usize,
    },
    /// A length below -1, or beyond what any value may have.
    #[error("{0} is not a valid length")]
    InvalidLength(i64),
    /// Null where this version has a value.
    #[error("null where a value must stand")]
    UnexpectedNull,
    /// A string is not UTF-8.
    #[error("a string is not valid UTF-8")]
    InvalidUtf8,
    /// A variable-length integer does not fit its type.
    #[error("a variable-length integer is too long")]
    VarintTooLong,
    /// Tags must ascend.
    #[error("tag {tag} follows tag {previous}")]
    TagOrder {
        /// The tag that came first.
        previous: u32,
        /// The tag that should be larger.
        tag: u32,
    },
    /// A tagged field is longer than its value.
    #[error("tagged field {tag} has {excess} bytes too many")]
    TaggedFieldSize {
        /// The field.
        tag: u32,
        /// The bytes that its value did not use.
        excess: usize,
    },
    /// Bytes follow where the message should end.
    #[error("{0} bytes follow the end of the message")]
    TrailingBytes(usize),
    /// The message has no such version.
    #[error("{message} has versions {versions}, not {version}")]
    UnsupportedVersion {
        /// The message's name.
        message: &'static str,
        /// The version that was asked for.
        version: i16,
        /// The versions that exist.
        versions: VersionRange,
    },
}

/// The value cannot be written in that version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The version lacks a field that is not at its default.
    #[error("{field} is set, which version {version} cannot carry")]
    FieldNotInVersion {
        /// `Structure.Field` in Kafka's words.
        field: &'static str,
        /// The version.
        version: i16,
    },
    /// The version does not allow the field to be null.
    #[error("{field} is null, which version {version} does not allow")]
    NullNotInVersion {
        /// `Structure.Field` in Kafka's words.
        field: &'static str,
        /// The version.
        version: i16,
    },
    /// A string, byte sequence, array or frame is longer than its length field can say.
    #[error("a length of {length} is above the limit of {max}")]
    TooLong {
        /// The length.
        length: usize,
        /// The limit.
        max: usize,
    },
    /// The message has no such version.
    #[error("{message} has versions {versions}, not {version}")]
    UnsupportedVersion {
        /// The message's name.
        message: &'static str,
        /// The version that was asked for.
        version: i16,
        /// The versions that exist.
        versions: VersionRange,
    },
}
