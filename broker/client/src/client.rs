//! Connections to a cluster, routing, and the one place where calls are tried again.

mod retry;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use esker_protocol::api::VersionRange;
use esker_protocol::messages::{MetadataRequest, metadata_request};
use esker_protocol::primitive::Request;
use esker_protocol::{BrokerId, ErrorCode, TopicId};
use tokio::time::{Instant, timeout_at};

pub(crate) use self::retry::Retry;
use crate::connection::{Answer, Connection, ConnectionOptions};
use crate::endpoint::Endpoint;
use crate::error::{ClientError, ConnectionError, check};
use crate::metadata::Metadata;
use crate::stream::Connect;

/// How a client behaves.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// The brokers to begin with.
    pub bootstrap: Vec<Endpoint>,
    /// How its connections behave.
    pub connection: ConnectionOptions,
    /// The longest that one try waits for its answer, beyond what the request itself asks to wait.
    pub attempt: Duration,
}

impl ClientOptions {
    /// The usual behaviour, beginning with the given brokers.
    #[must_use]
    pub fn new(bootstrap: Vec<Endpoint>) -> ClientOptions {
        ClientOptions {
            bootstrap,
            connection: ConnectionOptions::default(),
            attempt: Duration::from_secs(30),
        }
    }
}

/// Which broker a call goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Whichever answers.
    Any,
    /// The one that metadata names as controller.
    Controller,
    /// This one.
    Broker(BrokerId),
}

/// A client of one cluster; clones share connections and metadata.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

/// The connection to one broker; the lock is held while it is made, so that one is made.
type Slot = Arc<tokio::sync::Mutex<Option<Arc<Connection>>>>;

struct Inner {
    options: ClientOptions,
    connect: Arc<dyn Connect>,
    slots: Mutex<BTreeMap<Endpoint, Slot>>,
    metadata: Mutex<Metadata>,
}

/// A connection and whom it leads to.
pub(crate) struct Link {
    pub(crate) endpoint: Endpoint,
    pub(crate) connection: Arc<Connection>,
    slot: Slot,
    attempt: Duration,
}

impl Link {
    pub(crate) fn error(&self, source: ConnectionError) -> ClientError {
        ClientError::Connection {
            endpoint: self.endpoint.clone(),
            source,
        }
    }

    pub(crate) fn version_of<T: Request>(&self, newest: Option<i16>) -> Result<i16, ClientError> {
        self.connection
            .version_of(T::API_KEY, newest)
            .map_err(|source| self.error(source))
    }

    /// Fails where the version in which an API is to be called is older than what is needed of it.
    pub(crate) fn require<T: Request>(&self, version: i16, needed: i16) -> Result<(), ClientError> {
        if version >= needed {
            return Ok(());
        }
        Err(self.error(ConnectionError::UnsupportedApi {
            api: T::API_KEY,
            ours: VersionRange::new(needed, T::API_KEY.stable_versions().max),
            theirs: self.connection.served(T::API_KEY),
        }))
    }

    /// One try, bounded by the caller's deadline and the client's patience with one try.
    pub(crate) async fn call<T: Request>(
        &self,
        version: i16,
        request: &T,
        wait: Duration,
        deadline: Instant,
    ) -> Result<Answer<T>, ClientError> {
        let deadline = deadline.min(Instant::now() + self.attempt + wait);
        let outcome = self
            .connection
            .request_version(version, request, deadline)
            .await;
        self.settle(outcome)
    }

    /// One try of a request that is not answered.
    pub(crate) async fn send<T: Request>(
        &self,
        version: i16,
        request: &T,
        deadline: Instant,
    ) -> Result<(), ClientError> {
        let deadline = deadline.min(Instant::now() + self.attempt);
        let outcome = self
            .connection
            .send_version(version, request, deadline)
            .await;
        self.settle(outcome)
    }

