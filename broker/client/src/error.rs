use std::io;
use std::sync::Arc;

use esker_protocol::ErrorCode;
use esker_protocol::api::{ApiKey, VersionRange};
use esker_protocol::primitive::{DecodeError, EncodeError};

use crate::endpoint::Endpoint;

/// A connection failed, or cannot carry a request.
///
/// Cloned to every request that waited.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ConnectionError {
    /// The peer closed the stream.
    #[error("the broker closed the connection")]
    Closed,
    /// Reading or writing failed.
    #[error("the connection failed")]
    Io(#[source] Arc<io::Error>),
    /// The caller's deadline passed; an answer may still come.
    #[error("no answer before the deadline")]
    Deadline,
    /// The peer announces more than is accepted.
    #[error("the broker announces an answer of {bytes} bytes, more than the limit of {max}")]
    AnswerSize {
        /// As announced.
        bytes: i64,
        /// What is accepted.
        max: usize,
    },
    /// The peer answers what was not asked, or not in order.
    #[error("the broker answers request {given} where {expected:?} is next")]
    Correlation {
        /// As answered.
        given: i32,
        /// The oldest request without an answer.
        expected: Option<i32>,
    },
    /// An answer is not what its version says.
    #[error("the broker's answer to {api} cannot be read")]
    Decode {
        /// The API that was called.
        api: ApiKey,
        /// What is wrong.
        #[source]
        source: DecodeError,
    },
    /// The version cannot carry the request.
    #[error("the request to {api} cannot be written")]
    Encode {
        /// The API that was called.
        api: ApiKey,
        /// What is wrong.
        #[source]
        source: EncodeError,
    },
    /// No version of the API is known to both sides.
    #[error("the broker serves {api} {theirs:?}, this client {ours}")]
    UnsupportedApi {
        /// The API.
        api: ApiKey,
        /// The versions that could be sent.
        ours: VersionRange,
        /// The versions that the broker serves.
        theirs: Option<VersionRange>,
    },
}

impl ConnectionError {
    /// Whether another connection may do better. Says nothing about whether the request was
    /// carried out.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        matches!(
            self,
            ConnectionError::Closed
                | ConnectionError::Io(_)
                | ConnectionError::Deadline
                | ConnectionError::Correlation { .. }
                | ConnectionError::AnswerSize { .. }
        )
    }

    /// Whether the request was surely not carried out, because it was never written.
    pub(crate) fn is_before_sending(&self) -> bool {
        matches!(
            self,
            ConnectionError::Encode { .. } | ConnectionError::UnsupportedApi { .. }
        )
    }
}

/// A call failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClientError {
    /// A broker cannot be reached.
    #[error("cannot connect to {endpoint}")]
    Connect {
        /// Where it should be.
        endpoint: Endpoint,
        /// What happened.
        #[source]
        source: Arc<io::Error>,
    },
    /// A connection failed.
    #[error("{endpoint}: {source}")]
    Connection {
        /// The broker.
        endpoint: Endpoint,
        /// What happened.
        #[source]
        source: ConnectionError,
    },
    /// A broker refused.
    #[error("{what}: {code}{}", .message.as_ref().map(|text| format!(": {text}")).unwrap_or_default())]
    Kafka {
        /// What was asked for.
        what: String,
        /// The broker's code.
        code: ErrorCode,
        /// The broker's words.
        message: Option<String>,
    },
    /// A broker answered with a code that does not exist, or left out what was asked for.
    #[error("{what}: the broker's answer makes no sense: {reason}")]
    Nonsense {
        /// What was asked for.
        what: String,
        /// What is wrong with the answer.
        reason: String,
    },
    /// What was sent may or may not have been stored, and sending it again could store it twice.
    #[error("{what}: it is unknown whether the records were stored")]
    OutcomeUnknown {
        /// What was asked for.
        what: String,
        /// Why no answer is known.
        #[source]
        source: Box<ClientError>,
    },
    /// The caller's deadline passed.
    #[error("{what}: no success before the deadline{}", .last.as_ref().map(|last| format!(", last: {last}")).unwrap_or_default())]
    Deadline {
        /// What was asked for.
        what: String,
        /// Why the last try failed, if one did.
        last: Option<Box<ClientError>>,
    },
    /// A batch that was given or received is none.
    #[error("{what}: {reason}")]
    Batch {
        /// What was asked for.
        what: String,
        /// What is wrong.
        reason: String,
    },
}

impl ClientError {
    /// Whether trying again may succeed; [`crate::Client`] did so until the deadline.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            ClientError::Connect { .. } | ClientError::Deadline { .. } => true,
            ClientError::Connection { source, .. } => source.is_retriable(),
            ClientError::Kafka { code, .. } => code.is_retriable(),
            ClientError::Nonsense { .. }
            | ClientError::OutcomeUnknown { .. }
            | ClientError::Batch { .. } => false,
        }
    }

    /// The broker's code, if a broker refused.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            ClientError::Kafka { code, .. } => Some(*code),
            ClientError::Deadline {
                last: Some(last), ..
            } => last.code(),
            ClientError::OutcomeUnknown { source, .. } => source.code(),
            _ => None,
        }
    }

    /// Whether what was asked for may have happened nevertheless.
    pub(crate) fn may_have_happened(&self) -> bool {
        match self {
            ClientError::Connection { source, .. } => !source.is_before_sending(),
            ClientError::Kafka { code, .. } => matches!(
                code,
                // A leader that loses its partition says so to those that wait for replication, too.
                ErrorCode::NotLeaderOrFollower
                    | ErrorCode::RequestTimedOut
                    | ErrorCode::NotEnoughReplicasAfterAppend
                    | ErrorCode::NetworkException
                    | ErrorCode::UnknownServerError
                    | ErrorCode::KafkaStorageError
            ),
            ClientError::Nonsense { .. } | ClientError::OutcomeUnknown { .. } => true,
            ClientError::Deadline { last, .. } => {
                last.as_ref().is_some_and(|last| last.may_have_happened())
            }
            ClientError::Connect { .. } | ClientError::Batch { .. } => false,
        }
    }
}

/// The code of an answer: nothing, or why it was refused.
pub(crate) fn check(
    code: i16,
    message: Option<&str>,
    what: impl FnOnce() -> String,
) -> Result<(), ClientError> {
    match ErrorCode::from_code(code) {
        Some(ErrorCode::None) => Ok(()),
        Some(code) => Err(ClientError::Kafka {
            what: what(),
            code,
            message: message.map(str::to_owned),
        }),
        None => Err(ClientError::Nonsense {
            what: what(),
            reason: format!("error code {code} does not exist"),
        }),
    }
}
