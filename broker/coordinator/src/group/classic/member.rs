//! One member of a classic group.

use std::sync::Arc;

use bytes::Bytes;
use esker_protocol::messages::JoinGroupRequest;

use super::WaitingJoin;
use crate::step::{RequestContext, Ticket};

/// What a member or a protocol costs beyond its bytes.
const ENTRY_BYTES: usize = 128;

/// A way to assign that a member knows, with what it tells the leader for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Protocol {
    pub(crate) name: Arc<str>,
    pub(crate) metadata: Bytes,
}

impl Protocol {
    /// A request's protocols in the member's order of preference. A name that comes again counts
    /// once.
    pub(super) fn of_request(request: &JoinGroupRequest<'_>) -> Vec<Protocol> {
        let mut protocols: Vec<Protocol> = Vec::with_capacity(request.protocols.len());
        let mut names = std::collections::BTreeSet::new();
        for protocol in &request.protocols {
            if names.insert(&protocol.name) {
                protocols.push(Protocol {
                    name: Arc::from(&*protocol.name),
                    metadata: Bytes::copy_from_slice(&protocol.metadata),
                });
            }
        }
        protocols
    }
}

/// A member.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) instance_id: Option<Arc<str>>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) rebalance_timeout_ms: i32,
    pub(crate) session_timeout_ms: i32,
    /// In the member's order of preference.
    pub(crate) protocols: Vec<Protocol>,
    pub(crate) assignment: Bytes,
    /// Whether no join of it was answered yet.
    pub(super) is_new: bool,
    pub(super) waiting_join: Option<WaitingJoin>,
    pub(super) waiting_sync: Option<Ticket>,
}

impl Member {
    pub(super) fn joining(
        request: &JoinGroupRequest<'_>,
        protocols: Vec<Protocol>,
        ticket: Ticket,
        context: &RequestContext<'_>,
    ) -> Member {
        Member {
            instance_id: request.group_instance_id.as_deref().map(Arc::from),
            client_id: context.client_id.to_owned(),
            client_host: context.client_host.to_owned(),
            rebalance_timeout_ms: rebalance_timeout_ms(request, context.version),
            session_timeout_ms: request.session_timeout_ms,
            protocols,
            assignment: Bytes::new(),
            is_new: true,
            waiting_join: Some(WaitingJoin {
                ticket,
                version: context.version,
            }),
            waiting_sync: None,
        }
    }

    /// What the member tells the leader under a protocol.
    pub(crate) fn metadata(&self, protocol: &str) -> Option<&Bytes> {
        let found = self.protocols.iter().find(|known| *known.name == *protocol);
        found.map(|protocol| &protocol.metadata)
    }

    /// What the member holds, without its assignment, which fits into a batch with all others.
    pub(super) fn bytes(&self, member_id: &str) -> usize {
        ENTRY_BYTES
            + member_id.len()
            + self.instance_id.as_ref().map_or(0, |id| id.len())
            + self.client_id.len()
            + self.client_host.len()
            + protocol_bytes(&self.protocols)
    }

    /// Whether the silence of the member is expected: it waits for an answer. Not so before its
    /// first join is answered: whoever gave up then would never be missed.
    pub(super) fn may_be_silent(&self) -> bool {
        !self.is_new && (self.waiting_join.is_some() || self.waiting_sync.is_some())
    }
}

pub(super) fn protocol_bytes(protocols: &[Protocol]) -> usize {
    protocols
        .iter()
        .map(|protocol| ENTRY_BYTES + protocol.name.len() + protocol.metadata.len())
        .sum()
}

/// Version 0 has no rebalance timeout of its own.
pub(crate) fn rebalance_timeout_ms(request: &JoinGroupRequest<'_>, version: i16) -> i32 {
    if version == 0 {
        request.session_timeout_ms
    } else {
        request.rebalance_timeout_ms
    }
}
