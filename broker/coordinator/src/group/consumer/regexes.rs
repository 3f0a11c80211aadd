//! Regular expressions of a group: all are resolved together, so that a new topic costs one
//! rebalance, and apart from heartbeats, since that looks at every topic.

use std::collections::{BTreeMap, BTreeSet};

use super::heartbeat::RegexChange;
use super::member::Member;
use super::state::{Resolved, Subscribers};
use super::subscription::TopicRegex;
use super::{ConsumerGroup, TimerKind, records};
use crate::group::Timer;
use crate::record::Record;
use crate::size;
use crate::timers::Timers;
use crate::view::View;

/// The least time between two resolutions of a group's expressions.
const REFRESH_INTERVAL_MS_MIN: i64 = 10_000;
/// The most time, and so the age at which what was resolved is written anew.
const REFRESH_INTERVAL_MS_MAX: i64 = 600_000;

/// What a batch holds besides the records of expressions: its head and the group's new epoch.
const OTHER_RECORDS_BYTES: usize = 1024;

/// When and at which metadata a group resolved last; it may have written nothing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Looked {
    revision: i64,
    at_ms: i64,
}

impl ConsumerGroup {
    /// Whether the expressions must be resolved (again) after a member's request.
    pub(super) fn wants_regex_refresh(
        &self,
        member: &Member,
        change: RegexChange,
        view: &View<'_>,
    ) -> bool {
        if member.metadata.regex.is_empty() && self.state.subscribed_regexes().is_empty() {
            return false;
        }
        let is_any_unresolved = change == RegexChange::Unresolved
            || self.state.subscribed_regexes().len() != self.state.regexes().len();
        // All were resolved together, so the first one speaks for all.
        let Some(last) = self.state.regexes().values().next() else {
            return is_any_unresolved;
        };
        let revision = view.topics.revision();
        let is_seen =
            last.version == revision || self.looked.is_some_and(|last| last.revision == revision);
        is_any_unresolved || !is_seen || age(last, view) > REFRESH_INTERVAL_MS_MAX
    }

    /// Sets the timer for the next resolution, unless it is set.
    pub(super) fn schedule_regex_refresh(&self, view: &View<'_>, timers: &mut Timers<Timer>) {
        let key = self.timer_key(TimerKind::Regexes);
        if timers.get(&key).is_some() {
            return;
        }
        let since_written = self
            .state
            .regexes()
            .values()
            .next()
            .map(|last| age(last, view));
        let since_looked =
            (self.looked).map(|looked| view.now.monotonic_ms.saturating_sub(looked.at_ms));
        let age = [since_written, since_looked].into_iter().flatten().min();
        let delay_ms = match age {
            // A wall clock that went back makes the age negative.
            Some(age) => (REFRESH_INTERVAL_MS_MIN - age).clamp(0, REFRESH_INTERVAL_MS_MIN),
            None => 0,
        };
        timers.set(key, view.now.monotonic_ms.saturating_add(delay_ms));
    }

    /// Resolves all expressions that members subscribe to.
    pub(super) fn refresh_regexes(&mut self, view: &View<'_>) -> Vec<Record<'static>> {
        let revision = view.topics.revision();
        self.looked = Some(Looked {
            revision,
            at_ms: view.now.monotonic_ms,
        });
        let resolved = self.resolve(view);
        let known = self.state.regexes();
        let is_due = (known.values()).any(|last| age(last, view) > REFRESH_INTERVAL_MS_MAX);
        let is_current = (resolved.iter())
            .all(|(regex, topics)| known.get(*regex).is_some_and(|last| last.topics == *topics));
        if is_current && !is_due {
            return Vec::new();
        }

        let mut topics: BTreeMap<&str, Subscribers> = (self.state.subscribed_topics().iter())
            .map(|(topic, subscribers)| (topic.as_str(), *subscribers))
            .collect();
        let mut records = Vec::new();
        let mut is_bumped = false;
        let nothing = BTreeSet::new();
        let mut all = BTreeMap::new();
        for (regex, matched) in resolved {
            all.insert(
                regex,
                Resolved {
                    topics: matched,
                    version: revision,
                    timestamp: view.now.wall.0,
                },
            );
        }
        let batch_bytes_max = view.configuration.settings().batch_bytes_max;
        let mut bytes = OTHER_RECORDS_BYTES;
        for (regex, now) in &all {
            let record = records::regex(&self.group_id, regex, now);
            // One that matches more topics than a batch can name stays as it was, and the others go on.
            bytes += match size::encoded(&record) {
                Ok(one) if bytes + one <= batch_bytes_max => one,
                _ => continue,
            };
            let before = known.get(*regex).map_or(&nothing, |last| &last.topics);
            if *before != now.topics {
                is_bumped = true;
                for topic in before {
                    let subscribers = topics.entry(topic).or_default();
                    subscribers.by_regex = subscribers.by_regex.saturating_sub(1);
                }
                for topic in &now.topics {
                    topics.entry(topic).or_default().by_regex += 1;
                }
            }
            records.push(record);
        }
        topics.retain(|_, subscribers| !subscribers.is_none());
        let hash = self.hash_of(topics.keys().copied(), view);
        if is_bumped || hash != self.state.metadata_hash() {
            let epoch = self.state.epoch().saturating_add(1);
            records.push(records::epoch(&self.group_id, epoch, hash));
        }
        // The group's name may be too long for what was set aside.
        match self.check_bytes(&records, view) {
            Ok(()) => records,
            Err(_) => Vec::new(),
        }
    }

    fn resolve(&self, view: &View<'_>) -> BTreeMap<&str, BTreeSet<String>> {
        let mut resolved: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        let mut compiled = Vec::new();
        for regex in self.state.subscribed_regexes().keys() {
            resolved.insert(regex, BTreeSet::new());
            // One that another version accepted and this one does not matches nothing.
            if let Ok(parsed) = TopicRegex::parse(regex) {
                compiled.push((regex.as_str(), parsed));
            }
        }
        view.topics.for_each_name(&mut |name| {
            for (regex, parsed) in &compiled {
                if parsed.matches(name)
                    && let Some(topics) = resolved.get_mut(*regex)
                {
                    topics.insert(name.to_owned());
                }
            }
        });
        resolved
    }
}

fn age(last: &Resolved, view: &View<'_>) -> i64 {
    view.now.wall.0.saturating_sub(last.timestamp)
}
