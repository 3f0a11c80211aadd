//! The memory of responses, with peers that do not read: a network of pipes, under paused time.

mod common;

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use common::{Stores, Wire, batch, config, create, fetch, produce};
use esker_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use esker_protocol::messages::{FetchRequest, FetchResponse};
use esker_protocol::primitive::Blob;
use esker_protocol::records::Batches;
use esker_server::Broker;
use esker_server::environment::{Listener, Network, Stream};
use esker_storage::MemoryDisk;
use tokio::sync::{Mutex, mpsc};

const NOW: i64 = 1_700_000_000_000;

/// What a pipe holds that nobody reads.
const PIPE_BYTES: usize = 4 << 10;

type Accepted = (Box<dyn Stream>, SocketAddr);

/// A network whose only listener takes what [`Pipes::connect`] sends.
struct Pipes {
    sender: mpsc::Sender<Accepted>,
    accepted: Arc<Mutex<mpsc::Receiver<Accepted>>>,
}

struct PipeListener(Arc<Mutex<mpsc::Receiver<Accepted>>>);

const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

impl Pipes {
    fn new() -> Pipes {
        let (sender, receiver) = mpsc::channel(1);
        Pipes {
            sender,
            accepted: Arc::new(Mutex::new(receiver)),
        }
    }

    async fn connect(&self) -> Wire {
        let (client, server) = tokio::io::duplex(PIPE_BYTES);
        let sent = self.sender.send((Box::new(server), ADDRESS)).await;
        sent.expect("the broker accepts");
        Wire::over(Box::new(client))
    }
}

#[async_trait]
impl Listener for PipeListener {
    async fn accept(&self) -> io::Result<Accepted> {
        let accepted = self.0.lock().await.recv().await;
        accepted.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn local_address(&self) -> SocketAddr {
        ADDRESS
    }
}

#[async_trait]
impl Network for Pipes {
    async fn bind(&self, _: &str, _: u16) -> io::Result<Box<dyn Listener>> {
        Ok(Box::new(PipeListener(Arc::clone(&self.accepted))))
    }
}

struct Session {
    broker: Broker,
    pipes: Arc<Pipes>,
    registry: prometheus::Registry,
    disk: Arc<MemoryDisk>,
}

async fn session(pairs: &[(&str, &str)]) -> Session {
    let pipes = Arc::new(Pipes::new());
    let stores = Stores::new();
    let mut environment = stores.environment();
    environment.network = Arc::clone(&pipes) as _;
    let registry = environment.registry.clone();
    let broker = Broker::start(config(pairs), environment).await;
    Session {
        broker: broker.expect("the broker starts"),
        pipes,
        registry,
        disk: stores.disk,
    }
}

impl Session {
    /// Bytes of batches in the responses that were built so far.
    fn fetched(&self) -> f64 {
        let families = self.registry.gather();
        let family = families
            .iter()
            .find(|family| family.name() == "esker_fetch_bytes_total");
        let metric = family.and_then(|family| family.get_metric().first());
        metric.expect("it is registered").get_counter().get_value()
    }
}

fn fetch_all(topic: &str) -> FetchRequest<'_> {
    FetchRequest {
        min_bytes: 1,
        max_bytes: 50 << 20,
        session_epoch: -1,
        topics: vec![FetchTopic {
            topic: topic.into(),
            partitions: vec![FetchPartition {
                partition_max_bytes: 50 << 20,
                ..FetchPartition::default()
            }],
            ..FetchTopic::default()
        }],
        ..FetchRequest::default()
    }
}

