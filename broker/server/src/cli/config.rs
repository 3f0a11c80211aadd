//! `esker config`: settings of a live cluster.

use clap::{Args, Subcommand};
use esker_client::{ConfigChange, ConfigEntry, ConfigResource, ConfigSource};
use esker_protocol::{BrokerId, ErrorCode};
use serde_json::{Value, json};

use super::client::{self, Target, fail, setting};
use super::{Failure, Outcome, Output, run as runtime, say, table};

/// Commands on settings.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show settings.
    Describe(Describe),
    /// Change settings.
    Set(Set),
    /// Take settings back: what is behind them takes effect.
    Delete(Delete),
    /// List what can have settings.
    List(List),
}

/// Options of `esker config describe`.
#[derive(Debug, Args)]
pub(super) struct Describe {
    #[command(flatten)]
    of: Of,
    /// Also show settings that nobody has changed.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    target: Target,
}

/// Options of `esker config set`.
#[derive(Debug, Args)]
pub(super) struct Set {
    /// The settings.
    #[arg(required = true, value_name = "KEY=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,
    #[command(flatten)]
    of: Of,
    /// Only say whether they could be changed.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    target: Target,
}

/// Options of `esker config delete`.
#[derive(Debug, Args)]
pub(super) struct Delete {
    /// The settings.
    #[arg(required = true, value_name = "KEY")]
    keys: Vec<String>,
    #[command(flatten)]
    of: Of,
    /// Only say whether they could be taken back.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    target: Target,
}

/// Options of `esker config list`.
#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    target: Target,
}

/// Whose settings.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Of {
    /// A topic.
    #[arg(long)]
    topic: Option<String>,
    /// A broker, by its id.
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(i32).range(0..))]
    broker: Option<i32>,
    /// A group.
    #[arg(long)]
    group: Option<String>,
    /// All brokers that do not say otherwise.
    #[arg(long)]
    cluster_default: bool,
}

impl Of {
    fn resource(&self) -> ConfigResource {
        match self {
            Of {
                topic: Some(topic), ..
            } => ConfigResource::Topic(topic.clone()),
            Of {
                broker: Some(id), ..
            } => ConfigResource::Broker(BrokerId(*id)),
            Of {
                group: Some(group), ..
            } => ConfigResource::Group(group.clone()),
            // Exactly one is given.
            Of { .. } => ConfigResource::ClusterDefault,
        }
    }
}

pub(super) fn run(command: Command) -> Outcome {
    runtime::client_runtime()?.block_on(async {
        match command {
            Command::Describe(options) => describe(&options).await,
            Command::Set(options) => {
                let settings = options.settings.into_iter();
                let changes = settings.map(|(key, value)| ConfigChange::Set(key, value));
                let changes = changes.collect();
                alter(&options.of, changes, options.dry_run, &options.target).await
            }
            Command::Delete(options) => {
                let changes = options.keys.into_iter().map(ConfigChange::Delete);
                let changes = changes.collect();
                alter(&options.of, changes, options.dry_run, &options.target).await
            }
            Command::List(options) => list(&options).await,
        }
    })
}

/// A resource as the command line and JSON name it.
fn named(resource: &ConfigResource) -> (&'static str, String) {
    match resource {
        ConfigResource::Topic(name) => ("topic", name.clone()),
        ConfigResource::Broker(id) => ("broker", id.to_string()),
        ConfigResource::ClusterDefault => ("cluster-default", String::new()),
        ConfigResource::BrokerLogger(id) => ("broker-logger", id.to_string()),
        ConfigResource::ClientMetrics(name) => ("client-metrics", name.clone()),
        ConfigResource::Group(name) => ("group", name.clone()),
    }
}

async fn describe(options: &Describe) -> Outcome {
    let client = options.target.connect().await?;
    let resource = options.of.resource();
    let entries = client.describe_config(&resource, client::deadline()).await;
    let mut entries = entries.map_err(|error| client::failed(&error))?;
    if !options.all {
        entries.retain(|entry| entry.source != ConfigSource::Default);
    }
    match options.target.output {
        Output::Table => say(described(&resource, &entries, options.all)),
        Output::Json => say(described_json(&resource, &entries)),
    }
    Ok(())
}

const COLUMNS: [&str; 5] = ["KEY", "VALUE", "TYPE", "SOURCE", "READ ONLY"];

