//! A broker on memory stores and a loopback socket, and a client that speaks raw frames.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use esker_metadata::MemoryStore;
use esker_protocol::Timestamp;
use esker_protocol::api::ApiKey;
use esker_protocol::frame;
use esker_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use esker_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use esker_protocol::messages::{
    CreateTopicsRequest, CreateTopicsResponse, OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse, ProduceRequest, ProduceResponse,
};
use esker_protocol::primitive::{Blob, Decode, Request};
use esker_protocol::records::{BatchBuilder, BatchOptions};
use esker_server::environment::real::{RuntimeSpawner, SystemClock, TcpNetwork};
use esker_server::environment::{Environment, Randomness, Stream};
use esker_server::{Broker, Config};
use esker_storage::MemoryDisk;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The stores of a broker; a broker that starts on them again finds what the one before left.
#[derive(Clone)]
pub(crate) struct Stores {
    pub(crate) disk: Arc<MemoryDisk>,
    pub(crate) metadata: MemoryStore,
    pub(crate) objects: Option<Arc<dyn object_store::ObjectStore>>,
    pub(crate) seed: u8,
}

impl Stores {
    pub(crate) fn new() -> Stores {
        Stores {
            disk: Arc::new(MemoryDisk::new()),
            metadata: MemoryStore::new(),
            objects: Some(Arc::new(object_store::memory::InMemory::new())),
            seed: 1,
        }
    }

    pub(crate) fn environment(&self) -> Environment {
        Environment {
            disk: Arc::clone(&self.disk) as _,
            network: Arc::new(TcpNetwork),
            object_store: self.objects.clone(),
            metadata: Arc::new(self.metadata.clone()),
            clock: Arc::new(SystemClock),
            randomness: Randomness::from_seed([self.seed; 32]),
            spawner: Arc::new(RuntimeSpawner::new(tokio::runtime::Handle::current())),
            registry: prometheus::Registry::new(),
        }
    }
}

pub(crate) fn config(pairs: &[(&str, &str)]) -> Config {
    let fixed = [
        ("node.id", "1"),
        ("log.dirs", "/data"),
        ("listeners", "PLAINTEXT://127.0.0.1:0"),
        ("log.dir.reserve.bytes", "0"),
    ];
    let pairs = fixed
        .iter()
        .chain(pairs)
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    Config::from_properties(pairs)
        .expect("the test's configuration is valid")
        .0
}

pub(crate) async fn start(stores: &Stores, pairs: &[(&str, &str)]) -> Broker {
    Broker::start(config(pairs), stores.environment())
        .await
        .expect("the broker starts")
}

/// A connection that sends one request at a time.
pub(crate) struct Wire {
    stream: Box<dyn Stream>,
    correlation_id: i32,
}

impl Wire {
    pub(crate) async fn connect(broker: &Broker) -> Wire {
        let stream = TcpStream::connect(broker.kafka_address())
            .await
            .expect("connects");
        Wire::over(Box::new(stream))
    }

    pub(crate) fn over(stream: Box<dyn Stream>) -> Wire {
        Wire {
            stream,
            correlation_id: 0,
        }
    }

    pub(crate) async fn send<T: Request>(&mut self, version: i16, request: &T) {
        self.correlation_id += 1;
        let chunks = frame::encode_request(self.correlation_id, Some("test"), version, request)
            .expect("the request can be encoded");
        for chunk in chunks {
            self.stream.write_all(&chunk).await.expect("sends");
        }
    }

    /// The next frame, or `None` where the broker has closed the connection.
    pub(crate) async fn receive(&mut self) -> Option<Bytes> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).await.ok()?;
        let mut body = vec![0; usize::try_from(i32::from_be_bytes(length)).ok()?];
        self.stream.read_exact(&mut body).await.ok()?;
        Some(body.into())
    }

    pub(crate) async fn raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("sends");
    }

    /// Sends a request and hands its decoded response to `check`.
    pub(crate) async fn call<T: Request, R>(
        &mut self,
        version: i16,
        request: &T,
        check: impl FnOnce(T::Response<'_>) -> R,
    ) -> R {
        self.send(version, request).await;
        let frame = self.receive().await.expect("the broker answers");
        let (correlation_id, mut body) =
            frame::decode_response(&frame, T::API_KEY, version).expect("a response header");
        assert_eq!(correlation_id, self.correlation_id);
        let response = T::Response::decode(&mut body, version).expect("a response body");
        assert!(
            body.remaining().is_empty(),
            "{:?} version {version} has bytes left",
            T::API_KEY
        );
        check(response)
    }
}

pub(crate) fn create_request<'a>(
    name: &'a str,
    partitions: i32,
    configs: &[(&'a str, &'a str)],
) -> CreateTopicsRequest<'a> {
    CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: Cow::Borrowed(name),
            num_partitions: partitions,
            replication_factor: 1,
            assignments: Vec::new(),
            configs: configs
                .iter()
                .map(|(name, value)| CreatableTopicConfig {
                    name: Cow::Borrowed(*name),
                    value: Some(Cow::Borrowed(*value)),
                })
                .collect(),
        }],
        timeout_ms: 10_000,
        validate_only: false,
    }
}

