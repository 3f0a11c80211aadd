//! What shards see of the broker: the image's topics, the settings, the time.

use std::sync::Arc;

use esker_coordinator::{Configuration, GroupSettings, Now, Settings, Topics, View};
use esker_metadata::Image;
use esker_metadata::keys::ConfigKind;
use esker_protocol::{Timestamp, TopicId};

use crate::broker::Shared;

/// An image as coordinators see it.
pub(super) struct World {
    image: Arc<Image>,
    settings: Arc<Settings>,
    now: Now,
    members_bytes_max: usize,
}

impl World {
    /// The world as it is now, for a shard with these settings, whose members may take so much.
    pub(super) fn now(shared: &Shared, settings: Arc<Settings>, members_bytes_max: usize) -> World {
        World {
            image: shared.image(),
            settings,
            now: Now {
                wall: shared.environment.now(),
                monotonic_ms: shared.coordinators.monotonic_ms(),
            },
            members_bytes_max,
        }
    }

    /// What the wall clock says.
    pub(super) fn wall(&self) -> Timestamp {
        self.now.wall
    }

    pub(super) fn view(&self) -> View<'_> {
        View {
            topics: self,
            configuration: self,
            now: self.now,
        }
    }
}

impl Topics for World {
    fn by_name(&self, name: &str) -> Option<(TopicId, i32)> {
        let topic = &self.image.visible_topic(name)?.value;
        Some((topic.topic_id, topic.partitions))
    }

    fn by_id(&self, id: TopicId) -> Option<(&str, i32)> {
        let (name, topic) = self.image.visible_topic_by_id(id)?;
        Some((name, topic.value.partitions))
    }

    fn racks(&self, id: TopicId, partition: i32) -> Vec<&str> {
        let Some(partition) = self.image.partition(id, partition) else {
            return Vec::new();
        };
        let mut racks: Vec<&str> = partition
            .value
            .brokers()
            .filter_map(|broker| self.image.broker_info(broker)?.value.rack.as_deref())
            .collect();
        racks.sort_unstable();
        racks.dedup();
        racks
    }

    fn for_each_name(&self, each: &mut dyn FnMut(&str)) {
        for (name, _) in self.image.visible_topics() {
            each(name);
        }
    }

    fn revision(&self) -> i64 {
        i64::try_from(self.image.topology_revision().0).unwrap_or(i64::MAX)
    }
}

impl Configuration for World {
    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn members_bytes_max(&self) -> usize {
        self.members_bytes_max
    }

    fn group(&self, group_id: &str) -> GroupSettings {
        let mut settings = self.settings.group.clone();
        let Some(overrides) = self.image.config(ConfigKind::Group, group_id) else {
            return settings;
        };
        for (name, place) in [
            (
                "consumer.session.timeout.ms",
                &mut settings.consumer_session_timeout_ms,
            ),
            (
                "consumer.heartbeat.interval.ms",
                &mut settings.consumer_heartbeat_interval_ms,
            ),
            (
                "consumer.assignment.interval.ms",
                &mut settings.consumer_assignment_interval_ms,
            ),
        ] {
            // What is stored was checked; what a later version stored and this one cannot read is
            // as if it were not there.
            if let Some(value) = overrides.value.configs.get(name)
                && let Ok(value) = value.trim().parse()
            {
                *place = value;
            }
        }
        settings
    }
}
