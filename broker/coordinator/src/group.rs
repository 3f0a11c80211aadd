//! Groups: classic ones, consumer groups (KIP-848), and the offsets that both commit.
//!
//! ```text
//! no group --JoinGroup, offset commit--------------> Classic <--migration--> Consumer
//!          --ConsumerGroupHeartbeat----------------> Consumer
//! type 2 with a value makes or replaces a classic group; types 3, 5 to 8 and 16 a consumer group
//! type 2 tombstone, or the last tombstone of a consumer group: no group
//! ```
//!
//! A group's methods push the records and replies that an event gives into its [`Turn`]; the shard
//! replays the records afterwards.

pub(crate) mod classic;
pub(crate) mod consumer;
pub(crate) mod migration;
pub(crate) mod offsets;

use std::sync::Arc;

use esker_protocol::messages::list_groups_response::ListedGroup;

use crate::random::Random;
use crate::record::Record;
use crate::step::{Response, Ticket};
use crate::timers::Timers;
use crate::view::View;

use classic::ClassicGroup;
use consumer::ConsumerGroup;

/// The protocol type of clients that consume: of all consumer groups, and of most classic ones.
pub(crate) const CONSUMER_PROTOCOL_TYPE: &str = "consumer";

/// A group of one of the types.
#[derive(Debug)]
pub(crate) enum Group {
    /// Members agree among themselves: JoinGroup and SyncGroup.
    Classic(ClassicGroup),
    /// The coordinator assigns: ConsumerGroupHeartbeat (KIP-848).
    Consumer(ConsumerGroup),
}

/// What a shard's timers are set for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// A classic group's.
    Classic {
        group: Arc<str>,
        kind: classic::TimerKind,
    },
    /// A consumer group's.
    Consumer {
        group: Arc<str>,
        kind: consumer::TimerKind,
    },
    /// Offsets of groups that nobody uses any more expire.
    ExpireOffsets,
}

/// One event: what it may look at, and what it gives. Its records may borrow from the request.
pub(crate) struct Turn<'t, 'r> {
    pub(crate) view: View<'t>,
    pub(crate) timers: &'t mut Timers<Timer>,
    pub(crate) random: &'t mut Random,
    /// Replayed once the event was handled.
    pub(crate) records: Vec<Record<'r>>,
    pub(crate) replies: Vec<(Ticket, Response)>,
    /// Whether a consumer group that these records turn into a classic one rebalances at once.
    pub(crate) rebalances_when_downgraded: bool,
}

impl Turn<'_, '_> {
    pub(crate) fn reply(&mut self, ticket: Ticket, response: Response) {
        self.replies.push((ticket, response));
    }

    /// The moment that lies `delay_ms` ahead; at once if that is negative.
    pub(crate) fn due_in(&self, delay_ms: i64) -> i64 {
        self.view.now.monotonic_ms.saturating_add(delay_ms.max(0))
    }
}

impl Group {
    /// Kafka's name of the state.
    pub(crate) fn state_name(&self) -> &'static str {
        match self {
            Group::Classic(group) => group.state().name(),
            Group::Consumer(group) => group.state_name(),
        }
    }

    /// Kafka's name of the type.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Group::Classic(_) => "classic",
            Group::Consumer(_) => "consumer",
        }
    }

    pub(crate) fn protocol_type(&self) -> &str {
        match self {
            Group::Classic(group) => group.protocol_type().unwrap_or(""),
            Group::Consumer(_) => CONSUMER_PROTOCOL_TYPE,
        }
    }

    /// Whether nobody is in the group.
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Group::Classic(group) => group.is_empty(),
            Group::Consumer(group) => !group.has_members(),
        }
    }

    /// Whether a member reads the topic, as far as the group knows.
    pub(crate) fn subscribes_to(&self, topic: &str) -> bool {
        match self {
            Group::Classic(group) => group.subscribes_to(topic),
            Group::Consumer(group) => group.subscribes_to(topic),
        }
    }

    /// The records that delete the group.
    pub(crate) fn tombstones(&self) -> Vec<Record<'static>> {
        match self {
            Group::Classic(group) => vec![group.tombstone()],
            Group::Consumer(group) => group.tombstones(),
        }
    }

    pub(crate) fn listed(&self, group_id: &str) -> ListedGroup<'static> {
        ListedGroup {
            group_id: group_id.to_owned().into(),
            protocol_type: self.protocol_type().to_owned().into(),
            group_state: self.state_name().into(),
            group_type: self.type_name().into(),
        }
    }
}
