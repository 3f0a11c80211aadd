//! What happens in one run: load all the time; rounds of weather that end with a crash, a stop or a
//! fault; after each, everything is checked; at the end calm, in which all must be put in order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use esker_client::{ConfigChange, ConfigResource, NewTopic};
use esker_storage::Disk;
use futures::future::BoxFuture;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use crate::compacted;
use crate::disk::Planted;
use crate::executor::{Executor, OUTSIDE};
use crate::groups::{self, Group};
use crate::history::Place;
use crate::members::{self, Setting};
use crate::network::Host;
use crate::random::Random;
use crate::weather::BucketWeather;
use crate::workload::{self, Finish};
use crate::world::{Crash, End, World};

/// What clients do in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// Everything.
    All,
    /// Groups alone: what is lost is theirs.
    Groups,
    /// The compacted topic alone.
    Compacted,
}

/// How a run goes.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// What clients do.
    pub load: Load,
    /// How many rounds of weather and crashes.
    pub rounds: u64,
    /// The bug below the broker.
    pub planted: Planted,
    /// Whether the trace is printed as it comes.
    pub prints: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            load: Load::All,
            rounds: 4,
            planted: Planted::Nothing,
            prints: false,
        }
    }
}

/// What a run did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Records that were acknowledged.
    pub acknowledged: u64,
    /// Records that were read, each as often as it was.
    pub read: u64,
    /// Processes that were killed, with or without their machine.
    pub crashes: u64,
    /// Processes that were stopped.
    pub stops: u64,
    /// Starts that were killed under way.
    pub starts_killed: u64,
    /// Objects that the tiers named at the end.
    pub objects: u64,
    /// Offsets that checks read from the tier alone.
    pub read_cold: i64,
    /// Commits of groups that were acknowledged.
    pub commits: u64,
    /// Partitions that members of groups were told to own, each as often as they were.
    pub owned: u64,
    /// Records that compaction removed.
    pub compacted: u64,
    /// Simulated milliseconds.
    pub milliseconds: u128,
}

impl Summary {
    /// Adds what another run did.
    pub fn add(&mut self, other: &Summary) {
        self.acknowledged += other.acknowledged;
        self.read += other.read;
        self.crashes += other.crashes;
        self.stops += other.stops;
        self.starts_killed += other.starts_killed;
        self.objects += other.objects;
        self.read_cold += other.read_cold;
        self.commits += other.commits;
        self.owned += other.owned;
        self.compacted += other.compacted;
        self.milliseconds += other.milliseconds;
    }
}

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// What was wrong, one line each.
    pub violations: Vec<String>,
    /// Every event in order.
    pub lines: Vec<String>,
    /// A hash over all of them.
    pub hash: u64,
    /// What was done.
    pub summary: Summary,
}

/// Starts under bad weather before the weather turns.
const STARTS_MAX: u64 = 4;

/// How long it is calm at the end: longer than collection, and the end of a deleted topic, wait.
const CALM: Duration = Duration::from_secs(200);

/// How long after the last of their troubles groups have settled: sessions have ended, and every member
/// has come to two rebalances.
const SETTLED: Duration = Duration::from_secs(40);

const PRODUCERS: u64 = 3;
const FOLLOWERS: u64 = 2;
const MEMBERS: u64 = 3;
const COMPACTED_PRODUCERS: u64 = 2;

/// Runs one seed. The caller's runtime has one thread and a paused clock.
pub async fn run(seed: u64, options: Options) -> Outcome {
    let executor = Executor::new(Random::new(seed, 1));
    let world = Arc::new(World::new(
        seed,
        options.planted,
        executor.clone(),
        options.prints,
    ));
    let scenario = Scenario {
        world: Arc::clone(&world),
        options,
        groups: groups::of_seed(seed),
        summary: Summary::default(),
        late: BTreeSet::new(),
    };
    let mut summary = executor.run(scenario.play(seed)).await;
    (summary.acknowledged, summary.read) = world.history.counts();
    (summary.commits, summary.owned) = world.groups.counts();
    summary.compacted = world.compacted.removed();
    summary.milliseconds = world.trace.now_ms();
    let (lines, hash, violations) = world.trace.take();
    Outcome {
        violations,
        lines,
        hash,
        summary,
    }
}

