//! What a shard sees of the world: topics, settings and time, all handed in.

use esker_protocol::{Timestamp, TopicId};

/// The two clocks at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// The wall clock: what is written into records and what retention counts.
    pub wall: Timestamp,
    /// Milliseconds of a clock that never goes back: what timers count.
    pub monotonic_ms: i64,
}

/// The topics that clients can see.
pub trait Topics {
    /// Id and partition count of a topic.
    fn by_name(&self, name: &str) -> Option<(TopicId, i32)>;

    /// Name and partition count of a topic.
    fn by_id(&self, id: TopicId) -> Option<(&str, i32)>;

    /// The racks of a partition's replicas, sorted, without those that have none.
    fn racks(&self, id: TopicId, partition: i32) -> Vec<&str>;

    /// Calls `each` for every topic's name, in order.
    fn for_each_name(&self, each: &mut dyn FnMut(&str));

    /// Changes whenever anything above may have changed: the metadata's revision.
    fn revision(&self) -> i64;
}

/// The settings of groups, and their overrides.
pub trait Configuration {
    /// The broker's settings.
    fn settings(&self) -> &Settings;

    /// What holds for one group.
    fn group(&self, group_id: &str) -> GroupSettings;

    /// What members of groups may take in memory in this shard, in bytes, about: above it nobody joins.
    fn members_bytes_max(&self) -> usize {
        usize::MAX
    }
}

/// Broker settings of coordinators, under Kafka's names and with Kafka's defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `group.min.session.timeout.ms`.
    pub session_timeout_ms_min: i32,
    /// `group.max.session.timeout.ms`.
    pub session_timeout_ms_max: i32,
    /// `group.initial.rebalance.delay.ms`.
    pub initial_rebalance_delay_ms: i32,
    /// `group.max.size`: members of a classic group.
    pub classic_members_max: i32,
    /// `group.consumer.max.size`: members of a consumer group.
    pub consumer_members_max: i32,
    /// `group.consumer.assignors`: names of server-side assignors, the first is the default.
    pub consumer_assignors: Vec<String>,
    /// `group.consumer.migration.policy`.
    pub consumer_migration: MigrationPolicy,
    /// Whether `group.coordinator.rebalance.protocols` has `consumer` and `group.version` is 1.
    pub consumer_enabled: bool,
    /// What holds for a consumer group without overrides.
    pub group: GroupSettings,
    /// `offset.metadata.max.bytes`.
    pub offset_metadata_bytes_max: usize,
    /// `offsets.retention.minutes`, in milliseconds.
    pub offsets_retention_ms: i64,
    /// `offsets.retention.check.interval.ms`.
    pub offsets_retention_check_interval_ms: i64,
    /// The largest batch that can be appended; a step's records fit into one.
    pub batch_bytes_max: usize,
    /// Groups that one shard holds at most; a client that makes up names cannot fill the memory.
    pub groups_max: usize,
}

/// `group.consumer.migration.policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MigrationPolicy {
    /// Groups change their type both ways while members of both protocols are there.
    Bidirectional,
    /// Classic groups become consumer groups.
    Upgrade,
    /// Consumer groups become classic groups.
    Downgrade,
    /// Neither.
    Disabled,
}

/// Settings that a group may override.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSettings {
    /// `consumer.session.timeout.ms`.
    pub consumer_session_timeout_ms: i32,
    /// `consumer.heartbeat.interval.ms`.
    pub consumer_heartbeat_interval_ms: i32,
    /// `consumer.assignment.interval.ms`: the least time between two runs of the assignor.
    pub consumer_assignment_interval_ms: i32,
}

impl Default for GroupSettings {
    fn default() -> GroupSettings {
        GroupSettings {
            consumer_session_timeout_ms: 45_000,
            consumer_heartbeat_interval_ms: 5_000,
            consumer_assignment_interval_ms: 1_000,
        }
    }
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            session_timeout_ms_min: 6_000,
            session_timeout_ms_max: 1_800_000,
            initial_rebalance_delay_ms: 3_000,
            classic_members_max: i32::MAX,
            consumer_members_max: i32::MAX,
            consumer_assignors: vec!["uniform".to_owned(), "range".to_owned()],
            consumer_migration: MigrationPolicy::Bidirectional,
            consumer_enabled: true,
            group: GroupSettings::default(),
            offset_metadata_bytes_max: 4_096,
            offsets_retention_ms: 10_080 * 60_000,
            offsets_retention_check_interval_ms: 600_000,
            batch_bytes_max: 1_048_588,
            groups_max: 100_000,
        }
    }
}

/// Everything that a step may look at.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// The topics.
    pub topics: &'a dyn Topics,
    /// The settings.
    pub configuration: &'a dyn Configuration,
    /// The time.
    pub now: Now,
}
