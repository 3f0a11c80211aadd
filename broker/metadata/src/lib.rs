//! What the cluster knows: the store that holds it, its keys and values, the image that brokers act
//! on, and the controller's decisions.
//!
//! It knows nothing of logs, objects or clients. Safety rests on one rule: every change that matters
//! is one transaction that compares the revision last read of the key that fences it (P1).

#[cfg(any(test, feature = "contract"))]
pub mod contract;
pub mod controller;
pub mod embedded;
pub mod features;
pub mod image;
pub mod keys;
pub mod memory;
pub mod pending;
pub mod store;
pub mod values;

mod cursor;
mod history;
mod state;

pub use embedded::EmbeddedStore;
pub use image::{Image, Versioned};
pub use keys::{Key, Keys};
pub use memory::MemoryStore;
pub use pending::{Pending, Settled};
pub use store::{
    Compare, Condition, Entry, LeaseId, MetadataStore, Operation, Revision, StoreError,
    Transaction, TransactionOutcome, Watch, WatchEvent, WatchLost,
};