struct Scenario {
    world: Arc<World>,
    options: Options,
    groups: [Group; 2],
    summary: Summary,
    /// Objects whose PUTs happened after everybody had given them up. Of a deleted topic they stay:
    /// nobody may delete what has no key (P7).
    late: BTreeSet<String>,
}

/// How a round ends.
#[derive(Debug, Clone, Copy)]
enum Ending {
    Crash(Crash),
    /// Killed after so many polls.
    Doomed(u64, Crash),
    /// The disk dies within so many changes, and the machine with it.
    DiskDies(u64),
    Stop,
    SyncFails,
    DiskFills,
    NetworkCut,
}

impl Scenario {
    async fn play(mut self, seed: u64) -> Summary {
        let world = Arc::clone(&self.world);
        world
            .executor
            .spawn(OUTSIDE, Box::pin(world.authority.clone().observe()));
        if world.start(None).await.is_err() {
            world.trace.violation("a new broker does not start");
            return self.summary;
        }
        let places = self.create_topics().await;
        let finish = Finish::default();
        let clients = self.start_clients(seed, &places, &finish);
        let (calm, end) = (Finish::default(), Finish::default());
        let members = match self.does_groups() {
            true => self.start_members(seed, &calm, &end).await,
            false => Vec::new(),
        };
        for round in 0..self.options.rounds {
            self.round(round).await;
            if !self.restart().await {
                return self.summary;
            }
            self.check(&places).await;
            if world.trace.has_violations() {
                return self.summary;
            }
        }
        finish.set();
        for client in clients {
            // One that was dropped has ended as well.
            let _ = client.await;
        }
        self.clear_weather();
        calm.set();
        sleep(SETTLED).await;
        if !members.is_empty() {
            for group in self.groups {
                world.groups.settled(group);
            }
        }
        end.set();
        for member in members {
            let _ = member.await;
        }
        self.calm_down(&places).await;
        self.summary
    }

    fn does_groups(&self) -> bool {
        self.options.load != Load::Compacted
    }

    fn does_compacted(&self) -> bool {
        self.options.load != Load::Groups
    }

    async fn create_topics(&self) -> Vec<Place> {
        let client = self.world.client();
        if self.does_compacted() {
            let topic = compacted::topic();
            workload::create(&self.world, &client, &topic, &Finish::default()).await;
        }
        if self.options.load != Load::All {
            return Vec::new();
        }
        let small = |name: &str, partitions, more: &[(&str, &str)]| {
            let mut settings = BTreeMap::from([
                ("internal.segment.bytes".to_owned(), "5000".to_owned()),
                ("index.interval.bytes".to_owned(), "1000".to_owned()),
            ]);
            settings.extend(
                more.iter()
                    .map(|(key, value)| ((*key).to_owned(), (*value).to_owned())),
            );
            NewTopic {
                partitions: Some(partitions),
                settings,
                ..NewTopic::new(name)
            }
        };
        let topics = [
            small("kept", 2, &[("local.retention.bytes", "9000")]),
            small(
                "rolling",
                1,
                &[
                    ("local.retention.bytes", "9000"),
                    ("retention.bytes", "40000"),
                ],
            ),
            small(
                "local",
                1,
                &[
                    ("remote.storage.enable", "false"),
                    ("retention.bytes", "60000"),
                ],
            ),
        ];
        let mut places = Vec::new();
        for topic in topics {
            workload::create(&self.world, &client, &topic, &Finish::default()).await;
            for partition in 0..topic.partitions.unwrap_or(1) {
                places.push(Place {
                    topic: topic.name.clone(),
                    partition,
                    life: 0,
                });
            }
        }
        places
    }

    /// Starts a task that outlives every process, and tells when it has ended.
    fn start(&self, task: BoxFuture<'static, ()>) -> oneshot::Receiver<()> {
        let (ends_here, end) = oneshot::channel();
        self.world.executor.spawn(
            OUTSIDE,
            Box::pin(async move {
                task.await;
                // Whoever waits may have gone.
                let _ = ends_here.send(());
            }),
        );
        end
    }

