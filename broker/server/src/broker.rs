//! Start and stop: every component is built here, in order, and nowhere else.
//!
//! The order of a start
//!
//!   cluster key -> log directories -> bucket -> sockets bound -> registration -> image
//!     -> logs recovered, epochs raised, partitions led -> connections accepted
//!
//! Nothing is changed anywhere before everything that can be refused has been checked, as far as
//! the order of the protocols allows it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use esker_metadata::values::{DirectoryId, Endpoint as StoredEndpoint, ProcessId, Unknown};
use esker_metadata::{Image, Keys};
use esker_protocol::{BrokerId, ErrorCode, LeaderEpoch, TopicId};
use esker_storage::LogDirectory;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use crate::commit::{self, Dirty};
use crate::config::dynamic::BrokerSettings;
use crate::config::{Config, Durability, Endpoint, HostPort};
use crate::configs::{self, Joined};
use crate::connection::{FrameBudget, Limits, ResponseBudget};
use crate::coordinators::Coordinators;
use crate::dispatch::Dispatcher;
use crate::environment::{Environment, Listener, Work};
use crate::fetch_sessions::FetchSessions;
use crate::listener::Gate;
use crate::membership::{Member, MembershipError, Registration};
use crate::metrics::Metrics;
use crate::partition::Partition;
use crate::partitions::PartitionSet;
use crate::producer_ids::ProducerIds;
use crate::replicas::{Proof, Replicas};
use crate::startup::{self, StartError};
use crate::tiering::Tiering;
use crate::{
    compaction, controller, coordinators, http, listener, membership, replicas, retention, tiering,
};

/// What all parts of a running broker share.
pub struct Shared {
    /// The configuration.
    pub config: Config,
    /// The components it was built from.
    pub environment: Environment,
    /// The cluster's id, 22 characters.
    pub cluster_id: String,
    /// The names of metadata keys.
    pub keys: Keys,
    /// The hosted partitions.
    pub partitions: Arc<PartitionSet>,
    /// The healthy log directories, each with the flag that asks for a commit round.
    pub directories: Vec<(Arc<LogDirectory>, Dirty)>,
    /// The broker's side of the tier.
    pub tiering: Tiering,
    /// Producer ids.
    pub producer_ids: ProducerIds,
    /// What consumers have fetched lately.
    pub fetch_sessions: FetchSessions,
    /// Tells when partitions begin to be led.
    pub replicas: Replicas,
    /// The group coordinators of this broker.
    pub coordinators: Coordinators,
    /// The memory of large responses.
    pub responses: ResponseBudget,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// Cancelled when the broker stops taking requests.
    pub stopping: CancellationToken,
    /// This process's registration.
    pub registration: Registration,
    /// This broker's settings, as they are now.
    pub joined: Joined,
    images: watch::Receiver<Arc<Image>>,
}

/// A broker that clients can reach.
#[derive(Debug, Clone)]
pub struct LiveBroker {
    /// Its id.
    pub id: BrokerId,
    /// Where it is for clients of the asking listener.
    pub address: HostPort,
}

impl Shared {
    /// What the cluster looks like now.
    #[must_use]
    pub fn image(&self) -> Arc<Image> {
        Arc::clone(&self.images.borrow())
    }

    /// This broker's settings, those included that were changed while it runs.
    #[must_use]
    pub fn settings(&self) -> Arc<BrokerSettings> {
        configs::settings(self, &self.image())
    }

    /// The settings that a group has of its own, by Kafka's names.
    #[must_use]
    pub fn group_overrides(&self, group: &str) -> BTreeMap<String, String> {
        configs::group_overrides(&self.image(), group)
    }

    /// Follows the image.
    #[must_use]
    pub fn images(&self) -> watch::Receiver<Arc<Image>> {
        self.images.clone()
    }

    /// The partition if this broker leads it, or Kafka's code for why it does not answer.
    ///
    /// # Errors
    /// The partition is unknown, led elsewhere, or the client's epoch is another one.
    pub fn led_partition(
        &self,
        topic: &str,
        index: i32,
        current: LeaderEpoch,
    ) -> Result<Arc<Partition>, ErrorCode> {
        let id = self
            .topic_id(topic)
            .ok_or(ErrorCode::UnknownTopicOrPartition)?;
        self.led_by_id(id, index, current)
    }

