//! The broker and the topic of a run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use esker_client::{Client, ClientOptions, Endpoint, NewTopic, TcpConnect};
use esker_protocol::messages::FindCoordinatorRequest;
use esker_protocol::{BrokerId, TopicId};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::time::{Instant, sleep};

use crate::arguments::Arguments;
use crate::call::{Counts, Failure, Link};

/// How long preparations may take.
const PREPARE_MAX: Duration = Duration::from_secs(120);
/// Between looks at whether the topic is there.
const PAUSE: Duration = Duration::from_millis(100);
/// Fewer than a broker's backlog of connections that it has not accepted.
const CONNECTING_MAX: usize = 32;

/// Whom a run talks to, and about what.
pub(crate) struct Target {
    pub(crate) broker: Endpoint,
    pub(crate) name: String,
    pub(crate) counts: Arc<Counts>,
    partitions: i32,
}

/// The topic of a run.
#[derive(Debug, Clone)]
pub(crate) struct Topic {
    pub(crate) name: String,
    pub(crate) id: TopicId,
    pub(crate) partitions: i32,
    pub(crate) leader: BrokerId,
}

impl Target {
    pub(crate) fn new(arguments: &Arguments) -> Target {
        let name = arguments.name.as_deref();
        Target {
            broker: arguments.bootstrap.clone(),
            name: name.unwrap_or(arguments.scenario.name()).to_owned(),
            counts: Arc::default(),
            partitions: arguments.scenario.partitions(),
        }
    }

    /// A client with a connection of its own.
    pub(crate) fn client(&self) -> Client {
        let options = ClientOptions::new(vec![self.broker.clone()]);
        Client::new(options, Arc::new(TcpConnect))
    }

    /// Makes the topic, which must not exist, and waits until its partitions have a leader.
    pub(crate) async fn make_topic(&self, settings: &[(&str, String)]) -> Result<Topic, Failure> {
        let deadline = Instant::now() + PREPARE_MAX;
        let client = self.client();
        let settings = settings.iter();
        let settings = settings.map(|(key, value)| ((*key).to_owned(), value.clone()));
        let topic = NewTopic {
            partitions: Some(self.partitions),
            replication_factor: Some(1),
            settings: settings.collect::<BTreeMap<_, _>>(),
            ..NewTopic::new(&self.name)
        };
        for (_, outcome) in client.create_topics(&[topic], false, deadline).await? {
            outcome?;
        }
        while Instant::now() < deadline {
            let metadata = client.metadata(Some(&[&self.name]), deadline).await?;
            if let Some(found) = metadata.topics.get(&self.name) {
                let leaders = found
                    .partitions
                    .values()
                    .filter_map(|partition| partition.leader);
                let leaders: Vec<BrokerId> = leaders.collect();
                if let Some(leader) = leaders.first()
                    && i32::try_from(leaders.len()).is_ok_and(|count| count == self.partitions)
                {
                    return Ok(Topic {
                        name: self.name.clone(),
                        id: found.id,
                        partitions: self.partitions,
                        leader: *leader,
                    });
                }
            }
            sleep(PAUSE).await;
        }
        Err(Failure::Unexpected("the topic has no leaders".to_owned()))
    }

    /// Opens connections.
    pub(crate) async fn links(&self, count: usize) -> Result<Vec<Arc<Link>>, Failure> {
        let opening = (0..count).map(|_| Link::open(&self.broker, &self.counts));
        let opened = stream::iter(opening).buffered(CONNECTING_MAX);
        opened.map_ok(Arc::new).try_collect().await
    }

    /// Waits until a coordinator can be found, which makes the topic that offsets are kept in.
    pub(crate) async fn find_coordinator(&self, link: &Link) -> Result<(), Failure> {
        let request = FindCoordinatorRequest {
            coordinator_keys: vec![self.name.as_str().into()],
            ..FindCoordinatorRequest::default()
        };
        let found = link.call(None, &request, |answer| {
            let codes = answer.coordinators.iter().map(|found| found.error_code);
            let refused = codes.into_iter().find(|code| *code != 0);
            (refused.unwrap_or(answer.error_code), ())
        });
        found.await
    }
}
