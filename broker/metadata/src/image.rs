//! The image: everything the cluster knows at one revision, as one immutable value.
//!
//! Brokers act on images and never on single keys. The maps share their structure, so the next
//! image costs the changes of its revision, not the size of the cluster.
//!
//! Invariants
//! - An image holds all changes of its revision and none of a later one.
//! - Applying events to an image gives what loading the store at their revision gives.
//! - What changed between two images is remembered whole, or known not to be.
//! - Only facts that can only grow under one incarnation may be acted on from an image (P1);
//!   anything else is compared in the transaction that relies on it.

use std::sync::Arc;

use esker_protocol::{BrokerId, TopicId};
use rpds::RedBlackTreeMapSync;

use crate::keys::{ConfigKind, Key, Keys, normalised};
use crate::store::{Entry, LeaseId, Revision, WatchEvent};
use crate::values::{
    BrokerInfoValue, BrokerValue, ClusterValue, ConfigValue, ControllerValue, DeletedValue,
    PartitionValue, ProducerIdsValue, TierValue, TopicNameValue, TopicState, TopicValue, Value,
    ValueError,
};

mod changes;
mod follow;

use changes::Changes;
pub use follow::{FollowError, ReloadReason, Step, follow, step};

/// A sorted map whose copies share what they have in common.
type Map<K, V> = RedBlackTreeMapSync<K, Arc<Versioned<V>>>;

/// A value with the revisions that fence it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned<V> {
    /// The value.
    pub value: V,
    /// The revision of its latest put: what a transaction that relies on it compares.
    pub revision: Revision,
    /// The revision of the put that found the key absent.
    pub create_revision: Revision,
    /// The lease that the key is on.
    pub lease: Option<LeaseId>,
}

impl<V: Value> Versioned<V> {
    /// Reads an entry of a store.
    ///
    /// # Errors
    ///
    /// See [`Value::decode`].
    pub fn decode(entry: &Entry) -> Result<Versioned<V>, ValueError> {
        Ok(Versioned {
            value: V::decode(&entry.key, &entry.value)?,
            revision: entry.mod_revision,
            create_revision: entry.create_revision,
            lease: entry.lease,
        })
    }
}

/// Everything that is known at one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    keys: Arc<Keys>,
    revision: Revision,
    topology_revision: Revision,
    changes: Changes,
    cluster: Option<Arc<Versioned<ClusterValue>>>,
    controller: Option<Arc<Versioned<ControllerValue>>>,
    producer_ids: Option<Arc<Versioned<ProducerIdsValue>>>,
    brokers: Map<BrokerId, BrokerValue>,
    broker_infos: Map<BrokerId, BrokerInfoValue>,
    topics: Map<String, TopicValue>,
    names_by_id: RedBlackTreeMapSync<TopicId, String>,
    /// The names of topics that are created or grow.
    unsettled: RedBlackTreeMapSync<String, ()>,
    topic_names: Map<String, TopicNameValue>,
    deleted: Map<TopicId, DeletedValue>,
    partitions: Map<(TopicId, i32), PartitionValue>,
    tiers: Map<(TopicId, i32), TierValue>,
    configs: Map<(ConfigKind, String), ConfigValue>,
}

/// Puts or removes what an entry says.
fn set<K: Ord, V: Value>(
    map: &mut Map<K, V>,
    key: K,
    entry: Option<&Entry>,
) -> Result<(), ValueError> {
    match entry {
        Some(entry) => map.insert_mut(key, Arc::new(Versioned::decode(entry)?)),
        None => {
            map.remove_mut(&key);
        }
    }
    Ok(())
}

fn set_one<V: Value>(
    place: &mut Option<Arc<Versioned<V>>>,
    entry: Option<&Entry>,
) -> Result<(), ValueError> {
    *place = entry.map(Versioned::decode).transpose()?.map(Arc::new);
    Ok(())
}