    /// The same by id.
    ///
    /// # Errors
    /// As [`Shared::led_partition`].
    pub fn led_by_id(
        &self,
        id: TopicId,
        index: i32,
        current: LeaderEpoch,
    ) -> Result<Arc<Partition>, ErrorCode> {
        let Some(partition) = self.partitions.get(id, index) else {
            return Err(match self.image().partition(id, index) {
                Some(_) => ErrorCode::NotLeaderOrFollower,
                None => ErrorCode::UnknownTopicOrPartition,
            });
        };
        if partition.is_offline() {
            return Err(ErrorCode::KafkaStorageError);
        }
        let leading = partition.leading().ok_or(ErrorCode::NotLeaderOrFollower)?;
        match current {
            LeaderEpoch::NONE => Ok(partition),
            current if current < leading => Err(ErrorCode::FencedLeaderEpoch),
            current if current > leading => Err(ErrorCode::UnknownLeaderEpoch),
            _ => Ok(partition),
        }
    }

    /// The id of a topic that clients can see.
    #[must_use]
    pub fn topic_id(&self, name: &str) -> Option<TopicId> {
        self.image().visible_id(name)
    }

    /// The name of a topic that clients can see.
    #[must_use]
    pub fn topic_name(&self, id: TopicId) -> Option<String> {
        self.image().visible_name(id).map(str::to_owned)
    }

    /// Leader and leader epoch of a partition, as the image has them.
    #[must_use]
    pub fn leader_of(&self, id: TopicId, index: i32) -> Option<(i32, i32)> {
        let image = self.image();
        let partition = &image.partition(id, index)?.value;
        Some((partition.leader?.0, partition.leader_epoch.0))
    }

    /// The live brokers, with the addresses that they advertise for `listener`.
    #[must_use]
    pub fn live_brokers(&self, listener: &str) -> Vec<LiveBroker> {
        let image = self.image();
        image
            .brokers()
            .filter_map(|(id, _)| {
                let info = image.broker_info(id)?;
                let endpoint = info
                    .value
                    .endpoints
                    .iter()
                    .find(|endpoint| endpoint.listener == listener)?;
                let address = HostPort {
                    host: endpoint.host.clone(),
                    port: endpoint.port,
                };
                Some(LiveBroker { id, address })
            })
            .collect()
    }

    /// A live broker to send administration to; any serves it.
    #[must_use]
    pub fn controller_id(&self) -> i32 {
        self.config.node_id.0
    }
}

/// A running broker.
pub struct Broker {
    shared: Arc<Shared>,
    kafka: Vec<SocketAddr>,
    http: Option<SocketAddr>,
    stages: Stages,
    fatal: watch::Receiver<Option<String>>,
}

/// Tasks that end together.
#[derive(Default)]
struct Stage {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Stage {
    fn spawn(&self, environment: &Environment, task: impl Future<Output = ()> + Send + 'static) {
        environment.spawn(&self.tasks, task);
    }

