//! A small async Kafka client, for the command line, for tests and simulation, for replication.
//!
//! ```text
//! Producer   Consumer          sequences, positions
//! Client                       metadata, routing to leaders, retries within the caller's deadline
//! Connection                   one byte stream: frames, correlation, pipelining, versions
//! Connect -> Stream            TCP, or whatever simulation puts there
//! ```
//!
//! It knows the protocol and nothing about any server. It has no global state and spawns nothing:
//! whoever waits for an answer moves the bytes of all, so that dropping the futures stops
//! everything. Time is tokio's, which tests and simulation pause; every call takes the deadline at
//! which its caller loses interest.
//!
//! Invariants
//! - Requests of one connection are written in the order in which they were made, whole.
//! - Retrying happens in one place, [`Client`], and never repeats what may have happened unless
//!   repeating it is harmless.

mod admin;
mod client;
mod connection;
mod consumer;
mod endpoint;
mod error;
mod fetch;
mod metadata;
mod offsets;
mod produce;
mod producer;
mod stream;
#[cfg(test)]
mod testing;

pub use admin::{
    ByGroup, ByPartition, ClusterBroker, ClusterDescription, CommittedOffset, ConfigChange,
    ConfigEntry, ConfigResource, ConfigSource, Coordinator, DescribedGroup, Features, GroupKind,
    GroupMember, Levels, ListedGroup, LogDir, NewTopic, TopicPartition, TopicSetting,
};
pub use client::{Client, ClientOptions, Target};
pub use connection::{Answer, Connection, ConnectionOptions};
pub use consumer::{Consumer, ConsumerOptions, Polled};
pub use endpoint::{Endpoint, ParseEndpointError};
pub use error::{ClientError, ConnectionError};
pub use fetch::{FetchOptions, FetchPosition, Fetched};
pub use metadata::{Broker, Metadata, Partition, Topic};
pub use offsets::{ListedOffset, OffsetSpec};
pub use produce::{Acks, Produced};
pub use producer::{NewRecord, Producer, ProducerOptions};
pub use stream::{Connect, Stream, TcpConnect};
