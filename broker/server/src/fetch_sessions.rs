//! Fetch sessions (KIP-227): what a consumer fetches is remembered, so that its requests name only
//! what changes, and answers only what is new.
//!
//! ```text
//!   (0, 0) ─▶ full answer, a session if there is room ─▶ (id, 1) ─▶ (id, 2) ─▶ … wraps to (id, 1)
//!   (id, 0) closes it and wants another        (id, -1) closes it
//! ```
//!
//! Nothing here is safety: whoever is refused sends a full request again.
//!
//! Invariants
//! - There are at most as many sessions as slots, and [`PARTITIONS_MAX`] partitions in all of them.
//! - The epoch of a request is that of its session, or the request is refused.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use esker_protocol::{ErrorCode, FixedHashMap, TopicId};
use tokio::time::Instant;

/// The partitions that all sessions remember at most: some tens of megabytes.
pub const PARTITIONS_MAX: usize = 500_000;

/// So long a session is safe from new ones, and so long an idle one is kept where slots are scarce.
const EVICTION_AGE: Duration = Duration::from_secs(120);

/// The epochs of requests that continue no session.
const EPOCH_FIRST: i32 = 0;
const EPOCH_FINAL: i32 = -1;

/// A topic, as requests name it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// By its name.
    Name(Arc<str>),
    /// By its id.
    Id(TopicId),
}

/// What a request asks of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interest {
    /// The topic.
    pub topic: Topic,
    /// The name of a topic that goes by its id, if it is or has been known: a topic that went is
    /// told from one that never was.
    pub name: Option<Arc<str>>,
    /// The partition's number.
    pub index: i32,
    /// The offset to read from.
    pub offset: i64,
    /// The bytes to read at most.
    pub max_bytes: i32,
    /// The leader epoch that the client knows.
    pub current_leader_epoch: i32,
    /// The epoch of what it has read last.
    pub last_fetched_epoch: i32,
}

/// A partition by the name that the session has for it.
pub type Key = (Topic, i32);

impl Interest {
    /// The partition that is asked for.
    #[must_use]
    pub fn key(&self) -> Key {
        (self.topic.clone(), self.index)
    }

    fn learn_name(&mut self, name_of: impl Fn(TopicId) -> Option<Arc<str>>) {
        if let (None, Topic::Id(id)) = (&self.name, &self.topic) {
            self.name = name_of(*id);
        }
    }
}

/// What a partition was answered, as far as a session must know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answered {
    /// There are records in the answer.
    pub has_records: bool,
    /// The high watermark in it.
    pub high_watermark: i64,
    /// The log start in it.
    pub log_start: i64,
    /// It is an error.
    pub is_error: bool,
    /// The client must see it whatever it has seen.
    pub is_urgent: bool,
}

/// What a request is to the sessions.
#[derive(Debug)]
pub enum Opened {
    /// It has none and wants none.
    None,
    /// It wants one.
    New {
        /// Whether topics are named by id.
        by_id: bool,
    },
    /// It continues one.
    Continued {
        /// The session.
        session: Arc<Mutex<Session>>,
        /// The epoch that the session has while this request is the latest.
        epoch: i32,
    },
}

impl Opened {
    /// The session that the request continues, 0 for none.
    #[must_use]
    pub fn session_id(&self) -> i32 {
        match self {
            Opened::None | Opened::New { .. } => 0,
            Opened::Continued { session, .. } => lock(session).id,
        }
    }
}

/// One session.
#[derive(Debug)]
pub struct Session {
    id: i32,
    /// The epoch that the next request must have.
    epoch: i32,
    by_id: bool,
    /// By turn: whoever got records goes to the end, so that a byte limit starves nobody.
    turns: BTreeMap<u64, Remembered>,
    turn_of: FixedHashMap<Key, u64>,
    turn_next: u64,
}

#[derive(Debug)]
struct Remembered {
    interest: Interest,
    /// What the client was told last; -1 where it must be told again.
    high_watermark: i64,
    log_start: i64,
}