    async fn end(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// In the order of their start; they end in the reverse order.
#[derive(Default)]
struct Stages {
    image: Stage,
    membership: Stage,
    commit: Stage,
    background: Stage,
    listeners: Stage,
    http: Stage,
}

/// Tells the process that it must end. The first reason counts.
#[derive(Clone)]
struct Fatal(Arc<watch::Sender<Option<String>>>);

impl Fatal {
    fn raise(&self, reason: String) {
        error!(%reason, "the broker cannot go on");
        self.0.send_if_modified(|current| {
            let is_first = current.is_none();
            current.get_or_insert(reason);
            is_first
        });
    }
}

/// What ends when another process has become this broker: it leads nothing and begins nothing any
/// more, before it tells the process to end.
#[derive(Clone)]
struct Replaced {
    partitions: Arc<PartitionSet>,
    background: CancellationToken,
    fatal: Fatal,
}

impl Replaced {
    fn give_way(&self, reason: &MembershipError) {
        self.background.cancel();
        self.partitions.let_go_all();
        self.fatal.raise(reason.to_string());
    }
}

impl Broker {
    /// Starts a broker and returns when it serves.
    ///
    /// # Errors
    /// One clear line for what stands in the way.
    pub async fn start(config: Config, environment: Environment) -> Result<Broker, StartError> {
        let metrics = Arc::new(Metrics::register(&environment.registry)?);
        metrics.set_relaxed(config.durability == Durability::Relaxed);
        let keys = Keys::new(esker_metadata::keys::PREFIX_DEFAULT)
            .expect("the default prefix is a valid prefix");
        let (fatal_sender, fatal) = watch::channel(None);
        let raise = Fatal(Arc::new(fatal_sender));
        let stages = Stages::default();
        let store = Arc::clone(&environment.metadata);

        let opened = startup::open(&config, &environment, &keys).await?;
        let bound = Bound::bind(&config, &environment).await?;
        let member = Member {
            id: config.node_id,
            incarnation: ProcessId(environment.randomness.bytes16()),
            directories: opened
                .directories
                .iter()
                .map(|d| DirectoryId(d.id().0))
                .collect(),
            endpoints: bound.advertised(&config)?,
        };
        startup::list_incarnation(&environment, &opened, member.incarnation).await?;
        let before = &opened.before;
        let registration = membership::register(store.as_ref(), &keys, &member, before).await?;

        startup::note_seen(&environment, &opened, registration.revision).await?;

        let (images_sender, mut images) = watch::channel(Arc::new(Image::empty(keys.clone())));
        {
            let (store, keys, raise) = (Arc::clone(&store), keys.clone(), raise.clone());
            let stop = stages.image.stop.clone();
            stages.image.spawn(&environment, async move {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => {}
                    error = esker_metadata::image::follow(store, keys, images_sender) => {
                        raise.raise(error.to_string());
                    }
                }
            });
        }
        images
            .wait_for(|image| image.revision() >= registration.revision)
            .await
            .map_err(|_| StartError::Metadata("the metadata cannot be followed".to_owned()))?;
        let proof = opened.proof();
        let shared = Arc::new(Shared {
            tiering: Tiering::new(&config, &environment, &opened),
            cluster_id: opened.cluster_id,
            keys,
            partitions: Arc::new(PartitionSet::new(Arc::clone(&metrics))),
            directories: opened
                .directories
                .into_iter()
                .map(|directory| (directory, Dirty::default()))
                .collect(),
            producer_ids: ProducerIds::default(),
            fetch_sessions: FetchSessions::new(config.fetch_sessions_max),
            replicas: Replicas::default(),
            coordinators: Coordinators::default(),
            responses: ResponseBudget::new(config.responses_bytes_max),
            metrics,
            stopping: stages.listeners.stop.clone(),
            registration,
            joined: Joined::default(),
            images,
            config,
            environment,
        });
        let replaced = Replaced {
            partitions: Arc::clone(&shared.partitions),
            background: stages.background.stop.clone(),
            fatal: raise.clone(),
        };
        coordinators::lag::register(&shared)?;
        run_membership(&shared, &stages.membership, member, &replaced);
        run_commit(&shared, &stages.commit, &raise);
        // The first pass leads what this broker should lead before any client is let in.
        let settled = replicas::reconcile(&shared, &proof, None).await?;
        run_replicas(&shared, &stages.background, proof, settled, replaced);
        run_background(&shared, &stages.background);
        let (kafka, http) = bound.serve(&shared, &stages);
        Ok(Broker {
            shared,
            kafka,
            http,
            stages,
            fatal,
        })
    }

    /// The address of the first listener.
    #[must_use]
    pub fn kafka_address(&self) -> SocketAddr {
        self.kafka
            .first()
            .copied()
            .unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)))
    }

    /// The address of the HTTP listener.
    #[must_use]
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http
    }

    /// What the parts of the broker share.
    #[must_use]
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Waits until the broker cannot go on, and says why.
    pub async fn failed(&self) -> String {
        let mut fatal = self.fatal.clone();
        match fatal.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => "the broker's tasks have ended".to_owned(),
        }
    }

    /// Stops: answers what was applied, syncs, and says good-bye. What has not ended at the
    /// deadline (`shutdown.timeout.ms`) is left behind, and the stop is not a clean one.
    pub async fn stop(self) {
        let deadline = self.shared.config.shutdown_timeout;
        info!("stopping");
        let listeners = async {
            self.stages.http.end().await;
            self.stages.listeners.end().await;
        };
        let mut is_clean = within(deadline, "connections", listeners).await;
        is_clean &= within(deadline, "background work", self.stages.background.end()).await;
        for partition in self.shared.partitions.all() {
            partition.resign();
        }
        is_clean &= within(deadline, "group commit", self.stages.commit.end()).await;
        if is_clean {
            for (directory, _) in &self.shared.directories {
                let closing = Arc::clone(directory);
                let closed = self
                    .shared
                    .environment
                    .run(Work::Blocking, move || closing.clean_shutdown());
                if let Err(error) = closed.await {
                    warn!(directory = %directory.path().display(), %error, "not shut down cleanly");
                }
            }
        }
        within(deadline, "registration", self.stages.membership.end()).await;
        within(deadline, "metadata", self.stages.image.end()).await;
        info!(clean = is_clean, "stopped");
    }
}

