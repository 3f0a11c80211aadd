//! A broker of a few lines on in-memory streams, and a network that leads to it.
//!
//! It stores what is produced, recognises repeated sequences, and fails where the test says so. It
//! is driven by the test's own future: [`Network::run`] polls both.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use esker_protocol::api::ApiKey;
use esker_protocol::frame::{RequestError, RequestFrame, decode_request, encode_response};
use esker_protocol::messages::*;
use esker_protocol::primitive::{Blob, Response};
use esker_protocol::records::{Batch, BatchHeader, stamp};
use esker_protocol::{ErrorCode, LeaderEpoch, Offset, ProducerId, TopicId};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::client::{Client, ClientOptions};
use crate::endpoint::Endpoint;
use crate::stream::{Connect, Stream};

pub(crate) const TOPIC: &str = "topic";
pub(crate) const TOPIC_ID: TopicId = TopicId([7; 16]);
/// Small, so that frames are written and read in many pieces.
const STREAM_BYTES: usize = 700;

/// What goes wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The connection ends before it is looked at.
    LostBefore,
    /// It is carried out, and the connection ends before the answer.
    LostAfter,
    /// It is carried out, and no answer comes.
    Silence,
    /// It is refused.
    Refused(ErrorCode),
    /// The connection ends inside the answer.
    CutAnswer,
}

