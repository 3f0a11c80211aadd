//! The broker that runs, what outlives it, and the ways in which it ends.
//!
//! A process is a group of tasks and a disk. When it ends, its tasks are gone between two polls, its
//! disk is what a kill or a power cut leaves, and the metadata store, the bucket and the clients live
//! on.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use esker_client::{Client, ClientOptions, Endpoint};
use esker_metadata::{Keys, MemoryStore};
use esker_server::environment::Randomness;
use esker_server::{Broker, Config, Environment, Shared};
use esker_storage::{Disk, MemoryDisk};
use esker_tier::fault::FaultStore;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout};

use crate::compacted::Compacted;
use crate::disk::{Planted, plant};
use crate::environment::{SimClock, SimSpawner};
use crate::executor::{Executor, Group};
use crate::groups::Groups;
use crate::history::History;
use crate::network::SimNetwork;
use crate::random::Random;
use crate::tier::Authority;
use crate::trace::Trace;
use crate::weather::MetadataWeather;

/// Where the broker listens.
pub(crate) const PORT: u16 = 9092;

/// How long a start or a stop may take before it counts as stuck.
const START_MAX: Duration = Duration::from_secs(300);

/// Properties of the broker: everything small and soon.
const PROPERTIES: &[(&str, &str)] = &[
    ("node.id", "1"),
    ("log.dirs", "/data"),
    ("listeners", "PLAINTEXT://sim:9092"),
    ("auto.create.topics.enable", "false"),
    ("log.dir.reserve.bytes", "0"),
    ("log.retention.check.interval.ms", "700"),
    ("log.segment.delete.delay.ms", "1500"),
    ("offload.min.bytes", "6000"),
    ("offload.max.age.ms", "4000"),
    ("manifest.retention.ms", "10000"),
    ("remote.cache.bytes", "20000"),
    ("shutdown.timeout.ms", "5000"),
    ("log.cleaner.backoff.ms", "400"),
    ("offsets.topic.num.partitions", "2"),
    ("group.initial.rebalance.delay.ms", "500"),
    ("group.min.session.timeout.ms", "1000"),
    ("group.consumer.min.session.timeout.ms", "1000"),
    ("group.consumer.session.timeout.ms", "5000"),
    ("group.consumer.min.heartbeat.interval.ms", "500"),
    ("group.consumer.heartbeat.interval.ms", "1500"),
];

/// How a process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Crash {
    /// The process alone: what it wrote is in the page cache.
    Kill,
    /// The machine: what was synced survives, and any subset of the rest.
    PowerCut,
}

/// Why a process is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// It was asked to stop.
    Stopped,
    /// It said that it cannot go on.
    Failed(String),
    /// It was killed.
    Killed,
}

struct Running {
    group: Group,
    stop: Option<oneshot::Sender<()>>,
    ended: watch::Receiver<Option<End>>,
    shared: Weak<Shared>,
}

struct State {
    disk: MemoryDisk,
    running: Option<Running>,
    processes: u64,
}

/// The world of one run.
pub(crate) struct World {
    pub(crate) executor: Executor,
    pub(crate) trace: Trace,
    pub(crate) history: History,
    pub(crate) groups: Groups,
    pub(crate) compacted: Compacted,
    pub(crate) network: SimNetwork,
    pub(crate) metadata_weather: MetadataWeather,
    pub(crate) objects: FaultStore,
    pub(crate) authority: Authority,
    pub(crate) clock: SimClock,
    /// Draws what happens to processes and stores.
    pub(crate) random: Random,
    metadata: MemoryStore,
    seed: u64,
    planted: Planted,
    state: Mutex<State>,
}

