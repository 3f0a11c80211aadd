//! What is true of a topic as a whole.

use esker_protocol::{BrokerId, TopicId};
use serde::{Deserialize, Serialize};

use super::{Configs, Unknown, fields};

/// `topics/<name>` (P3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicValue {
    /// New for every try to create the topic.
    #[serde(with = "fields::topic_id")]
    pub topic_id: TopicId,
    /// How many partitions the topic shows. While it grows, still the old count.
    pub partitions: i32,
    /// Where it stands.
    pub state: TopicState,
    /// The brokers of each partition that the controller has still to write: of all while the
    /// topic is created, of those from `partitions` on while it grows, of none when it is live.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        with = "fields::broker::lists"
    )]
    pub assignment: Vec<Vec<BrokerId>>,
    /// The settings that differ from the brokers' defaults.
    #[serde(default)]
    pub configs: Configs,
    /// Kept for newer versions.
    #[serde(flatten)]
    pub unknown: Unknown,
}

impl TopicValue {
    /// How many partitions exist or are being made: the larger count where the topic grows.
    #[must_use]
    pub fn partitions_after_growth(&self) -> i32 {
        match self.state {
            TopicState::Creating | TopicState::Live => self.partitions,
            TopicState::Growing => {
                let more = i32::try_from(self.assignment.len()).unwrap_or(i32::MAX);
                self.partitions.saturating_add(more)
            }
        }
    }
}

/// Where a topic stands between its creation and being ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TopicState {
    /// The controller writes its partitions; nobody sees it yet.
    Creating,
    /// The controller writes more partitions; the old ones serve.
    Growing,
    /// All its partitions exist.
    Live,
}

/// `topic-names/<normalised>`: which topic holds the name, so that `a.b` and `a_b` exclude each
/// other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicNameValue {
    /// The name as it was created.
    pub topic: String,
    /// Kept for newer versions.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// `deleted/<topic-id>`: a topic whose partitions, directories and objects are being removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletedValue {
    /// The name that it had.
    pub topic: String,
    /// How many partitions may exist: the larger count if it was growing.
    pub partitions: i32,
    /// Kept for newer versions.
    #[serde(flatten)]
    pub unknown: Unknown,
}