fn described(resource: &ConfigResource, entries: &[ConfigEntry], all: bool) -> String {
    let head = resource.to_string();
    let head = table::clean(&head);
    if entries.is_empty() {
        return if all {
            format!("{head}: no settings")
        } else {
            format!("{head}: nothing differs from the defaults (--all shows them)")
        };
    }
    let rows: Vec<Vec<String>> = entries
        .iter()
        .map(|entry| {
            vec![
                entry.name.clone(),
                entry
                    .value
                    .clone()
                    .unwrap_or_else(|| hidden(entry).to_owned()),
                entry.kind.to_owned(),
                entry.source.name().to_owned(),
                if entry.is_read_only { "yes" } else { "" }.to_owned(),
            ]
        })
        .collect();
    format!("{head}\n{}", table::render(&COLUMNS, &rows))
}

fn hidden(entry: &ConfigEntry) -> &'static str {
    if entry.is_sensitive {
        "(hidden)"
    } else {
        "(none)"
    }
}

fn described_json(resource: &ConfigResource, entries: &[ConfigEntry]) -> Value {
    let settings = entries.iter().map(|entry| {
        let synonyms = entry.synonyms.iter().map(
            |(name, value, source)| json!({"name": name, "value": value, "source": source.name()}),
        );
        json!({
            "name": entry.name,
            "value": entry.value,
            "type": entry.kind,
            "source": entry.source.name(),
            "read_only": entry.is_read_only,
            "sensitive": entry.is_sensitive,
            "synonyms": synonyms.collect::<Vec<_>>(),
        })
    });
    let (kind, name) = named(resource);
    json!({
        "resource": kind,
        "name": name,
        "settings": settings.collect::<Vec<_>>(),
    })
}

fn key(change: &ConfigChange) -> &str {
    match change {
        ConfigChange::Set(key, _) | ConfigChange::Delete(key) => key,
    }
}

/// The first key that is given twice.
fn repeated(changes: &[ConfigChange]) -> Option<&str> {
    let mut keys: Vec<&str> = changes.iter().map(key).collect();
    keys.sort_unstable();
    let pair = keys.windows(2).find(|pair| pair.first() == pair.last());
    pair.and_then(|pair| pair.first().copied())
}

async fn alter(of: &Of, changes: Vec<ConfigChange>, dry_run: bool, target: &Target) -> Outcome {
    if let Some(key) = repeated(&changes) {
        return Err(Failure::Usage(format!("{key}: given twice")));
    }
    let client = target.connect().await?;
    let resource = of.resource();
    let outcome = client
        .alter_config(&resource, &changes, dry_run, client::deadline())
        .await;
    let error = outcome.err();
    for change in &changes {
        match target.output {
            Output::Table if error.is_none() => {
                say(table::clean(&altered(&resource, change, dry_run)));
            }
            Output::Table => {}
            Output::Json => {
                let (kind, name) = named(&resource);
                let value = match change {
                    ConfigChange::Set(_, value) => Some(value),
                    ConfigChange::Delete(_) => None,
                };
                say(json!({
                    "resource": kind,
                    "name": name,
                    "key": key(change),
                    "value": value,
                    "ok": error.is_none(),
                    "dry_run": dry_run,
                    "code": error.as_ref().and_then(|error| error.code()).map(ErrorCode::name),
                    "error": error.as_ref().map(|error| client::chain(error)),
                }));
            }
        }
    }
    fail(error.iter().map(|error| client::chain(error)).collect())
}

fn altered(resource: &ConfigResource, change: &ConfigChange, dry_run: bool) -> String {
    let verb = if dry_run { "can be" } else { "is" };
    match change {
        ConfigChange::Set(key, value) => format!("{resource}: {key} {verb} set to {value}"),
        ConfigChange::Delete(key) => format!("{resource}: {key} {verb} taken back"),
    }
}

async fn list(options: &List) -> Outcome {
    let client = options.target.connect().await?;
    let resources = client.list_config_resources(client::deadline()).await;
    let resources = resources.map_err(|error| client::failed(&error))?;
    match options.target.output {
        Output::Json => {
            for resource in &resources {
                let (kind, name) = named(resource);
                say(json!({"resource": kind, "name": name}));
            }
        }
        Output::Table if resources.is_empty() => say("nothing has settings"),
        Output::Table => {
            let rows: Vec<Vec<String>> = resources
                .iter()
                .map(|resource| {
                    let (kind, name) = named(resource);
                    vec![kind.to_owned(), name]
                })
                .collect();
            say(table::render(&["RESOURCE", "NAME"], &rows));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
