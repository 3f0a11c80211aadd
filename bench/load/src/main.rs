//! Load for a broker: members, groups, commits, a compacted topic; the same against Esker and Apache Kafka.
//!
//! A scenario goes through phases. When one ends, a line of JSON with its figures goes to stdout, and
//! nothing happens for a moment: whoever reads along looks at the broker's CPU time then. Of several
//! lines of one phase the last one counts. Any answer that a healthy broker would not give ends the
//! run with status 1 and a line on stderr.
//!
//! ```text
//! members   classic, consumer    what one member says and when
//! groups    classic, consumer    many groups of one member; commits
//! commits   latency              offsets of groups without members, as fast as they are answered
//! compact                        a bounded set of keys, over and over
//! crew      board                the members of a run, and whether they have come to rest
//! call                           one connection, one question at a time
//! ```
//!
//! One thread does it all. A member has a connection of its own, as real ones do, unless a scenario
//! says otherwise.

mod arguments;
mod board;
mod call;
mod classic;
mod commits;
mod compact;
mod consumer;
mod crew;
mod groups;
mod latency;
mod members;
mod pace;
mod phase;
mod range;
mod target;

use std::process::ExitCode;

use clap::Parser;

use self::arguments::{Arguments, Scenario};
use self::call::Failure;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(run(&arguments)),
        Err(error) => Err(Failure::Connect(error)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            complain(&failure);
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let target = target::Target::new(arguments);
    match &arguments.scenario {
        Scenario::Members(options) => members::run(&target, options).await,
        Scenario::Groups(options) => groups::run(&target, options).await,
        Scenario::Commits(options) => commits::run(&target, options).await,
        Scenario::Compact(options) => compact::run(&target, options).await,
    }
}

#[expect(clippy::print_stderr, reason = "the program's own error line")]
fn complain(failure: &Failure) {
    let mut line = failure.to_string();
    let mut cause = std::error::Error::source(failure);
    while let Some(error) = cause {
        line += &format!(": {error}");
        cause = error.source();
    }
    eprintln!("esker-load: {line}");
}
