//! `esker topic`: topics of a live cluster.

use clap::{Args, Subcommand};
use esker_client::{Client, ClientError, Metadata, NewTopic, Topic, TopicSetting};
use esker_protocol::{BrokerId, ErrorCode};
use serde_json::{Value, json};

use super::client::{self, Target, fail, report, setting};
use super::{Failure, Outcome, Output, run as runtime, say, table};

/// Commands on topics.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Create a topic.
    Create(Create),
    /// List the topics.
    List(List),
    /// Show settings, leaders and replicas of topics.
    Describe(Describe),
    /// Delete topics with all their records, also those in the object store.
    Delete(Delete),
}

/// Options of `esker topic create`.
#[derive(Debug, Args)]
pub(super) struct Create {
    /// The topic's name.
    name: String,
    /// How many partitions; the brokers' default where not given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// How many replicas each partition has; the brokers' default where not given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i16).range(1..))]
    replication_factor: Option<i16>,
    /// A setting of the topic. May be given several times.
    #[arg(long = "config", value_name = "KEY=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,
    /// Only say whether the topic could be created.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    target: Target,
}

/// Options of `esker topic list`.
#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    target: Target,
}

/// Options of `esker topic describe`.
#[derive(Debug, Args)]
pub(super) struct Describe {
    /// The topics; all where none is given.
    names: Vec<String>,
    #[command(flatten)]
    target: Target,
}

/// Options of `esker topic delete`.
#[derive(Debug, Args)]
pub(super) struct Delete {
    /// The topics.
    #[arg(required = true)]
    names: Vec<String>,
    /// Only say which topics would be deleted.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    target: Target,
}

pub(super) fn run(command: Command) -> Outcome {
    runtime::client_runtime()?.block_on(async {
        match command {
            Command::Create(options) => create(options).await,
            Command::List(options) => list(&options).await,
            Command::Describe(options) => describe(&options).await,
            Command::Delete(options) => delete(&options).await,
        }
    })
}

async fn create(options: Create) -> Outcome {
    let mut topic = NewTopic {
        partitions: options.partitions,
        replication_factor: options.replication_factor,
        ..NewTopic::new(&options.name)
    };
    for (key, value) in options.settings {
        if topic.settings.insert(key.clone(), value).is_some() {
            return Err(Failure::Usage(format!("--config {key}: given twice")));
        }
    }
    let client = options.target.connect().await?;
    let deadline = client::deadline();
    let created = client
        .create_topics(&[topic], options.dry_run, deadline)
        .await;
    let outcomes = created.map_err(|error| client::failed(&error))?;
    let verb = if options.dry_run {
        "can be created"
    } else {
        "created"
    };
    report(
        "topic",
        outcomes,
        verb,
        options.dry_run,
        options.target.output,
    )
}

async fn delete(options: &Delete) -> Outcome {
    let client = options.target.connect().await?;
    let names: Vec<&str> = options.names.iter().map(String::as_str).collect();
    let (outcomes, verb) = if options.dry_run {
        let metadata = metadata(&client, &options.names).await?;
        let outcomes = names
            .iter()
            .map(|name| ((*name).to_owned(), existing(&metadata, name)));
        (outcomes.collect(), "would be deleted")
    } else {
        let deleted = client.delete_topics(&names, client::deadline()).await;
        (deleted.map_err(|error| client::failed(&error))?, "deleted")
    };
    report(
        "topic",
        outcomes,
        verb,
        options.dry_run,
        options.target.output,
    )
}

/// Whether metadata shows the topic, as the error that a deletion would give.
fn existing(metadata: &Metadata, name: &str) -> Result<(), ClientError> {
    let code = match metadata.topics.get(name) {
        Some(Topic { error: None, .. }) => return Ok(()),
        Some(Topic {
            error: Some(code), ..
        }) => *code,
        None => ErrorCode::UnknownTopicOrPartition,
    };
    Err(ClientError::Kafka {
        what: format!("deleting topic {name}"),
        code,
        message: None,
    })
}

/// Metadata of these topics, or of all where none is named.
async fn metadata(client: &Client, names: &[String]) -> Result<Metadata, Failure> {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let wanted = (!names.is_empty()).then_some(names.as_slice());
    client
        .metadata(wanted, client::deadline())
        .await
        .map_err(|error| client::failed(&error))
}

