//! Which names a topic may have: Kafka's rules.

/// The longest name of a topic: its directory's name, `<topic>-<n>`, must fit a file system.
pub const TOPIC_NAME_BYTES_MAX: usize = 249;

/// The name is none that a topic may have. The texts are Kafka's: its tools show them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTopicName {
    /// No name at all.
    #[error("Topic name is invalid: the empty string is not allowed")]
    Empty,
    /// A directory of every file system.
    #[error("Topic name is invalid: '.' or '..' is not allowed")]
    Dots,
    /// Too long.
    #[error(
        "Topic name is invalid: the length of '{0}' is longer than the max allowed length {TOPIC_NAME_BYTES_MAX}"
    )]
    Long(String),
    /// A character outside ASCII letters, digits, `.`, `_` and `-`.
    #[error(
        "Topic name is invalid: '{0}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
    )]
    Characters(String),
}

/// Checks a new topic's name.
///
/// Names that differ in `.` and `_` only exclude each other as well; the transaction that creates
/// the topic sees to that.
///
/// # Errors
///
/// The first rule that the name breaks.
pub fn validate_topic_name(name: &str) -> Result<(), InvalidTopicName> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    match name {
        "" => Err(InvalidTopicName::Empty),
        "." | ".." => Err(InvalidTopicName::Dots),
        _ if name.chars().count() > TOPIC_NAME_BYTES_MAX => {
            Err(InvalidTopicName::Long(name.to_owned()))
        }
        _ if !name.bytes().all(allowed) => Err(InvalidTopicName::Characters(name.to_owned())),
        _ => Ok(()),
    }
}
