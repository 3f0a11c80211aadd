//! Whole brokers under a seed: the product's own code on a simulated disk, network, object store,
//! metadata store and clock, with crashes at any step.
//!
//! ```text
//! scenario        what one seed does: load, weather, crashes, restarts, checks
//! world           the broker that runs, what outlives it, how it is killed and started again
//! workload        producers and readers through the real client
//! members         members of groups, of both protocols, that vanish, fall silent and are cut off
//! history  tier   what must hold: of acknowledged records; of pointers, manifests and objects
//! groups          what must hold of owners of partitions and of commits
//! compacted       a topic that is compacted, and the map that it must be
//! executor  network  weather  disk      the seams: tasks, streams, faults, planted bugs
//! ```
//!
//! Invariants
//! - Everything follows from the seed: two runs give equal traces, event for event, poll for poll.
//! - Nothing here reaches into the product: what it starts is `Broker::start`, what it checks is what
//!   clients, the metadata store and the bucket show, and the ends that a log states.
//! - The runtime is the caller's: one thread, its clock paused (only tests have that feature).

mod compacted;
mod disk;
mod environment;
mod executor;
mod groups;
mod history;
mod members;
mod network;
mod random;
mod scenario;
mod tier;
mod trace;
mod weather;
mod workload;
mod world;

pub use disk::Planted;
pub use scenario::{Load, Options, Outcome, Summary, run};