    /// Starts the members of all groups, on a topic that nobody writes to.
    async fn start_members(
        &self,
        seed: u64,
        calm: &Finish,
        finish: &Finish,
    ) -> Vec<oneshot::Receiver<()>> {
        let client = self.world.client();
        let topic = NewTopic {
            partitions: Some(groups::PARTITIONS),
            ..NewTopic::new(groups::TOPIC)
        };
        workload::create(&self.world, &client, &topic, &Finish::default()).await;
        let topic = loop {
            let asked = client
                .metadata(Some(&[groups::TOPIC]), workload::within(20))
                .await;
            let found = asked.ok().and_then(|metadata| {
                let topic = metadata.topics.get(groups::TOPIC)?;
                topic.error.is_none().then_some(topic.id)
            });
            match found {
                Some(id) => break id,
                None => sleep(Duration::from_millis(100)).await,
            }
        };
        let setting = Setting {
            world: Arc::clone(&self.world),
            topic,
            calm: calm.clone(),
            finish: finish.clone(),
        };
        let mut ends = Vec::new();
        for (group, first) in self.groups.into_iter().zip([1, 1 + MEMBERS]) {
            for host in first..first + MEMBERS {
                let random = Random::new(seed, 400 + host);
                let member = members::belong(setting.clone(), random, Host(host), group);
                ends.push(self.start(Box::pin(member)));
            }
        }
        self.shrink_offsets().await;
        ends
    }

    /// Makes the coordinators' own log one of small segments that are compacted soon. Best effort: it
    /// exists once the first member has asked for its coordinator.
    async fn shrink_offsets(&self) {
        let resource = ConfigResource::Topic("__consumer_offsets".to_owned());
        let changes = [
            ("internal.segment.bytes", "4000"),
            ("min.cleanable.dirty.ratio", "0.2"),
            ("delete.retention.ms", "5000"),
        ];
        let changes = changes.map(|(key, value)| ConfigChange::Set(key.into(), value.into()));
        let client = self.world.client();
        for _ in 0..20 {
            let deadline = workload::within(5);
            match client
                .alter_config(&resource, &changes, false, deadline)
                .await
            {
                Ok(()) => return,
                Err(error) => self
                    .world
                    .trace
                    .note(format_args!("{resource} stays as it is: {error}")),
            }
            sleep(Duration::from_millis(250)).await;
        }
    }

    fn start_clients(
        &self,
        seed: u64,
        places: &[Place],
        finish: &Finish,
    ) -> Vec<oneshot::Receiver<()>> {
        let mut ends = Vec::new();
        let mut start = |task| ends.push(self.start(task));
        let world = || Arc::clone(&self.world);
        if self.does_compacted() {
            for index in 0..COMPACTED_PRODUCERS {
                let random = Random::new(seed, 500 + index);
                start(Box::pin(compacted::produce(
                    world(),
                    random,
                    finish.clone(),
                )));
            }
            let random = Random::new(seed, 510);
            start(Box::pin(compacted::follow(world(), random, finish.clone())));
        }
        if self.options.load != Load::All {
            return ends;
        }
        for index in 0..PRODUCERS {
            let random = Random::new(seed, 100 + index);
            start(Box::pin(workload::produce(
                world(),
                random,
                places.to_vec(),
                finish.clone(),
            )));
        }
        for index in 0..FOLLOWERS {
            let random = Random::new(seed, 200 + index);
            start(Box::pin(workload::follow(
                world(),
                random,
                places.to_vec(),
                finish.clone(),
            )));
        }
        let settings = BTreeMap::from([("internal.segment.bytes".to_owned(), "3000".to_owned())]);
        let topic = NewTopic {
            partitions: Some(1),
            settings,
            ..NewTopic::new("passing")
        };
        let random = Random::new(seed, 300);
        start(Box::pin(workload::come_and_go(
            world(),
            random,
            topic,
            finish.clone(),
        )));
        ends
    }

    fn set_weather(&self) {
        let (world, random) = (&self.world, &self.world.random);
        let bucket = match random.below(5) {
            0 | 1 => BucketWeather::Fine,
            2 | 3 => BucketWeather::Bad,
            _ => BucketWeather::Away,
        };
        let metadata = [0, 0, 20, 100]
            .get(random.below(4) as usize)
            .copied()
            .unwrap_or(0);
        let (delay_ms, cuts) = match random.below(4) {
            0 => (0, 0),
            1 => (30, 0),
            2 => (5, 3),
            _ => (3, 0),
        };
        world.trace.note(format_args!(
            "weather: bucket {bucket:?}, metadata {metadata}, delay {delay_ms}, cuts {cuts}"
        ));
        bucket.set(&world.objects, random);
        world.metadata_weather.set(metadata);
        world.network.set_weather(delay_ms, cuts);
    }