impl Session {
    fn new(id: i32, by_id: bool) -> Session {
        Session {
            id,
            epoch: 1,
            by_id,
            turns: BTreeMap::new(),
            turn_of: FixedHashMap::default(),
            turn_next: 0,
        }
    }

    fn len(&self) -> usize {
        self.turns.len()
    }

    fn push(&mut self, remembered: Remembered) {
        let turn = self.turn_next;
        self.turn_next += 1;
        self.turn_of.insert(remembered.interest.key(), turn);
        self.turns.insert(turn, remembered);
    }

    /// Adds a partition, or changes what is asked of it.
    fn set(&mut self, interest: Interest) {
        let known = self.turn_of.get(&interest.key());
        match known.and_then(|turn| self.turns.get_mut(turn)) {
            Some(remembered) => {
                let name = remembered.interest.name.take().or(interest.name);
                remembered.interest = Interest { name, ..interest };
            }
            None => self.push(Remembered {
                interest,
                high_watermark: -1,
                log_start: -1,
            }),
        }
    }

    fn learn_names(&mut self, name_of: impl Fn(TopicId) -> Option<Arc<str>>) {
        for remembered in self.turns.values_mut() {
            remembered.interest.learn_name(&name_of);
        }
    }

    fn forget(&mut self, key: &Key) {
        if let Some(turn) = self.turn_of.remove(key) {
            self.turns.remove(&turn);
        }
    }

    fn interests(&self) -> Vec<Interest> {
        let remembered = self.turns.values();
        remembered.map(|one| one.interest.clone()).collect()
    }

    /// Notes what a partition is answered. Whether the client must be told.
    fn note(&mut self, key: &Key, answered: &Answered) -> bool {
        let Some(turn) = self.turn_of.get(key).copied() else {
            // Forgotten by a later request, or never kept.
            return true;
        };
        let Some(remembered) = self.turns.get_mut(&turn) else {
            return true;
        };
        let is_news = answered.has_records
            || answered.is_urgent
            || answered.is_error
            || answered.high_watermark != remembered.high_watermark
            || answered.log_start != remembered.log_start;
        // After an error the recovery is news, whatever it is.
        remembered.high_watermark = if answered.is_error {
            -1
        } else {
            answered.high_watermark
        };
        remembered.log_start = answered.log_start;
        if answered.has_records
            && let Some(remembered) = self.turns.remove(&turn)
        {
            self.push(remembered);
        }
        is_news
    }
}

/// What is known of a session without looking into it.
#[derive(Debug)]
struct Entry {
    session: Arc<Mutex<Session>>,
    partitions: usize,
    made_at: Instant,
    used_at: Instant,
}

#[derive(Debug, Default)]
struct Cache {
    sessions: FixedHashMap<i32, Entry>,
    /// Over all sessions.
    partitions: usize,
}

impl Cache {
    fn remove(&mut self, id: i32) {
        if let Some(entry) = self.sessions.remove(&id) {
            self.partitions -= entry.partitions;
        }
    }

    /// Makes room for a session of `partitions`, at the cost of one that is idle, or smaller and not
    /// new. Whether there is room.
    fn make_room(&mut self, slots: usize, partitions: usize, now: Instant) -> bool {
        let fits = |cache: &Cache| {
            cache.sessions.len() < slots
                && cache.partitions.saturating_add(partitions) <= PARTITIONS_MAX
        };
        while !fits(self) {
            let idle = self
                .sessions
                .iter()
                .filter(|(_, entry)| now.duration_since(entry.used_at) > EVICTION_AGE)
                .min_by_key(|(id, entry)| (entry.used_at, **id));
            let smaller = self
                .sessions
                .iter()
                .filter(|(_, entry)| now.duration_since(entry.made_at) > EVICTION_AGE)
                .filter(|(_, entry)| entry.partitions < partitions)
                .min_by_key(|(id, entry)| (entry.partitions, **id));
            let Some(id) = idle.or(smaller).map(|(id, _)| *id) else {
                return false;
            };
            self.remove(id);
        }
        true
    }
}

