//! Decisions about the cluster: from an image to the transactions that should follow. Pure.
//!
//! Any broker makes the transactions of an administrator's request; the elected controller makes
//! those that follow from them ([`plan`]), again and again from the latest image, until there are
//! none. A transaction that fails its compares was planned from an image that is out of date: the
//! next image plans anew. So everything here may be repeated, lost or late, and must be right.
//!
//! ```text
//!   create ─▶ creating ─▶ partition keys, in batches ─▶ live ─▶ grow ─▶ growing ─▶ … ─▶ live
//!                                                        │
//!            any of the three ── delete ─▶ deleted/<id> ─▶ keys of its partitions go ─▶ forgotten
//! ```
//!
//! Every batch compares the revision of the topic's key, so that one which arrives late cannot land
//! after a deletion (P3).

mod batch;
mod cluster;
mod configs;
mod epochs;
mod names;
mod partitions;
mod placement;
mod topics;

pub use batch::{Batch, Change};
pub use cluster::{
    RegistrationError, create_cluster, elect_controller, is_replaced, mark_bucket_used, register,
    take_producer_ids,
};
pub use configs::set_configs;
pub use epochs::{NotRegistered, is_fresh, led_anew, raise_epochs};
pub use names::{InvalidTopicName, TOPIC_NAME_BYTES_MAX, validate_topic_name};
pub use partitions::effective_min_isr;
pub use placement::{PlacementError, place};
pub use topics::{
    NewTopic, NotLive, PlanSettings, create_topic, delete_topic, forget_topic, grow_topic, plan,
    set_topic_configs,
};

#[cfg(test)]
mod tests;
