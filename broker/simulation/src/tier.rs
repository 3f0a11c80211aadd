//! What the metadata store and the bucket must show at any time (P4, P7, P8, P9).
//!
//! Of every change of a key, in the order of revisions:
//! - leader epochs and claimed epochs only grow;
//! - tier end, log start and local floor only move forward, and the floor is at most the tier end;
//! - a manifest's version grows by one, its checksum is the pointer's, its entries touch and cover
//!   log start to tier end, and the object of each is there, whole.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use esker_metadata::values::{ClusterValue, PartitionValue, TierValue, TopicValue, Value};
use esker_metadata::{Key, Keys, MemoryStore, MetadataStore, Revision};
use esker_protocol::records::Batches;
use esker_protocol::{Offset, TopicId};
use esker_tier::inspect::{Bucket, partition_of};
use esker_tier::layout::{self, Named, Place as BucketPlace};
use esker_tier::manifest::{self, Entry};
use esker_tier::pool::Inline;
use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::history::{History, Place};
use crate::trace::Trace;
use crate::weather::OBSERVED_PREFIX;

/// Looks at a run's metadata store and bucket, past all faults.
#[derive(Clone)]
pub(crate) struct Authority {
    pub(crate) keys: Keys,
    pub(crate) metadata: MemoryStore,
    pub(crate) objects: Arc<dyn ObjectStore>,
    pub(crate) trace: Trace,
    pub(crate) history: History,
}

/// What the keys say, as far as the watch has come.
#[derive(Default)]
struct Mirror {
    values: BTreeMap<String, Bytes>,
}

impl Authority {
    /// Checks every change until the simulation ends.
    pub(crate) async fn observe(self) {
        let watch = self
            .metadata
            .watch(OBSERVED_PREFIX, Revision::FIRST.next())
            .await;
        let Ok(mut watch) = watch else {
            self.trace
                .violation("the simulation cannot watch its own store");
            return;
        };
        let mut mirror = Mirror::default();
        loop {
            let event = match watch.next().await {
                Ok(event) => event,
                Err(lost) => {
                    self.trace
                        .violation(format_args!("the simulation's own watch ended: {lost}"));
                    return;
                }
            };
            for (key, entry) in event.changes {
                let before = match &entry {
                    Some(entry) => mirror.values.insert(key.clone(), entry.value.clone()),
                    None => mirror.values.remove(&key),
                };
                let Some(entry) = entry else {
                    self.trace
                        .note(format_args!("{} {key} is gone", event.revision));
                    continue;
                };
                let text = String::from_utf8_lossy(&entry.value).into_owned();
                self.trace
                    .note(format_args!("{} {key} = {text}", event.revision));
                let checked = self
                    .check(&mirror, &key, before.as_ref(), &entry.value)
                    .await;
                if let Err(problem) = checked {
                    self.trace.violation(format_args!("{key}: {problem}"));
                }
            }
        }
    }