async fn list(options: &List) -> Outcome {
    let client = options.target.connect().await?;
    let metadata = metadata(&client, &[]).await?;
    match options.target.output {
        Output::Json => {
            for (name, topic) in &metadata.topics {
                say(summary(name, topic));
            }
        }
        Output::Table if metadata.topics.is_empty() => say("no topics"),
        Output::Table => {
            let rows: Vec<Vec<String>> = metadata
                .topics
                .iter()
                .map(|(name, topic)| {
                    vec![
                        name.clone(),
                        topic.id.to_string(),
                        topic.partitions.len().to_string(),
                        replication_factor(topic).to_string(),
                        topic.error.map_or("", ErrorCode::name).to_owned(),
                    ]
                })
                .collect();
            say(table::render(
                &["TOPIC", "ID", "PARTITIONS", "REPLICAS", "ERROR"],
                &rows,
            ));
        }
    }
    Ok(())
}

fn replication_factor(topic: &Topic) -> usize {
    topic
        .partitions
        .values()
        .map(|partition| partition.replicas.len())
        .max()
        .unwrap_or(0)
}

fn summary(name: &str, topic: &Topic) -> Value {
    json!({
        "topic": name,
        "id": topic.id.to_string(),
        "partitions": topic.partitions.len(),
        "replication_factor": replication_factor(topic),
        "internal": topic.is_internal,
        "code": topic.error.map(ErrorCode::name),
    })
}

async fn describe(options: &Describe) -> Outcome {
    let client = options.target.connect().await?;
    let metadata = metadata(&client, &options.names).await?;
    let mut failures = Vec::new();
    for (name, topic) in &metadata.topics {
        if let Some(code) = topic.error {
            failures.push(format!("describing topic {name}: {code}"));
            continue;
        }
        let settings = client
            .describe_topic_settings(name, client::deadline())
            .await;
        let settings = settings.map_err(|error| client::failed(&error))?;
        match options.target.output {
            Output::Table => say(described(name, topic, &settings)),
            Output::Json => say(described_json(name, topic, &settings)),
        }
    }
    fail(failures)
}

const PARTITION_COLUMNS: [&str; 7] = [
    "PARTITION",
    "LEADER",
    "EPOCH",
    "REPLICAS",
    "ISR",
    "OFFLINE",
    "ERROR",
];

fn described(name: &str, topic: &Topic, settings: &[TopicSetting]) -> String {
    let set: Vec<String> = settings
        .iter()
        .filter(|setting| setting.is_set)
        .map(|setting| {
            format!(
                "{}={}",
                setting.name,
                setting.value.as_deref().unwrap_or("(hidden)")
            )
        })
        .collect();
    let settings = if set.is_empty() {
        "the brokers' defaults".to_owned()
    } else {
        set.join(" ")
    };
    let brokers = |ids: &[BrokerId]| {
        let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
        if ids.is_empty() {
            "-".to_owned()
        } else {
            ids.join(",")
        }
    };
    let rows: Vec<Vec<String>> = topic
        .partitions
        .iter()
        .map(|(index, partition)| {
            vec![
                index.to_string(),
                partition
                    .leader
                    .map_or("none".to_owned(), |leader| leader.to_string()),
                partition.leader_epoch.to_string(),
                brokers(&partition.replicas),
                brokers(&partition.isr),
                brokers(&partition.offline),
                partition.error.map_or("", ErrorCode::name).to_owned(),
            ]
        })
        .collect();
    format!(
        "topic {name}  id {}  settings: {settings}\n{}",
        topic.id,
        table::render(&PARTITION_COLUMNS, &rows)
    )
}

fn described_json(name: &str, topic: &Topic, settings: &[TopicSetting]) -> Value {
    let ids = |ids: &[BrokerId]| ids.iter().map(|id| id.0).collect::<Vec<_>>();
    let partitions: Vec<Value> = topic
        .partitions
        .iter()
        .map(|(index, partition)| {
            json!({
                "partition": index,
                "leader": partition.leader.map(|leader| leader.0),
                "leader_epoch": partition.leader_epoch.0,
                "replicas": ids(&partition.replicas),
                "isr": ids(&partition.isr),
                "offline": ids(&partition.offline),
                "code": partition.error.map(ErrorCode::name),
            })
        })
        .collect();
    let settings: Vec<Value> = settings
        .iter()
        .map(|setting| json!({"name": setting.name, "value": setting.value, "set": setting.is_set}))
        .collect();
    json!({
        "topic": name,
        "id": topic.id.to_string(),
        "partitions": partitions,
        "settings": settings,
    })
}

#[cfg(test)]
mod tests;
