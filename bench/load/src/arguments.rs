//! The command line.

use clap::{Args, Parser, Subcommand, ValueEnum};
use esker_client::Endpoint;

/// Load for a broker's groups, commits and compaction.
#[derive(Debug, Parser)]
#[command(name = "esker-load", version, max_term_width = 100)]
pub(crate) struct Arguments {
    /// The broker.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9092")]
    pub(crate) bootstrap: Endpoint,
    /// The name of the topic that is made, and the start of the names of groups and members; by
    /// default the scenario's.
    #[arg(long)]
    pub(crate) name: Option<String>,
    #[command(subcommand)]
    pub(crate) scenario: Scenario,
}

/// What is done to the broker.
#[derive(Debug, Subcommand)]
pub(crate) enum Scenario {
    /// One group of many members: they join, stay, one leaves while another comes, all leave.
    Members(Members),
    /// Many groups of one member each: they join, commit, stay, leave.
    Groups(Groups),
    /// Commits of groups without members.
    Commits(Commits),
    /// A compacted topic: a bounded set of keys is written over and over, then cleaned.
    Compact(Compact),
}

impl Scenario {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Scenario::Members(_) => "members",
            Scenario::Groups(_) => "groups",
            Scenario::Commits(_) => "commits",
            Scenario::Compact(_) => "compact",
        }
    }

    /// The partitions of the topic.
    pub(crate) fn partitions(&self) -> i32 {
        let partitions = match self {
            Scenario::Members(options) => options.partitions,
            Scenario::Groups(options) => options.partitions,
            Scenario::Commits(options) => options.partitions,
            Scenario::Compact(options) => options.partitions,
        };
        i32::from(partitions)
    }
}

/// How members speak to their coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Protocol {
    /// JoinGroup, SyncGroup, Heartbeat: a member assigns.
    Classic,
    /// ConsumerGroupHeartbeat (KIP-848): the broker assigns.
    Consumer,
}

/// Options of `members`.
#[derive(Debug, Args)]
pub(crate) struct Members {
    /// How they speak.
    #[arg(long, value_enum)]
    pub(crate) protocol: Protocol,
    /// How many there are; each has a connection of its own.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(2..))]
    pub(crate) members: u16,
    /// The partitions of their topic: at least one for each member.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) partitions: u16,
    /// How long they stay once the group is stable, in seconds.
    #[arg(long, default_value_t = 30)]
    pub(crate) hold: u64,
}

/// Options of `groups`.
#[derive(Debug, Args)]
pub(crate) struct Groups {
    /// How members speak.
    #[arg(long, value_enum)]
    pub(crate) protocol: Protocol,
    /// How many groups there are.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) groups: u32,
    /// The connections that all groups share. A classic member that joins keeps a connection busy
    /// for `group.initial.rebalance.delay.ms`, so that few connections make joining long.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) connections: u16,
    /// The partitions of their topic, all of which every group reads.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) partitions: u16,
    /// How long they stay, in seconds.
    #[arg(long, default_value_t = 30)]
    pub(crate) hold: u64,
}

/// Options of `commits`.
#[derive(Debug, Args)]
pub(crate) struct Commits {
    /// The connections; each waits for an answer before it commits again.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) connections: u16,
    /// How many commits are asked for in a second, by all connections together and evenly; by default as
    /// many as are answered. What a connection cannot ask for in time, since it still waits for an answer, is
    /// missed at the end.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rate: Option<u32>,
    /// How long, in seconds.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) seconds: u64,
    /// The groups, in turn.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) groups: u32,
    /// The partitions of the topic; each commit names all.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) partitions: u16,
}

/// Options of `compact`.
#[derive(Debug, Args)]
pub(crate) struct Compact {
    /// How many keys there are; each belongs to one partition.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) keys: u32,
    /// How many records are written.
    #[arg(long, default_value_t = 2_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) records: u64,
    /// The bytes of a value.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u16).range(8..))]
    pub(crate) size: u16,
    /// The partitions of the topic; each is written through a connection of its own.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) partitions: u16,
    /// `segment.bytes` of the topic.
    #[arg(long, default_value_t = 4 << 20)]
    pub(crate) segment_bytes: u32,
    /// `min.cleanable.dirty.ratio` of the topic.
    #[arg(long, default_value_t = 0.2)]
    pub(crate) dirty_ratio: f64,
    /// The cleaner has caught up when the topic's size has not changed for so long, in seconds.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) settle: u64,
    /// Which keys are written in which order.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }
}
