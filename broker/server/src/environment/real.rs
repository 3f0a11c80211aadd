//! The real environment: sockets, the system clock, the kernel's randomness, a tokio runtime.

use std::io;
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use esker_protocol::Timestamp;
use futures::future::BoxFuture;
use tokio::net::{TcpListener, TcpSocket};

use super::{Clock, Listener, Network, Randomness, Spawner, Stream, Work};

/// Connections that the kernel completes and holds before they are accepted.
const LISTEN_BACKLOG: u32 = 1024;

/// The system's wall clock.
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the environment's wall clock"
    )]
    fn now(&self) -> Timestamp {
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
    }
}

/// Seeds a generator from the kernel.
///
/// # Errors
/// The kernel's random device cannot be read.
pub fn randomness() -> io::Result<Randomness> {
    let mut seed = [0u8; 32];
    rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty())?;
    Ok(Randomness::from_seed(seed))
}

/// Runs tasks on a tokio runtime and blocking work on its blocking threads.
pub struct RuntimeSpawner(tokio::runtime::Handle);

impl RuntimeSpawner {
    /// A spawner on this runtime.
    #[must_use]
    pub fn new(handle: tokio::runtime::Handle) -> RuntimeSpawner {
        RuntimeSpawner(handle)
    }
}

impl Spawner for RuntimeSpawner {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.0.spawn(task);
    }

    fn execute(&self, work: Work, job: Box<dyn FnOnce() + Send>) {
        if self.is_inline(work) {
            job();
        } else {
            self.0.spawn_blocking(job);
        }
    }

    // A write of one batch into the page cache costs less than the two thread switches that
    // handing it over would.
    fn is_inline(&self, work: Work) -> bool {
        work == Work::PageCache
    }
}

/// TCP sockets.
pub struct TcpNetwork;

struct TcpAcceptor {
    listener: TcpListener,
    address: SocketAddr,
}

#[async_trait]
impl Listener for TcpAcceptor {
    async fn accept(&self) -> io::Result<(Box<dyn Stream>, SocketAddr)> {
        let (stream, peer) = self.listener.accept().await?;
        stream.set_nodelay(true)?;
        Ok((Box::new(stream), peer))
    }

    fn local_address(&self) -> SocketAddr {
        self.address
    }
}

#[async_trait]
impl Network for TcpNetwork {
    async fn bind(&self, host: &str, port: u16) -> io::Result<Box<dyn Listener>> {
        let host = if host.is_empty() { "0.0.0.0" } else { host };
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in tokio::net::lookup_host((host, port)).await? {
            match listen(address) {
                Ok(listener) => {
                    let address = listener.local_addr()?;
                    return Ok(Box::new(TcpAcceptor { listener, address }));
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // Connections of a broker that just went away must not keep its port for a minute.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(LISTEN_BACKLOG)
}
