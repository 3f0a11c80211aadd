//! Which partitions this broker hosts.

use std::sync::{Arc, PoisonError, RwLock};

use esker_protocol::{FixedHashMap, TopicId};
use esker_storage::LogDirectory;

use crate::metrics::Metrics;
use crate::partition::Partition;

/// The hosted partitions.
pub struct PartitionSet {
    hosted: RwLock<FixedHashMap<(TopicId, i32), Arc<Partition>>>,
    metrics: Arc<Metrics>,
}

impl PartitionSet {
    /// An empty set.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> PartitionSet {
        PartitionSet {
            hosted: RwLock::default(),
            metrics,
        }
    }

    /// The partition, if this broker hosts it.
    #[must_use]
    pub fn get(&self, topic: TopicId, index: i32) -> Option<Arc<Partition>> {
        let hosted = self.hosted.read().unwrap_or_else(PoisonError::into_inner);
        hosted.get(&(topic, index)).map(Arc::clone)
    }

    /// Adds a partition.
    pub fn insert(&self, partition: Arc<Partition>) {
        {
            let mut hosted = self.hosted.write().unwrap_or_else(PoisonError::into_inner);
            hosted.insert((partition.topic_id, partition.index), partition);
        }
        self.count();
    }

    /// Takes a partition out, so that no new request reaches it.
    pub fn remove(&self, topic: TopicId, index: i32) -> Option<Arc<Partition>> {
        let removed = {
            let mut hosted = self.hosted.write().unwrap_or_else(PoisonError::into_inner);
            hosted.remove(&(topic, index))
        };
        self.count();
        removed
    }

    /// All of them, by topic id and number.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Partition>> {
        let hosted = self.hosted.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = hosted.values().map(Arc::clone).collect();
        drop(hosted);
        // The map's own order says nothing; this one is the same in every run.
        all.sort_by_key(|partition| (partition.topic_id, partition.index));
        all
    }

    /// A commit round has made more of this partition's log durable.
    pub fn published(&self, topic: TopicId, partition: i32) {
        if let Some(partition) = self.get(topic, partition) {
            partition.publish();
        }
    }

    /// A directory has failed: what it holds is not led here any more.
    pub fn directory_failed(&self, directory: &LogDirectory) {
        self.metrics.directory_failed();
        for partition in self.all() {
            if partition.directory.id() == directory.id() {
                partition.resign();
            }
        }
        self.count();
    }

    /// Nothing is this process's any more: another one has become the broker.
    pub fn let_go_all(&self) {
        for partition in self.all() {
            partition.let_go();
        }
    }

    fn count(&self) {
        let hosted = self.hosted.read().unwrap_or_else(PoisonError::into_inner);
        let offline = hosted
            .values()
            .filter(|partition| partition.is_offline())
            .count();
        self.metrics.set_partitions(hosted.len(), offline);
    }
}