/// Answers an API as a test says, in place of the broker. The code is the one to refuse with.
type Script = Box<dyn FnMut(&RequestFrame<'_>, ErrorCode) -> Vec<Bytes> + Send>;

#[derive(Default)]
pub(crate) struct State {
    scripts: BTreeMap<ApiKey, Script>,
    /// Faults of the next calls of an API; `None` is none.
    pub(crate) faults: BTreeMap<ApiKey, VecDeque<Option<Fault>>>,
    /// The newest version that is served, where it is not the newest that exists.
    pub(crate) newest: BTreeMap<ApiKey, i16>,
    /// Every request, in the order of arrival.
    pub(crate) seen: Vec<(ApiKey, i16)>,
    pub(crate) connects: usize,
    /// Hosts that refuse connections.
    pub(crate) away: Vec<String>,
    pub(crate) log: Vec<Bytes>,
    pub(crate) topics: Vec<String>,
    next_producer_id: i64,
}

impl State {
    pub(crate) fn end(&self) -> i64 {
        self.log
            .last()
            .map_or(0, |batch| header(batch).next_offset().0)
    }

    fn append(&mut self, sent: &[u8]) -> i64 {
        let sent_header = header(sent);
        let repeated = self.log.iter().map(|batch| header(batch)).find(|stored| {
            sent_header.has_producer()
                && stored.producer_id == sent_header.producer_id
                && stored.base_sequence == sent_header.base_sequence
        });
        if let Some(stored) = repeated {
            return stored.base_offset.0;
        }
        let base_offset = self.end();
        let payload = &sent[BatchHeader::BYTES..];
        let front = stamp(
            &sent_header,
            payload,
            Offset(base_offset),
            LeaderEpoch(0),
            None,
        );
        self.log.push([&front[..], payload].concat().into());
        base_offset
    }
}

fn header(batch: &[u8]) -> BatchHeader {
    *Batch::parse(batch).expect("a whole batch").0.header()
}

/// The network and the broker at every address of it.
#[derive(Default)]
pub(crate) struct Network {
    pub(crate) state: Mutex<State>,
    accepted: Mutex<VecDeque<DuplexStream>>,
    connected: Notify,
}

#[async_trait]
impl Connect for Network {
    async fn connect(&self, host: &str, _port: u16) -> io::Result<Box<dyn Stream>> {
        let mut state = self.state();
        state.connects += 1;
        if state.away.iter().any(|away| away == host) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let (ours, theirs) = tokio::io::duplex(STREAM_BYTES);
        self.accepted.lock().unwrap().push_back(theirs);
        self.connected.notify_one();
        Ok(Box::new(ours))
    }
}

impl Network {
    pub(crate) fn new() -> Arc<Network> {
        let network = Network::default();
        network.state().topics.push(TOPIC.to_owned());
        Arc::new(network)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn fail(&self, api: ApiKey, faults: impl IntoIterator<Item = Option<Fault>>) {
        self.state().faults.entry(api).or_default().extend(faults);
    }

    /// Lets the test answer an API.
    pub(crate) fn script(
        &self,
        api: ApiKey,
        script: impl FnMut(&RequestFrame<'_>, ErrorCode) -> Vec<Bytes> + Send + 'static,
    ) {
        self.state().scripts.insert(api, Box::new(script));
    }

    /// How often an API was called.
    pub(crate) fn calls(&self, api: ApiKey) -> usize {
        let state = self.state();
        state.seen.iter().filter(|seen| seen.0 == api).count()
    }

    pub(crate) fn client(self: &Arc<Network>) -> Client {
        let bootstrap = Endpoint {
            host: "first".to_owned(),
            port: 1,
        };
        let options = ClientOptions {
            attempt: Duration::from_secs(5),
            ..ClientOptions::new(vec![bootstrap])
        };
        Client::new(options, Arc::clone(self) as Arc<dyn Connect>)
    }

    /// Runs a test beside the broker, on paused time.
    pub(crate) fn run<T>(self: &Arc<Network>, test: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            tokio::select! {
                biased;
                outcome = test => outcome,
                never = self.serve() => match never {},
            }
        })
    }

    async fn serve(&self) -> Infallible {
        let mut connections = FuturesUnordered::new();
        loop {
            let accepted = self.accepted.lock().unwrap().pop_front();
            if let Some(stream) = accepted {
                connections.push(self.serve_one(stream));
                continue;
            }
            tokio::select! {
                biased;
                () = self.connected.notified() => {}
                Some(()) = connections.next() => {}
            }
        }
    }

    async fn serve_one(&self, mut stream: DuplexStream) {
        while let Ok(size) = stream.read_i32().await {
            let mut frame = vec![0; usize::try_from(size).expect("a size")];
            if stream.read_exact(&mut frame).await.is_err() {
                return;
            }
            let (answer, fault) = self.handle(&frame);
            let mut answer: Vec<u8> = answer.concat();
            match fault {
                Some(Fault::LostBefore | Fault::LostAfter) => return,
                Some(Fault::Silence) => continue,
                Some(Fault::CutAnswer) => {
                    answer.pop();
                    let _ = stream.write_all(&answer).await;
                    return;
                }
                Some(Fault::Refused(_)) | None => {}
            }
            if stream.write_all(&answer).await.is_err() {
                return;
            }
        }
    }

    fn handle(&self, frame: &[u8]) -> (Vec<Bytes>, Option<Fault>) {
        let mut state = self.state();
        let request = match decode_request(frame) {
            Ok(request) => request,
            Err(RequestError::UnsupportedVersion { correlation_id, .. }) => {
                return (refuse_version(correlation_id, &state), None);
            }
            Err(error) => panic!("the client sent nonsense: {error}"),
        };
        state.seen.push((request.api, request.version));
        let newest = state.newest.get(&request.api).copied();
        if newest.is_some_and(|newest| request.version > newest) {
            assert_eq!(
                request.api,
                ApiKey::ApiVersions,
                "the client knows the versions"
            );
            return (refuse_version(request.correlation_id, &state), None);
        }
        let fault = state
            .faults
            .get_mut(&request.api)
            .and_then(VecDeque::pop_front)
            .flatten();
        let code = match fault {
            Some(Fault::LostBefore) => return (Vec::new(), fault),
            Some(Fault::Refused(code)) => code,
            _ => ErrorCode::None,
        };
        if let Some(script) = state.scripts.get_mut(&request.api) {
            return (script(&request, code), fault);
        }
        let answer = match request.api {
            ApiKey::ApiVersions => answer(&request, &versions(&state)),
            ApiKey::Metadata => answer(&request, &metadata(&request, &state)),
            ApiKey::Produce => produce(&request, &mut state, code),
            ApiKey::Fetch => fetch(&request, &state, code),
            ApiKey::ListOffsets => list_offsets(&request, &state, code),
            ApiKey::InitProducerId => {
                state.next_producer_id += 1;
                answer(
                    &request,
                    &InitProducerIdResponse {
                        error_code: code.code(),
                        producer_id: state.next_producer_id,
                        producer_epoch: 0,
                        ..Default::default()
                    },
                )
            }
            ApiKey::CreateTopics => create_topics(&request, &mut state),
            ApiKey::DeleteTopics => delete_topics(&request, &mut state),
            api => panic!("{api} is not served"),
        };
        (answer, fault)
    }
}

pub(crate) fn answer<T: Response>(request: &RequestFrame<'_>, body: &T) -> Vec<Bytes> {
    encode_response(request.correlation_id, request.version, body).expect("an answer")
}

fn versions(state: &State) -> ApiVersionsResponse<'static> {
    let api_keys = ApiKey::ALL
        .iter()
        .map(|api| api_versions_response::ApiVersion {
            api_key: api.number(),
            min_version: api.stable_versions().min,
            max_version: state
                .newest
                .get(api)
                .copied()
                .unwrap_or(api.stable_versions().max),
        });
    ApiVersionsResponse {
        api_keys: api_keys.collect(),
        ..Default::default()
    }
}

