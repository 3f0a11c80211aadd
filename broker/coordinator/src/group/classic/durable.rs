//! What a classic group writes: its record of type 2.

use std::sync::Arc;

use bytes::Bytes;
use esker_protocol::Timestamp;
use esker_protocol::messages::group_metadata_value::MemberMetadata;
use esker_protocol::messages::{GroupMetadataKey, GroupMetadataValue};

use super::{ClassicGroup, Member, Protocol, State};
use crate::record::{Key, Record, Value};
use crate::size;

/// A record of a classic group as it was read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Durable {
    protocol_type: String,
    generation: i32,
    protocol: Option<String>,
    leader: Option<String>,
    since: i64,
    members: Vec<DurableMember>,
}

#[derive(Debug, Clone, PartialEq)]
struct DurableMember {
    member_id: Arc<str>,
    instance_id: Option<Arc<str>>,
    client_id: String,
    client_host: String,
    rebalance_timeout_ms: i32,
    session_timeout_ms: i32,
    subscription: Bytes,
    assignment: Bytes,
}

impl DurableMember {
    /// `live` is the same member in memory: what it holds already is not held twice.
    fn of(value: &MemberMetadata<'_>, live: Option<(&Arc<str>, &Member)>) -> DurableMember {
        let subscriptions = live.into_iter().flat_map(|(_, member)| &member.protocols);
        let subscriptions = subscriptions.map(|protocol| &protocol.metadata);
        let assignments = live.into_iter().map(|(_, member)| &member.assignment);
        DurableMember {
            member_id: live.map_or_else(|| Arc::from(&*value.member_id), |(id, _)| id.clone()),
            instance_id: value.group_instance_id.as_deref().map(Arc::from),
            client_id: value.client_id.clone().into_owned(),
            client_host: value.client_host.clone().into_owned(),
            rebalance_timeout_ms: value.rebalance_timeout,
            session_timeout_ms: value.session_timeout,
            subscription: share(&value.subscription, subscriptions),
            assignment: share(&value.assignment, assignments),
        }
    }

    /// The member in memory. Of its protocols only the one that was chosen is known.
    fn live(&self, protocol: &str) -> Member {
        Member {
            instance_id: self.instance_id.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            // Records of old brokers have no rebalance timeout.
            rebalance_timeout_ms: match self.rebalance_timeout_ms {
                -1 => self.session_timeout_ms,
                timeout_ms => timeout_ms,
            },
            session_timeout_ms: self.session_timeout_ms,
            protocols: vec![Protocol {
                name: Arc::from(protocol),
                metadata: self.subscription.clone(),
            }],
            assignment: self.assignment.clone(),
            is_new: false,
            waiting_join: None,
            waiting_sync: None,
        }
    }
}

/// The bytes as they are held already, or a copy.
fn share<'b>(bytes: &[u8], mut held: impl Iterator<Item = &'b Bytes>) -> Bytes {
    let same = held.find(|held| ***held == *bytes);
    same.cloned()
        .unwrap_or_else(|| Bytes::copy_from_slice(bytes))
}

impl ClassicGroup {
    pub(crate) fn durable_state(&self) -> Option<&Durable> {
        self.durable.as_ref()
    }

    /// Takes note of what the log says; the live state stays.
    pub(crate) fn replay(&mut self, value: &GroupMetadataValue<'_>) {
        let members = value.members.iter().map(|member| {
            let live = self.members.get_key_value(&*member.member_id);
            DurableMember::of(member, live)
        });
        self.durable = Some(Durable {
            protocol_type: value.protocol_type.clone().into_owned(),
            generation: value.generation,
            protocol: value.protocol.clone().map(std::borrow::Cow::into_owned),
            leader: value.leader.clone().map(std::borrow::Cow::into_owned),
            since: value.current_state_timestamp,
            members: members.collect(),
        });
    }