impl Image {
    /// An image that has read nothing yet.
    #[must_use]
    pub fn empty(keys: Keys) -> Image {
        Image {
            keys: Arc::new(keys),
            revision: Revision::NONE,
            topology_revision: Revision::NONE,
            changes: Changes::none(Revision::NONE),
            cluster: None,
            controller: None,
            producer_ids: None,
            brokers: Map::new_sync(),
            broker_infos: Map::new_sync(),
            topics: Map::new_sync(),
            names_by_id: RedBlackTreeMapSync::new_sync(),
            unsettled: RedBlackTreeMapSync::new_sync(),
            topic_names: Map::new_sync(),
            deleted: Map::new_sync(),
            partitions: Map::new_sync(),
            tiers: Map::new_sync(),
            configs: Map::new_sync(),
        }
    }

    /// The image of a store that holds these entries at this revision.
    ///
    /// # Errors
    ///
    /// A value of ours cannot be read.
    pub fn load(keys: Keys, entries: &[Entry], revision: Revision) -> Result<Image, ValueError> {
        let mut image = Image::empty(keys);
        for entry in entries {
            image.change(&entry.key, Some(entry))?;
        }
        image.revision = revision;
        image.topology_revision = revision;
        image.changes = Changes::none(revision);
        Ok(image)
    }

    /// The image after an event. Keys of later versions are left alone.
    ///
    /// # Errors
    ///
    /// A value of ours cannot be read.
    pub fn apply(&self, event: &WatchEvent) -> Result<Image, ValueError> {
        let mut image = self.clone();
        let mut changed = Vec::with_capacity(event.changes.len());
        for (key, entry) in &event.changes {
            changed.extend(image.change(key, entry.as_ref())?);
        }
        image.revision = event.revision;
        if changed.iter().any(|key| image.changes_topology(key, self)) {
            image.topology_revision = event.revision;
        }
        image.changes.add(event.revision, changed);
        Ok(image)
    }

    /// Whether the key says other topics, partitions or places of copies than it did in `before`.
    fn changes_topology(&self, key: &Key, before: &Image) -> bool {
        match key {
            Key::Topic(_) | Key::BrokerInfo(_) => true,
            Key::Partition(id, partition) => {
                let copies = |image: &Image| {
                    let partition = image.partition(*id, *partition)?;
                    Some(partition.value.brokers().collect::<Vec<_>>())
                };
                copies(self) != copies(before)
            }
            _ => false,
        }
    }

    /// Takes over what an entry says, and returns its key if it is one of ours.
    fn change(&mut self, key: &str, entry: Option<&Entry>) -> Result<Option<Key>, ValueError> {
        let Some(key) = self.keys.parse(key) else {
            return Ok(None);
        };
        match key.clone() {
            Key::Cluster => set_one(&mut self.cluster, entry),
            Key::Controller => set_one(&mut self.controller, entry),
            Key::ProducerIds => set_one(&mut self.producer_ids, entry),
            Key::Broker(id) => set(&mut self.brokers, id, entry),
            Key::BrokerInfo(id) => set(&mut self.broker_infos, id, entry),
            Key::Topic(name) => self.change_topic(name, entry),
            Key::TopicName(name) => set(&mut self.topic_names, name, entry),
            Key::Deleted(id) => set(&mut self.deleted, id, entry),
            Key::Partition(id, partition) => set(&mut self.partitions, (id, partition), entry),
            Key::Tier(id, partition) => set(&mut self.tiers, (id, partition), entry),
            Key::Config(kind, name) => set(&mut self.configs, (kind, name), entry),
            // Nothing acts on these yet.
            Key::Fence(_) | Key::Drain(_) => Ok(()),
        }?;
        Ok(Some(key))
    }

