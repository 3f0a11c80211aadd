//! One file per API: validate, call, translate errors into Kafka's codes. Nothing else knows them.

pub mod alter_configs;
pub mod api_versions;
pub mod consumer_group_describe;
pub mod consumer_group_heartbeat;
pub mod create_partitions;
pub mod create_topics;
pub mod delete_groups;
pub mod delete_records;
pub mod delete_topics;
pub mod describe_cluster;
pub mod describe_configs;
pub mod describe_groups;
pub mod describe_log_dirs;
pub mod describe_quorum;
pub mod describe_topic_partitions;
pub mod fetch;
pub mod find_coordinator;
pub(crate) mod groups;
pub mod heartbeat;
pub mod init_producer_id;
pub mod join_group;
pub mod leave_group;
pub mod list_config_resources;
pub mod list_groups;
pub mod list_offsets;
pub mod metadata;
pub mod offset_commit;
pub mod offset_delete;
pub mod offset_fetch;
pub mod offset_for_leader_epoch;
pub mod produce;
pub mod sync_group;
pub mod update_features;

use std::time::Duration;

use bytes::Bytes;
use esker_protocol::frame::{self, RequestFrame};
use esker_protocol::primitive::Response;

use tokio::time::Instant;

use crate::connection::Reply;

/// Encodes a response. One that cannot be encoded is a defect of ours: the connection closes, and
/// the log says why.
pub(crate) fn respond(header: &Answer, body: &impl Response) -> Option<Vec<Bytes>> {
    match frame::encode_response(header.correlation_id, header.version, body) {
        Ok(chunks) => Some(chunks),
        Err(error) => {
            tracing::error!(version = header.version, %error, "response cannot be encoded");
            None
        }
    }
}

/// Encodes a response that is there already.
pub(crate) fn reply(header: &Answer, body: &impl Response) -> Reply {
    respond(header, body).map_or(Reply::Close, Reply::Now)
}

/// What a response must repeat of its request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer {
    /// The request's version.
    pub(crate) version: i16,
    /// The request's correlation id.
    pub(crate) correlation_id: i32,
}

impl Answer {
    pub(crate) fn to(request: &RequestFrame<'_>) -> Answer {
        Answer {
            version: request.version,
            correlation_id: request.correlation_id,
        }
    }
}

/// When a request that changes topics times out; `None` where it leaves no time, so that, as in
/// Kafka, nothing of it is begun.
pub(crate) fn deadline(timeout_ms: i32) -> Option<Instant> {
    let time = u64::try_from(timeout_ms).ok().filter(|ms| *ms > 0)?;
    Some(Instant::now() + Duration::from_millis(time))
}
