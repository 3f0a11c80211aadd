//! The command line: `esker dev|broker|demo|topic|group|config|cluster|log|tier`.
//!
//! Exit status 0 is done, 1 failed, 2 bad usage. Bad input gets one line on stderr that says what,
//! where and what to do.

mod broker;
mod client;
mod cluster;
mod config;
mod demo;
mod dev;
mod group;
mod log;
mod run;
mod table;
mod tier;
mod topic;

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

/// A Kafka-compatible event-streaming broker with tiered storage.
#[derive(Debug, Parser)]
#[command(name = "esker", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a complete broker in one process, with nothing to set up.
    Dev(dev::Arguments),
    /// Run a broker from a server.properties.
    Broker(broker::Arguments),
    /// Show it all on this machine: stream events, offload them, read them back.
    Demo(demo::Arguments),
    /// Create, list, describe and delete topics.
    #[command(subcommand)]
    Topic(topic::Command),
    /// List, describe and delete consumer groups, and set their offsets.
    #[command(subcommand)]
    Group(group::Command),
    /// Show and change settings of topics, brokers and groups.
    #[command(subcommand)]
    Config(config::Command),
    /// Show brokers, features and what is wrong.
    #[command(subcommand)]
    Cluster(cluster::Command),
    /// Look into the files of a log.
    #[command(subcommand)]
    Log(log::Command),
    /// Look into the object store.
    #[command(subcommand)]
    Tier(tier::Command),
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// Why a command ends without having done its work.
#[derive(Debug)]
enum Failure {
    /// The command line or a configuration is wrong: exit status 2.
    Usage(String),
    /// The work failed: exit status 1.
    Failed(String),
}

impl Failure {
    fn failed(error: impl std::fmt::Display) -> Failure {
        Failure::Failed(error.to_string())
    }

    fn usage(error: impl std::fmt::Display) -> Failure {
        Failure::Usage(error.to_string())
    }
}

type Outcome = Result<(), Failure>;

/// Runs the command line and returns the exit status.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        // Help and version are printed as they are; an error is cut to its one line.
        Err(error) if !error.use_stderr() => error.exit(),
        Err(error) => {
            complain(&format!("{}; see --help", one_line(&error.to_string())));
            return ExitCode::from(2);
        }
    };
    let outcome = match arguments.command {
        Command::Dev(arguments) => dev::run(arguments),
        Command::Broker(arguments) => broker::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Topic(command) => topic::run(command),
        Command::Group(command) => group::run(command),
        Command::Config(command) => config::run(command),
        Command::Cluster(command) => cluster::run(command),
        Command::Log(command) => log::run(command),
        Command::Tier(command) => tier::run(command),
    };
    let (status, line) = match outcome {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Failed(line)) => (1, line),
        Err(Failure::Usage(line)) => (2, line),
    };
    complain(&line);
    ExitCode::from(status)
}

/// The line of an error that says what is wrong: what a first line announces stands below it.
fn one_line(error: &str) -> String {
    let mut lines = error.lines().map(str::trim);
    let first = lines.next().unwrap_or_default();
    let first = first.trim_start_matches("error: ");
    if !first.ends_with(':') {
        return first.to_owned();
    }
    let listed: Vec<&str> = lines.take_while(|line| !line.is_empty()).collect();
    format!("{first} {}", listed.join(" "))
}

#[expect(clippy::print_stderr, reason = "the command line's own error line")]
fn complain(line: &str) {
    eprintln!("esker: {}", table::clean(line));
}

/// Prints a line of a command's result. Whoever closed the pipe has seen enough: that is no failure.
fn say(line: impl std::fmt::Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_usage_error_names_what_is_missing_in_one_line() {
        let error = Arguments::try_parse_from(["esker", "topic", "create"]).unwrap_err();
        assert_eq!(
            one_line(&error.to_string()),
            "the following required arguments were not provided: <NAME>"
        );
        let error = Arguments::try_parse_from(["esker", "tpic"]).unwrap_err();
        assert_eq!(
            one_line(&error.to_string()),
            "unrecognized subcommand 'tpic'"
        );
    }
}