    fn change_topic(&mut self, name: String, entry: Option<&Entry>) -> Result<(), ValueError> {
        if let Some(old) = self.topics.get(&name) {
            let old = old.value.topic_id;
            self.names_by_id.remove_mut(&old);
        }
        self.unsettled.remove_mut(&name);
        set(&mut self.topics, name.clone(), entry)?;
        if let Some(new) = self.topics.get(&name) {
            if new.value.state != TopicState::Live {
                self.unsettled.insert_mut(name.clone(), ());
            }
            let new = new.value.topic_id;
            self.names_by_id.insert_mut(new, name);
        }
        Ok(())
    }

    /// The names of the keys that the image was read from.
    #[must_use]
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The latest revision that changed which topics there are, with which partitions, on which brokers
    /// in which racks. Of an image that was loaded, the revision of the load.
    #[must_use]
    pub fn topology_revision(&self) -> Revision {
        self.topology_revision
    }

    /// The revision that the image shows.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Who this cluster is, once somebody has said so.
    #[must_use]
    pub fn cluster(&self) -> Option<&Arc<Versioned<ClusterValue>>> {
        self.cluster.as_ref()
    }

    /// The elected controller. Its epoch is the create revision.
    #[must_use]
    pub fn controller(&self) -> Option<&Arc<Versioned<ControllerValue>>> {
        self.controller.as_ref()
    }

    /// The next block of producer ids.
    #[must_use]
    pub fn producer_ids(&self) -> Option<&Arc<Versioned<ProducerIdsValue>>> {
        self.producer_ids.as_ref()
    }

    /// The live brokers, sorted by id.
    pub fn brokers(
        &self,
    ) -> impl ExactSizeIterator<Item = (BrokerId, &Arc<Versioned<BrokerValue>>)> {
        self.brokers.iter().map(|(id, broker)| (*id, broker))
    }

    /// A live broker. Its epoch is the revision.
    #[must_use]
    pub fn broker(&self, id: BrokerId) -> Option<&Arc<Versioned<BrokerValue>>> {
        self.brokers.get(&id)
    }

    /// The descriptions of all brokers that ever registered, sorted by id.
    pub fn broker_infos(
        &self,
    ) -> impl ExactSizeIterator<Item = (BrokerId, &Arc<Versioned<BrokerInfoValue>>)> {
        self.broker_infos.iter().map(|(id, info)| (*id, info))
    }

    /// The description of a broker, live or not.
    #[must_use]
    pub fn broker_info(&self, id: BrokerId) -> Option<&Arc<Versioned<BrokerInfoValue>>> {
        self.broker_infos.get(&id)
    }

    /// All topics by name, those that are still being created included.
    pub fn topics(&self) -> impl ExactSizeIterator<Item = (&str, &Arc<Versioned<TopicValue>>)> {
        self.topics
            .iter()
            .map(|(name, topic)| (name.as_str(), topic))
    }

    /// The topics that clients see, by name.
    pub fn visible_topics(&self) -> impl Iterator<Item = (&str, &Arc<Versioned<TopicValue>>)> {
        self.topics().filter(|(_, topic)| is_visible(topic))
    }

    /// A topic that clients see, by name.
    #[must_use]
    pub fn visible_topic(&self, name: &str) -> Option<&Arc<Versioned<TopicValue>>> {
        self.topic(name).filter(|topic| is_visible(topic))
    }

    /// A topic that clients see, by id, with its name.
    #[must_use]
    pub fn visible_topic_by_id(&self, id: TopicId) -> Option<(&str, &Arc<Versioned<TopicValue>>)> {
        self.topic_by_id(id).filter(|(_, topic)| is_visible(topic))
    }

    /// The id of a topic that clients see.
    #[must_use]
    pub fn visible_id(&self, name: &str) -> Option<TopicId> {
        Some(self.visible_topic(name)?.value.topic_id)
    }

    /// The name of a topic that clients see.
    #[must_use]
    pub fn visible_name(&self, id: TopicId) -> Option<&str> {
        Some(self.visible_topic_by_id(id)?.0)
    }