#[tokio::test(start_paused = true)]
async fn responses_that_nobody_reads_take_no_more_than_their_budget() {
    const BUDGET: usize = 1 << 20;
    let session = session(&[("queued.max.response.bytes", "1048576")]).await;
    let mut wire = session.pipes.connect().await;
    create(&mut wire, "topic", 1, &[("max.message.bytes", "65536")]).await;
    for _ in 0..40 {
        let large = batch(&[&[7; 50_000]], NOW);
        assert_eq!(produce(&mut wire, "topic", large, -1).await.0, 0);
    }

    // Each of them asks for two megabytes and does not read them.
    let mut slow = Vec::new();
    for _ in 0..16 {
        let mut wire = session.pipes.connect().await;
        wire.send(12, &fetch_all("topic")).await;
        slow.push(wire);
    }
    // Another one is answered, in time, without data; its connection is none the worse for it.
    let asked_at = tokio::time::Instant::now();
    let (code, high_watermark, records) = fetch(&mut wire, "topic", 0, 1 << 20).await;
    assert_eq!((code, high_watermark, records.len()), (0, 40, 0));
    assert!(asked_at.elapsed() < Duration::from_secs(30));
    let fetched = session.fetched();
    assert!(
        fetched > (BUDGET / 2) as f64 && fetched <= BUDGET as f64,
        "{fetched}"
    );

    // One that is read makes room, and so does one whose peer goes.
    let first = slow[0].receive().await.expect("an answer");
    assert!(first.len() > BUDGET / 4);
    let (code, _, records) = fetch(&mut wire, "topic", 0, 1 << 20).await;
    assert!(code == 0 && Batches::new(&records).count() > 0);
    slow.clear();
    let (code, _, records) = fetch(&mut wire, "topic", 30, 300_000).await;
    assert_eq!((code, Batches::new(&records).count()), (0, 5));
    session.broker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn one_batch_larger_than_the_budget_is_served() {
    let session = session(&[("queued.max.response.bytes", "1024")]).await;
    let mut wire = session.pipes.connect().await;
    create(&mut wire, "topic", 1, &[]).await;
    let large = batch(&[&[7; 200_000]], NOW);
    for _ in 0..2 {
        assert_eq!(produce(&mut wire, "topic", large.clone(), -1).await.0, 0);
    }
    for offset in 0..2 {
        let (code, _, records) = fetch(&mut wire, "topic", offset, 1 << 20).await;
        assert_eq!((code, Batches::new(&records).count()), (0, 1));
    }
    session.broker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn long_polls_of_one_connection_wait_side_by_side() {
    let session = session(&[]).await;
    let mut wire = session.pipes.connect().await;
    create(&mut wire, "topic", 1, &[]).await;
    let asked_at = tokio::time::Instant::now();
    for _ in 0..10 {
        let mut request = fetch_all("topic");
        request.max_wait_ms = 60_000;
        wire.send(12, &request).await;
    }
    for _ in 0..10 {
        assert!(wire.receive().await.is_some());
    }
    assert!(asked_at.elapsed() < Duration::from_secs(61));
    session.broker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_long_poll_that_room_does_not_cut_short_waits_for_all_that_it_wants() {
    let session = session(&[("queued.max.response.bytes", "1048576")]).await;
    let mut wire = session.pipes.connect().await;
    create(&mut wire, "topic", 1, &[("max.message.bytes", "65536")]).await;
    let small = batch(&[b"value"], NOW);
    assert_eq!(produce(&mut wire, "topic", small, -1).await.0, 0);
    let mut request = fetch_all("topic");
    (request.min_bytes, request.max_wait_ms) = (10_000, 60_000);
    let asked_at = tokio::time::Instant::now();
    wire.send(12, &request).await;
    assert!(wire.receive().await.is_some_and(|frame| frame.len() > 60));
    assert!(asked_at.elapsed() >= Duration::from_secs(60));
    session.broker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_long_poll_reads_again_only_what_has_changed() {
    let session = session(&[]).await;
    let mut wire = session.pipes.connect().await;
    for topic in ["quiet", "busy"] {
        create(&mut wire, topic, 1, &[]).await;
    }
    let small = batch(&[b"value"], NOW);
    assert_eq!(produce(&mut wire, "quiet", small.clone(), -1).await.0, 0);

    let mut poll = session.pipes.connect().await;
    let mut request = fetch_all("quiet");
    request.topics.extend(fetch_all("busy").topics);
    request.min_bytes = 4 * small.len() as i32;
    request.max_wait_ms = 60_000;
    let records = async {
        poll.call(12, &request, |response: FetchResponse<'_>| {
            let partitions = response.responses.iter().map(|topic| &topic.partitions[0]);
            partitions
                .map(|partition| {
                    let records = partition.records.as_ref().map(Blob::to_bytes);
                    let records = records.unwrap_or_default();
                    (partition.error_code, Batches::new(&records).count())
                })
                .collect::<Vec<_>>()
        })
        .await
    };
    let produced = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        // It has read the quiet partition. Whoever reads it now meets damage.
        let log = Path::new("/data/quiet-0/00000000000000000000.log");
        session.disk.rot(log, 0, 0xff).expect("it is there");
        for _ in 0..2 {
            assert_eq!(produce(&mut wire, "busy", small.clone(), -1).await.0, 0);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        session.disk.rot(log, 0, 0xff).expect("it is there");
        assert_eq!(produce(&mut wire, "busy", small.clone(), -1).await.0, 0);
    };
    let asked_at = tokio::time::Instant::now();
    let (records, ()) = tokio::join!(records, produced);
    assert_eq!(records, [(0, 1), (0, 3)]);
    assert!(asked_at.elapsed() < Duration::from_secs(10));
    session.broker.stop().await;
}