    fn settle<V>(&self, outcome: Result<V, ConnectionError>) -> Result<V, ClientError> {
        if let Err(ConnectionError::Deadline) = outcome {
            // Whatever waits behind an answer that does not come waits in vain: the next try, and
            // everybody else's next call, begins with a new connection.
            // A slot that is locked is being given a new one already.
            if let Ok(mut slot) = self.slot.try_lock() {
                slot.take_if(|connection| Arc::ptr_eq(connection, &self.connection));
            }
        }
        outcome.map_err(|source| self.error(source))
    }
}

impl Client {
    /// A client that has not connected yet.
    #[must_use]
    pub fn new(options: ClientOptions, connect: Arc<dyn Connect>) -> Client {
        let inner = Inner {
            options,
            connect,
            slots: Mutex::default(),
            metadata: Mutex::default(),
        };
        Client {
            inner: Arc::new(inner),
        }
    }

    /// Calls an API in the newest version that both sides know, at most `newest`. Connections are
    /// tried again until the deadline, answers are the caller's to judge: a request that may have
    /// been carried out is only repeated when `repeatable`.
    pub async fn call<T: Request>(
        &self,
        target: Target,
        newest: Option<i16>,
        request: &T,
        repeatable: bool,
        deadline: Instant,
    ) -> Result<Answer<T>, ClientError> {
        let what = || format!("calling {}", T::API_KEY);
        let mut retry = Retry::new(deadline);
        loop {
            let attempt = async {
                let link = self.link(target, retry.attempts(), deadline).await?;
                let version = link.version_of::<T>(newest)?;
                link.call(version, request, Duration::ZERO, deadline).await
            };
            match attempt.await {
                Ok(answer) => return Ok(answer),
                Err(error) if !repeatable && error.may_have_happened() => return Err(error),
                Err(error) => retry.pause(what, error).await?,
            }
        }
    }

    /// Asks for brokers and topics, `None` meaning all topics, and remembers the answer.
    ///
    /// A topic's own error is a field of the topic: one that does not exist does not fail the call.
    pub async fn metadata(
        &self,
        topics: Option<&[&str]>,
        deadline: Instant,
    ) -> Result<Metadata, ClientError> {
        let mut retry = Retry::new(deadline);
        loop {
            match self
                .refresh(topics, false, retry.attempts(), deadline)
                .await
            {
                Ok(metadata) => return Ok(metadata),
                Err(error) => {
                    retry
                        .pause(|| "asking for metadata".to_owned(), error)
                        .await?
                }
            }
        }
    }

    async fn refresh(
        &self,
        topics: Option<&[&str]>,
        auto_create: bool,
        attempt: usize,
        deadline: Instant,
    ) -> Result<Metadata, ClientError> {
        let link = self.link(Target::Any, attempt, deadline).await?;
        let version = link.version_of::<MetadataRequest<'_>>(None)?;
        let request = MetadataRequest {
            topics: topics.map(|names| {
                let topic = |name: &&str| metadata_request::MetadataRequestTopic {
                    topic_id: TopicId::ZERO,
                    name: Some((*name).to_owned().into()),
                };
                names.iter().map(topic).collect()
            }),
            allow_auto_topic_creation: auto_create,
            ..MetadataRequest::default()
        };
        let answer = link
            .call(version, &request, Duration::ZERO, deadline)
            .await?;
        let response = answer.body().map_err(|source| link.error(source))?;
        check(response.error_code, None, || {
            "asking for metadata".to_owned()
        })?;
        let metadata = Metadata::from_response(&response);
        self.known().merge(metadata.clone());
        Ok(metadata)
    }

    /// A connection to a partition's leader, and the topic's id; one try.
    pub(crate) async fn leader(
        &self,
        topic: &str,
        partition: i32,
        auto_create: bool,
        attempt: usize,
        deadline: Instant,
    ) -> Result<(Link, TopicId), ClientError> {
        let known = self.known_leader(topic, partition);
        let leader = match known {
            Ok(leader) => Ok(leader),
            Err(_) => {
                self.refresh(Some(&[topic]), auto_create, attempt, deadline)
                    .await?;
                self.known_leader(topic, partition)
            }
        };
        let (endpoint, id) = leader.map_err(|code| ClientError::Kafka {
            what: format!("looking for the leader of {topic}-{partition}"),
            code,
            message: None,
        })?;
        Ok((self.connect(endpoint, deadline).await?, id))
    }

