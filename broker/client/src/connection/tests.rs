use std::task::Context;
use std::time::Duration;

use esker_protocol::messages::{FetchRequest, MetadataRequest, ProduceRequest};
use futures::future::join_all;
use futures::poll;

use super::*;
use crate::stream::Connect;
use crate::testing::{Fault, Network, within};

async fn open(network: &Network) -> Connection {
    let stream = network.connect("host", 1).await.expect("a stream");
    let options = ConnectionOptions::default();
    Connection::open(stream, options, within(5))
        .await
        .expect("a connection")
}

/// A request whose answer names the topic it asked for.
fn about(topic: &str) -> MetadataRequest<'static> {
    use esker_protocol::messages::metadata_request::MetadataRequestTopic;
    let name = Some(topic.to_owned().into());
    let topics = vec![MetadataRequestTopic {
        name,
        ..Default::default()
    }];
    MetadataRequest {
        topics: Some(topics),
        ..Default::default()
    }
}

fn topic_of(answer: &Answer<MetadataRequest<'_>>) -> String {
    let body = answer.body().expect("an answer");
    body.topics[0].name.as_deref().expect("a name").to_owned()
}

#[test]
fn many_requests_at_once_get_their_own_answers() {
    let network = Network::new();
    network.run(async {
        let connection = open(&network).await;
        // More than may be in flight, and frames larger than the stream's buffer.
        let names: Vec<String> = (0..200).map(|n| format!("{n}-").repeat(100)).collect();
        let calls = names.iter().map(|name| async {
            let answer = connection
                .request(&about(name), within(5))
                .await
                .expect("an answer");
            assert_eq!(topic_of(&answer), *name);
        });
        join_all(calls).await;
        assert_eq!(network.state().connects, 1);
    });
}

#[test]
fn versions_are_negotiated_with_older_brokers() {
    for newest in 0..=3 {
        let network = Network::new();
        network.state().newest.insert(ApiKey::ApiVersions, newest);
        network.state().newest.insert(ApiKey::Metadata, 9);
        network.run(async {
            let connection = open(&network).await;
            let asked: Vec<_> = network.state().seen.clone();
            assert_eq!(
                asked,
                [(ApiKey::ApiVersions, 4), (ApiKey::ApiVersions, newest)]
            );
            assert_eq!(connection.version_of(ApiKey::Metadata, None).unwrap(), 9);
            assert_eq!(connection.version_of(ApiKey::Metadata, Some(5)).unwrap(), 5);
            let refused = connection.version_of(ApiKey::Produce, Some(1)).unwrap_err();
            assert!(matches!(refused, ConnectionError::UnsupportedApi { .. }));
        });
    }
}

