//! Settings that administrators change while brokers run: each change is one transaction on the key
//! that holds them, compared with what was read (P1), and answered when it is in force here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use esker_metadata::controller as decide;
use esker_metadata::keys::{ALL_BROKERS, ConfigKind};
use esker_metadata::{Image, Revision, Transaction};
use esker_protocol::ErrorCode;

use crate::authority::{Commit, commit};
use crate::broker::Shared;
use crate::config::change::{self, Change, Of};
use crate::config::dynamic::{self, BrokerSettings};
use crate::config::{client_metrics, group, topic};
use crate::topics::{self, Refusal};

/// How long a change waits for the store and for being in force.
const CHANGE_TIME_MAX: Duration = Duration::from_secs(30);

/// The groups, subscriptions and brokers that have settings of their own at most.
const RESOURCES_MAX: usize = 100_000;

/// The longest name of a group or a subscription that has settings: names are parts of keys.
const NAME_BYTES_MAX: usize = 1024;

/// The setting of all brokers that replicas count by.
const MIN_ISR: &str = "min.insync.replicas";

/// Whose settings are meant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    /// A topic's.
    Topic(String),
    /// This broker's.
    Broker,
    /// Those of all brokers.
    AllBrokers,
    /// A group's.
    Group(String),
    /// Those of a subscription to clients' metrics.
    ClientMetrics(String),
}

/// The settings of this broker, joined once for every change of them.
#[derive(Debug, Default)]
pub struct Joined(Mutex<Option<(Revision, Arc<BrokerSettings>)>>);

/// Where this broker's settings, and those of all, are kept.
fn keys_of_brokers(shared: &Shared) -> [String; 2] {
    [ALL_BROKERS.to_owned(), shared.config.node_id.to_string()]
}

/// The revision of the latest change of this broker's settings that `image` shows.
#[must_use]
pub fn revision(shared: &Shared, image: &Image) -> Revision {
    let [all, own] = keys_of_brokers(shared);
    let of = |name: &str| {
        let config = image.config(ConfigKind::Broker, name);
        config.map_or(Revision::NONE, |config| config.revision)
    };
    of(&all).max(of(&own))
}

/// Makes a transaction fail where this broker's settings, or those of all, are not as `image` shows
/// them.
#[must_use]
pub fn guard(shared: &Shared, image: &Image, transaction: Transaction) -> Transaction {
    let names = keys_of_brokers(shared);
    names.iter().fold(transaction, |transaction, name| {
        let key = shared.keys.config(ConfigKind::Broker, name);
        match image.config(ConfigKind::Broker, name) {
            Some(config) => transaction.expect_revision(key, config.revision),
            None => transaction.expect_absent(key),
        }
    })
}

/// This broker's settings as `image` shows them.
#[must_use]
pub fn settings(shared: &Shared, image: &Image) -> Arc<BrokerSettings> {
    // Keys of settings are never deleted, so that the later revision says which both have.
    let revision = revision(shared, image);
    let mut joined = shared
        .joined
        .0
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    if let Some((of, settings)) = joined.as_ref()
        && *of == revision
    {
        return Arc::clone(settings);
    }
    let [all, own] = keys_of_brokers(shared).map(|name| {
        let config = image.config(ConfigKind::Broker, &name);
        config.map_or_else(BTreeMap::new, |config| readable(&config.value.configs))
    });
    let settings = Arc::new(BrokerSettings::new(&shared.config.properties, all, own));
    *joined = Some((revision, Arc::clone(&settings)));
    settings
}