    pub(crate) fn known_leader(
        &self,
        topic: &str,
        partition: i32,
    ) -> Result<(Endpoint, TopicId), ErrorCode> {
        let known = self.known();
        known
            .leader(topic, partition)
            .map(|(_, endpoint, topic)| (endpoint.clone(), topic.id))
    }

    /// Drops what is known of a topic: the next call asks again.
    pub(crate) fn forget_topic(&self, topic: &str) {
        self.known().topics.remove(topic);
    }

    /// A connection to a broker; of those that are as good, a later attempt takes another one.
    pub(crate) async fn link(
        &self,
        target: Target,
        attempt: usize,
        deadline: Instant,
    ) -> Result<Link, ClientError> {
        if target == Target::Controller && self.known().controller.is_none() {
            Box::pin(self.refresh(Some(&[]), false, attempt, deadline)).await?;
        }
        let candidates = self.candidates(target);
        let count = candidates.len();
        let mut last = None;
        for endpoint in candidates
            .into_iter()
            .cycle()
            .skip(attempt % count.max(1))
            .take(count)
        {
            match self.connect(endpoint, deadline).await {
                Ok(link) => return Ok(link),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| ClientError::Kafka {
            what: format!("looking for a broker for {target:?}"),
            code: ErrorCode::BrokerNotAvailable,
            message: None,
        }))
    }

    fn candidates(&self, target: Target) -> Vec<Endpoint> {
        let known = self.known();
        let one = |id: Option<BrokerId>| {
            id.and_then(|id| known.brokers.get(&id))
                .map(|broker| broker.endpoint.clone())
        };
        match target {
            Target::Broker(id) => one(Some(id)).into_iter().collect(),
            // Any broker serves what the controller does, if only by passing it on.
            Target::Controller if one(known.controller).is_some() => {
                one(known.controller).into_iter().collect()
            }
            Target::Any | Target::Controller => {
                let mut candidates: Vec<Endpoint> = known
                    .brokers
                    .values()
                    .map(|broker| broker.endpoint.clone())
                    .collect();
                let more = self.inner.options.bootstrap.iter();
                let more: Vec<_> = more
                    .filter(|endpoint| !candidates.contains(endpoint))
                    .cloned()
                    .collect();
                candidates.extend(more);
                candidates
            }
        }
    }

    pub(crate) async fn connect(
        &self,
        endpoint: Endpoint,
        deadline: Instant,
    ) -> Result<Link, ClientError> {
        let options = &self.inner.options;
        let deadline = deadline.min(Instant::now() + options.attempt);
        let slot = {
            let mut slots = self
                .inner
                .slots
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            Arc::clone(slots.entry(endpoint.clone()).or_default())
        };
        let failed = |source| ClientError::Connection {
            endpoint: endpoint.clone(),
            source,
        };
        let mut held = timeout_at(deadline, slot.lock())
            .await
            .map_err(|_| failed(ConnectionError::Deadline))?;
        let connection = match &*held {
            Some(connection) if !connection.is_failed() => Arc::clone(connection),
            _ => {
                *held = None;
                let stream = self.inner.connect.connect(&endpoint.host, endpoint.port);
                let stream = timeout_at(deadline, stream)
                    .await
                    .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
                    .map_err(|error| ClientError::Connect {
                        endpoint: endpoint.clone(),
                        source: Arc::new(error),
                    })?;
                let connection = Connection::open(stream, options.connection.clone(), deadline)
                    .await
                    .map_err(failed)?;
                let connection = Arc::new(connection);
                *held = Some(Arc::clone(&connection));
                connection
            }
        };
        drop(held);
        Ok(Link {
            endpoint,
            connection,
            slot,
            attempt: options.attempt,
        })
    }

    fn known(&self) -> MutexGuard<'_, Metadata> {
        self.inner
            .metadata
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("options", &self.inner.options)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