    /// Whether the log has members and the live state knows nothing: the group was just made from its
    /// record.
    pub(crate) fn is_behind(&self) -> bool {
        let durable = self.durable.as_ref();
        self.is_empty() && durable.is_some_and(|durable| !durable.members.is_empty())
    }

    /// Builds the live state from the log's.
    pub(crate) fn resume(&mut self) {
        let Some(durable) = self.durable.take() else {
            return;
        };
        let mut live = ClassicGroup::new(self.id.clone());
        live.generation = durable.generation;
        live.since = (durable.since != -1).then_some(Timestamp(durable.since));
        live.protocol_type = match &*durable.protocol_type {
            "" => None,
            protocol_type => Some(Arc::from(protocol_type)),
        };
        live.protocol = durable.protocol.as_deref().map(Arc::from);
        live.leader = durable.leader.as_deref().map(Arc::from);
        for member in &durable.members {
            if live.members.contains_key(&member.member_id) {
                continue;
            }
            let protocol = durable.protocol.as_deref().unwrap_or("");
            live.insert(member.member_id.clone(), member.live(protocol));
        }
        if !live.members.is_empty() {
            live.state = State::Stable;
        }
        live.subscribed = live.read_subscriptions();
        live.durable = Some(durable);
        *self = live;
    }

    pub(crate) fn tombstone(&self) -> Record<'static> {
        Record {
            key: self.key(),
            value: None,
        }
    }

    fn key(&self) -> Key<'static> {
        Key::GroupMetadata(GroupMetadataKey {
            group: (*self.id).to_owned().into(),
        })
    }

    /// The record of a group whose first members have yet to agree.
    pub(crate) fn first_record(&self, now: Timestamp) -> Record<'static> {
        let value = GroupMetadataValue {
            current_state_timestamp: self.since.unwrap_or(now).0,
            ..GroupMetadataValue::default()
        };
        Record {
            key: self.key(),
            value: Some(Value::GroupMetadata(value)),
        }
    }

    /// The record of the group as it is, unless that is larger than `batch_bytes_max`.
    pub(super) fn record(&self, batch_bytes_max: usize) -> Option<Record<'static>> {
        let protocol = self.protocol().unwrap_or("");
        let held = self.members.iter().map(|(member_id, member)| {
            let subscription = member.metadata(protocol).map_or(0, Bytes::len);
            size::MEMBER_BYTES
                + member_id.len()
                + member.instance_id.as_ref().map_or(0, |id| id.len())
                + member.client_id.len()
                + member.client_host.len()
                + subscription
                + member.assignment.len()
        });
        let names = self.protocol_type().unwrap_or("").len()
            + protocol.len()
            + self.leader().unwrap_or("").len();
        let bytes = size::BATCH_BYTES + 2 * size::RECORD_BYTES + self.id.len() + names;
        if bytes.saturating_add(held.sum()) > batch_bytes_max {
            return None;
        }
        let members = self
            .members
            .iter()
            .map(|(member_id, member)| MemberMetadata {
                member_id: (**member_id).to_owned().into(),
                group_instance_id: member.instance_id.as_deref().map(|id| id.to_owned().into()),
                client_id: member.client_id.clone().into(),
                client_host: member.client_host.clone().into(),
                rebalance_timeout: member.rebalance_timeout_ms,
                session_timeout: member.session_timeout_ms,
                subscription: member
                    .metadata(protocol)
                    .map_or(Vec::new(), |bytes| bytes.to_vec())
                    .into(),
                assignment: member.assignment.to_vec().into(),
            });
        let value = GroupMetadataValue {
            protocol_type: self.protocol_type().unwrap_or("").to_owned().into(),
            generation: self.generation,
            protocol: self.protocol().map(|text| text.to_owned().into()),
            leader: self.leader().map(|text| text.to_owned().into()),
            current_state_timestamp: self.since.unwrap_or(Timestamp::NONE).0,
            members: members.collect(),
        };
        Some(Record {
            key: self.key(),
            value: Some(Value::GroupMetadata(value)),
        })
    }
}
