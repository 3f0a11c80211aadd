//! `esker cluster`: a live cluster as a whole.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use esker_client::{
    Client, ClientError, ClusterDescription, ConnectionError, Features, Levels, LogDir, Metadata,
};
use esker_protocol::{BrokerId, ErrorCode};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::client::{self, Target, fail};
use super::{Outcome, Output, run as runtime, say, table};

/// Commands on the cluster.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show brokers, what they lead and store, and what is wrong.
    Describe(Describe),
    /// Show the features that are supported and in effect.
    Features(Show),
}

/// Options of `esker cluster describe`.
#[derive(Debug, Args)]
pub(super) struct Describe {
    #[command(flatten)]
    target: Target,
}

/// Options of `esker cluster features`.
#[derive(Debug, Args)]
pub(super) struct Show {
    #[command(flatten)]
    target: Target,
}

pub(super) fn run(command: Command) -> Outcome {
    runtime::client_runtime()?.block_on(async {
        match command {
            Command::Describe(options) => describe(&options).await,
            Command::Features(options) => show(&options).await,
        }
    })
}

/// Everything that a description is made of.
#[derive(Debug)]
struct Facts {
    cluster: ClusterDescription,
    metadata: Metadata,
    features: Features,
    /// Of those brokers that told.
    log_dirs: BTreeMap<BrokerId, Vec<LogDir>>,
}

async fn describe(options: &Describe) -> Outcome {
    let client = options.target.connect().await?;
    let deadline = client::deadline();
    let failed = |error: ClientError| client::failed(&error);
    let metadata = client.metadata(None, deadline).await.map_err(failed)?;
    let cluster = client.describe_cluster(deadline).await.map_err(failed)?;
    let features = client.features(deadline).await.map_err(failed)?;
    let brokers: Vec<BrokerId> = metadata.brokers.keys().copied().collect();
    let (log_dirs, failures) = log_dirs(&client, &brokers, deadline).await;
    let facts = Facts {
        cluster,
        metadata,
        features,
        log_dirs,
    };
    match options.target.output {
        Output::Table => say(facts.shown()),
        Output::Json => say(facts.json()),
    }
    fail(failures)
}

/// The log directories of brokers, and why those of others are not known.
async fn log_dirs(
    client: &Client,
    brokers: &[BrokerId],
    deadline: Instant,
) -> (BTreeMap<BrokerId, Vec<LogDir>>, Vec<String>) {
    let mut log_dirs = BTreeMap::new();
    let mut failures = Vec::new();
    for broker in brokers {
        match client.log_dirs(*broker, deadline).await {
            Ok(dirs) => {
                log_dirs.insert(*broker, dirs);
            }
            // Not every broker that speaks the protocol tells of its directories.
            Err(ClientError::Connection {
                source: ConnectionError::UnsupportedApi { .. },
                ..
            }) => {}
            Err(error) => failures.push(client::chain(&error)),
        }
    }
    (log_dirs, failures)
}

/// What is led and stored, and what is wrong with it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Health {
    topics: usize,
    partitions: usize,
    /// Partitions that have a leader, but not all of their replicas in sync.
    under_replicated: usize,
    /// Partitions without a leader.
    offline: usize,
    leads: BTreeMap<BrokerId, usize>,
    replicas: BTreeMap<BrokerId, usize>,
}

impl Health {
    fn of(metadata: &Metadata) -> Health {
        let mut health = Health {
            topics: metadata.topics.len(),
            ..Health::default()
        };
        for partition in metadata
            .topics
            .values()
            .flat_map(|topic| topic.partitions.values())
        {
            health.partitions += 1;
            match partition.leader {
                None => health.offline += 1,
                Some(leader) => {
                    *health.leads.entry(leader).or_default() += 1;
                    if partition.isr.len() < partition.replicas.len() {
                        health.under_replicated += 1;
                    }
                }
            }
            for replica in &partition.replicas {
                *health.replicas.entry(*replica).or_default() += 1;
            }
        }
        health
    }

    fn leads(&self, broker: BrokerId) -> usize {
        self.leads.get(&broker).copied().unwrap_or(0)
    }

    fn replicas(&self, broker: BrokerId) -> usize {
        self.replicas.get(&broker).copied().unwrap_or(0)
    }
}

const BROKER_COLUMNS: [&str; 8] = [
    "BROKER",
    "ENDPOINT",
    "RACK",
    "STATE",
    "CONTROLLER",
    "LEADS",
    "REPLICAS",
    "STORED",
];
const DIR_COLUMNS: [&str; 7] = [
    "BROKER",
    "LOG DIRECTORY",
    "REPLICAS",
    "STORED",
    "FREE",
    "TOTAL",
    "ERROR",
];