/// What this version can act on: a later one may have stored more.
fn readable(configs: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    configs
        .iter()
        .filter(|(name, value)| dynamic::kind_of(name).is_none_or(|kind| kind.check(value).is_ok()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// The settings that a group has of its own.
#[must_use]
pub fn group_overrides(image: &Image, group: &str) -> BTreeMap<String, String> {
    let config = image.config(ConfigKind::Group, group);
    config.map_or_else(BTreeMap::new, |config| config.value.configs.clone())
}

/// Changes the settings of a resource, or only says whether they could be changed, and returns when
/// the change is in force here.
///
/// # Errors
/// The change is refused, or the store cannot be reached in time.
pub async fn alter(
    shared: &Arc<Shared>,
    resource: &Resource,
    change: &Change,
    validate_only: bool,
) -> Result<(), Refusal> {
    let altered = alter_until_done(shared, resource, change, validate_only);
    match tokio::time::timeout(CHANGE_TIME_MAX, altered).await {
        Ok(altered) => altered,
        Err(_) => Err(Refusal::new(
            ErrorCode::RequestTimedOut,
            "The change is still under way.",
        )),
    }
}

async fn alter_until_done(
    shared: &Arc<Shared>,
    resource: &Resource,
    change: &Change,
    validate_only: bool,
) -> Result<(), Refusal> {
    loop {
        let image = shared.image();
        let (current, seen) = current(shared, &image, resource);
        let next = change::apply(of(resource), &current, change)
            .map_err(|message| Refusal::new(ErrorCode::InvalidConfig, message))?;
        check(shared, &image, resource, change, (&current, &next))?;
        if validate_only || next == current {
            return Ok(());
        }
        let transaction = match resource {
            Resource::Topic(name) => {
                // Checked: the image has the topic.
                let Some(topic) = image.topic(name) else {
                    continue;
                };
                decide::set_topic_configs(&shared.keys, name, topic, next)
            }
            other => {
                let (kind, name) = key(shared, other);
                let current = image.config(kind, &name).map(AsRef::as_ref);
                decide::set_configs(&shared.keys, kind, &name, current, next)
            }
        };
        let committed = commit(shared.environment.metadata.as_ref(), transaction)
            .await
            .map_err(Refusal::store)?;
        match committed {
            Commit::Done(revision) => return in_force(shared, resource, revision).await,
            // Somebody else was faster: from what they left it is decided anew.
            Commit::Refused | Commit::Moved => {
                let mut images = shared.images();
                let moved = |image: &Arc<Image>| self::current(shared, image, resource).1 != seen;
                images.wait_for(moved).await.map_err(Refusal::store)?;
            }
        }
    }
}

fn of(resource: &Resource) -> Of {
    match resource {
        Resource::Topic(_) => Of::Topic,
        Resource::Broker | Resource::AllBrokers => Of::Broker,
        Resource::Group(_) | Resource::ClientMetrics(_) => Of::Other,
    }
}

/// The key of what is no topic.
fn key(shared: &Shared, resource: &Resource) -> (ConfigKind, String) {
    match resource {
        Resource::AllBrokers => (ConfigKind::Broker, ALL_BROKERS.to_owned()),
        Resource::Group(name) => (ConfigKind::Group, name.clone()),
        Resource::ClientMetrics(name) => (ConfigKind::ClientMetrics, name.clone()),
        Resource::Broker | Resource::Topic(_) => {
            (ConfigKind::Broker, shared.config.node_id.to_string())
        }
    }
}

/// The settings that a resource has of its own, and the revision of the key that holds them.
pub(crate) fn current(
    shared: &Shared,
    image: &Image,
    resource: &Resource,
) -> (BTreeMap<String, String>, Option<Revision>) {
    if let Resource::Topic(name) = resource {
        let topic = image.topic(name);
        return topic.map_or_else(Default::default, |topic| {
            (topic.value.configs.clone(), Some(topic.revision))
        });
    }
    let (kind, name) = key(shared, resource);
    let config = image.config(kind, &name);
    let (mut configs, revision) = config.map_or_else(Default::default, |config| {
        (config.value.configs.clone(), Some(config.revision))
    });
    // It stands there also where nobody has set it, and whoever replaces the others must name it.
    if *resource == Resource::AllBrokers
        && let Some(min_isr) = settings(shared, image).cluster.get(MIN_ISR)
    {
        let stored = configs.entry(MIN_ISR.to_owned());
        stored.or_insert_with(|| min_isr.clone());
    }
    (configs, revision)
}

fn check(
    shared: &Shared,
    image: &Image,
    resource: &Resource,
    change: &Change,
    (current, next): (&BTreeMap<String, String>, &BTreeMap<String, String>),
) -> Result<(), Refusal> {
    let invalid = |message: String| Refusal::new(ErrorCode::InvalidConfig, message);
    let bad_request = |message: String| Refusal::new(ErrorCode::InvalidRequest, message);
    let settings = settings(shared, image);
    match resource {
        Resource::Topic(name) => {
            if name.is_empty() {
                let message = "Default topic resources are not allowed.";
                return Err(bad_request(message.to_owned()));
            }
            topics::check_name(name).map_err(|problem| {
                Refusal::new(ErrorCode::InvalidTopicException, problem.to_string())
            })?;
            topics::check_configs(shared, next, settings.merged())?;
            topic::check_alteration(current, next).map_err(|error| invalid(error.to_string()))?;
            if image.visible_topic(name).is_none() {
                let message = format!("The topic '{name}' does not exist.");
                return Err(Refusal::new(ErrorCode::UnknownTopicOrPartition, message));
            }
            Ok(())
        }
        Resource::Broker | Resource::AllBrokers => {
            let per_broker = *resource == Resource::Broker;
            dynamic::check(next, &settings, per_broker).map_err(bad_request)?;
            check_min_isr(per_broker, change, next)
        }
        Resource::Group(name) => {
            if name.is_empty() {
                let message = "Default group resources are not allowed.";
                return Err(bad_request(message.to_owned()));
            }
            check_room(image, ConfigKind::Group, name)?;
            group::check(next, settings.merged()).map_err(invalid)
        }
        Resource::ClientMetrics(name) => {
            if name.is_empty() {
                let message = "Subscription name can't be empty";
                return Err(bad_request(message.to_owned()));
            }
            check_room(image, ConfigKind::ClientMetrics, name)?;
            client_metrics::check(next).map_err(|(code, message)| Refusal::new(code, message))
        }
    }
}

/// The minimal ISR is one for all brokers: eligible leader replicas are counted by it.
fn check_min_isr(
    per_broker: bool,
    change: &Change,
    next: &BTreeMap<String, String>,
) -> Result<(), Refusal> {
    let message = if per_broker && change.names(MIN_ISR) {
        "Broker-level min.insync.replicas cannot be altered while ELR is enabled."
    } else if !per_broker && !next.contains_key(MIN_ISR) {
        "Cluster-level min.insync.replicas cannot be removed while ELR is enabled."
    } else {
        return Ok(());
    };
    Err(Refusal::new(ErrorCode::InvalidConfig, message))
}

/// Keys of settings stay for ever, so that their number has a bound.
fn check_room(image: &Image, kind: ConfigKind, name: &str) -> Result<(), Refusal> {
    let fits = name.len() <= NAME_BYTES_MAX
        && (image.config(kind, name).is_some() || image.configs_count() < RESOURCES_MAX);
    if fits {
        return Ok(());
    }
    let message = format!(
        "More than {RESOURCES_MAX} resources with settings, or a name of more than {NAME_BYTES_MAX} bytes."
    );
    Err(Refusal::new(ErrorCode::PolicyViolation, message))
}

/// Waits until a change that was committed at `revision` is in force here.
async fn in_force(
    shared: &Arc<Shared>,
    resource: &Resource,
    revision: Revision,
) -> Result<(), Refusal> {
    let mut images = shared.images();
    let image = images
        .wait_for(|image| image.revision() >= revision)
        .await
        .map(|image| Arc::clone(&image))
        .map_err(Refusal::store)?;
    match resource {
        Resource::Topic(name) => {
            let topic = image.topic(name).map(|topic| topic.value.topic_id);
            if topic.is_some() {
                shared
                    .replicas
                    .wait_until_configured(shared, topic, revision)
                    .await;
            }
        }
        Resource::Broker | Resource::AllBrokers => {
            shared
                .replicas
                .wait_until_configured(shared, None, revision)
                .await;
        }
        Resource::Group(_) | Resource::ClientMetrics(_) => {}
    }
    Ok(())
}
