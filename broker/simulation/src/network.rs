//! A network in memory: streams with delays that the seed draws, and cuts.
//!
//! Between two ends lies a pump for each direction that holds bytes back; cutting a connection ends
//! its pumps, and both ends see it closed with whatever was under way lost. A host that is isolated
//! keeps its connections: what is under way, in one direction or both, waits until it is reached again.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use esker_client::Connect;
use esker_server::environment::{Listener, Network, Stream};
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, ReadHalf, WriteHalf,
    duplex, split,
};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use crate::executor::{Executor, OUTSIDE};
use crate::random::Random;

/// Bytes that one direction of a stream holds.
const STREAM_BYTES: usize = 64 << 10;

/// Bytes that a pump moves at once.
const PUMP_BYTES: usize = 16 << 10;

/// Connections that wait to be accepted.
const BACKLOG: usize = 64;

/// The first port given where none is asked for.
const PORT_FIRST: u16 = 20_000;

type Accepted = (DuplexStream, SocketAddr);

/// The network; clones are the same one.
#[derive(Clone)]
pub(crate) struct SimNetwork(Arc<Inner>);

struct Inner {
    executor: Executor,
    random: Random,
    state: Mutex<State>,
    /// Sent to cut every connection there is.
    cuts: watch::Sender<u64>,
    isolated: watch::Sender<BTreeMap<Host, Isolation>>,
}

/// A machine of clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Host(pub(crate) u64);

/// The host of whoever is never isolated.
const ELSEWHERE: Host = Host(0);

/// What does not pass between a host and the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Isolation {
    pub(crate) there: bool,
    pub(crate) back: bool,
}

/// One way between a host and the broker.
#[derive(Debug, Clone)]
struct Way {
    host: Host,
    is_back: bool,
    /// The client has closed its end: what waits is given up.
    is_closed: Arc<AtomicBool>,
}

/// The network as a host sees it.
#[derive(Clone)]
pub(crate) struct HostNetwork {
    network: SimNetwork,
    host: Host,
}

struct State {
    listeners: BTreeMap<u16, mpsc::Sender<Accepted>>,
    port_next: u16,
    peers: u16,
    delay_ms_max: u64,
    cut_permille: u64,
}

struct SimListener {
    address: SocketAddr,
    accepted: tokio::sync::Mutex<mpsc::Receiver<Accepted>>,
}

impl SimNetwork {
    pub(crate) fn new(executor: Executor, random: Random) -> SimNetwork {
        let state = State {
            listeners: BTreeMap::new(),
            port_next: PORT_FIRST,
            peers: 1,
            delay_ms_max: 3,
            cut_permille: 0,
        };
        SimNetwork(Arc::new(Inner {
            executor,
            random,
            state: Mutex::new(state),
            cuts: watch::channel(0).0,
            isolated: watch::channel(BTreeMap::new()).0,
        }))
    }

    /// The network as a host sees it.
    pub(crate) fn of_host(&self, host: Host) -> HostNetwork {
        HostNetwork {
            network: self.clone(),
            host,
        }
    }

    /// Isolates a host, or lets it be reached again.
    pub(crate) fn isolate(&self, host: Host, isolation: Option<Isolation>) {
        self.0.isolated.send_modify(|isolated| {
            match isolation {
                Some(isolation) => isolated.insert(host, isolation),
                None => isolated.remove(&host),
            };
        });
    }

    /// Waits until nothing holds a host back.
    async fn reached(&self, host: Host, is_held: impl Fn(&Isolation) -> bool) {
        if host == ELSEWHERE {
            return;
        }
        let mut isolated = self.0.isolated.subscribe();
        // The sender lives as long as the network.
        let _ = isolated
            .wait_for(|isolated| !isolated.get(&host).is_some_and(&is_held))
            .await;
    }

    /// The longest delay of a piece of data, and how many pieces in a thousand meet a cut instead.
    pub(crate) fn set_weather(&self, delay_ms_max: u64, cut_permille: u64) {
        let mut state = self.state();
        state.delay_ms_max = delay_ms_max;
        state.cut_permille = cut_permille;
    }

    /// Cuts all connections.
    pub(crate) fn cut_all(&self) {
        self.0.cuts.send_modify(|cuts| *cuts += 1);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is whole in itself.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries one direction until an end closes or the seed cuts it.
    async fn pump(
        &self,
        way: Way,
        mut from: ReadHalf<DuplexStream>,
        mut to: WriteHalf<DuplexStream>,
    ) {
        let mut buffer = vec![0; PUMP_BYTES];
        loop {
            let count = match from.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(count) => count,
            };
            let (delay_ms_max, cut_permille) = {
                let state = self.state();
                (state.delay_ms_max, state.cut_permille)
            };
            sleep(Duration::from_millis(
                self.0.random.between(0, delay_ms_max),
            ))
            .await;
            if self.0.random.chance(cut_permille) {
                return;
            }
            let is_held = |isolation: &Isolation| match way.is_back {
                true => isolation.back,
                false => isolation.there,
            };
            if way.host != ELSEWHERE && self.0.isolated.borrow().get(&way.host).is_some_and(is_held)
            {
                self.reached(way.host, is_held).await;
                // A host that has closed a connection does not send again what was on its way.
                if way.is_closed.load(Ordering::Relaxed) {
                    return;
                }
            }
            let bytes = buffer.get(..count).unwrap_or_default();
            if to.write_all(bytes).await.is_err() {
                return;
            }
        }
        // The peer has said all it had to say; a failure to pass that on ends the stream as well.
        let _ = to.shutdown().await;
    }
}

