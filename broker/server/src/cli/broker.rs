//! `esker broker`.

use std::path::PathBuf;

use clap::Args;

use super::{Failure, Outcome, run};
use crate::config::{Config, ConfigError, properties};

/// Options of `esker broker`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The properties file; Kafka's names.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Set a property; wins over the file. May be given several times.
    #[arg(short = 'o', long = "override", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
}

pub(super) fn run(arguments: &Arguments) -> Outcome {
    run::start_logs("info")?;
    let config = load(arguments)?;
    run::runtime(config.log_dirs.len())?.block_on(run::serve(config, |_| {}))
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one file that is read before there is a disk"
)]
fn load(arguments: &Arguments) -> Result<Config, Failure> {
    let path = arguments.config.display();
    let text = std::fs::read_to_string(&arguments.config)
        .map_err(|error| Failure::Usage(format!("{path}: {error}")))?;
    let mut pairs =
        properties::parse(&text).map_err(|error| Failure::Usage(format!("{path}: {error}")))?;
    pairs.extend(parse_overrides(&arguments.overrides)?);
    from_pairs(pairs)
}

/// Reads `-o key=value` options.
pub(super) fn parse_overrides(overrides: &[String]) -> Result<Vec<(String, String)>, Failure> {
    overrides
        .iter()
        .map(|text| match text.split_once('=') {
            Some((key, value)) => Ok((key.trim().to_owned(), value.trim().to_owned())),
            None => Err(Failure::Usage(format!("-o {text}: must be KEY=VALUE"))),
        })
        .collect()
}

/// Checks properties and logs the warnings about them.
pub(super) fn from_pairs(pairs: Vec<(String, String)>) -> Result<Config, Failure> {
    let (config, warnings) =
        Config::from_properties(pairs).map_err(|error: ConfigError| Failure::usage(error))?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    Ok(config)
}
