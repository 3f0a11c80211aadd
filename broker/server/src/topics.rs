//! Creation and deletion of topics: one transaction each, then waiting until this broker's image
//! shows the outcome (P1, P3).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use esker_metadata::controller as decide;
use esker_metadata::values::{TopicState, TopicValue};
use esker_metadata::{Image, Versioned};
use esker_protocol::{BrokerId, ErrorCode, TopicId};
use tokio::time::Instant;

use crate::authority::{Commit, commit};
use crate::broker::Shared;
use crate::config::topic;
use crate::configs;

/// Where group coordinators keep their state.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// Where a Kafka cluster keeps its metadata; nobody has a topic of this name.
pub(crate) const METADATA_TOPIC: &str = "__cluster_metadata";

/// Topics that Kafka keeps for itself.
const INTERNAL: [&str; 3] = [OFFSETS_TOPIC, "__transaction_state", "__share_group_state"];

/// The largest partition count of a topic, so that a slip of the hand cannot fill the store.
const PARTITIONS_MAX: i32 = 10_000;

/// Whether clients may not write to the topic.
#[must_use]
pub fn is_internal(name: &str) -> bool {
    INTERNAL.contains(&name)
}

/// Checks a topic's name by Kafka's rules.
///
/// # Errors
/// What is wrong with it, in Kafka's words.
pub fn check_name(name: &str) -> Result<(), decide::InvalidTopicName> {
    decide::validate_topic_name(name)
}

/// Kafka's code and message for a refused request.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// The code.
    pub code: ErrorCode,
    /// The message that goes with it.
    pub message: String,
}

impl Refusal {
    /// A refusal.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Refusal {
        Refusal {
            code,
            message: message.into(),
        }
    }

    pub(crate) fn store(error: impl std::fmt::Display) -> Refusal {
        Refusal::new(
            ErrorCode::RequestTimedOut,
            format!("The metadata store failed: {error}"),
        )
    }
}

/// When a request that changes topics times out; `None` where it leaves no time, so that, as in
/// Kafka, nothing of it is begun.
pub(crate) fn deadline(timeout_ms: i32) -> Option<Instant> {
    let time = u64::try_from(timeout_ms).ok().filter(|ms| *ms > 0)?;
    Some(Instant::now() + Duration::from_millis(time))
}

/// A topic that is wanted.
#[derive(Debug, Clone)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// Its partition count; -1 for the default, or where `assignment` says it.
    pub partitions: i32,
    /// Its replication factor; -1 for the default, or where `assignment` says it.
    pub replication_factor: i16,
    /// Its settings.
    pub configs: BTreeMap<String, String>,
    /// The replicas of each partition, where the client chose them.
    pub assignment: Vec<(i32, Vec<BrokerId>)>,
}

impl NewTopic {
    /// A topic that is created because somebody asked for it.
    #[must_use]
    pub fn automatic(name: &str) -> NewTopic {
        NewTopic {
            name: name.to_owned(),
            partitions: -1,
            replication_factor: -1,
            configs: BTreeMap::new(),
            assignment: Vec::new(),
        }
    }
}

/// A topic that was created, or could have been.
#[derive(Debug, Clone)]
pub struct Created {
    /// Its id; `None` where it was only validated.
    pub id: Option<TopicId>,
    /// Its partition count.
    pub partitions: i32,
    /// Its replication factor.
    pub replication_factor: i16,
    /// Its settings.
    pub configs: BTreeMap<String, String>,
}

/// Checks that a topic could have this name: it is well formed, nobody has it, and none that differs
/// only in dots and underscores.
///
/// # Errors
/// It could not.
pub(crate) fn check_new_name(image: &Image, name: &str) -> Result<(), Refusal> {
    check_name(name)
        .map_err(|problem| Refusal::new(ErrorCode::InvalidTopicException, problem.to_string()))?;
    if image.topic(name).is_some() {
        let message = format!("Topic '{name}' already exists.");
        return Err(Refusal::new(ErrorCode::TopicAlreadyExists, message));
    }
    if let Some(like) = image.topic_like(name) {
        let message = format!(
            "Topic '{name}' collides with existing topic: {}",
            like.value.topic
        );
        return Err(Refusal::new(ErrorCode::InvalidTopicException, message));
    }
    Ok(())
}

