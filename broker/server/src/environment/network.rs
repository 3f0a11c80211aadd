//! The network seam: listeners and streams that are sockets in production and queues in simulation.

use std::io;
use std::net::SocketAddr;

use async_trait::async_trait;

/// A connected byte stream, on whichever side of a connection.
pub use esker_client::Stream;

/// A bound listener.
#[async_trait]
pub trait Listener: Send + Sync {
    /// Waits for the next connection. An error concerns that one connection only.
    async fn accept(&self) -> io::Result<(Box<dyn Stream>, SocketAddr)>;

    /// The address that was bound, with the port that was chosen where 0 was asked for.
    fn local_address(&self) -> SocketAddr;
}

/// Binds listeners.
#[async_trait]
pub trait Network: Send + Sync {
    /// Binds `host:port`; port 0 takes a free one.
    ///
    /// # Errors
    /// The address cannot be resolved, is in use, or may not be bound.
    async fn bind(&self, host: &str, port: u16) -> io::Result<Box<dyn Listener>>;
}
