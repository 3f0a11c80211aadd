//! `meta.properties`: whose directory it is, and what it has seen (P2).
//!
//! Kafka's keys, and ours under `esker.`: the latest process incarnations with their durability,
//! the highest cluster incarnation and broker epoch. Keys that nobody here knows are kept.

use std::collections::BTreeMap;

use esker_protocol::TopicId;

use crate::config::{Durability, Identity};

pub(crate) const FILE_NAME: &str = "meta.properties";
/// How many process incarnations a directory remembers.
const INCARNATIONS_MAX: usize = 16;

const VERSION: &str = "version";
const CLUSTER_ID: &str = "cluster.id";
const NODE_ID: &str = "node.id";
const DIRECTORY_ID: &str = "directory.id";
const INCARNATIONS: &str = "esker.incarnations";
const CLUSTER_INCARNATION: &str = "esker.cluster.incarnation";
const BROKER_EPOCH: &str = "esker.broker.epoch";

/// A process that ran on a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Incarnation {
    /// Its random id.
    pub id: TopicId,
    /// What its acknowledgements were worth.
    pub durability: Durability,
}

/// The highest values seen; a cluster that shows lower ones went back in time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// The cluster's incarnation.
    pub cluster_incarnation: i64,
    /// This broker's epoch.
    pub broker_epoch: i64,
}

/// The file's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) cluster_id: String,
    pub(crate) node_id: String,
    pub(crate) directory_id: TopicId,
    /// The latest last.
    pub(crate) incarnations: Vec<Incarnation>,
    pub(crate) seen: Seen,
    others: BTreeMap<String, String>,
}