/// Waits for the end of `work`; says so and goes on at the deadline.
async fn within(deadline: Duration, what: &str, work: impl Future<Output = ()>) -> bool {
    let ended = tokio::time::timeout(deadline, work).await.is_ok();
    if !ended {
        warn!(
            what,
            deadline_ms = deadline.as_millis(),
            "did not end in time"
        );
    }
    ended
}

fn run_commit(shared: &Arc<Shared>, stage: &Stage, fatal: &Fatal) {
    for (directory, dirty) in &shared.directories {
        let (shared, fatal) = (Arc::clone(shared), fatal.clone());
        let (directory, dirty) = (Arc::clone(directory), dirty.clone());
        let (environment, stop) = (shared.environment.clone(), stage.stop.clone());
        stage.spawn(&environment, async move {
            commit::run(&shared, directory, dirty, stop).await;
            if shared
                .directories
                .iter()
                .all(|(directory, _)| directory.is_failed())
            {
                fatal.raise("no healthy log directory is left".to_owned());
            }
        });
    }
}

fn run_membership(shared: &Arc<Shared>, stage: &Stage, member: Member, replaced: &Replaced) {
    let (store, keys) = (
        Arc::clone(&shared.environment.metadata),
        shared.keys.clone(),
    );
    let (registration, images, stop) = (shared.registration, shared.images(), stage.stop.clone());
    let replaced = replaced.clone();
    stage.spawn(&shared.environment, async move {
        let kept = membership::keep(store, keys, member, registration, images, stop);
        if let Some(reason) = kept.await {
            replaced.give_way(&reason);
        }
    });
}

fn run_replicas(
    shared: &Arc<Shared>,
    stage: &Stage,
    proof: Proof,
    settled: Option<Arc<Image>>,
    replaced: Replaced,
) {
    let (of, stop) = (Arc::clone(shared), stage.stop.clone());
    stage.spawn(&shared.environment, async move {
        if let Some(reason) = replicas::run(of, proof, settled, stop).await {
            replaced.give_way(&reason);
        }
    });
}

fn run_background(shared: &Arc<Shared>, stage: &Stage) {
    let own = || (Arc::clone(shared), stage.stop.clone());
    let environment = &shared.environment;
    let (of, stop) = own();
    stage.spawn(environment, controller::run(of, stop));
    let (of, stop) = own();
    stage.spawn(environment, controller::clean(of, stop));
    let (of, stop) = own();
    stage.spawn(environment, tiering::run(of, stop));
    let (of, stop) = own();
    stage.spawn(environment, tiering::guard_reserve(of, stop));
    let (of, stop) = own();
    stage.spawn(environment, retention::run(of, stop));
    let (of, stop) = own();
    stage.spawn(environment, coordinators::run(of, stop));
    let progress = Arc::new(compaction::Progress::default());
    for _ in 0..shared.config.cleaner.threads.min(compaction::WORKERS_MAX) {
        let (of, stop) = own();
        stage.spawn(
            environment,
            compaction::run(of, Arc::clone(&progress), stop),
        );
    }
}