    async fn check(
        &self,
        mirror: &Mirror,
        key: &str,
        before: Option<&Bytes>,
        now: &Bytes,
    ) -> Result<(), String> {
        match self.keys.parse(key) {
            Some(Key::Partition(..)) => {
                let now = decode::<PartitionValue>(key, now)?;
                let Some(before) = before else { return Ok(()) };
                let before = decode::<PartitionValue>(key, before)?;
                if now.leader_epoch < before.leader_epoch {
                    return Err("the leader epoch fell".to_owned());
                }
                if now.leader != before.leader && now.leader_epoch == before.leader_epoch {
                    return Err("the leader changed within an epoch".to_owned());
                }
                Ok(())
            }
            Some(Key::Tier(topic, partition)) => {
                let now = decode::<TierValue>(key, now)?;
                if let Some(before) = before {
                    moves_forward(&decode::<TierValue>(key, before)?, &now)?;
                }
                if now.local_floor > now.tier_end {
                    return Err("the local floor is above the tier end".to_owned());
                }
                let checked = self.check_manifest(topic, partition, &now).await;
                // The watch is behind: the keys of a deleted topic may be gone by now, and then its
                // objects may be as well.
                let is_deleted = mirror.values.contains_key(&self.keys.deleted(topic));
                match checked {
                    Err(_) if is_deleted && self.value(key).await.is_none() => Ok(()),
                    checked => checked.map(|_| ()),
                }
            }
            Some(Key::Cluster) => {
                let now = decode::<ClusterValue>(key, now)?;
                match before
                    .map(|before| decode::<ClusterValue>(key, before))
                    .transpose()?
                {
                    Some(before) if before.cluster_id != now.cluster_id => {
                        Err("the cluster changed its id".to_owned())
                    }
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    async fn cluster_id(&self) -> Result<String, String> {
        let key = self.keys.cluster();
        let value = self.value(&key).await.ok_or("there is no cluster key")?;
        Ok(decode::<ClusterValue>(&key, &value)?.cluster_id)
    }

    /// The value of a key, past all faults: a watch of the simulation's own from where it stands.
    async fn value(&self, key: &str) -> Option<Bytes> {
        self.all().await.remove(key)
    }

    /// All keys, past all faults.
    pub(crate) async fn all(&self) -> BTreeMap<String, Bytes> {
        match self.metadata.list(OBSERVED_PREFIX).await {
            Ok((entries, _)) => entries
                .into_iter()
                .map(|entry| (entry.key, entry.value))
                .collect(),
            Err(error) => {
                self.trace
                    .violation(format_args!("the metadata cannot be listed: {error}"));
                BTreeMap::new()
            }
        }
    }

    /// Checks the manifest that a pointer names; gives its entries from log start on.
    async fn check_manifest(
        &self,
        topic: TopicId,
        partition: i32,
        pointer: &TierValue,
    ) -> Result<(BucketPlace, Vec<Entry>), String> {
        let place = BucketPlace {
            cluster_id: self.cluster_id().await?,
            topic_id: topic,
            partition,
        };
        let Some(name) = &pointer.manifest else {
            return Ok((place, Vec::new()));
        };
        let path = layout::manifest(&partition_of(&place), name);
        let bytes = self.whole(&path).await?;
        let (head, checksum) = manifest::decode_head(&bytes).map_err(|e| format!("{path}: {e}"))?;
        if checksum != pointer.checksum {
            return Err(format!(
                "{path} has checksum {checksum}, not {}",
                pointer.checksum
            ));
        }
        if head.version > pointer.version || head.leader_epoch > pointer.claimed_epoch {
            return Err(format!("{path} is newer than its pointer"));
        }
        let bucket = Bucket::new(Arc::clone(&self.objects), Arc::new(Inline));
        let entries = bucket
            .entries(&place, &head)
            .await
            .map_err(|error| error.to_string())?;
        let needed: Vec<Entry> = entries
            .into_iter()
            .filter(|entry| entry.end > pointer.log_start)
            .collect();
        let mut next = None;
        for entry in &needed {
            let expected = next.unwrap_or(pointer.log_start);
            let touches = match next {
                Some(next) => entry.base == next,
                None => entry.base <= expected,
            };
            if !touches {
                return Err(format!(
                    "{path}: {} to {} follows {expected}",
                    entry.base, entry.end
                ));
            }
            next = Some(entry.end);
            let object = layout::object(&partition_of(&place), &entry.name());
            let meta = self
                .objects
                .head(&object)
                .await
                .map_err(|error| error.to_string())?;
            if meta.size != entry.object_bytes {
                return Err(format!(
                    "{object} has {} bytes, not {}",
                    meta.size, entry.object_bytes
                ));
            }
        }
        // A log that started anew above its tier moves the end of a manifest that ends below.
        let end = next.unwrap_or(pointer.tier_end);
        if end != pointer.tier_end && end > pointer.log_start {
            return Err(format!(
                "{path} ends at {end}, the tier at {}",
                pointer.tier_end
            ));
        }
        Ok((place, needed))
    }

    async fn whole(&self, path: &object_store::path::Path) -> Result<Bytes, String> {
        let found = self
            .objects
            .get(path)
            .await
            .map_err(|error| error.to_string())?;
        found.bytes().await.map_err(|error| error.to_string())
    }

    /// Decodes every object that the tiers of these topics name, and compares what it holds with
    /// what clients were told. Returns how many objects there were.
    pub(crate) async fn check_objects(&self, places: &[Place]) -> u64 {
        let values = self.all().await;
        let mut names = BTreeMap::new();
        for (key, value) in &values {
            if let (Some(Key::Topic(name)), Ok(topic)) =
                (self.keys.parse(key), decode::<TopicValue>(key, value))
            {
                names.insert(topic.topic_id, name);
            }
        }
        let mut count = 0;
        for (key, value) in &values {
            let Some(Key::Tier(topic, partition)) = self.keys.parse(key) else {
                continue;
            };
            let Some(name) = names.get(&topic) else {
                continue;
            };
            let place = Place {
                topic: name.clone(),
                partition,
                life: 0,
            };
            if !places.contains(&place) {
                continue;
            }
            match self.check_tier(topic, partition, key, value, &place).await {
                Ok(objects) => count += objects,
                Err(problem) => self
                    .trace
                    .violation(format_args!("the tier of {place}: {problem}")),
            }
        }
        count
    }

    async fn check_tier(
        &self,
        topic: TopicId,
        partition: i32,
        key: &str,
        value: &Bytes,
        place: &Place,
    ) -> Result<u64, String> {
        let pointer = decode::<TierValue>(key, value)?;
        let (bucket_place, entries) = self.check_manifest(topic, partition, &pointer).await?;
        let bucket = Bucket::new(Arc::clone(&self.objects), Arc::new(Inline));
        let mut last_epoch = None;
        for entry in &entries {
            let path = layout::object(&partition_of(&bucket_place), &entry.name());
            let (index, position) = bucket
                .index(&path, entry.object_bytes)
                .await
                .map_err(|error| error.to_string())?;
            if position != entry.index_position
                || (index.base, index.end) != (entry.base, entry.end)
            {
                return Err(format!("{path}: the index is not what the manifest says"));
            }
            let mut segments = Vec::new();
            bucket
                .cat(&path, &index, |bytes| segments.extend_from_slice(&bytes))
                .await
                .map_err(|error| error.to_string())?;
            let mut next = entry.base;
            for batch in Batches::new(&segments) {
                let batch = batch.map_err(|error| format!("{path}: {error}"))?;
                if batch.header().base_offset != next {
                    return Err(format!(
                        "{path}: {} follows {next}",
                        batch.header().base_offset
                    ));
                }
                next = Offset(self.history.read(place, &batch, "the bucket"));
                last_epoch = Some(batch.header().partition_leader_epoch);
            }
            if next != entry.end {
                return Err(format!(
                    "{path} ends at {next}, its manifest says {}",
                    entry.end
                ));
            }
        }
        if last_epoch.is_some_and(|epoch| epoch != pointer.tier_end_epoch) {
            return Err(format!(
                "the last epoch is {last_epoch:?}, not {}",
                pointer.tier_end_epoch
            ));
        }
        Ok(entries.len() as u64)
    }

    /// A partition's pointer.
    pub(crate) async fn pointer(&self, topic: TopicId, partition: i32) -> Option<TierValue> {
        let key = self.keys.tier(topic, partition);
        let value = self.value(&key).await?;
        decode::<TierValue>(&key, &value).ok()
    }

    /// What is left of topics that are deleted: keys, and objects in the bucket but for those whose
    /// PUTs came late.
    pub(crate) async fn leftovers(&self, late: &BTreeSet<String>) -> Vec<String> {
        let values = self.all().await;
        let mut live = Vec::new();
        let mut left = Vec::new();
        for (key, value) in &values {
            if let Some(Key::Topic(_)) = self.keys.parse(key)
                && let Ok(topic) = decode::<TopicValue>(key, value)
            {
                live.push(topic.topic_id);
            }
        }
        for key in values.keys() {
            match self.keys.parse(key) {
                Some(Key::Deleted(_)) => left.push(key.clone()),
                Some(Key::Partition(topic, _) | Key::Tier(topic, _)) if !live.contains(&topic) => {
                    left.push(key.clone());
                }
                _ => {}
            }
        }
        let listed: Result<Vec<_>, _> = self.objects.list(None).try_collect().await;
        for meta in listed.unwrap_or_default() {
            match layout::parse(&meta.location) {
                Some(Named::Object { place, .. } | Named::Manifest { place, .. })
                    if !live.contains(&place.topic_id)
                        && !late.contains(meta.location.as_ref()) =>
                {
                    left.push(meta.location.to_string());
                }
                _ => {}
            }
        }
        left
    }

    /// The names of all objects.
    pub(crate) async fn names(&self) -> BTreeSet<String> {
        let listed: Result<Vec<_>, _> = self.objects.list(None).try_collect().await;
        listed
            .unwrap_or_default()
            .into_iter()
            .map(|meta| meta.location.to_string())
            .collect()
    }

    /// Notes all objects and their lengths.
    pub(crate) async fn note_bucket(&self) {
        let listed: Result<Vec<_>, _> = self.objects.list(None).try_collect().await;
        for meta in listed.unwrap_or_default() {
            self.trace
                .note(format_args!("object {} {}", meta.location, meta.size));
        }
    }
}

fn decode<T: Value>(key: &str, value: &Bytes) -> Result<T, String> {
    T::decode(key, value).map_err(|error| error.to_string())
}

fn moves_forward(before: &TierValue, now: &TierValue) -> Result<(), String> {
    let pairs = [
        ("the tier end", before.tier_end, now.tier_end),
        ("log start", before.log_start, now.log_start),
        ("the local floor", before.local_floor, now.local_floor),
    ];
    for (what, before, now) in pairs {
        if now < before {
            return Err(format!("{what} went back from {before} to {now}"));
        }
    }
    if now.claimed_epoch < before.claimed_epoch {
        return Err("the claimed epoch fell".to_owned());
    }
    let is_new = now.manifest != before.manifest;
    if is_new && now.version != before.version + 1 || now.version < before.version {
        return Err(format!(
            "version {} follows {}",
            now.version, before.version
        ));
    }
    Ok(())
}