fn refuse_version(correlation_id: i32, state: &State) -> Vec<Bytes> {
    let mut body = versions(state);
    body.error_code = ErrorCode::UnsupportedVersion.code();
    body.api_keys
        .retain(|api| api.api_key == ApiKey::ApiVersions.number());
    encode_response(correlation_id, 0, &body).expect("an answer")
}

fn metadata(request: &RequestFrame<'_>, state: &State) -> MetadataResponse<'static> {
    let request: MetadataRequest<'_> = request.decode().expect("a request");
    let all = || state.topics.clone();
    let names: Vec<String> = request.topics.map_or_else(all, |topics| {
        topics
            .iter()
            .map(|topic| topic.name.as_deref().unwrap_or_default().to_owned())
            .collect()
    });
    let topic = |name: String| metadata_response::MetadataResponseTopic {
        error_code: if state.topics.contains(&name) {
            ErrorCode::None.code()
        } else {
            ErrorCode::UnknownTopicOrPartition.code()
        },
        topic_id: TOPIC_ID,
        partitions: (0..2)
            .map(
                |partition_index| metadata_response::MetadataResponsePartition {
                    partition_index,
                    leader_id: 3,
                    leader_epoch: 0,
                    ..Default::default()
                },
            )
            .collect(),
        name: Some(name.into()),
        ..Default::default()
    };
    MetadataResponse {
        brokers: vec![metadata_response::MetadataResponseBroker {
            node_id: 3,
            host: "leader".into(),
            port: 3,
            rack: None,
        }],
        cluster_id: Some("cluster".into()),
        controller_id: 3,
        topics: names.into_iter().map(topic).collect(),
        ..Default::default()
    }
}

fn produce(request: &RequestFrame<'_>, state: &mut State, code: ErrorCode) -> Vec<Bytes> {
    let produce: ProduceRequest<'_> = request.decode().expect("a request");
    let mut response = ProduceResponse::default();
    for topic in &produce.topic_data {
        assert!(topic.name == TOPIC || topic.topic_id == TOPIC_ID);
        let mut partition_responses = Vec::new();
        for partition in &topic.partition_data {
            let records = partition.records.as_ref().expect("records").to_bytes();
            let base_offset = if code == ErrorCode::None {
                state.append(&records)
            } else {
                -1
            };
            partition_responses.push(produce_response::PartitionProduceResponse {
                index: partition.index,
                error_code: code.code(),
                base_offset,
                ..Default::default()
            });
        }
        response
            .responses
            .push(produce_response::TopicProduceResponse {
                name: topic.name.clone(),
                topic_id: topic.topic_id,
                partition_responses,
            });
    }
    if produce.acks == 0 {
        Vec::new()
    } else {
        answer(request, &response)
    }
}

fn fetch(request: &RequestFrame<'_>, state: &State, code: ErrorCode) -> Vec<Bytes> {
    let fetch: FetchRequest<'_> = request.decode().expect("a request");
    let mut response = FetchResponse::default();
    for topic in &fetch.topics {
        let mut partitions = Vec::new();
        for partition in &topic.partitions {
            let wanted = state.log.iter().filter(|batch| {
                // Everything lies in partition 0.
                partition.partition == 0 && header(batch).last_offset().0 >= partition.fetch_offset
            });
            let code = match code {
                ErrorCode::None if partition.fetch_offset > state.end() => {
                    ErrorCode::OffsetOutOfRange
                }
                code => code,
            };
            let mut records: Vec<u8> = wanted.flatten().copied().collect();
            let limit = usize::try_from(partition.partition_max_bytes).expect("a size");
            records.truncate(limit.max(1000));
            if code != ErrorCode::None {
                records.clear();
            }
            partitions.push(fetch_response::PartitionData {
                partition_index: partition.partition,
                error_code: code.code(),
                high_watermark: state.end(),
                records: Some(Blob::Shared(records.into())),
                ..Default::default()
            });
        }
        response
            .responses
            .push(fetch_response::FetchableTopicResponse {
                topic: topic.topic.clone(),
                topic_id: topic.topic_id,
                partitions,
            });
    }
    answer(request, &response)
}

fn list_offsets(request: &RequestFrame<'_>, state: &State, code: ErrorCode) -> Vec<Bytes> {
    let list: ListOffsetsRequest<'_> = request.decode().expect("a request");
    let topics = list
        .topics
        .iter()
        .map(|topic| list_offsets_response::ListOffsetsTopicResponse {
            name: topic.name.clone(),
            partitions: topic
                .partitions
                .iter()
                .map(
                    |partition| list_offsets_response::ListOffsetsPartitionResponse {
                        partition_index: partition.partition_index,
                        error_code: code.code(),
                        offset: match partition.timestamp {
                            -1 => state.end(),
                            -2 => 0,
                            _ => -1,
                        },
                        ..Default::default()
                    },
                )
                .collect(),
        });
    answer(
        request,
        &ListOffsetsResponse {
            topics: topics.collect(),
            ..Default::default()
        },
    )
}

fn create_topics(request: &RequestFrame<'_>, state: &mut State) -> Vec<Bytes> {
    let create: CreateTopicsRequest<'_> = request.decode().expect("a request");
    let mut response = CreateTopicsResponse::default();
    for topic in create.topics {
        let name = topic.name.to_string();
        let exists = state.topics.contains(&name);
        let code = if exists {
            ErrorCode::TopicAlreadyExists
        } else {
            ErrorCode::None
        };
        if !exists && !create.validate_only {
            state.topics.push(name);
        }
        response
            .topics
            .push(create_topics_response::CreatableTopicResult {
                name: topic.name,
                error_code: code.code(),
                error_message: exists.then(|| "it is there".into()),
                ..Default::default()
            });
    }
    answer(request, &response)
}

fn delete_topics(request: &RequestFrame<'_>, state: &mut State) -> Vec<Bytes> {
    let delete: DeleteTopicsRequest<'_> = request.decode().expect("a request");
    let by_state = delete.topics.into_iter().filter_map(|topic| topic.name);
    let mut response = DeleteTopicsResponse::default();
    for name in delete.topic_names.into_iter().chain(by_state) {
        let before = state.topics.len();
        state.topics.retain(|topic| *topic != name);
        let code = if state.topics.len() < before {
            ErrorCode::None
        } else {
            ErrorCode::UnknownTopicOrPartition
        };
        response
            .responses
            .push(delete_topics_response::DeletableTopicResult {
                name: Some(name),
                error_code: code.code(),
                ..Default::default()
            });
    }
    answer(request, &response)
}

/// So many seconds from now.
pub(crate) fn within(seconds: u64) -> Instant {
    Instant::now() + Duration::from_secs(seconds)
}

/// A batch of records with the given values.
pub(crate) fn batch(values: &[&str], producer: Option<(ProducerId, i32)>) -> Bytes {
    use esker_protocol::records::{BatchBuilder, BatchOptions};
    let mut options = BatchOptions::default();
    if let Some((producer_id, base_sequence)) = producer {
        options.producer_id = producer_id;
        options.base_sequence = base_sequence;
    }
    let mut builder = BatchBuilder::new(options);
    for value in values {
        builder
            .append(
                esker_protocol::Timestamp(1),
                None,
                Some(value.as_bytes()),
                &[],
            )
            .expect("a record");
    }
    builder.build().expect("a batch")
}
