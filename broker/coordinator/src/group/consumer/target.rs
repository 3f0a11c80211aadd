//! The target assignment: who shall own what, computed once for each epoch of the group.

use std::collections::{BTreeMap, BTreeSet};

use esker_protocol::{ErrorCode, TopicId};

use super::check::Refusal;
use super::member::Member;
use super::records;
use super::reconcile::subscribed_ids;
use super::state::{State, Subscribers};
use crate::assignor::{self, Assignment, Assignor, MemberSpec, Spec};
use crate::record::Record;
use crate::view::{Settings, Topics, View};

/// A group with one member that is about to change or to join.
#[derive(Clone, Copy)]
pub(super) struct Change<'a> {
    pub(super) group_id: &'a str,
    pub(super) state: &'a State,
    /// The member as it was; for one that joins, as it begins.
    pub(super) before: &'a Member,
    pub(super) member: &'a Member,
    /// The static member whose place it takes.
    pub(super) replaced: Option<&'a str>,
}

impl Change<'_> {
    /// The topics that the group subscribes to after the change.
    pub(super) fn subscribed_topics(&self) -> BTreeMap<&str, Subscribers> {
        let mut topics: BTreeMap<&str, Subscribers> = (self.state.subscribed_topics().iter())
            .map(|(topic, subscribers)| (topic.as_str(), *subscribers))
            .collect();
        if self.is_known() {
            for topic in &self.before.metadata.topics {
                if let Some(subscribers) = topics.get_mut(topic.as_str()) {
                    subscribers.by_name = subscribers.by_name.saturating_sub(1);
                }
            }
        }
        for topic in &self.member.metadata.topics {
            topics.entry(topic).or_default().by_name += 1;
        }
        if let Some(regex) = self.deserted_regex()
            && let Some(resolved) = self.state.regexes().get(regex)
        {
            for topic in &resolved.topics {
                if let Some(subscribers) = topics.get_mut(topic.as_str()) {
                    subscribers.by_regex = subscribers.by_regex.saturating_sub(1);
                }
            }
        }
        topics.retain(|_, subscribers| !subscribers.is_none());
        topics
    }

    /// The regular expression that nobody subscribes to after the change.
    pub(super) fn deserted_regex(&self) -> Option<&str> {
        let regex = self.before.metadata.regex().filter(|_| self.is_known())?;
        let is_left = self.member.metadata.regex() != Some(regex);
        let is_last = self.state.subscribed_regexes().get(regex) == Some(&1);
        (is_left && is_last).then_some(regex)
    }

    // Whether the group already counts the member, or the one whose place it takes.
    fn is_known(&self) -> bool {
        self.replaced.is_some() || self.state.member(&self.member.id).is_some()
    }

    fn subscribed_regexes(&self) -> BTreeMap<&str, usize> {
        let mut regexes: BTreeMap<&str, usize> = (self.state.subscribed_regexes().iter())
            .map(|(regex, count)| (regex.as_str(), *count))
            .collect();
        if let Some(regex) = self.before.metadata.regex().filter(|_| self.is_known())
            && let Some(count) = regexes.get_mut(regex)
        {
            *count = count.saturating_sub(1);
        }
        if let Some(regex) = self.member.metadata.regex() {
            *regexes.entry(regex).or_default() += 1;
        }
        regexes.retain(|_, count| *count > 0);
        regexes
    }

    // Kafka's rule: all name the same topics and use no expression, or all use one expression that
    // matches every topic and name none.
    fn is_homogeneous(&self) -> bool {
        let members = self.state.members().len() + usize::from(!self.is_known());
        let topics = self.subscribed_topics();
        let regexes = self.subscribed_regexes();
        match regexes.first_key_value() {
            None => (topics.values()).all(|subscribers| subscribers.by_name == members),
            Some((_, count)) => {
                *count == members
                    && (topics.values())
                        .all(|subscribers| subscribers.by_regex == 1 && subscribers.by_name == 0)
            }
        }
    }

    fn assignor(&self, settings: &Settings) -> Assignor {
        let mut votes: BTreeMap<&str, usize> = (self.state.assignors().iter())
            .map(|(name, count)| (name.as_str(), *count))
            .collect();
        if let Some(name) = self.before.metadata.assignor.as_deref()
            && self.is_known()
            && let Some(count) = votes.get_mut(name)
        {
            *count = count.saturating_sub(1);
        }
        if let Some(name) = self.member.metadata.assignor.as_deref() {
            *votes.entry(name).or_default() += 1;
        }
        elected(&votes, settings)
    }

    /// Computes the target for an epoch: its records, and the member's own part.
    pub(super) fn compute(
        &self,
        epoch: i32,
        view: &View<'_>,
    ) -> Result<(Vec<Record<'static>>, Assignment), Refusal> {
        let members: Vec<&Member> = (self.state.members().values())
            .filter(|member| {
                member.id != self.member.id && Some(member.id.as_str()) != self.replaced
            })
            .chain([self.member])
            .collect();
        let subscriptions = Subscriptions::of(&members, self.state, view.topics);
        let nothing = Assignment::new();
        let mut spec = Spec {
            members: BTreeMap::new(),
            homogeneous: self.is_homogeneous(),
        };
        for member in &members {
            let predecessor = (self.replaced).filter(|_| member.id == self.member.id);
            let owned = self.state.target_of(predecessor.unwrap_or(&member.id));
            spec.members.insert(
                &member.id,
                MemberSpec {
                    instance_id: member.metadata.instance_id.as_deref(),
                    topics: subscriptions.get(member).unwrap_or(&NO_TOPICS),
                    owned: owned.unwrap_or(&nothing),
                },
            );
        }
        let assignor = self.assignor(view.configuration.settings());
        let partitions = |topic: TopicId| Some(view.topics.by_id(topic)?.1);
        let mut targets = assignor::assign(assignor, &spec, &partitions).map_err(|error| {
            Refusal::new(
                ErrorCode::UnknownServerError,
                format!("Failed to compute a new target assignment for epoch {epoch}: {error}"),
            )
        })?;
        let mut records = Vec::new();
        for (member, target) in &mut targets {
            // A topic without partitions for the member is the same as no topic.
            target.retain(|_, partitions| !partitions.is_empty());
            if self.state.target_of(member) != Some(target) {
                records.push(records::target_member(self.group_id, member, target));
            }
        }
        records.push(records::target(self.group_id, epoch, view.now.wall.0));
        let own = targets.remove(self.member.id.as_str());
        Ok((records, own.unwrap_or_default()))
    }
}