impl Facts {
    fn state(&self, broker: BrokerId) -> &'static str {
        let described = self.cluster.brokers.get(&broker);
        if described.is_some_and(|described| described.is_fenced) {
            "fenced"
        } else {
            "in service"
        }
    }

    fn stored(&self, broker: BrokerId) -> Option<u64> {
        let dirs = self.log_dirs.get(&broker)?;
        Some(dirs.iter().map(LogDir::bytes).fold(0, u64::saturating_add))
    }

    fn shown(&self) -> String {
        let health = Health::of(&self.metadata);
        let cluster = &self.cluster;
        let controller = cluster.controller;
        let head = format!(
            "cluster {}  brokers {}  controller {}\n",
            table::clean(&cluster.cluster_id),
            cluster.brokers.len(),
            controller.map_or("none".to_owned(), |id| id.to_string()),
        );
        let state = format!(
            "topics {}  partitions {}  under-replicated {}  offline {}\n",
            health.topics, health.partitions, health.under_replicated, health.offline
        );
        let finalized = &self.features.finalized;
        let features: Vec<String> = finalized
            .iter()
            .map(|(name, (_, level))| format!("{name}={level}"))
            .collect();
        let features = if features.is_empty() {
            String::new()
        } else {
            format!("features {}\n", table::clean(&features.join(" ")))
        };
        let size = |bytes: Option<u64>| bytes.map_or("-".to_owned(), table::size);
        let brokers: Vec<Vec<String>> = cluster
            .brokers
            .iter()
            .map(|(id, broker)| {
                vec![
                    id.to_string(),
                    format!("{}:{}", broker.host, broker.port),
                    broker.rack.clone().unwrap_or_else(|| "-".to_owned()),
                    self.state(*id).to_owned(),
                    if controller == Some(*id) { "yes" } else { "" }.to_owned(),
                    health.leads(*id).to_string(),
                    health.replicas(*id).to_string(),
                    size(self.stored(*id)),
                ]
            })
            .collect();
        let dirs: Vec<Vec<String>> = self
            .log_dirs
            .iter()
            .flat_map(|(id, dirs)| dirs.iter().map(move |dir| (id, dir)))
            .map(|(id, dir)| {
                vec![
                    id.to_string(),
                    dir.path.clone(),
                    dir.partitions.len().to_string(),
                    size(Some(dir.bytes())),
                    size(dir.usable_bytes),
                    size(dir.total_bytes),
                    dir.error.map_or("", ErrorCode::name).to_owned(),
                ]
            })
            .collect();
        let brokers = table::render(&BROKER_COLUMNS, &brokers);
        let dirs = if dirs.is_empty() {
            String::new()
        } else {
            format!("\n{}", table::render(&DIR_COLUMNS, &dirs))
        };
        format!("{head}{state}{features}{brokers}{dirs}")
    }

    fn json(&self) -> Value {
        let health = Health::of(&self.metadata);
        let brokers = self.cluster.brokers.iter().map(|(id, broker)| {
            let dirs = self.log_dirs.get(id).map(|dirs| {
                let dirs = dirs.iter().map(|dir| {
                    json!({
                        "path": dir.path,
                        "replicas": dir.partitions.len(),
                        "bytes": dir.bytes(),
                        "usable_bytes": dir.usable_bytes,
                        "total_bytes": dir.total_bytes,
                        "code": dir.error.map(ErrorCode::name),
                    })
                });
                dirs.collect::<Vec<_>>()
            });
            json!({
                "broker": id.0,
                "host": broker.host,
                "port": broker.port,
                "rack": broker.rack,
                "fenced": broker.is_fenced,
                "leads": health.leads(*id),
                "replicas": health.replicas(*id),
                "log_dirs": dirs,
            })
        });
        let finalized: BTreeMap<&str, i16> = self
            .features
            .finalized
            .iter()
            .map(|(name, (_, level))| (name.as_str(), *level))
            .collect();
        json!({
            "cluster_id": self.cluster.cluster_id,
            "controller": self.cluster.controller.map(|id| id.0),
            "topics": health.topics,
            "partitions": health.partitions,
            "under_replicated": health.under_replicated,
            "offline": health.offline,
            "features": finalized,
            "brokers": brokers.collect::<Vec<_>>(),
        })
    }
}

async fn show(options: &Show) -> Outcome {
    let client = options.target.connect().await?;
    let features = client.features(client::deadline()).await;
    let features = features.map_err(|error| client::failed(&error))?;
    match options.target.output {
        Output::Table => say(features_table(&features)),
        Output::Json => say(features_json(&features)),
    }
    Ok(())
}

/// What is supported and in effect of each feature.
fn joined(features: &Features) -> BTreeMap<&str, (Option<Levels>, Option<Levels>)> {
    let names = features.supported.keys().chain(features.finalized.keys());
    let row = |name: &'_ String| {
        let supported = features.supported.get(name).copied();
        let finalized = features.finalized.get(name).copied();
        (supported, finalized)
    };
    names.map(|name| (name.as_str(), row(name))).collect()
}

fn features_table(features: &Features) -> String {
    let rows: Vec<Vec<String>> = joined(features)
        .into_iter()
        .map(|(name, (supported, finalized))| {
            let span = |(min, max): Levels| format!("{min}-{max}");
            vec![
                name.to_owned(),
                supported.map_or("-".to_owned(), span),
                finalized.map_or("-".to_owned(), |(_, level)| level.to_string()),
            ]
        })
        .collect();
    if rows.is_empty() {
        return "no features".to_owned();
    }
    let epoch = features
        .epoch
        .map_or(String::new(), |epoch| format!("epoch {epoch}\n"));
    let table = table::render(&["FEATURE", "SUPPORTED", "FINALIZED"], &rows);
    format!("{epoch}{table}")
}

fn features_json(features: &Features) -> Value {
    let rows = joined(features)
        .into_iter()
        .map(|(name, (supported, finalized))| {
            json!({
                "feature": name,
                "supported_min": supported.map(|(min, _)| min),
                "supported_max": supported.map(|(_, max)| max),
                "finalized": finalized.map(|(_, level)| level),
            })
        });
    json!({"epoch": features.epoch, "features": rows.collect::<Vec<_>>()})
}

#[cfg(test)]
mod tests;