impl World {
    pub(crate) fn new(seed: u64, planted: Planted, executor: Executor, prints: bool) -> World {
        let trace = Trace::new(executor.clone(), prints);
        let history = History::new(trace.clone());
        let metadata_weather = MetadataWeather::default();
        let faults = metadata_weather.faults(Random::new(seed, 11), trace.clone());
        let metadata = MemoryStore::with_faults(faults);
        let bucket: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let state = State {
            disk: MemoryDisk::new(),
            running: None,
            processes: 0,
        };
        World {
            network: SimNetwork::new(executor.clone(), Random::new(seed, 12)),
            objects: FaultStore::new(Arc::clone(&bucket)),
            authority: Authority {
                keys: Keys::default(),
                metadata: metadata.clone(),
                objects: bucket,
                trace: trace.clone(),
                history: history.clone(),
            },
            clock: SimClock(Instant::now()),
            random: Random::new(seed, 13),
            state: Mutex::new(state),
            executor,
            groups: Groups::new(trace.clone()),
            compacted: Compacted::new(trace.clone()),
            trace,
            history,
            metadata_weather,
            metadata,
            seed,
            planted,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is whole in itself.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client of the cluster.
    pub(crate) fn client(&self) -> Client {
        let endpoint = Endpoint {
            host: "sim".to_owned(),
            port: PORT,
        };
        let mut options = ClientOptions::new(vec![endpoint]);
        options.attempt = Duration::from_secs(5);
        Client::new(options, Arc::new(self.network.clone()))
    }

    /// The disk of the running process.
    pub(crate) fn disk(&self) -> MemoryDisk {
        self.state().disk.clone()
    }

    /// The tasks of the running process.
    pub(crate) fn group(&self) -> Option<Group> {
        self.state().running.as_ref().map(|running| running.group)
    }

    /// The inside of the running broker, for what no client can see.
    pub(crate) fn shared(&self) -> Option<Arc<Shared>> {
        self.state().running.as_ref()?.shared.upgrade()
    }

    fn environment(&self, group: Group, disk: Arc<dyn Disk>) -> Environment {
        let random = Random::new(self.seed, 1000 + group.0);
        Environment {
            disk,
            network: Arc::new(self.network.clone()),
            object_store: Some(Arc::new(self.objects.clone())),
            metadata: Arc::new(self.metadata.clone()),
            clock: Arc::new(self.clock),
            randomness: Randomness::from_seed(random.seed32()),
            spawner: Arc::new(SimSpawner {
                executor: self.executor.clone(),
                group,
                is_inline: random.chance(300),
                random,
            }),
            registry: prometheus::Registry::new(),
        }
    }

    /// Starts a process on what the one before left; `doomed_after` many polls it is killed.
    ///
    /// Returns when it serves, or why it does not; then it is gone.
    pub(crate) async fn start(&self, doomed_after: Option<u64>) -> Result<(), String> {
        let (group, disk) = {
            let mut state = self.state();
            state.processes += 1;
            (Group(state.processes), plant(&state.disk, self.planted))
        };
        let pairs = PROPERTIES
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let (config, _) = Config::from_properties(pairs).map_err(|error| error.to_string())?;
        let environment = self.environment(group, disk);
        let (started, starting) = oneshot::channel();
        let (stop, mut stopping) = oneshot::channel();
        let (ends, ended) = watch::channel(None);
        if let Some(mut polls) = doomed_after {
            let doom = move || {
                polls = polls.saturating_sub(1);
                polls == 0
            };
            self.executor.doom(group, Box::new(doom));
        }
        self.trace.note(format_args!("process {} starts", group.0));
        self.executor.spawn(
            group,
            Box::pin(async move {
                let broker = match Broker::start(config, environment).await {
                    Ok(broker) => broker,
                    Err(error) => {
                        let _ = started.send(Err(error.to_string()));
                        return;
                    }
                };
                if started.send(Ok(Arc::downgrade(broker.shared()))).is_err() {
                    return;
                }
                let failure = tokio::select! {
                    biased;
                    _ = &mut stopping => None,
                    reason = broker.failed() => Some(reason),
                };
                let end = match failure {
                    Some(reason) => End::Failed(reason),
                    None => {
                        broker.stop().await;
                        End::Stopped
                    }
                };
                ends.send_replace(Some(end));
            }),
        );
        let outcome = match timeout(START_MAX, starting).await {
            Ok(Ok(Ok(shared))) => Ok(shared),
            Ok(Ok(Err(refusal))) => Err(refusal),
            Ok(Err(_)) => Err("killed while it started".to_owned()),
            Err(_) => {
                self.trace
                    .violation(format_args!("process {} hangs while it starts", group.0));
                Err("it hangs".to_owned())
            }
        };
        self.executor.spare(group);
        // Its doom may have come with the very poll in which it said that it serves.
        let outcome = match outcome {
            Ok(_) if self.executor.is_dead(group) => Err("killed when it served".to_owned()),
            outcome => outcome,
        };
        match outcome {
            Ok(shared) => {
                self.trace.note(format_args!("process {} serves", group.0));
                self.state().running = Some(Running {
                    group,
                    stop: Some(stop),
                    ended,
                    shared,
                });
                Ok(())
            }
            Err(reason) => {
                self.trace
                    .note(format_args!("process {} does not serve: {reason}", group.0));
                self.executor.kill(group);
                Err(reason)
            }
        }
    }

    /// Waits until the process has ended by itself, or was killed by its doom.
    pub(crate) async fn ended(&self) -> End {
        let ended = self
            .state()
            .running
            .as_ref()
            .map(|running| running.ended.clone());
        let Some(mut ended) = ended else {
            return End::Killed;
        };
        match ended.wait_for(Option::is_some).await {
            Ok(end) => end.clone().unwrap_or(End::Killed),
            // Dropped unsent, with all that the process was.
            Err(_) => End::Killed,
        }
    }

    /// Kills the process at once.
    pub(crate) fn kill(&self) {
        if let Some(group) = self.group() {
            self.executor.kill(group);
        }
    }

    /// Stops the process cleanly.
    pub(crate) async fn stop(&self) {
        let stop = self
            .state()
            .running
            .as_mut()
            .and_then(|running| running.stop.take());
        if let Some(stop) = stop {
            // A process that has ended meanwhile needs no request.
            let _ = stop.send(());
        }
        let ended = timeout(START_MAX, self.ended()).await;
        match ended {
            Ok(end) => self.trace.note(format_args!("the process ended: {end:?}")),
            Err(_) => self.trace.violation("the process hangs while it stops"),
        }
    }

    /// Ends what is left of the process, and makes of its disk what the crash leaves.
    pub(crate) fn bury(&self, crash: Crash) {
        let group = self.group();
        if let Some(group) = group {
            self.executor.kill(group);
        }
        self.groups.process_ended();
        let seed = self.random.next();
        let mut state = self.state();
        state.running = None;
        state.disk = match crash {
            Crash::Kill => state.disk.after_kill(),
            Crash::PowerCut => state.disk.after_power_cut(seed),
        };
        drop(state);
        let process = group.map_or(0, |group| group.0);
        self.trace
            .note(format_args!("process {process} is gone: {crash:?}"));
    }
}
