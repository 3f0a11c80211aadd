//! The part of a log that lives in the object store (P7, P8, P9).
//!
//! A partition's sealed segments become objects, a manifest names the objects, and a pointer in the
//! metadata store names the manifest. This crate makes and reads all three, and decides what may be
//! offloaded, kept and deleted. It commits nothing: [`upload::Commit`] and the functions of
//! [`pointer`] hand up values, and whoever leads the partition commits them by compare-and-swap.
//!
//! It must not know the local log's storage, the metadata store, clients, or threads: bytes of
//! segments come in through [`source::SegmentSource`], objects through `object_store`, work through
//! [`pool`], time as an argument or tokio's, randomness as an argument.
//!
//! Invariants
//! - Objects, heads and pages are never overwritten; every try has a new name.
//! - Nothing is visible before the pointer is committed, and nothing is deleted that a current,
//!   pending or retained manifest names.
//! - No byte leaves this crate whose frame checksum and batch CRC were not checked.

// Bytes from outside never panic: `get(..)`, not `[..]`.
#![cfg_attr(not(test), warn(clippy::indexing_slicing))]

pub mod collect;
pub mod fault;
pub mod inspect;
pub mod layout;
pub mod manifest;
pub mod object;
pub mod plan;
pub mod pointer;
pub mod pool;
pub mod read;
pub mod remote;
pub mod retention;
pub mod source;
pub mod store;
#[cfg(test)]
mod testing;
pub mod upload;
pub mod wire;

pub use layout::Partition;
pub use pointer::Pointer;
pub use source::SegmentSource;
