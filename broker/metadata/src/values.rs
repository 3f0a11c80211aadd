//! The values of the keys: one line of JSON each, readable with any tool.
//!
//! The first field is `"v"`, the version of the format. A reader keeps fields that it does not know
//! and writes them back, so that an older broker never erases what a newer one wrote; a value with
//! a higher version than the reader knows is an error, never half-read.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

mod broker;
mod cluster;
mod fields;
mod partition;
mod topic;

pub use broker::{BrokerInfoValue, BrokerValue, Endpoint};
pub use cluster::{ClusterValue, ConfigValue, ControllerValue, ProducerIdsValue};
pub use fields::{DirectoryId, ProcessId};
pub use partition::{PartitionValue, Replica, TierValue};
pub use topic::{DeletedValue, TopicNameValue, TopicState, TopicValue};

/// Fields that this version does not know.
pub type Unknown = Map<String, Json>;

/// Names and settings, as Kafka has them: text to text.
pub type Configs = BTreeMap<String, String>;

/// Why bytes are no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// A later version of Esker wrote the value.
    #[error("{key} has format version {found}, and this version of Esker knows {known} at most")]
    Newer {
        /// The key.
        key: String,
        /// The version that was found.
        found: u64,
        /// The highest version that this reader knows.
        known: u64,
    },
    /// The value is damaged, or somebody else wrote it.
    #[error("{key} holds no readable {what}: {reason}")]
    Invalid {
        /// The key.
        key: String,
        /// What was expected there.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

/// A value of ours: a JSON object with a version.
pub trait Value: Serialize + DeserializeOwned {
    /// The version that this code writes, and the highest that it reads.
    const VERSION: u64;
    /// What the value is, for messages.
    const WHAT: &'static str;

    /// The fields that this version does not know.
    fn unknown_mut(&mut self) -> &mut Unknown;

    /// One line of JSON, the version first.
    fn encode(&self) -> Bytes {
        let fields = serde_json::to_string(self)
            .expect("our values have text keys and serialise without failing");
        let fields = fields.trim_start_matches('{');
        let comma = if fields == "}" { "" } else { "," };
        format!("{{\"v\":{}{comma}{fields}", Self::VERSION).into()
    }

    /// Reads what [`Value::encode`] wrote, in this version or an earlier one.
    ///
    /// # Errors
    ///
    /// The value has a higher version, or is none.
    fn decode(key: &str, bytes: &[u8]) -> Result<Self, ValueError> {
        #[derive(Deserialize)]
        struct Version {
            v: u64,
        }
        let invalid = |reason: serde_json::Error| ValueError::Invalid {
            key: key.to_owned(),
            what: Self::WHAT,
            reason: reason.to_string(),
        };
        // The version is read on its own first: a later format may have other types for our fields.
        let Version { v } = serde_json::from_slice(bytes).map_err(invalid)?;
        if v > Self::VERSION {
            return Err(ValueError::Newer {
                key: key.to_owned(),
                found: v,
                known: Self::VERSION,
            });
        }
        let mut value: Self = serde_json::from_slice(bytes).map_err(invalid)?;
        value.unknown_mut().remove("v");
        Ok(value)
    }
}

macro_rules! values {
    ($($name:ty = $what:literal,)*) => {$(
        impl Value for $name {
            const VERSION: u64 = 1;
            const WHAT: &'static str = $what;
            fn unknown_mut(&mut self) -> &mut Unknown {
                &mut self.unknown
            }
        }
    )*};
}

values! {
    ClusterValue = "cluster",
    ConfigValue = "configuration",
    ControllerValue = "controller",
    ProducerIdsValue = "producer id block",
    BrokerValue = "broker registration",
    BrokerInfoValue = "broker description",
    TopicValue = "topic",
    TopicNameValue = "topic name",
    DeletedValue = "deleted topic",
    PartitionValue = "partition",
    TierValue = "tier pointer",
}

#[cfg(test)]
mod tests;