/// All sessions of a broker.
#[derive(Debug)]
pub struct FetchSessions {
    slots: usize,
    cache: Mutex<Cache>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FetchSessions {
    /// No sessions yet, and `slots` at most.
    #[must_use]
    pub fn new(slots: usize) -> FetchSessions {
        FetchSessions {
            slots,
            cache: Mutex::default(),
        }
    }

    /// How many sessions there are.
    #[must_use]
    pub fn len(&self) -> usize {
        lock(&self.cache).sessions.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes a request up: says what it is to the sessions, and all that it fetches.
    ///
    /// # Errors
    /// The session is not there, or not as the client thinks.
    pub fn open(
        &self,
        (id, epoch): (i32, i32),
        by_id: bool,
        mut listed: Vec<Interest>,
        forgotten: &[Key],
        name_of: impl Fn(TopicId) -> Option<Arc<str>>,
        now: Instant,
    ) -> Result<(Opened, Vec<Interest>), ErrorCode> {
        listed.iter_mut().for_each(|one| one.learn_name(&name_of));
        let mut cache = lock(&self.cache);
        if epoch == EPOCH_FIRST || epoch == EPOCH_FINAL {
            cache.remove(id);
            let opened = match epoch {
                EPOCH_FINAL => Opened::None,
                _ => Opened::New { by_id },
            };
            return Ok((opened, listed));
        }
        let entry = cache.sessions.get(&id);
        let entry = entry.ok_or(ErrorCode::FetchSessionIdNotFound)?;
        let shared = Arc::clone(&entry.session);
        let mut session = lock(&shared);
        if session.epoch != epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        if session.by_id != by_id {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        // A request that grows its session beyond all bounds ends it, before it is remembered.
        if cache.partitions.saturating_add(listed.len()) > PARTITIONS_MAX {
            cache.remove(id);
            return Err(ErrorCode::FetchSessionIdNotFound);
        }
        for interest in &listed {
            session.set(interest.clone());
        }
        for key in forgotten {
            session.forget(key);
        }
        if session.len() == 0 {
            cache.remove(id);
            return Ok((Opened::None, listed));
        }
        session.learn_names(&name_of);
        session.epoch = next_epoch(epoch);
        let (opened, all, len) = (
            Opened::Continued {
                session: Arc::clone(&shared),
                epoch: session.epoch,
            },
            session.interests(),
            session.len(),
        );
        drop(session);
        if let Some(entry) = cache.sessions.get_mut(&id) {
            let before = std::mem::replace(&mut entry.partitions, len);
            entry.used_at = now;
            cache.partitions = cache.partitions - before + len;
        }
        Ok((opened, all))
    }

    /// Notes what a request is answered. Returns the session that the client has from now on, 0 for
    /// none, and which of the partitions it must be told of.
    ///
    /// # Errors
    /// Another request of the session came meanwhile.
    pub fn answer(
        &self,
        opened: &Opened,
        interests: &[Interest],
        answered: &[Answered],
        now: Instant,
        random: impl FnMut() -> u64,
    ) -> Result<(i32, Vec<bool>), ErrorCode> {
        match opened {
            Opened::None => Ok((0, vec![true; answered.len()])),
            Opened::New { by_id } => {
                let id = self.create(*by_id, interests, answered, now, random);
                Ok((id, vec![true; answered.len()]))
            }
            Opened::Continued { session, epoch } => {
                let mut session = lock(session);
                if session.epoch != *epoch {
                    return Err(ErrorCode::InvalidFetchSessionEpoch);
                }
                let told = interests
                    .iter()
                    .zip(answered)
                    .map(|(interest, answered)| session.note(&interest.key(), answered))
                    .collect();
                Ok((session.id, told))
            }
        }
    }

    fn create(
        &self,
        by_id: bool,
        interests: &[Interest],
        answered: &[Answered],
        now: Instant,
        mut random: impl FnMut() -> u64,
    ) -> i32 {
        let mut cache = lock(&self.cache);
        if !cache.make_room(self.slots, interests.len(), now) {
            return 0;
        }
        let id = loop {
            let id = i32::try_from(random() >> 33).unwrap_or(0);
            if id > 0 && !cache.sessions.contains_key(&id) {
                break id;
            }
        };
        let mut session = Session::new(id, by_id);
        // Turns begin with the next request: in this one, whoever got records keeps its place.
        for (interest, answered) in interests.iter().zip(answered) {
            session.push(Remembered {
                interest: interest.clone(),
                high_watermark: answered.high_watermark,
                log_start: answered.log_start,
            });
        }
        let partitions = session.len();
        cache.partitions += partitions;
        let entry = Entry {
            session: Arc::new(Mutex::new(session)),
            partitions,
            made_at: now,
            used_at: now,
        };
        cache.sessions.insert(id, entry);
        id
    }
}

fn next_epoch(epoch: i32) -> i32 {
    match epoch {
        i32::MAX => 1,
        epoch => epoch + 1,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn interest(index: i32, offset: i64) -> Interest {
        Interest {
            topic: Topic::Name("t".into()),
            name: None,
            index,
            offset,
            max_bytes: 100,
            current_leader_epoch: -1,
            last_fetched_epoch: -1,
        }
    }

    fn quiet(high_watermark: i64) -> Answered {
        Answered {
            has_records: false,
            high_watermark,
            log_start: 0,
            is_error: false,
            is_urgent: false,
        }
    }

    /// Sessions, and a clock and random numbers that run by hand.
    struct Harness {
        sessions: FetchSessions,
        now: Instant,
        random: u64,
    }

    impl Harness {
        fn new(slots: usize) -> Harness {
            Harness {
                sessions: FetchSessions::new(slots),
                now: Instant::now(),
                random: 0,
            }
        }

        fn full(&mut self, id: i32, interests: &[Interest], answered: &[Answered]) -> i32 {
            let (opened, all) = self
                .sessions
                .open((id, 0), false, interests.to_vec(), &[], |_| None, self.now)
                .unwrap();
            assert_eq!(all, interests);
            self.random += 1 << 33;
            let random = self.random;
            let (id, told) = self
                .sessions
                .answer(&opened, &all, answered, self.now, || random)
                .unwrap();
            assert!(told.iter().all(|told| *told));
            id
        }

        fn next(
            &mut self,
            id: i32,
            epoch: i32,
            listed: &[Interest],
            forgotten: &[i32],
        ) -> Result<(Opened, Vec<i32>, Vec<Interest>), ErrorCode> {
            let forgotten: Vec<Key> = forgotten
                .iter()
                .map(|index| (Topic::Name("t".into()), *index))
                .collect();
            let (opened, all) = self.sessions.open(
                (id, epoch),
                false,
                listed.to_vec(),
                &forgotten,
                |_| None,
                self.now,
            )?;
            let indexes = all.iter().map(|one| one.index).collect();
            Ok((opened, indexes, all))
        }

        fn tell(&self, opened: &Opened, all: &[Interest], answered: &[Answered]) -> Vec<bool> {
            let told = self
                .sessions
                .answer(opened, all, answered, self.now, || unreachable!());
            told.unwrap().1
        }
    }

    #[test]
    fn a_session_remembers_partitions_and_tells_what_is_new() {
        let mut harness = Harness::new(10);
        let both = [interest(0, 5), interest(1, 5)];
        let id = harness.full(0, &both, &[quiet(5), quiet(5)]);
        assert!(id > 0);
        let (opened, _, all) = harness.next(id, 1, &[], &[]).unwrap();
        assert_eq!(all, both);
        assert_eq!(
            harness.tell(&opened, &all, &[quiet(5), quiet(6)]),
            [false, true]
        );
        // What is asked changes in place, and a new partition comes last.
        let listed = [interest(0, 9), interest(2, 1)];
        let (opened, indexes, all) = harness.next(id, 2, &listed, &[1]).unwrap();
        assert_eq!(indexes, [0, 2]);
        assert_eq!(all[0].offset, 9);
        assert_eq!(
            harness.tell(&opened, &all, &[quiet(5), quiet(1)]),
            [false, true]
        );
    }

    #[test]
    fn whoever_got_records_goes_to_the_end() {
        let mut harness = Harness::new(10);
        let all: Vec<Interest> = (0..3).map(|index| interest(index, 0)).collect();
        let id = harness.full(0, &all, &[quiet(1); 3]);
        let (opened, _, all) = harness.next(id, 1, &[], &[]).unwrap();
        let mut answered = [quiet(1); 3];
        answered[0].has_records = true;
        assert_eq!(harness.tell(&opened, &all, &answered), [true, false, false]);
        let (_, indexes, _) = harness.next(id, 2, &[], &[]).unwrap();
        assert_eq!(indexes, [1, 2, 0]);
    }

    #[test]
    fn turns_begin_with_the_second_request() {
        let mut harness = Harness::new(10);
        let all: Vec<Interest> = (0..3).map(|index| interest(index, 0)).collect();
        let mut answered = [quiet(1); 3];
        answered[0].has_records = true;
        let id = harness.full(0, &all, &answered);
        let (_, indexes, _) = harness.next(id, 1, &[], &[]).unwrap();
        assert_eq!(indexes, [0, 1, 2]);
    }

    #[test]
    fn a_session_remembers_the_name_of_a_topic_that_went() {
        let sessions = FetchSessions::new(10);
        let now = Instant::now();
        let topic = TopicId([1; 16]);
        let asked = Interest {
            topic: Topic::Id(topic),
            ..interest(0, 0)
        };
        let known = |_| Some(Arc::from("t"));
        let unknown = |_| None;
        let name = |all: &[Interest]| all[0].name.as_deref().map(str::to_owned);

        let (opened, all) = sessions
            .open((0, 0), true, vec![asked.clone()], &[], unknown, now)
            .unwrap();
        assert_eq!(name(&all), None);
        let (id, _) = sessions
            .answer(&opened, &all, &[quiet(-1)], now, || 1 << 33)
            .unwrap();
        for (epoch, listed, seen) in [
            (1, vec![], None),
            // Now there is such a topic, and from now on it is remembered.
            (2, vec![], Some("t".to_owned())),
            (3, vec![], Some("t".to_owned())),
            (4, vec![asked], Some("t".to_owned())),
        ] {
            let opened = if epoch == 2 {
                sessions.open((id, epoch), true, listed, &[], known, now)
            } else {
                sessions.open((id, epoch), true, listed, &[], unknown, now)
            };
            assert_eq!(name(&opened.unwrap().1), seen, "{epoch}");
        }
    }

    #[test]
    fn after_an_error_the_recovery_is_told() {
        let mut harness = Harness::new(10);
        let id = harness.full(0, &[interest(0, 0)], &[quiet(1)]);
        let error = Answered {
            is_error: true,
            ..quiet(1)
        };
        for (epoch, answered, told) in [
            (1, quiet(1), false),
            (2, error, true),
            (3, quiet(1), true),
            (4, quiet(1), false),
        ] {
            let (opened, _, all) = harness.next(id, epoch, &[], &[]).unwrap();
            assert_eq!(harness.tell(&opened, &all, &[answered]), [told], "{epoch}");
        }
    }

    #[test]
    fn requests_that_do_not_fit_their_session_are_refused() {
        let mut harness = Harness::new(10);
        let id = harness.full(0, &[interest(0, 0)], &[quiet(1)]);
        let refused = |found: Result<(Opened, Vec<i32>, Vec<Interest>), ErrorCode>| found.err();
        assert_eq!(
            refused(harness.next(id, 2, &[], &[])),
            Some(ErrorCode::InvalidFetchSessionEpoch)
        );
        assert_eq!(
            refused(harness.next(id + 1, 1, &[], &[])),
            Some(ErrorCode::FetchSessionIdNotFound)
        );
        assert_eq!(
            refused(harness.next(0, 1, &[], &[])),
            Some(ErrorCode::FetchSessionIdNotFound)
        );
        let by_id = harness
            .sessions
            .open((id, 1), true, Vec::new(), &[], |_| None, harness.now);
        assert_eq!(by_id.err(), Some(ErrorCode::FetchSessionTopicIdError));
        // A second request before the first is answered takes its place.
        let (first, _, all) = harness.next(id, 1, &[], &[]).unwrap();
        harness.next(id, 2, &[], &[]).unwrap();
        let late = harness
            .sessions
            .answer(&first, &all, &[quiet(1)], harness.now, || 0);
        assert_eq!(late.err(), Some(ErrorCode::InvalidFetchSessionEpoch));
        assert_eq!(first.session_id(), id);
    }

    #[test]
    fn a_session_ends_when_it_is_closed_or_empty() {
        let mut harness = Harness::new(10);
        let first = harness.full(0, &[interest(0, 0)], &[quiet(1)]);
        let second = harness.full(first, &[interest(0, 0)], &[quiet(1)]);
        assert_ne!(first, second);
        assert_eq!(harness.sessions.len(), 1);
        let (opened, indexes, _) = harness.next(second, 1, &[], &[0]).unwrap();
        assert!(matches!(opened, Opened::None) && indexes.is_empty());
        assert!(harness.sessions.is_empty());
        let third = harness.full(0, &[interest(0, 0)], &[quiet(1)]);
        let closed = harness.next(third, -1, &[interest(0, 0)], &[]).unwrap();
        assert!(matches!(closed.0, Opened::None));
        assert!(harness.sessions.is_empty());
        // A full request for nothing opens a session; the next one must add something to it.
        let empty = harness.full(0, &[], &[]);
        assert_eq!(harness.sessions.len(), 1);
        let (opened, ..) = harness.next(empty, 1, &[], &[]).unwrap();
        assert!(matches!(opened, Opened::None));
        assert!(harness.sessions.is_empty());
    }

    #[test]
    fn slots_are_taken_from_the_idle_and_from_smaller_ones_that_are_not_new() {
        let mut harness = Harness::new(2);
        let small = [interest(0, 0)];
        let large: Vec<Interest> = (0..5).map(|index| interest(index, 0)).collect();
        let a = harness.full(0, &small, &[quiet(1)]);
        let b = harness.full(0, &small, &[quiet(1)]);
        // Both are new.
        assert_eq!(harness.full(0, &large, &[quiet(1); 5]), 0);
        harness.now += EVICTION_AGE + Duration::from_secs(1);
        // `a` is still in use, `b` is idle.
        harness.next(a, 1, &[], &[]).unwrap();
        let c = harness.full(0, &small, &[quiet(1)]);
        assert!(c > 0);
        assert_eq!(
            harness.next(b, 1, &[], &[]).err(),
            Some(ErrorCode::FetchSessionIdNotFound)
        );
        // `a` is old and smaller than this one; one of its size does not get its slot.
        assert_eq!(harness.full(0, &small, &[quiet(1)]), 0);
        assert!(harness.full(0, &large, &[quiet(1); 5]) > 0);
        assert_eq!(
            harness.next(a, 2, &[], &[]).err(),
            Some(ErrorCode::FetchSessionIdNotFound)
        );
        assert_eq!(harness.sessions.len(), 2);
    }

    #[test]
    fn epochs_wrap_to_one() {
        assert_eq!(next_epoch(1), 2);
        assert_eq!(next_epoch(i32::MAX), 1);
    }

    #[test]
    fn the_partitions_of_all_sessions_are_bounded() {
        let mut cache = Cache {
            partitions: PARTITIONS_MAX - 1,
            ..Cache::default()
        };
        assert!(cache.make_room(10, 1, Instant::now()));
        assert!(!cache.make_room(10, 2, Instant::now()));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Full {
            session: usize,
            partitions: i32,
        },
        Next {
            session: usize,
            listed: Vec<i32>,
            forgotten: Vec<i32>,
        },
        Close {
            session: usize,
        },
        Wait {
            seconds: u64,
        },
    }

    fn step() -> impl Strategy<Value = Step> {
        let session = 0..6_usize;
        let some = || vec(0..8_i32, 0..4);
        prop_oneof![
            (session.clone(), 1..8_i32).prop_map(|(session, partitions)| Step::Full {
                session,
                partitions
            }),
            (session.clone(), some(), some()).prop_map(|(session, listed, forgotten)| {
                Step::Next {
                    session,
                    listed,
                    forgotten,
                }
            }),
            session.prop_map(|session| Step::Close { session }),
            (1..200_u64).prop_map(|seconds| Step::Wait { seconds }),
        ]
    }

    proptest! {
        /// Each session fetches what its client asked for, whatever happens to the others, and the
        /// counts of the cache are those of its sessions.
        #[test]
        fn sessions_remember_what_their_clients_do(steps in vec(step(), 1..60)) {
            const SLOTS: usize = 3;
            let mut harness = Harness::new(SLOTS);
            // What each client believes: id, next epoch, partitions.
            let mut clients: Vec<Option<(i32, i32, BTreeSet<i32>)>> = vec![None; 6];
            for step in steps {
                match step {
                    Step::Full { session, partitions } => {
                        let old = clients[session].take().map_or(0, |(id, ..)| id);
                        let all: Vec<Interest> =
                            (0..partitions).map(|index| interest(index, 0)).collect();
                        let answered = vec![quiet(1); all.len()];
                        let id = harness.full(old, &all, &answered);
                        if id != 0 {
                            clients[session] = Some((id, 1, (0..partitions).collect()));
                        }
                    }
                    Step::Next { session, listed, forgotten } => {
                        let Some((id, epoch, mut known)) = clients[session].take() else {
                            continue;
                        };
                        let named: Vec<Interest> =
                            listed.iter().map(|index| interest(*index, 7)).collect();
                        known.extend(listed);
                        for index in &forgotten {
                            known.remove(index);
                        }
                        match harness.next(id, epoch, &named, &forgotten) {
                            Ok((Opened::Continued { .. }, indexes, all)) => {
                                let distinct: BTreeSet<i32> = indexes.iter().copied().collect();
                                prop_assert_eq!(distinct.len(), indexes.len());
                                prop_assert_eq!(&distinct, &known);
                                prop_assert!(all.len() == known.len());
                                clients[session] = Some((id, epoch + 1, known));
                            }
                            Ok(_) => prop_assert!(known.is_empty()),
                            // It lost its slot.
                            Err(code) => {
                                prop_assert_eq!(code, ErrorCode::FetchSessionIdNotFound);
                            }
                        }
                    }
                    Step::Close { session } => {
                        if let Some((id, ..)) = clients[session].take() {
                            let closed = harness.next(id, EPOCH_FINAL, &[], &[]);
                            prop_assert!(closed.is_ok());
                        }
                    }
                    Step::Wait { seconds } => harness.now += Duration::from_secs(seconds),
                }
                let cache = lock(&harness.sessions.cache);
                prop_assert!(cache.sessions.len() <= SLOTS);
                let counted: usize = cache.sessions.values().map(|e| e.partitions).sum();
                prop_assert_eq!(counted, cache.partitions);
                for entry in cache.sessions.values() {
                    prop_assert_eq!(lock(&entry.session).len(), entry.partitions);
                }
            }
        }
    }
}