    fn clear_weather(&self) {
        BucketWeather::Fine.set(&self.world.objects, &self.world.random);
        self.world.metadata_weather.set(0);
        self.world.network.set_weather(3, 0);
    }

    fn draw_ending(&self) -> Ending {
        let random = &self.world.random;
        let crash = if random.chance(600) {
            Crash::PowerCut
        } else {
            Crash::Kill
        };
        match random.below(12) {
            0..4 => Ending::Crash(crash),
            4..6 => Ending::Doomed(random.between(1, 3_000), crash),
            6..8 => Ending::DiskDies(random.between(1, 400)),
            8 => Ending::Stop,
            9 => Ending::SyncFails,
            10 => Ending::DiskFills,
            _ => Ending::NetworkCut,
        }
    }

    /// A time under some weather, and its end. Afterwards the process may be gone.
    async fn round(&mut self, round: u64) {
        let world = Arc::clone(&self.world);
        let random = &world.random;
        self.set_weather();
        let time = Duration::from_millis(random.between(500, 15_000));
        if let Ok(end) = timeout(time, world.ended()).await {
            world
                .trace
                .note(format_args!("the process ended by itself: {end:?}"));
            if end == End::Killed {
                world.trace.violation("the process ended without a reason");
            }
            world.bury(Crash::Kill);
            return;
        }
        self.release().await;
        let ending = self.draw_ending();
        world.trace.note(format_args!("round {round}: {ending:?}"));
        match ending {
            Ending::Crash(crash) => {
                world.kill();
                self.summary.crashes += 1;
                world.bury(crash);
            }
            Ending::Doomed(polls, crash) => {
                let mut left = polls;
                let doom = move || {
                    left = left.saturating_sub(1);
                    left == 0
                };
                if let Some(group) = world.group() {
                    world.executor.doom(group, Box::new(doom));
                }
                sleep(Duration::from_secs(random.between(1, 20))).await;
                self.summary.crashes += 1;
                world.bury(crash);
            }
            Ending::DiskDies(changes) => {
                let disk = world.disk();
                disk.crash_at(disk.operations() + changes);
                if let Some(group) = world.group() {
                    let watched = disk.clone();
                    // A process does not outlive its machine: gone right after the change.
                    world
                        .executor
                        .doom(group, Box::new(move || watched.is_dead()));
                }
                sleep(Duration::from_secs(random.between(1, 20))).await;
                self.summary.crashes += 1;
                world.bury(Crash::PowerCut);
            }
            Ending::Stop => {
                world.stop().await;
                self.summary.stops += 1;
                world.bury(if random.chance(500) {
                    Crash::PowerCut
                } else {
                    Crash::Kill
                });
            }
            Ending::SyncFails => {
                world.disk().fail_syncs(1);
                match timeout(Duration::from_secs(120), world.ended()).await {
                    Ok(end) => world
                        .trace
                        .note(format_args!("after a failed sync: {end:?}")),
                    Err(_) => world
                        .trace
                        .violation("a process goes on after a failed sync"),
                }
                self.summary.crashes += 1;
                world.bury(if random.chance(500) {
                    Crash::PowerCut
                } else {
                    Crash::Kill
                });
            }
            Ending::DiskFills => {
                let disk = world.disk();
                let available = disk.available_bytes("/".as_ref()).unwrap_or(u64::MAX);
                disk.set_capacity(u64::MAX - available + random.between(0, 20_000));
                sleep(Duration::from_millis(random.between(100, 8_000))).await;
                disk.set_capacity(u64::MAX);
            }
            Ending::NetworkCut => world.network.cut_all(),
        }
    }

    /// Lets the PUTs happen that were given up.
    async fn release(&mut self) {
        let authority = &self.world.authority;
        let before = authority.names().await;
        if let Err(error) = self.world.objects.release().await {
            self.world
                .trace
                .violation(format_args!("late PUTs fail: {error}"));
        }
        self.late
            .extend(authority.names().await.difference(&before).cloned());
    }

