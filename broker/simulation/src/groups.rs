//! What members of groups were told, and what must therefore be true of owners and commits.
//!
//! Checked at every answer:
//! - no two members own a partition at once. A member owns what it was given last, until it gives it
//!   up, or its session has passed since it asked for the last answer that confirmed it;
//! - a generation gives a partition to one member; generations and epochs never go back, and whoever
//!   is behind, or lost a partition while it was silent, neither goes on nor commits;
//! - a commit that was acknowledged is what is fetched from then on, over any crash, until a later one
//!   takes its place; one that was refused is never seen.
//!
//! And when all timers have had their time: every partition has its owner.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::trace::Trace;

/// The protocol that a group speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Generations, and a leader that assigns.
    Classic,
    /// Heartbeats with epochs, and a broker that assigns (KIP-848).
    Consumer,
}

/// A group of the simulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) protocol: Protocol,
    /// Whether its members keep their names when they come again (KIP-345).
    pub(crate) is_static: bool,
    /// What it subscribes to the topic by, where not by its name.
    pub(crate) regex: Option<&'static str>,
    /// Whether its members speak one protocol or the other, so that it changes from one to the other and back
    /// while they live (KIP-848). What they are told is that of a consumer group, mostly.
    pub(crate) is_mixed: bool,
}

/// The groups there are in the run of a seed: static and not, by name and by expression, of one protocol and of
/// both.
pub(crate) fn of_seed(seed: u64) -> [Group; 2] {
    let is = |bit: u32| seed >> bit & 1 == 1;
    [
        Group {
            name: "classic",
            protocol: Protocol::Classic,
            is_static: is(0),
            regex: None,
            is_mixed: false,
        },
        Group {
            name: "consumers",
            protocol: Protocol::Consumer,
            is_static: is(1) && !is(3),
            regex: (is(2) && !is(3)).then_some("sha.*d"),
            is_mixed: is(3),
        },
    ]
}

/// The topic that all of them subscribe to.
pub(crate) const TOPIC: &str = "shared";

/// Its partitions.
pub(crate) const PARTITIONS: i32 = 4;

/// A silent member is given up after so long.
pub(crate) const SESSION: Duration = Duration::from_secs(5);

/// A member's stay in a group, from one join to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stay(u64);

impl std::fmt::Display for Stay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "stay {}", self.0)
    }
}

/// When something was asked: its place among all events, and its time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    at: u64,
    time: Instant,
}

/// What a member was told that it owns.
#[derive(Debug, Clone)]
struct Claim {
    generation: i32,
    partitions: BTreeSet<i32>,
    until: Instant,
    /// Since then another member was given a part of it.
    lost_at: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    InDoubt,
    Acknowledged,
    Refused,
}

#[derive(Debug, Clone, Copy)]
struct Commit {
    fate: Fate,
    generation: i32,
    stay: Stay,
    asked: Asked,
    /// From then on it is not applied any more; `None` while it may be on its way.
    over_at: Option<u64>,
    /// It was seen, or acknowledged.
    known_at: Option<u64>,
}

/// A commit that is under way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attempt {
    pub(crate) group: Group,
    pub(crate) partition: i32,
    /// What is committed: every commit of a partition has an offset of its own.
    pub(crate) offset: i64,
}

#[derive(Default)]
struct Told {
    claims: BTreeMap<Stay, Claim>,
    /// Generations that members work in, and when that was known first.
    generations: BTreeMap<i32, u64>,
    /// The id, or the name of a static one, of the member that was given a partition in a generation; it may
    /// come back for it.
    given: BTreeMap<(i32, i32), String>,
    commits: BTreeMap<i32, Vec<Commit>>,
    /// Since when the coordinator of this process is known to have read its log.
    loaded_at: Option<u64>,
}

#[derive(Default)]
struct State {
    events: u64,
    stays: u64,
    groups: BTreeMap<&'static str, Told>,
    acknowledged: u64,
    given: u64,
}

/// What groups were told in one run; clones are the same.
#[derive(Clone)]
pub(crate) struct Groups {
    state: Arc<Mutex<State>>,
    trace: Trace,
}

impl State {
    fn event(&mut self) -> u64 {
        self.events += 1;
        self.events
    }

    fn group(&mut self, group: Group) -> &mut Told {
        self.groups.entry(group.name).or_default()
    }
}

