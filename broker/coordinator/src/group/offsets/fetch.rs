//! OffsetFetch.

use std::collections::BTreeSet;

use esker_protocol::ErrorCode;
use esker_protocol::TopicId;
use esker_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use esker_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
};

use super::{Committed, Offsets};
use crate::group::Group;

/// How often a request may name partitions that it has named already: a few bytes of a request must
/// not become kilobytes of metadata, over and over.
const REPEATED_MAX: usize = 16;

/// What a group has committed.
///
/// # Errors
/// The member is unknown or behind; only consumer groups check that.
pub(crate) fn fetch(
    request: &OffsetFetchRequestGroup<'_>,
    require_stable: bool,
    group: Option<&Group>,
    offsets: &Offsets,
) -> Result<OffsetFetchResponseGroup<'static>, ErrorCode> {
    if let Some(Group::Consumer(group)) = group {
        group.validate_fetch(request.member_id.as_deref(), request.member_epoch)?;
    }
    let reading = Reading {
        group_id: &request.group_id,
        // Offsets of a group that is gone are on their way out.
        offsets: group.map(|_| offsets),
        require_stable,
    };
    let mut repeated = 0;
    let mut seen = BTreeSet::new();
    let topics = match &request.topics {
        None => reading.all(),
        Some(topics) => topics
            .iter()
            .map(|topic| OffsetFetchResponseTopics {
                name: topic.name.clone().into_owned().into(),
                topic_id: topic.topic_id,
                partitions: topic
                    .partition_indexes
                    .iter()
                    .filter(|index| {
                        let is_new = seen.insert((topic.topic_id, &*topic.name, **index));
                        repeated += usize::from(!is_new);
                        repeated <= REPEATED_MAX
                    })
                    .map(|index| reading.partition(&topic.name, topic.topic_id, *index))
                    .collect(),
            })
            .collect(),
    };
    Ok(OffsetFetchResponseGroup {
        group_id: request.group_id.clone().into_owned().into(),
        topics,
        error_code: ErrorCode::None as i16,
    })
}

struct Reading<'a> {
    group_id: &'a str,
    offsets: Option<&'a Offsets>,
    require_stable: bool,
}

impl Reading<'_> {
    fn all(&self) -> Vec<OffsetFetchResponseTopics<'static>> {
        let mut topics: Vec<OffsetFetchResponseTopics<'static>> = Vec::new();
        let offsets = self.offsets.into_iter();
        for (topic, index, committed) in offsets.flat_map(|all| all.of_group(self.group_id)) {
            let partition = self.answer(topic, index, Some(committed));
            match topics.last_mut() {
                Some(last) if last.name == topic => last.partitions.push(partition),
                _ => topics.push(OffsetFetchResponseTopics {
                    name: topic.to_owned().into(),
                    partitions: vec![partition],
                    ..OffsetFetchResponseTopics::default()
                }),
            }
        }
        topics
    }

    /// An offset that was committed for an earlier topic of the same name is none.
    fn partition(
        &self,
        topic: &str,
        topic_id: TopicId,
        index: i32,
    ) -> OffsetFetchResponsePartitions<'static> {
        let committed = self
            .offsets
            .and_then(|all| all.get(self.group_id, topic, index));
        let is_of_topic = |committed: &&Committed| {
            committed.topic_id == topic_id
                || committed.topic_id == TopicId::ZERO
                || topic_id == TopicId::ZERO
        };
        self.answer(topic, index, committed.filter(is_of_topic))
    }

    fn answer(
        &self,
        topic: &str,
        index: i32,
        committed: Option<&Committed>,
    ) -> OffsetFetchResponsePartitions<'static> {
        let is_open = |offsets: &Offsets| offsets.is_open(self.group_id, topic, index);
        let none = OffsetFetchResponsePartitions {
            partition_index: index,
            committed_offset: -1,
            committed_leader_epoch: -1,
            metadata: Some("".into()),
            error_code: ErrorCode::None as i16,
        };
        if self.require_stable && self.offsets.is_some_and(is_open) {
            return OffsetFetchResponsePartitions {
                error_code: ErrorCode::UnstableOffsetCommit as i16,
                ..none
            };
        }
        match committed {
            None => none,
            Some(committed) => OffsetFetchResponsePartitions {
                committed_offset: committed.offset.0,
                committed_leader_epoch: committed.leader_epoch,
                metadata: Some(committed.metadata.to_string().into()),
                ..none
            },
        }
    }
}