    /// Starts the process if it is gone, through crashes of the start itself.
    async fn restart(&mut self) -> bool {
        let world = Arc::clone(&self.world);
        let random = &world.random;
        if world.group().is_some() && timeout(Duration::ZERO, world.ended()).await.is_err() {
            return true;
        }
        if world.group().is_some() {
            world.bury(Crash::Kill);
        }
        for attempt in 0.. {
            let doomed_after = (attempt < 3 && random.chance(350)).then(|| random.between(1, 400));
            if attempt == STARTS_MAX {
                self.clear_weather();
            }
            match world.start(doomed_after).await {
                Ok(()) => return true,
                Err(reason) if attempt > STARTS_MAX + 1 => {
                    world
                        .trace
                        .violation(format_args!("the broker does not start: {reason}"));
                    return false;
                }
                Err(_) => {
                    self.summary.starts_killed += u64::from(doomed_after.is_some());
                    let cut = doomed_after.is_some() && random.chance(500);
                    world.bury(if cut { Crash::PowerCut } else { Crash::Kill });
                    // Long enough, now and then, for the lease of the one before to end.
                    sleep(Duration::from_millis(random.between(0, 12_000))).await;
                }
            }
        }
        false
    }

    /// Checks everything that can be seen, under a clear sky.
    async fn check(&mut self, places: &[Place]) {
        self.clear_weather();
        let world = Arc::clone(&self.world);
        for place in places {
            self.summary.read_cold += workload::verify(&world, place, &world.random).await;
            // The first thing that is wrong is the one to look at.
            if world.trace.has_violations() {
                return;
            }
        }
        if self.does_compacted() {
            compacted::verify(&world, &world.random).await;
        }
        if self.does_groups() {
            for group in self.groups {
                members::audit(&world, group).await;
            }
        }
        if world.trace.has_violations() {
            return;
        }
        self.check_local().await;
        self.summary.objects = world.authority.check_objects(places).await;
    }

    /// What the broker holds locally, against the pointers: nothing that readers need is missing.
    async fn check_local(&self) {
        let Some(shared) = self.world.shared() else {
            return;
        };
        for partition in shared.partitions.all() {
            let log = &partition.log;
            // Local first: the pointer that is read afterwards is at least as far.
            let (start, local_start) = (log.start_offset(), log.local_start_offset());
            let (written, durable) = (log.written_end(), log.durable_end());
            let shown = partition.high_watermark();
            let name = format!("{}-{}", partition.topic, partition.index);
            if !(start <= local_start.max(start) && local_start <= durable && durable <= written) {
                self.world.trace.violation(format_args!(
                    "{name}: start {start}, local {local_start}, durable {durable}, written {written}"
                ));
            }
            if partition.leading().is_some() && shown > durable {
                self.world
                    .trace
                    .violation(format_args!("{name}: shown {shown}, durable {durable}"));
            }
            let id = partition.topic_id;
            let pointer = self.world.authority.pointer(id, partition.index).await;
            let needed = pointer.map_or(start, |p| p.tier_end.max(p.log_start));
            if local_start > needed
                && self
                    .world
                    .authority
                    .pointer(id, partition.index)
                    .await
                    .is_some()
            {
                self.world.trace.violation(format_args!(
                    "{name}: local copies begin at {local_start}, the tier ends at {needed}"
                ));
            }
        }
    }

    /// A long calm: all that was sealed goes to the tier, what nobody needs goes away.
    async fn calm_down(&mut self, places: &[Place]) {
        self.clear_weather();
        let world = Arc::clone(&self.world);
        self.release().await;
        if let Ok(end) = timeout(CALM, world.ended()).await {
            world
                .trace
                .violation(format_args!("the process ended by itself: {end:?}"));
            return;
        }
        self.check(places).await;
        world.authority.note_bucket().await;
        for left in world.authority.leftovers(&self.late).await {
            world
                .trace
                .violation(format_args!("left of a deleted topic: {left}"));
        }
        let Some(shared) = world.shared() else { return };
        for partition in shared.partitions.all() {
            let name = format!("{}-{}", partition.topic, partition.index);
            if partition.leading().is_none() {
                world.trace.violation(format_args!("{name} is not led"));
            }
            if !partition.config().is_tiered() {
                continue;
            }
            let sealed = partition
                .log
                .segments()
                .into_iter()
                .filter(|segment| segment.sealed);
            let sealed_end = sealed.map(|segment| segment.end).max();
            let pointer = world
                .authority
                .pointer(partition.topic_id, partition.index)
                .await;
            let tier_end = pointer.map(|pointer| pointer.tier_end);
            if sealed_end > tier_end {
                world.trace.violation(format_args!(
                    "{name}: sealed up to {sealed_end:?}, tiered up to {tier_end:?}"
                ));
            }
        }
    }
}