/// The bound listeners, before anything is accepted.
struct Bound {
    kafka: Vec<(Endpoint, Box<dyn Listener>)>,
    http: Option<Box<dyn Listener>>,
}

impl Bound {
    async fn bind(config: &Config, environment: &Environment) -> Result<Bound, StartError> {
        let bind = async |address: &HostPort| {
            environment
                .network
                .bind(&address.host, address.port)
                .await
                .map_err(|error| StartError::Listen {
                    address: address.to_string(),
                    error,
                })
        };
        let mut kafka = Vec::with_capacity(config.listeners.len());
        for endpoint in &config.listeners {
            kafka.push((endpoint.clone(), bind(&endpoint.address).await?));
        }
        let http = match &config.http_listener {
            Some(address) => Some(bind(address).await?),
            None => None,
        };
        Ok(Bound { kafka, http })
    }

    /// What each listener tells its clients: the configured address, or the one that was bound.
    fn advertised(&self, config: &Config) -> Result<Vec<StoredEndpoint>, StartError> {
        for endpoint in &config.advertised_listeners {
            if !self
                .kafka
                .iter()
                .any(|(bound, _)| bound.name == endpoint.name)
            {
                return Err(StartError::Advertised(endpoint.name.clone()));
            }
        }
        let stored = |(endpoint, listener): &(Endpoint, Box<dyn Listener>)| {
            let bound = listener.local_address();
            let own = config
                .advertised_listeners
                .iter()
                .find(|own| own.name == endpoint.name);
            let host = match own
                .map_or(&endpoint.address.host, |own| &own.address.host)
                .as_str()
            {
                // An address of all interfaces reaches nobody; without a better one, this machine.
                "" | "0.0.0.0" | "::" => "localhost".to_owned(),
                host => host.to_owned(),
            };
            let port = own.map_or(0, |own| own.address.port);
            StoredEndpoint {
                listener: endpoint.name.clone(),
                host,
                port: if port == 0 { bound.port() } else { port },
                security: "PLAINTEXT".to_owned(),
                unknown: Unknown::default(),
            }
        };
        Ok(self.kafka.iter().map(stored).collect())
    }

    /// Starts to accept.
    fn serve(self, shared: &Arc<Shared>, stages: &Stages) -> (Vec<SocketAddr>, Option<SocketAddr>) {
        let config = &shared.config;
        let gate = Gate {
            limits: Limits {
                budget: FrameBudget::new(config.requests_bytes_max, config.request_bytes_max),
                idle: config.connection_idle,
            },
            connections_max: {
                let shared = Arc::clone(shared);
                // What the process can bear is in the configuration that it started with.
                Arc::new(move || {
                    let given = shared.config.connections_max;
                    shared
                        .settings()
                        .connections_max(given)
                        .min(shared.config.sockets_max)
                })
            },
            open: Arc::new(AtomicUsize::new(0)),
            metrics: Arc::clone(&shared.metrics),
        };
        let mut addresses = Vec::with_capacity(self.kafka.len());
        for (endpoint, listener) in self.kafka {
            addresses.push(listener.local_address());
            let dispatcher = Arc::new(Dispatcher::new(Arc::clone(shared), endpoint.name));
            let stop = stages.listeners.stop.clone();
            let environment = shared.environment.clone();
            let run = listener::run(environment, listener, dispatcher, gate.clone(), stop);
            stages.listeners.spawn(&shared.environment, run);
        }
        let http = self.http.map(|listener| {
            let address = listener.local_address();
            let ready = Arc::clone(shared);
            let readiness: http::Readiness = Arc::new(move || readiness(&ready));
            let (environment, stop) = (shared.environment.clone(), stages.http.stop.clone());
            let run = http::run(environment, listener, readiness, stop);
            stages.http.spawn(&shared.environment, run);
            address
        });
        (addresses, http)
    }
}

fn readiness(shared: &Shared) -> Result<(), String> {
    if shared.stopping.is_cancelled() {
        return Err("stopping".to_owned());
    }
    match shared
        .directories
        .iter()
        .find(|(directory, _)| directory.is_failed())
    {
        Some((directory, _)) => Err(format!("{} has failed", directory.path().display())),
        None => Ok(()),
    }
}
