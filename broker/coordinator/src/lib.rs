//! Consumer groups: who is a member, and which partitions each member reads.
//!
//! It must not know files, sockets, clocks or tokio: state and events come in, decisions go out.

pub mod assignor;
pub mod consumer_protocol;