/// Why the text is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MetaError {
    NewerVersion(String),
    Missing(&'static str),
    Invalid(&'static str, String),
}

impl Meta {
    pub(crate) fn new(identity: &Identity, directory_id: TopicId) -> Meta {
        Meta {
            cluster_id: identity.cluster_id.clone(),
            node_id: identity.node_id.to_string(),
            directory_id,
            incarnations: Vec::new(),
            seen: Seen::default(),
            others: BTreeMap::new(),
        }
    }

    /// Lists an incarnation as the latest. `registered` is never dropped: what it proves is needed.
    pub(crate) fn add_incarnation(&mut self, added: Incarnation, registered: Option<TopicId>) {
        self.incarnations
            .retain(|incarnation| incarnation.id != added.id);
        self.incarnations.push(added);
        while self.incarnations.len() > INCARNATIONS_MAX {
            let droppable = |incarnation: &Incarnation| Some(incarnation.id) != registered;
            let oldest = self.incarnations.iter().position(droppable).unwrap_or(0);
            self.incarnations.remove(oldest);
        }
    }

    pub(crate) fn encode(&self) -> String {
        let mut lines = self.others.clone();
        let mut put = |key: &str, value: String| lines.insert(key.to_owned(), value);
        put(VERSION, "1".to_owned());
        put(CLUSTER_ID, self.cluster_id.clone());
        put(NODE_ID, self.node_id.clone());
        put(DIRECTORY_ID, self.directory_id.to_string());
        put(
            CLUSTER_INCARNATION,
            self.seen.cluster_incarnation.to_string(),
        );
        put(BROKER_EPOCH, self.seen.broker_epoch.to_string());
        let incarnation = |one: &Incarnation| format!("{}/{}", one.id, one.durability.name());
        let incarnations: Vec<String> = self.incarnations.iter().map(incarnation).collect();
        put(INCARNATIONS, incarnations.join(","));
        lines
            .iter()
            .map(|(key, value)| format!("{key}={value}\n"))
            .collect()
    }

    pub(crate) fn decode(text: &str) -> Result<Meta, MetaError> {
        let mut others = BTreeMap::new();
        for line in text.lines() {
            let line = line.trim_start();
            if line.is_empty() || line.starts_with(['#', '!']) {
                continue;
            }
            let (key, value) = line.split_once('=').unwrap_or((line, ""));
            others.insert(key.trim_end().to_owned(), value.trim().to_owned());
        }
        let version = others.remove(VERSION).ok_or(MetaError::Missing(VERSION))?;
        if version != "1" {
            return Err(MetaError::NewerVersion(version));
        }
        let mut required = |key| others.remove(key).ok_or(MetaError::Missing(key));
        let cluster_id = required(CLUSTER_ID)?;
        let node_id = required(NODE_ID)?;
        let directory_id = required(DIRECTORY_ID)?;
        let directory_id = directory_id
            .parse()
            .map_err(|_| MetaError::Invalid(DIRECTORY_ID, directory_id))?;
        let mut number = |key| match others.remove(key) {
            None => Ok(0),
            Some(value) => value.parse().map_err(|_| MetaError::Invalid(key, value)),
        };
        let seen = Seen {
            cluster_incarnation: number(CLUSTER_INCARNATION)?,
            broker_epoch: number(BROKER_EPOCH)?,
        };
        let listed = others.remove(INCARNATIONS).unwrap_or_default();
        let mut incarnations = Vec::new();
        for entry in listed.split(',').filter(|entry| !entry.is_empty()) {
            let incarnation = decode_incarnation(entry);
            incarnations
                .push(incarnation.ok_or(MetaError::Invalid(INCARNATIONS, entry.to_owned()))?);
        }
        Ok(Meta {
            cluster_id,
            node_id,
            directory_id,
            incarnations,
            seen,
            others,
        })
    }
}

fn decode_incarnation(text: &str) -> Option<Incarnation> {
    let (id, durability) = text.split_once('/')?;
    Some(Incarnation {
        id: id.parse().ok()?,
        durability: Durability::from_name(durability)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use esker_protocol::BrokerId;

    fn meta() -> Meta {
        let identity = Identity {
            cluster_id: "c".to_owned(),
            node_id: BrokerId(3),
        };
        Meta::new(&identity, TopicId([5; 16]))
    }

    #[test]
    fn the_text_reads_back_and_unknown_keys_stay() {
        let mut meta = meta();
        let incarnation = Incarnation {
            id: TopicId([1; 16]),
            durability: Durability::Relaxed,
        };
        meta.add_incarnation(incarnation, None);
        meta.seen.broker_epoch = 77;
        let text = format!("#comment\n{}later.key=some value\n", meta.encode());
        let read = Meta::decode(&text).unwrap();
        assert_eq!(read.incarnations, meta.incarnations);
        assert_eq!(read.seen, meta.seen);
        assert!(read.encode().contains("later.key=some value\n"));
        assert_eq!(Meta::decode(&read.encode()), Ok(read));
    }

    #[test]
    fn the_incarnation_that_registered_last_is_never_dropped() {
        let mut meta = meta();
        let id = |number: u8| TopicId([number; 16]);
        for number in 0..40 {
            let added = Incarnation {
                id: id(number),
                durability: Durability::Durable,
            };
            meta.add_incarnation(added, Some(id(2)));
        }
        assert_eq!(meta.incarnations.len(), INCARNATIONS_MAX);
        assert_eq!(meta.incarnations[0].id, id(2));
        assert_eq!(meta.incarnations.last().unwrap().id, id(39));
    }

    #[test]
    fn other_versions_and_missing_keys_are_refused() {
        assert_eq!(
            Meta::decode(&meta().encode().replace("version=1", "version=2")),
            Err(MetaError::NewerVersion("2".to_owned()))
        );
        assert_eq!(
            Meta::decode("version=1\n"),
            Err(MetaError::Missing(CLUSTER_ID))
        );
        let text = meta().encode().replace(&TopicId([5; 16]).to_string(), "x");
        assert_eq!(
            Meta::decode(&text),
            Err(MetaError::Invalid(DIRECTORY_ID, "x".to_owned()))
        );
    }
}