/// Creates a topic and returns when this broker serves it.
///
/// # Errors
/// The topic is refused, or the store cannot be reached.
pub async fn create(
    shared: &Arc<Shared>,
    new: NewTopic,
    validate_only: bool,
) -> Result<Created, Refusal> {
    let image = shared.image();
    check_new_name(&image, &new.name)?;
    let settings = configs::settings(shared, &image);
    check_configs(shared, &new.configs, settings.merged())?;
    let assignment = assign(shared, &new)?;
    let partitions = i32::try_from(assignment.len()).unwrap_or(i32::MAX);
    let replication_factor = assignment
        .first()
        .map_or(1, |replicas| replicas.len() as i16);
    let created = |id| Created {
        id,
        partitions,
        replication_factor,
        configs: new.configs.clone(),
    };
    if validate_only {
        return Ok(created(None));
    }
    // A new id for every try, so that a late transaction can never be mistaken for a newer one.
    let id = shared.environment.randomness.id();
    let transaction = decide::create_topic(
        &shared.keys,
        &decide::NewTopic {
            name: new.name.clone(),
            topic_id: id,
            assignment,
            configs: new.configs.clone(),
        },
    );
    // Never settled when there is no answer: only absence fences a creation, so that a late one may
    // land after a deletion. Whoever asks again does so with a new id (P3).
    let outcome = shared
        .environment
        .metadata
        .transact(transaction)
        .await
        .map_err(Refusal::store)?;
    if !outcome.succeeded {
        let message = format!("Topic '{}' already exists.", new.name);
        return Err(Refusal::new(ErrorCode::TopicAlreadyExists, message));
    }
    wait_until_served(shared, &new.name, id).await?;
    Ok(created(Some(id)))
}

/// Checks the settings of one topic together.
///
/// # Errors
/// They are refused.
pub(crate) fn check_configs(
    shared: &Shared,
    configs: &BTreeMap<String, String>,
    broker: &BTreeMap<String, String>,
) -> Result<(), Refusal> {
    let has_store = shared.environment.object_store.is_some();
    let invalid =
        |error: topic::TopicConfigError| Refusal::new(ErrorCode::InvalidConfig, error.to_string());
    topic::check_all(configs, broker).map_err(invalid)?;
    if has_store && topic::TopicConfig::new(configs, broker).is_tiered() {
        topic::check_local_retention(configs, broker).map_err(invalid)?;
    }
    let wants_tier = configs
        .get("remote.storage.enable")
        .is_some_and(|value| value.trim().eq_ignore_ascii_case("true"));
    if wants_tier && !has_store {
        let message =
            "Tiered storage functionality is disabled in the broker: it has no object store.";
        return Err(Refusal::new(ErrorCode::InvalidConfig, message));
    }
    Ok(())
}

/// The replicas of each partition, or why there can be none.
fn assign(shared: &Shared, new: &NewTopic) -> Result<Vec<Vec<BrokerId>>, Refusal> {
    let image = shared.image();
    let brokers: Vec<BrokerId> = image.brokers().map(|(id, _)| id).collect();
    if !new.assignment.is_empty() {
        let refuse = |message: String| Refusal::new(ErrorCode::InvalidReplicaAssignment, message);
        let given = [
            (new.replication_factor != -1, "replication factor"),
            (new.partitions != -1, "numPartitions"),
        ];
        if let Some((_, what)) = given.iter().find(|(is_given, _)| *is_given) {
            let message = format!(
                "A manual partition assignment was specified, but {what} was not set to -1."
            );
            return Err(Refusal::new(ErrorCode::InvalidRequest, message));
        }
        let size = new.assignment.first().map_or(0, |(_, first)| first.len());
        let mut assigned = BTreeMap::new();
        for (index, replicas) in &new.assignment {
            if assigned.contains_key(index) {
                return Err(refuse(format!(
                    "Found multiple manual partition assignments for partition {index}"
                )));
            }
            check_replicas(&brokers, replicas, size)?;
            assigned.insert(*index, replicas.clone());
        }
        let is_gapless = (0..)
            .zip(assigned.keys())
            .all(|(place, index)| place == *index);
        if !is_gapless {
            let message = "partitions should be a consecutive 0-based integer sequence";
            return Err(refuse(message.to_owned()));
        }
        return Ok(assigned.into_values().collect());
    }
    let partitions = match new.partitions {
        -1 => shared.config.partitions_default,
        count => count,
    };
    if !(1..=PARTITIONS_MAX).contains(&partitions) {
        let message = if partitions < 1 {
            "Number of partitions was set to an invalid non-positive value.".to_owned()
        } else {
            format!("Number of partitions is over the limit of {PARTITIONS_MAX}.")
        };
        return Err(Refusal::new(ErrorCode::InvalidPartitions, message));
    }
    let wanted = match new.replication_factor {
        -1 => shared.config.replication_factor_default,
        factor => factor,
    };
    // Internal topics take what replicas there can be, so that one broker serves them too.
    let factor = if is_internal(&new.name) {
        wanted.min(i16::try_from(brokers.len()).unwrap_or(i16::MAX))
    } else {
        wanted
    };
    if factor < 1 {
        let message = "Replication factor must be larger than 0.";
        return Err(Refusal::new(ErrorCode::InvalidReplicationFactor, message));
    }
    let first = shared.environment.randomness.next_u64();
    decide::place(&brokers, 0, partitions, i32::from(factor), first)
        .map_err(|_| unreplicated(i32::from(factor), brokers.len()))
}