#[test]
fn a_request_that_is_dropped_halfway_hurts_nobody() {
    let network = Network::new();
    network.run(async {
        let connection = open(&network).await;
        let long = about(&"long".repeat(1000));
        for polls in 0..20 {
            // Dropped with its frame half written, or its answer half read.
            let mut dropped = Box::pin(connection.request(&long, within(5)));
            for _ in 0..polls {
                if poll!(dropped.as_mut()).is_ready() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            drop(dropped);
            let name = format!("after-{polls}");
            let answer = connection
                .request(&about(&name), within(5))
                .await
                .expect("an answer");
            assert_eq!(topic_of(&answer), name);
        }
    });
}

#[test]
fn whoever_waits_takes_over_when_the_mover_is_dropped() {
    let network = Network::new();
    network.run(async {
        let connection = open(&network).await;
        let (one, two) = (about("one"), about("two"));
        let mut first = Box::pin(connection.request(&one, within(5)));
        let mut second = Box::pin(connection.request(&two, within(5)));
        assert!(poll!(first.as_mut()).is_pending());
        assert!(poll!(second.as_mut()).is_pending());
        drop(first);
        assert_eq!(topic_of(&second.await.expect("an answer")), "two");
    });
}

#[test]
fn an_answer_that_does_not_come_ends_at_the_deadline_alone() {
    let network = Network::new();
    network.fail(ApiKey::Metadata, [Some(Fault::Silence)]);
    network.run(async {
        let connection = open(&network).await;
        let started = Instant::now();
        let error = connection
            .request(&about("a"), within(3))
            .await
            .unwrap_err();
        assert!(matches!(error, ConnectionError::Deadline));
        assert_eq!(started.elapsed(), Duration::from_secs(3));
    });
}

#[test]
fn a_closed_stream_fails_everyone_who_waits_and_who_comes_later() {
    for fault in [Fault::LostBefore, Fault::LostAfter, Fault::CutAnswer] {
        let network = Network::new();
        network.fail(ApiKey::Metadata, [None, Some(fault)]);
        network.run(async {
            let connection = open(&network).await;
            let topics = [about("a"), about("b"), about("c")];
            let calls = topics
                .iter()
                .map(|topic| connection.request(topic, within(5)));
            let outcomes = join_all(calls).await;
            assert!(outcomes[0].is_ok());
            for outcome in &outcomes[1..] {
                assert!(
                    matches!(outcome, Err(ConnectionError::Closed)),
                    "{fault:?} {outcome:?}"
                );
            }
            assert!(connection.is_failed());
            let later = connection.request(&about("d"), within(5)).await;
            assert!(matches!(later, Err(ConnectionError::Closed)));
        });
    }
}

#[test]
fn requests_without_an_answer_return_when_they_are_written() {
    let network = Network::new();
    network.run(async {
        let connection = open(&network).await;
        let request = ProduceRequest::default();
        // The broker's reader is slower than the writer: the stream's buffer is small.
        for _ in 0..50 {
            connection
                .send_version(9, &request, within(5))
                .await
                .expect("written");
        }
        connection
            .request(&about("a"), within(5))
            .await
            .expect("an answer");
        let produced = network
            .state()
            .seen
            .iter()
            .filter(|(api, _)| *api == ApiKey::Produce)
            .count();
        assert_eq!(produced, 50);
    });
}

/// A stream that gives the bytes of a script and takes whatever is written.
struct Scripted(tokio::io::Join<std::io::Cursor<Vec<u8>>, tokio::io::Sink>);

impl tokio::io::AsyncRead for Scripted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl tokio::io::AsyncWrite for Scripted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

fn opened_with(script: &[u8]) -> ConnectionError {
    let network = Network::new();
    network.run(async {
        let script = std::io::Cursor::new(script.to_vec());
        let stream = Scripted(tokio::io::join(script, tokio::io::sink()));
        let opened = Connection::open(Box::new(stream), ConnectionOptions::default(), within(5));
        opened.await.expect_err("nonsense")
    })
}

#[test]
fn nonsense_from_the_peer_is_refused_before_memory_is_asked_for() {
    assert!(matches!(opened_with(b""), ConnectionError::Closed));
    assert!(matches!(
        opened_with(b"HTTP/1.1 400"),
        ConnectionError::AnswerSize { .. }
    ));
    let negative = opened_with(&[0xff; 64]);
    assert!(matches!(
        negative,
        ConnectionError::AnswerSize { bytes: -1, .. }
    ));
    let stranger = opened_with(&[0, 0, 0, 4, 0, 0, 0, 9]);
    assert!(matches!(
        stranger,
        ConnectionError::Correlation {
            given: 9,
            expected: Some(0)
        }
    ));
    let short = opened_with(&[0, 0, 0, 4, 0, 0, 0, 0]);
    assert!(matches!(short, ConnectionError::Decode { .. }));
}

#[test]
fn futures_can_move_between_threads() {
    fn check<T: Send>(_: T) {}
    fn all(connection: &Connection, request: &FetchRequest<'_>, deadline: Instant) {
        check(connection.request(request, deadline));
        check(connection.send_version(4, request, deadline));
    }
    let _ = all;
}
