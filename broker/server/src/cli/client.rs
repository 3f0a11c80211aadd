//! What commands that talk to a live broker share.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use esker_client::{Client, ClientError, ClientOptions, Connect, Endpoint, TcpConnect};
use tokio::time::{Instant, timeout};

use super::{Failure, Output};

/// Which broker to talk to, and how to print what it says.
#[derive(Debug, Args)]
pub(super) struct Target {
    /// A broker of the cluster.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9092")]
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

#[cfg(test)]
mod tests {
    use esker_protocol::ErrorCode;

    use super::*;

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