pub(crate) async fn create(wire: &mut Wire, name: &str, partitions: i32, configs: &[(&str, &str)]) {
    // The tests' records are of long ago: retention must not take them.
    let mut configs = configs.to_vec();
    if configs.iter().all(|(name, _)| *name != "retention.ms") {
        configs.push(("retention.ms", "-1"));
    }
    let request = create_request(name, partitions, &configs);
    let code = wire
        .call(7, &request, |response: CreateTopicsResponse<'_>| {
            response.topics[0].error_code
        })
        .await;
    assert_eq!(code, 0);
}

pub(crate) fn batch(values: &[&[u8]], timestamp: i64) -> Bytes {
    batch_with(BatchOptions::default(), values, timestamp)
}

pub(crate) fn batch_with(options: BatchOptions, values: &[&[u8]], timestamp: i64) -> Bytes {
    let mut builder = BatchBuilder::new(options);
    for value in values {
        builder
            .append(Timestamp(timestamp), Some(b"key"), Some(value), &[])
            .expect("fits");
    }
    builder.build().expect("can be built")
}

pub(crate) fn produce_request(topic: &str, batch: Bytes, acks: i16) -> ProduceRequest<'_> {
    use esker_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
    ProduceRequest {
        transactional_id: None,
        acks,
        timeout_ms: 10_000,
        topic_data: vec![TopicProduceData {
            name: Cow::Borrowed(topic),
            partition_data: vec![PartitionProduceData {
                index: 0,
                records: Some(Blob::Shared(batch)),
            }],
            ..TopicProduceData::default()
        }],
    }
}

/// Produces to partition 0; returns code, base offset and log start offset.
pub(crate) async fn produce(
    wire: &mut Wire,
    topic: &str,
    batch: Bytes,
    acks: i16,
) -> (i16, i64, i64) {
    let request = produce_request(topic, batch, acks);
    wire.call(12, &request, |response: ProduceResponse<'_>| {
        let partition = &response.responses[0].partition_responses[0];
        (
            partition.error_code,
            partition.base_offset,
            partition.log_start_offset,
        )
    })
    .await
}

/// Fetches partition 0 from `offset` with version 12; returns code, high watermark, records.
pub(crate) async fn fetch(
    wire: &mut Wire,
    topic: &str,
    offset: i64,
    max_bytes: i32,
) -> (i16, i64, Bytes) {
    use esker_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
    use esker_protocol::messages::{FetchRequest, FetchResponse};
    let request = FetchRequest {
        max_wait_ms: 0,
        min_bytes: 1,
        max_bytes: 50 << 20,
        session_epoch: -1,
        topics: vec![FetchTopic {
            topic: Cow::Borrowed(topic),
            partitions: vec![FetchPartition {
                partition: 0,
                fetch_offset: offset,
                partition_max_bytes: max_bytes,
                ..FetchPartition::default()
            }],
            ..FetchTopic::default()
        }],
        ..FetchRequest::default()
    };
    wire.call(12, &request, |response: FetchResponse<'_>| {
        let partition = &response.responses[0].partitions[0];
        let records = partition
            .records
            .as_ref()
            .map(Blob::to_bytes)
            .unwrap_or_default();
        (partition.error_code, partition.high_watermark, records)
    })
    .await
}

pub(crate) fn api_range(api: ApiKey) -> std::ops::RangeInclusive<i16> {
    let served = esker_server::dispatch::SERVED
        .iter()
        .find(|served| served.api == api);
    let served = served.expect("the API is served");
    served.min..=served.max
}

/// Asks where epochs of partition 0 end; gives code, epoch and end offset of each.
pub(crate) async fn epoch_ends(
    wire: &mut Wire,
    version: i16,
    topic: &str,
    current: i32,
    epochs: &[i32],
) -> Vec<(i16, i32, i64)> {
    let partition = |&leader_epoch: &i32| OffsetForLeaderPartition {
        current_leader_epoch: current,
        leader_epoch,
        ..OffsetForLeaderPartition::default()
    };
    let request = OffsetForLeaderEpochRequest {
        replica_id: -1,
        topics: vec![OffsetForLeaderTopic {
            topic: Cow::Borrowed(topic),
            partitions: epochs.iter().map(partition).collect(),
        }],
    };
    wire.call(version, &request, |r: OffsetForLeaderEpochResponse<'_>| {
        let found = r.topics[0].partitions.iter();
        found
            .map(|p| (p.error_code, p.leader_epoch, p.end_offset))
            .collect()
    })
    .await
}

/// Deletes the records below `offset`; returns code and low watermark.
pub(crate) async fn delete_records(
    wire: &mut Wire,
    version: i16,
    topic: &str,
    index: i32,
    offset: i64,
) -> (i16, i64) {
    use esker_protocol::messages::delete_records_request::{
        DeleteRecordsPartition, DeleteRecordsTopic,
    };
    use esker_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};
    let request = DeleteRecordsRequest {
        topics: vec![DeleteRecordsTopic {
            name: Cow::Borrowed(topic),
            partitions: vec![DeleteRecordsPartition {
                partition_index: index,
                offset,
            }],
        }],
        timeout_ms: 10_000,
    };
    wire.call(version, &request, |r: DeleteRecordsResponse<'_>| {
        let partition = &r.topics[0].partitions[0];
        (partition.error_code, partition.low_watermark)
    })
    .await
}