#[async_trait]
impl Network for SimNetwork {
    async fn bind(&self, _host: &str, port: u16) -> io::Result<Box<dyn Listener>> {
        let (sender, accepted) = mpsc::channel(BACKLOG);
        let mut state = self.state();
        let port = if port == 0 {
            state.port_next += 1;
            state.port_next
        } else {
            port
        };
        let is_taken = state
            .listeners
            .get(&port)
            .is_some_and(|sender| !sender.is_closed());
        if is_taken {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        state.listeners.insert(port, sender);
        let address = SocketAddr::from(([10, 0, 0, 1], port));
        Ok(Box::new(SimListener {
            address,
            accepted: tokio::sync::Mutex::new(accepted),
        }))
    }
}

#[async_trait]
impl Listener for SimListener {
    async fn accept(&self) -> io::Result<(Box<dyn Stream>, SocketAddr)> {
        match self.accepted.lock().await.recv().await {
            Some((stream, peer)) => Ok((Box::new(stream), peer)),
            // The network lives as long as the simulation and closes no listener.
            None => std::future::pending().await,
        }
    }

    fn local_address(&self) -> SocketAddr {
        self.address
    }
}

/// A client's end of a stream, which says when it is closed.
struct ClientEnd {
    stream: DuplexStream,
    is_closed: Arc<AtomicBool>,
}

impl Drop for ClientEnd {
    fn drop(&mut self) {
        self.is_closed.store(true, Ordering::Relaxed);
    }
}

impl AsyncRead for ClientEnd {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for ClientEnd {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[async_trait]
impl Connect for SimNetwork {
    async fn connect(&self, host: &str, port: u16) -> io::Result<Box<dyn esker_client::Stream>> {
        self.of_host(ELSEWHERE).connect(host, port).await
    }
}

#[async_trait]
impl Connect for HostNetwork {
    async fn connect(&self, _host: &str, port: u16) -> io::Result<Box<dyn esker_client::Stream>> {
        self.network.connect_from(self.host, port).await
    }
}

impl SimNetwork {
    async fn connect_from(
        &self,
        host: Host,
        port: u16,
    ) -> io::Result<Box<dyn esker_client::Stream>> {
        // A handshake needs both ways.
        self.reached(host, |isolation| isolation.there || isolation.back)
            .await;
        let (sender, peer, delay_ms_max) = {
            let mut state = self.state();
            let sender = state.listeners.get(&port).cloned();
            let sender = sender.ok_or(io::ErrorKind::ConnectionRefused)?;
            state.peers = state.peers.wrapping_add(1);
            let peer = SocketAddr::from(([10, 0, 0, 2], state.peers));
            (sender, peer, state.delay_ms_max)
        };
        sleep(Duration::from_millis(
            self.0.random.between(0, delay_ms_max),
        ))
        .await;
        let (client, client_side) = duplex(STREAM_BYTES);
        let (broker, broker_side) = duplex(STREAM_BYTES);
        sender
            .try_send((broker, peer))
            .map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
        let network = self.clone();
        let is_closed = Arc::new(AtomicBool::new(false));
        let client = ClientEnd {
            stream: client,
            is_closed: Arc::clone(&is_closed),
        };
        let way = |is_back| Way {
            host,
            is_back,
            is_closed: Arc::clone(&is_closed),
        };
        let (way_there, way_back) = (way(false), way(true));
        let mut cuts = self.0.cuts.subscribe();
        cuts.mark_unchanged();
        self.0.executor.spawn(
            OUTSIDE,
            Box::pin(async move {
                let (client_reads, client_writes) = split(client_side);
                let (broker_reads, broker_writes) = split(broker_side);
                let there = network.pump(way_there, client_reads, broker_writes);
                let back = network.pump(way_back, broker_reads, client_writes);
                tokio::pin!(there, back);
                // Either direction ending ends both, as closing a socket does; a peer that only
                // stops sending is not simulated.
                tokio::select! {
                    biased;
                    _ = cuts.changed() => {}
                    () = &mut there => {}
                    () = &mut back => {}
                }
            }),
        );
        Ok(Box::new(client))
    }
}
