//! `esker dev`: everything in one process.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{Failure, Outcome, broker, run, say};
use crate::config::{Config, HostPort};

/// Options of `esker dev`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Where data lives.
    #[arg(long, value_name = "DIR", default_value = "./esker-data")]
    data_dir: PathBuf,
    /// Where clients connect; port 0 takes a free one.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9092")]
    listen: HostPort,
    /// What clients are told to connect to; by default what is listened on.
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<HostPort>,
    /// Where metrics and health are served.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9644")]
    http: HostPort,
    /// Where sealed segments go: s3://BUCKET/PREFIX, file:///PATH, or none; by default
    /// file://DATA-DIR/objects.
    #[arg(long, value_name = "URL")]
    object_store: Option<String>,
    /// How many brokers to run.
    #[arg(long, value_name = "N", default_value_t = 1)]
    brokers: u32,
    /// Set a property. May be given several times.
    #[arg(short = 'o', long = "override", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
}

pub(super) fn run(arguments: Arguments) -> Outcome {
    if arguments.brokers != 1 {
        let line = "--brokers: only 1 is possible in this version; clusters come later";
        return Err(Failure::Usage(line.to_owned()));
    }
    run::start_logs("warn,esker_server=info")?;
    let config = config(&arguments)?;
    let store = config.object_store_url.clone();
    let data = arguments.data_dir.clone();
    run::runtime(config.log_dirs.len())?.block_on(run::serve(config, move |broker| {
        for line in help(
            broker.kafka_address(),
            broker.http_address(),
            &data,
            store.as_deref(),
        ) {
            say(line);
        }
    }))
}

fn config(arguments: &Arguments) -> Result<Config, Failure> {
    // An object store's URL must be absolute, and so the directory that it lies in.
    let data_dir = std::path::absolute(&arguments.data_dir)
        .map_err(|error| Failure::Usage(format!("--data-dir: {error}")))?;
    let objects = arguments
        .object_store
        .clone()
        .unwrap_or_else(|| objects_url(&data_dir));
    broker::from_pairs(
        properties(
            &data_dir,
            &arguments.listen,
            Some(&arguments.http),
            &objects,
        )
        .into_iter()
        .chain(arguments.advertise.iter().map(|address| {
            (
                "advertised.listeners".to_owned(),
                format!("PLAINTEXT://{address}"),
            )
        }))
        .chain(broker::parse_overrides(&arguments.overrides)?)
        .collect(),
    )
}

/// The object store within a data directory.
pub(super) fn objects_url(data_dir: &Path) -> String {
    format!("file://{}", data_dir.join("objects").display())
}

/// The properties of a broker that has everything under one directory.
pub(super) fn properties(
    data_dir: &Path,
    listen: &HostPort,
    http: Option<&HostPort>,
    object_store: &str,
) -> Vec<(String, String)> {
    let mut pairs = vec![
        ("node.id".to_owned(), "1".to_owned()),
        (
            "log.dirs".to_owned(),
            data_dir.join("broker-1").display().to_string(),
        ),
        ("listeners".to_owned(), format!("PLAINTEXT://{listen}")),
        ("object.store.url".to_owned(), object_store.to_owned()),
    ];
    if let Some(http) = http {
        pairs.push(("http.listener".to_owned(), http.to_string()));
    }
    pairs
}

fn help(
    kafka: std::net::SocketAddr,
    http: Option<std::net::SocketAddr>,
    data: &Path,
    store: Option<&str>,
) -> Vec<String> {
    let mut lines = vec![
        String::new(),
        "Esker is up. Try it, in another terminal:".to_owned(),
        String::new(),
        format!("  esker topic create events --partitions 3 --bootstrap {kafka}"),
        format!("  echo hello | kcat -b {kafka} -t events -P"),
        format!("  kcat -b {kafka} -t events -C -e"),
    ];
    if let Some(http) = http {
        lines.push(format!("  curl http://{http}/metrics"));
    }
    lines.push(String::new());
    lines.push(format!("Data:    {}", data.display()));
    lines.push(format!(
        "Objects: {}",
        store.unwrap_or("none: nothing is offloaded")
    ));
    lines.push("Stop:    Ctrl-C".to_owned());
    lines
}
