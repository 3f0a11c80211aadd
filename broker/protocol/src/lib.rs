//! The Kafka wire format: bytes in, bytes out.
//!
//! This crate does no I/O and knows neither tokio, files nor sockets. It must never panic on bytes
//! from outside and never allocate more than a small multiple of the bytes it was given.

pub mod api;
pub mod consumer_protocol;
pub mod error;
pub mod frame;
pub mod ids;
pub mod messages;
pub mod primitive;
pub mod records;
#[cfg(any(test, feature = "samples"))]
pub mod sample;

pub use error::ErrorCode;
pub use ids::{BrokerId, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp, TopicId};

/// A hash map whose hasher has fixed keys, so that one run is like the next.
///
/// Only for maps whose iteration order is never observed.
pub type FixedHashMap<K, V> = ids::hash::Map<K, V>;
/// A hash set whose hasher has fixed keys; see [`FixedHashMap`].
pub type FixedHashSet<K> = ids::hash::Set<K>;