/// Checks the replicas of one partition that a client has chosen.
fn check_replicas(
    brokers: &[BrokerId],
    replicas: &[BrokerId],
    factor: usize,
) -> Result<(), Refusal> {
    let refuse = |message: String| {
        let message = format!("The manual partition assignment includes {message}");
        Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, message))
    };
    if replicas.is_empty() {
        return refuse("an empty replica list.".to_owned());
    }
    let mut sorted = replicas.to_vec();
    sorted.sort();
    for (index, broker) in sorted.iter().enumerate() {
        if !brokers.contains(broker) {
            return refuse(format!(
                "broker {broker}, but no such broker is registered."
            ));
        }
        if index > 0 && sorted.get(index - 1) == Some(broker) {
            return refuse(format!("the broker {broker} more than once."));
        }
    }
    if sorted.len() != factor {
        return refuse(format!(
            "a partition with {} replica(s), but this is not consistent with previous partitions, which have {factor} replica(s).",
            sorted.len()
        ));
    }
    Ok(())
}

/// Gives a topic `count` partitions, or only says whether it could have them, and returns when this
/// broker serves them. `assignment` has the replicas of each new one, where the client chose them.
///
/// # Errors
/// The growth is refused, or the store cannot be reached.
pub async fn grow(
    shared: &Arc<Shared>,
    name: &str,
    count: i32,
    assignment: Option<&[Vec<BrokerId>]>,
    validate_only: bool,
) -> Result<(), Refusal> {
    if name == OFFSETS_TOPIC {
        // A group is found by the number of partitions: its offsets would be looked for elsewhere.
        let message =
            format!("{name} cannot have more partitions: groups would lose their offsets.");
        return Err(Refusal::new(ErrorCode::InvalidRequest, message));
    }
    let mut images = shared.images();
    loop {
        let image = Arc::clone(&images.borrow_and_update());
        let topic = image
            .visible_topic(name)
            .ok_or_else(|| Refusal::new(ErrorCode::UnknownTopicOrPartition, ""))?;
        // Another growth is under way: what there is to add is known when it has ended.
        if topic.value.state == TopicState::Growing {
            images.changed().await.map_err(Refusal::store)?;
            continue;
        }
        let more = additions(shared, &image, name, topic, count, assignment)?;
        if validate_only {
            return Ok(());
        }
        let id = topic.value.topic_id;
        let transaction = decide::grow_topic(&shared.keys, name, topic, more)
            .map_err(|error| Refusal::new(ErrorCode::InvalidRequest, error.to_string()))?;
        let committed = commit(shared.environment.metadata.as_ref(), transaction)
            .await
            .map_err(Refusal::store)?;
        if let Commit::Done(revision) = committed {
            images
                .wait_for(|image| image.revision() >= revision)
                .await
                .map_err(Refusal::store)?;
            return wait_until_served(shared, name, id).await;
        }
        // Refused or moved: the topic has changed meanwhile, and the image will show how.
        let seen = topic.revision;
        images
            .wait_for(|image| image.topic(name).map(|topic| topic.revision) != Some(seen))
            .await
            .map_err(Refusal::store)?;
    }
}