    /// The topics that are created or grow: what the controller has still to do.
    pub fn unsettled_topics(&self) -> impl Iterator<Item = (&str, &Arc<Versioned<TopicValue>>)> {
        self.unsettled
            .keys()
            .filter_map(|name| Some((name.as_str(), self.topics.get(name)?)))
    }

    /// A topic by name, also while it is created.
    #[must_use]
    pub fn topic(&self, name: &str) -> Option<&Arc<Versioned<TopicValue>>> {
        self.topics.get(name)
    }

    /// A topic by id, with its name, also while it is created.
    #[must_use]
    pub fn topic_by_id(&self, id: TopicId) -> Option<(&str, &Arc<Versioned<TopicValue>>)> {
        let name = self.names_by_id.get(&id)?;
        Some((name.as_str(), self.topics.get(name)?))
    }

    /// The topic whose name differs from this one in `.` and `_` only, or not at all.
    #[must_use]
    pub fn topic_like(&self, name: &str) -> Option<&Arc<Versioned<TopicNameValue>>> {
        self.topic_names.get(&normalised(name))
    }

    /// The topics that are being removed.
    pub fn deleted(
        &self,
    ) -> impl ExactSizeIterator<Item = (TopicId, &Arc<Versioned<DeletedValue>>)> {
        self.deleted.iter().map(|(id, deleted)| (*id, deleted))
    }

    /// A topic that is being removed.
    #[must_use]
    pub fn deleted_topic(&self, id: TopicId) -> Option<&Arc<Versioned<DeletedValue>>> {
        self.deleted.get(&id)
    }

    /// One partition.
    #[must_use]
    pub fn partition(
        &self,
        topic: TopicId,
        partition: i32,
    ) -> Option<&Arc<Versioned<PartitionValue>>> {
        self.partitions.get(&(topic, partition))
    }

    /// The partitions of a topic whose keys exist, sorted.
    pub fn partitions(
        &self,
        topic: TopicId,
    ) -> impl Iterator<Item = (i32, &Arc<Versioned<PartitionValue>>)> {
        self.partitions
            .range((topic, 0)..=(topic, i32::MAX))
            .map(|((_, partition), value)| (*partition, value))
    }

    /// All partitions of all topics, sorted.
    pub fn all_partitions(
        &self,
    ) -> impl ExactSizeIterator<Item = (TopicId, i32, &Arc<Versioned<PartitionValue>>)> {
        self.partitions
            .iter()
            .map(|((topic, partition), value)| (*topic, *partition, value))
    }

    /// The tier pointer of one partition.
    #[must_use]
    pub fn tier(&self, topic: TopicId, partition: i32) -> Option<&Arc<Versioned<TierValue>>> {
        self.tiers.get(&(topic, partition))
    }

    /// The tier pointers of a topic that exist, sorted.
    pub fn tiers(&self, topic: TopicId) -> impl Iterator<Item = (i32, &Arc<Versioned<TierValue>>)> {
        self.tiers
            .range((topic, 0)..=(topic, i32::MAX))
            .map(|((_, partition), value)| (*partition, value))
    }

    /// What an administrator configured.
    #[must_use]
    pub fn config(&self, kind: ConfigKind, name: &str) -> Option<&Arc<Versioned<ConfigValue>>> {
        self.configs.get(&(kind, name.to_owned()))
    }

    /// How many keys of settings there are, of all kinds.
    #[must_use]
    pub fn configs_count(&self) -> usize {
        self.configs.size()
    }

    /// All that an administrator configured of one kind, sorted by name.
    pub fn configs(
        &self,
        kind: ConfigKind,
    ) -> impl Iterator<Item = (&str, &Arc<Versioned<ConfigValue>>)> {
        self.configs
            .range((kind, String::new())..)
            .take_while(move |((of, _), _)| *of == kind)
            .map(|((_, name), value)| (name.as_str(), value))
    }
}

/// Clients see a topic once all of it is there.
fn is_visible(topic: &Versioned<TopicValue>) -> bool {
    topic.value.state != TopicState::Creating
}

#[cfg(test)]
mod tests;
