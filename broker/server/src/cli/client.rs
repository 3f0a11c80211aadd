//! What commands that talk to a live broker share.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use esker_client::{Client, ClientError, ClientOptions, Connect, Endpoint, TcpConnect};
use esker_protocol::ErrorCode;
use serde_json::json;
use tokio::time::{Instant, timeout};

use super::{Failure, Outcome, Output, complain, say, table};

/// Which broker to talk to, and how to print what it says.
#[derive(Debug, Args)]
pub(super) struct Target {
    /// A broker of the cluster.
    #[arg(
        long,
        alias = "bootstrap-server",
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:9092"
    )]
    bootstrap: Endpoint,
    /// How to print.
    #[arg(long, value_enum, default_value = "table")]
    pub(super) output: Output,
}

/// A broker that does not take a connection in this time is as good as away.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// The longest that one command waits for the cluster.
const COMMAND_MAX: Duration = Duration::from_secs(30);

impl Target {
    /// A client of the cluster. Whoever mistypes an address is told at once: a client by itself
    /// would go on trying until its deadline.
    pub(super) async fn connect(&self) -> Result<Client, Failure> {
        let endpoint = &self.bootstrap;
        let away = |reason: String| {
            Failure::Failed(format!(
                "cannot connect to {endpoint}: {reason}; is a broker running there? (--bootstrap)"
            ))
        };
        match timeout(
            CONNECT_MAX,
            TcpConnect.connect(&endpoint.host, endpoint.port),
        )
        .await
        {
            Ok(Ok(_)) => Ok(client(endpoint.clone())),
            Ok(Err(error)) => Err(away(error.to_string())),
            Err(_) => Err(away(format!("no answer in {} s", CONNECT_MAX.as_secs()))),
        }
    }
}

/// A client that begins with one broker.
pub(super) fn client(bootstrap: Endpoint) -> Client {
    Client::new(ClientOptions::new(vec![bootstrap]), Arc::new(TcpConnect))
}

/// When a command that begins now gives up.
pub(super) fn deadline() -> Instant {
    Instant::now() + COMMAND_MAX
}

/// A client's error in one line, with its causes.
pub(super) fn failed(error: &ClientError) -> Failure {
    Failure::Failed(chain(error))
}

/// An error and its causes, each said once.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
        cause = error.source();
    }
    line
}

/// A setting on the command line.
pub(super) fn setting(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("must be KEY=VALUE")?;
    let (key, value) = (key.trim(), value.trim());
    if key.is_empty() {
        return Err("must be KEY=VALUE".to_owned());
    }
    Ok((key.to_owned(), value.to_owned()))
}

/// Says what became of each thing of a kind. Where one failed, the command did: its line is the
/// last.
pub(super) fn report(
    kind: &str,
    outcomes: impl IntoIterator<Item = (String, Result<(), ClientError>)>,
    verb: &str,
    dry_run: bool,
    output: Output,
) -> Outcome {
    let mut failures = Vec::new();
    for (name, outcome) in outcomes {
        let error = outcome.as_ref().err();
        match output {
            Output::Table if error.is_none() => {
                say(format!("{kind} {} {verb}", table::clean(&name)));
            }
            Output::Table => {}
            Output::Json => say(json!({
                kind: name,
                "ok": error.is_none(),
                "dry_run": dry_run,
                "code": error.and_then(ClientError::code).map(ErrorCode::name),
                "error": error.map(|error| chain(error)),
            })),
        }
        failures.extend(error.map(|error| chain(error)));
    }
    fail(failures)
}

/// Fails with the last of these lines, after all others were printed.
pub(super) fn fail(mut lines: Vec<String>) -> Outcome {
    let Some(last) = lines.pop() else {
        return Ok(());
    };
    lines.iter().for_each(|line| complain(line));
    Err(Failure::Failed(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_key_and_value() {
        assert_eq!(
            setting("retention.ms = 5"),
            Ok(("retention.ms".to_owned(), "5".to_owned()))
        );
        assert_eq!(setting("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert_eq!(setting("a="), Ok(("a".to_owned(), String::new())));
        for text in ["retention.ms", "=5", ""] {
            assert!(setting(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_command_fails_when_one_of_its_parts_did() {
        assert!(fail(Vec::new()).is_ok());
        let line = "deleting topic b: UNKNOWN_TOPIC_OR_PARTITION";
        match fail(vec![line.to_owned()]) {
            Err(Failure::Failed(last)) => assert_eq!(last, line),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_error_is_one_line_with_kafkas_code_and_its_causes() {
        let refused = ClientError::Kafka {
            what: "creating topic a".to_owned(),
            code: ErrorCode::TopicAlreadyExists,
            message: Some("Topic 'a' already exists.".to_owned()),
        };
        assert_eq!(
            chain(&refused),
            "creating topic a: TOPIC_ALREADY_EXISTS: Topic 'a' already exists."
        );
        let away = ClientError::Connect {
            endpoint: Endpoint {
                host: "a".to_owned(),
                port: 1,
            },
            source: Arc::new(std::io::Error::other("connection refused")),
        };
        assert_eq!(chain(&away), "cannot connect to a:1: connection refused");
    }
}
