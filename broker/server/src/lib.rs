//! The broker process: everything the other crates decide is joined here and carried out.
//!
//! [`Broker::start`] builds a broker from values ([`config::Config`]) and components
//! ([`environment::Environment`]); `ARCHITECTURE.md` walks the paths of a produce, a fetch from the
//! tier and an upload through these modules.

pub mod authority;
pub mod broker;
pub mod bucket;
pub mod cli;
pub mod commit;
pub mod compaction;
pub mod config;
pub mod configs;
pub mod connection;
pub mod controller;
pub mod coordinators;
pub mod dispatch;
pub mod environment;
pub mod fetch_sessions;
pub mod handlers;
pub mod http;
pub mod listener;
pub mod membership;
pub mod metrics;
pub mod partition;
pub mod partitions;
#[cfg(feature = "planted-bugs")]
mod planted;
pub mod producer_ids;
pub mod replicas;
pub mod retention;
pub mod startup;
pub mod tiering;
pub mod topics;

pub use broker::{Broker, Shared};
pub use config::Config;
pub use environment::Environment;