/// The replicas of each partition that the topic is to get, or why it gets none.
fn additions(
    shared: &Shared,
    image: &Image,
    name: &str,
    topic: &Versioned<TopicValue>,
    count: i32,
    assignment: Option<&[Vec<BrokerId>]>,
) -> Result<Vec<Vec<BrokerId>>, Refusal> {
    let current = topic.value.partitions;
    let invalid = |message| Err(Refusal::new(ErrorCode::InvalidPartitions, message));
    if count == current {
        return invalid(format!("Topic already has {current} partition(s)."));
    }
    if count < current {
        return invalid(format!(
            "The topic {name} currently has {current} partition(s); {count} would not be an increase."
        ));
    }
    if count > PARTITIONS_MAX {
        return invalid(format!(
            "Number of partitions is over the limit of {PARTITIONS_MAX}."
        ));
    }
    let additional = count - current;
    let brokers: Vec<BrokerId> = image.brokers().map(|(id, _)| id).collect();
    let factor = image
        .partition(topic.value.topic_id, 0)
        .map_or(1, |first| first.value.replicas.len());
    if let Some(assignment) = assignment {
        if i32::try_from(assignment.len()) != Ok(additional) {
            let message = format!(
                "Attempted to add {additional} additional partition(s), but only {} assignment(s) were specified.",
                assignment.len()
            );
            return Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, message));
        }
        for replicas in assignment {
            check_replicas(&brokers, replicas, factor)?;
        }
        return Ok(assignment.to_vec());
    }
    let first = shared.environment.randomness.next_u64();
    let factor = i32::try_from(factor).unwrap_or(i32::MAX);
    decide::place(&brokers, current, additional, factor, first)
        .map_err(|_| unreplicated(factor, brokers.len()))
}

fn unreplicated(factor: i32, brokers: usize) -> Refusal {
    let message = format!(
        "Unable to replicate the partition {factor} time(s): The target replication factor of {factor} cannot be reached because only {brokers} broker(s) are registered or some brokers have all their log directories cordoned."
    );
    Refusal::new(ErrorCode::InvalidReplicationFactor, message)
}

/// Waits until the image has the topic live and this broker leads what it should of it.
async fn wait_until_served(shared: &Arc<Shared>, name: &str, id: TopicId) -> Result<(), Refusal> {
    let mut images = shared.images();
    loop {
        let image = Arc::clone(&images.borrow_and_update());
        match image.topic(name) {
            Some(topic) if topic.value.topic_id != id => {
                let message = format!("Topic '{name}' already exists.");
                return Err(Refusal::new(ErrorCode::TopicAlreadyExists, message));
            }
            Some(topic) if topic.value.state == TopicState::Live => break,
            None if image.deleted_topic(id).is_some() => {
                let message = "The topic was deleted while it was created.";
                return Err(Refusal::new(ErrorCode::UnknownTopicOrPartition, message));
            }
            _ => {}
        }
        images.changed().await.map_err(Refusal::store)?;
    }
    let image = shared.image();
    for (index, partition) in image.partitions(id) {
        if partition.value.leader == Some(shared.config.node_id) {
            shared.replicas.wait_until_led(shared, id, index).await;
        }
    }
    Ok(())
}

/// Deletes the topic that has this name and this id, and returns when this broker no longer shows it.
///
/// # Errors
/// The topic is unknown, or the store cannot be reached.
pub async fn delete(shared: &Arc<Shared>, name: &str, id: TopicId) -> Result<(), Refusal> {
    loop {
        let image = shared.image();
        let unknown = || {
            let message = "This server does not host this topic-partition.";
            Refusal::new(ErrorCode::UnknownTopicOrPartition, message)
        };
        // Another topic of the name is not the one that was meant.
        let topic = image
            .topic(name)
            .filter(|topic| topic.value.topic_id == id)
            .ok_or_else(unknown)?;
        let transaction = decide::delete_topic(&shared.keys, name, topic);
        let outcome = commit(shared.environment.metadata.as_ref(), transaction)
            .await
            .map_err(Refusal::store)?;
        // Refused or moved: the topic has changed meanwhile, and the image will show how.
        let mut images = shared.images();
        let seen = topic.revision;
        loop {
            let image = Arc::clone(&images.borrow_and_update());
            match image.topic(name) {
                Some(now) if now.value.topic_id == id && now.revision == seen => {}
                Some(now) if now.value.topic_id == id => break,
                _ if matches!(outcome, Commit::Refused) => return Err(unknown()),
                _ => return Ok(()),
            }
            images.changed().await.map_err(Refusal::store)?;
        }
    }
}