/// The assignor that most members ask for; of equally many, the one that is configured first.
pub(super) fn elected(votes: &BTreeMap<&str, usize>, settings: &Settings) -> Assignor {
    let mut elected = None;
    let mut most = 0;
    for name in &settings.consumer_assignors {
        let count = votes.get(name.as_str()).copied().unwrap_or(0);
        if let Some(assignor) = Assignor::parse(name)
            && (elected.is_none() || count > most)
        {
            elected = Some(assignor);
            most = count;
        }
    }
    elected.unwrap_or(Assignor::Uniform)
}

static NO_TOPICS: BTreeSet<TopicId> = BTreeSet::new();

/// The topic ids of each distinct subscription: a thousand members usually have one between them.
struct Subscriptions<'a>(BTreeMap<(&'a BTreeSet<String>, &'a str), BTreeSet<TopicId>>);

impl<'a> Subscriptions<'a> {
    fn of(members: &[&'a Member], state: &State, topics: &dyn Topics) -> Subscriptions<'a> {
        let mut ids = BTreeMap::new();
        for member in members {
            ids.entry((&member.metadata.topics, member.metadata.regex.as_str()))
                .or_insert_with(|| subscribed_ids(&member.metadata, state, topics));
        }
        Subscriptions(ids)
    }

    fn get(&self, member: &'a Member) -> Option<&BTreeSet<TopicId>> {
        self.0
            .get(&(&member.metadata.topics, member.metadata.regex.as_str()))
    }
}

/// Whether a target may be computed now: the last one is `interval_ms` old. A wall clock that went
/// back does not stop the group.
pub(super) fn may_compute(target_timestamp: i64, interval_ms: i32, now: i64) -> bool {
    if target_timestamp == 0 {
        return true;
    }
    !(0..i64::from(interval_ms)).contains(&now.saturating_sub(target_timestamp))
}
