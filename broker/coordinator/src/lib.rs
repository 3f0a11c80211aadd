//! Coordinators: groups and their offsets as deterministic state machines over a log.
//!
//! A [`Shard`] is the state of one partition of `__consumer_offsets`. It does no I/O: whoever hosts
//! it hands in requests, timers and records, appends the records that come out, and releases replies
//! once the log has committed what they rest on.
//!
//! ```text
//! request, now -> Shard::handle -> Step { records, replies }
//!                                     |         |
//!                     appended as one batch     sent once that batch is committed
//! ```
//!
//! Invariants
//! - What survives a restart is changed by replaying records only: a shard that handled requests
//!   equals one that replayed the records they gave. Timers and waiting replies are not part of it.
//! - The same requests at the same times under the same seed give the same steps.
//! - A step whose records cannot be appended ends the shard: its host drops it and loads the log
//!   again. Nothing that was told to a client rests on it, since its replies were never sent.
//! - Replies also rest on what was read: a host sends a step without records only once everything
//!   that the shard has handed out before is committed.

pub mod assignor;
mod group;
mod random;
pub mod record;
pub mod shard;
mod size;
pub mod step;
pub mod timers;
pub mod view;
#[cfg(test)]
mod world;

pub use record::{Key, Record, RecordError, Value};
pub use shard::Shard;
pub use step::{Request, RequestContext, Response, Step, Ticket};
pub use timers::Timers;
pub use view::{Configuration, GroupSettings, Now, Settings, Topics, View};