impl Groups {
    pub(crate) fn new(trace: Trace) -> Groups {
        Groups {
            state: Arc::default(),
            trace,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is whole in itself.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request is about to be sent.
    pub(crate) fn ask(&self) -> Asked {
        Asked {
            at: self.state().event(),
            time: Instant::now(),
        }
    }

    /// A member joins.
    pub(crate) fn arrive(&self) -> Stay {
        let mut state = self.state();
        state.stays += 1;
        Stay(state.stays)
    }

    /// A heartbeat of a classic member was answered without an error. While a coordinator reads its log
    /// it answers all of them so, as Kafka does: that says nothing of who owns what.
    pub(crate) fn beats(
        &self,
        group: Group,
        member: (Stay, &str),
        generation: i32,
        partitions: &BTreeSet<i32>,
        asked: Asked,
    ) {
        let loaded_at = self.state().group(group).loaded_at;
        if loaded_at.is_some_and(|loaded| loaded < asked.at) {
            self.owns(group, member, generation, partitions, asked);
        }
    }

    /// A member was told, or told again, what it owns.
    pub(crate) fn owns(
        &self,
        group: Group,
        (stay, id): (Stay, &str),
        generation: i32,
        partitions: &BTreeSet<i32>,
        asked: Asked,
    ) {
        let now = Instant::now();
        let mut problems = Vec::new();
        {
            let mut state = self.state();
            let at = state.event();
            state.given += partitions.len() as u64;
            let told = state.group(group);
            told.loaded_at.get_or_insert(at);
            for (other, claim) in &mut told.claims {
                let shared: Vec<i32> = claim.partitions.intersection(partitions).copied().collect();
                if *other == stay || shared.is_empty() {
                    continue;
                }
                if claim.until > now {
                    problems.push(format!(
                        "{stay} is given {shared:?} in {generation} while {other} owns them in {}",
                        claim.generation
                    ));
                } else {
                    claim.lost_at.get_or_insert(at);
                }
            }
            if group.protocol == Protocol::Classic {
                problems.extend(told.behind(generation, asked));
                for partition in partitions {
                    let owner = told.given.entry((generation, *partition));
                    let owner = owner.or_insert_with(|| id.to_owned());
                    if owner != id {
                        problems.push(format!(
                            "generation {generation} gives {partition} to {owner} and to {id}"
                        ));
                    }
                }
                told.generations.entry(generation).or_insert(at);
            }
            if let Some(before) = told.claims.get(&stay) {
                if before.generation > generation {
                    problems.push(format!(
                        "{stay} goes back from {} to {generation}",
                        before.generation
                    ));
                }
                if before.lost_at.is_some_and(|lost| lost < asked.at) {
                    problems.push(format!("{stay} goes on after it was given up"));
                }
            }
            let claim = Claim {
                generation,
                partitions: partitions.clone(),
                until: asked.time + SESSION,
                lost_at: None,
            };
            told.claims.insert(stay, claim);
        }
        self.report(group, problems);
    }

    /// A member owns nothing any more, and knows it, or is no more.
    pub(crate) fn gives_up(&self, group: Group, stay: Stay) {
        self.state().group(group).claims.remove(&stay);
    }

    /// A member is about to commit an offset of its own choice of a partition.
    pub(crate) fn commits(
        &self,
        group: Group,
        partition: i32,
        stay: Stay,
        generation: i32,
        asked: Asked,
    ) -> Attempt {
        let mut state = self.state();
        let commits = state.group(group).commits.entry(partition).or_default();
        let offset = i64::try_from(commits.len()).unwrap_or(i64::MAX);
        commits.push(Commit {
            fate: Fate::InDoubt,
            generation,
            stay,
            asked,
            over_at: None,
            known_at: None,
        });
        Attempt {
            group,
            partition,
            offset,
        }
    }

    /// A commit was acknowledged.
    pub(crate) fn acknowledged(&self, attempt: Attempt) {
        let mut problems = Vec::new();
        {
            let mut state = self.state();
            let at = state.event();
            state.acknowledged += 1;
            let told = state.group(attempt.group);
            told.loaded_at.get_or_insert(at);
            if let Some(commit) = told.commit(attempt) {
                commit.fate = Fate::Acknowledged;
                commit.over_at = Some(at);
                commit.known_at.get_or_insert(at);
                let commit = *commit;
                if attempt.group.protocol == Protocol::Classic {
                    problems.extend(told.behind(commit.generation, commit.asked));
                }
                let lost_at = told
                    .claims
                    .get(&commit.stay)
                    .and_then(|claim| claim.lost_at);
                if lost_at.is_some_and(|lost| lost < commit.asked.at) {
                    problems.push(format!(
                        "{} commits {} of {} after it was given up",
                        commit.stay, attempt.offset, attempt.partition
                    ));
                }
            }
        }
        self.report(attempt.group, problems);
    }

    /// A commit was certainly not applied, and never will be.
    pub(crate) fn refused(&self, attempt: Attempt) {
        if let Some(commit) = self.state().group(attempt.group).commit(attempt) {
            commit.fate = Fate::Refused;
        }
    }

    /// The process is gone: what it has not applied by now it never will.
    pub(crate) fn process_ended(&self) {
        let mut state = self.state();
        let at = state.event();
        for told in state.groups.values_mut() {
            told.loaded_at = None;
            for commit in told.commits.values_mut().flatten() {
                commit.over_at.get_or_insert(at);
            }
        }
    }

    /// A committed offset was fetched; -1 where there was none.
    pub(crate) fn fetched(&self, group: Group, partition: i32, asked: Asked, offset: i64) {
        let mut problems = Vec::new();
        {
            let mut state = self.state();
            let at = state.event();
            let told = state.group(group);
            told.loaded_at.get_or_insert(at);
            let commits = told.commits.entry(partition).or_default();
            let index = usize::try_from(offset).ok();
            let found = index.and_then(|index| commits.get(index)).copied();
            if offset >= 0 && found.is_none() {
                problems.push(format!(
                    "{partition} has the commit {offset}, which nobody made"
                ));
            }
            if found.is_some_and(|commit| commit.fate == Fate::Refused) {
                problems.push(format!(
                    "{partition} has the commit {offset}, which was refused"
                ));
            }
            let is_before = |later: &Commit| match found {
                None => true,
                Some(found) => {
                    found.over_at.is_some_and(|over| over < later.asked.at)
                        || (group.protocol == Protocol::Classic
                            && found.generation < later.generation)
                }
            };
            let passed = commits.iter().position(|later| {
                later.known_at.is_some_and(|known| known < asked.at) && is_before(later)
            });
            if let Some(passed) = passed {
                problems.push(format!(
                    "commit {passed} of {partition} was acknowledged or seen, and now it is {offset}"
                ));
            }
            if let Some(commit) = index.and_then(|index| commits.get_mut(index)) {
                commit.over_at.get_or_insert(at);
                commit.known_at.get_or_insert(at);
            }
        }
        self.report(group, problems);
    }

    /// All timers have had their time: each partition has one owner.
    pub(crate) fn settled(&self, group: Group) {
        let now = Instant::now();
        let mut problems = Vec::new();
        {
            let mut state = self.state();
            let told = state.group(group);
            for partition in 0..PARTITIONS {
                let owners = told
                    .claims
                    .values()
                    .filter(|claim| claim.until > now && claim.partitions.contains(&partition));
                let owners = owners.count();
                if owners != 1 {
                    problems.push(format!("{partition} has {owners} owners in the calm"));
                }
            }
        }
        self.report(group, problems);
    }

    /// How many commits were acknowledged, and how often partitions were given to members.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let state = self.state();
        (state.acknowledged, state.given)
    }

    fn report(&self, group: Group, problems: Vec<String>) {
        for problem in problems {
            self.trace
                .violation(format_args!("group {}: {problem}", group.name));
        }
    }
}

impl Told {
    fn commit(&mut self, attempt: Attempt) -> Option<&mut Commit> {
        let index = usize::try_from(attempt.offset).ok()?;
        self.commits.get_mut(&attempt.partition)?.get_mut(index)
    }

    /// What is wrong with an answer in a generation, where a later one was known when it was asked for.
    fn behind(&self, generation: i32, asked: Asked) -> Option<String> {
        let later = self.generations.range(generation + 1..);
        let known = later.into_iter().find(|(_, known)| **known < asked.at);
        known.map(|(later, _)| format!("generation {generation} goes on after {later}"))
    }
}
