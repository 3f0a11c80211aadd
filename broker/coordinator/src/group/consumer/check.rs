//! Requests that are refused for what they say themselves, and why.

use std::borrow::Cow;

use esker_protocol::ErrorCode;
use esker_protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};

use super::member::{JOIN_EPOCH, LEAVE_EPOCH, LEAVE_STATIC_EPOCH};
use crate::view::Settings;

/// From this version on clients make up their member ids.
const CLIENT_MEMBER_ID_VERSION: i16 = 1;

/// Why a request is refused, in Kafka's code and words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: ErrorCode,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Refusal {
        Refusal {
            code,
            message: clipped(message.into()),
        }
    }

    /// The answer to a heartbeat.
    pub(crate) fn into_response(self) -> ConsumerGroupHeartbeatResponse<'static> {
        ConsumerGroupHeartbeatResponse {
            error_code: self.code.code(),
            error_message: Some(Cow::Owned(self.message)),
            ..ConsumerGroupHeartbeatResponse::default()
        }
    }
}

/// A message that repeats what a client said is no longer than this, in bytes: a string of a response
/// holds 32,767 at most.
const MESSAGE_BYTES_MAX: usize = 4096;

/// A message that fits into a response.
pub(crate) fn clipped(mut message: String) -> String {
    if message.len() > MESSAGE_BYTES_MAX {
        message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
        message.push_str("...");
    }
    message
}

/// What a heartbeat must say, whatever the group is. It is asked before the group is looked up.
pub(crate) fn check_heartbeat(
    request: &ConsumerGroupHeartbeatRequest<'_>,
    version: i16,
    settings: &Settings,
) -> Result<(), Refusal> {
    let invalid = |message: &str| Err(Refusal::new(ErrorCode::InvalidRequest, message));
    let is_blank = |text: Option<&str>| text.is_some_and(|text| text.trim().is_empty());

    if !settings.consumer_enabled {
        return Err(Refusal::new(
            ErrorCode::UnsupportedVersion,
            "The version of API is not supported.",
        ));
    }
    let epoch = request.member_epoch;
    let needs_member_id =
        version >= CLIENT_MEMBER_ID_VERSION || epoch > JOIN_EPOCH || epoch == LEAVE_EPOCH;
    if needs_member_id && is_blank(Some(&request.member_id)) {
        return invalid("MemberId can't be empty.");
    }
    if is_blank(Some(&request.group_id)) {
        return invalid("GroupId can't be empty.");
    }
    if is_blank(request.instance_id.as_deref()) {
        return invalid("InstanceId can't be empty.");
    }
    if is_blank(request.rack_id.as_deref()) {
        return invalid("RackId can't be empty.");
    }
    if epoch == JOIN_EPOCH {
        if request.rebalance_timeout_ms == -1 {
            return invalid("RebalanceTimeoutMs must be provided in first request.");
        }
        if !matches!(request.topic_partitions.as_deref(), Some([])) {
            return invalid("TopicPartitions must be empty when (re-)joining.");
        }
        if request.subscribed_topic_names.is_none() && request.subscribed_topic_regex.is_none() {
            return invalid(
                "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.",
            );
        }
    } else if epoch == LEAVE_STATIC_EPOCH && request.instance_id.is_none() {
        return invalid("InstanceId can't be null.");
    } else if epoch < LEAVE_STATIC_EPOCH {
        return invalid("MemberEpoch is invalid.");
    }
    if let Some(assignor) = request.server_assignor.as_deref()
        && !(settings.consumer_assignors.iter()).any(|supported| supported == assignor)
    {
        return Err(Refusal::new(
            ErrorCode::UnsupportedAssignor,
            format!(
                "ServerAssignor {assignor} is not supported. Supported assignors: {}.",
                settings.consumer_assignors.join(", ")
            ),
        ));
    }
    Ok(())
}
