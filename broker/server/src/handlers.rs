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

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::connection::Reply;
use bytes::Bytes;
use esker_protocol::frame::{self, RequestFrame};
use esker_protocol::primitive::Response;

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

/// Keeps one item of each key, the last one, where the first one stood: so does Kafka where a request
/// names one thing twice.
pub(crate) fn once_each<T, K: Ord>(
    items: impl IntoIterator<Item = T>,
    key: impl Fn(&T) -> K,
) -> Vec<T> {
    let mut kept: Vec<T> = Vec::new();
    let mut places = BTreeMap::new();
    for item in items {
        match places.entry(key(&item)) {
            Entry::Vacant(place) => {
                place.insert(kept.len());
                kept.push(item);
            }
            Entry::Occupied(place) => {
                if let Some(kept) = kept.get_mut(*place.get()) {
                    *kept = item;
                }
            }
        }
    }
    kept
}

/// Puts the values of each key together, in the order in which keys and values come.
pub(crate) fn grouped<K: Ord + Clone, V>(
    pairs: impl IntoIterator<Item = (K, V)>,
) -> Vec<(K, Vec<V>)> {
    let mut groups: Vec<(K, Vec<V>)> = Vec::new();
    let mut places = BTreeMap::new();
    for (key, value) in pairs {
        let place = *places.entry(key.clone()).or_insert(groups.len());
        match groups.get_mut(place) {
            Some((_, values)) => values.push(value),
            None => groups.push((key, vec![value])),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_twice_counts_once_as_named_last() {
        let named = [("a", 1), ("b", 2), ("a", 3), ("c", 4), ("a", 5)];
        assert_eq!(
            once_each(named, |(name, _)| *name),
            [("a", 5), ("b", 2), ("c", 4)]
        );
    }

    #[test]
    fn groups_come_in_the_order_of_their_first() {
        let pairs = [("b", 1), ("a", 2), ("b", 3)];
        assert_eq!(grouped(pairs), [("b", vec![1, 3]), ("a", vec![2])]);
    }
}
