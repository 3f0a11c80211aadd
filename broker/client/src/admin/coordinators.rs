//! Asking groups' coordinators: each group is looked after by one broker, which any broker names.
//!
//! Groups of one coordinator share a request. Those whose coordinator moved, is not there yet or is
//! still loading are asked about again, from the search on, until the deadline; whatever else an
//! answer says about a group is that group's outcome and fails no other.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use esker_protocol::messages::{FindCoordinatorRequest, find_coordinator_response};
use esker_protocol::primitive::Request;
use esker_protocol::{BrokerId, ErrorCode};
use tokio::time::Instant;

use crate::client::{Client, Link, Retry, Target};
use crate::endpoint::Endpoint;
use crate::error::{ClientError, check};

/// Groups that share one request.
pub(super) const GROUPS_PER_REQUEST_MAX: usize = 200;
/// The first version of FindCoordinator that looks for several groups.
const FIND_MANY_FROM: i16 = 4;
/// `FindCoordinatorRequest.KeyType` of groups.
const GROUP_KEY: i8 = 0;

/// The broker that looks after a group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Coordinator {
    /// Its id.
    pub broker: BrokerId,
    /// Where it listens.
    pub endpoint: Endpoint,
}

/// What became of each group.
pub type ByGroup<V> = BTreeMap<String, Result<V, ClientError>>;

/// A call about groups that only their coordinators answer. Repeating it is harmless.
pub(super) trait GroupCall: Sync {
    /// The request, which owns what it says.
    type Request: Request + Send + Sync + 'static;
    /// What is learnt about a group.
    type Value: Send;

    /// The version to call in, of those that the broker serves.
    fn version(&self, link: &Link) -> Result<i16, ClientError> {
        link.version_of::<Self::Request>(None)
    }

    /// How many groups a request of this version can ask about.
    fn groups_max(&self, _version: i16) -> usize {
        GROUPS_PER_REQUEST_MAX
    }

    /// The request about these groups.
    fn request(&self, groups: &[String], version: i16) -> Self::Request;

    /// What the answer says about each group.
    fn values(
        &self,
        answered: Answered<'_>,
        response: &<Self::Request as Request>::Response<'_>,
    ) -> Vec<(String, Result<Self::Value, ClientError>)>;

    /// What is done with a group, for errors.
    fn what(&self, group: &str) -> String;
}

/// Who answered what.
#[derive(Clone, Copy)]
pub(super) struct Answered<'a> {
    pub(super) coordinator: &'a Coordinator,
    pub(super) groups: &'a [String],
    pub(super) version: i16,
}

/// The groups that wait for their answers, and what is known.
struct Asking<'a, C: GroupCall> {
    call: &'a C,
    waiting: BTreeSet<String>,
    outcomes: ByGroup<C::Value>,
    /// The last reason to try again.
    last: Option<ClientError>,
}

impl<C: GroupCall> Asking<'_, C> {
    fn settle(&mut self, group: &str, outcome: Result<C::Value, ClientError>) {
        // An answer about a group that nobody asked about is nobody's.
        if !self.waiting.contains(group) {
            return;
        }
        match outcome {
            Err(error) if is_coordinators(&error) => self.last = Some(error),
            outcome => {
                self.waiting.remove(group);
                self.outcomes.insert(group.to_owned(), outcome);
            }
        }
    }

    fn settle_all(&mut self, groups: &[String], error: &ClientError) {
        for group in groups {
            self.settle(group, Err(error.clone()));
        }
    }
}

/// Whether an error says where or when to ask, rather than anything about the group.
fn is_coordinators(error: &ClientError) -> bool {
    match error {
        ClientError::Kafka { code, .. } => matches!(
            code,
            ErrorCode::CoordinatorLoadInProgress
                | ErrorCode::CoordinatorNotAvailable
                | ErrorCode::NotCoordinator
        ),
        error => error.is_retriable(),
    }
}

impl Client {
    /// Asks the coordinators of these groups; the outcome of each, with none left out.
    pub(super) async fn ask_coordinators<C: GroupCall>(
        &self,
        call: &C,
        groups: &[String],
        deadline: Instant,
    ) -> ByGroup<C::Value> {
        let mut asking = Asking {
            call,
            waiting: groups.iter().cloned().collect(),
            outcomes: BTreeMap::new(),
            last: None,
        };
        let mut retry = Retry::new(deadline);
        loop {
            self.ask_once(&mut asking, retry.attempts(), deadline).await;
            let Some(group) = asking.waiting.first() else {
                return asking.outcomes;
            };
            let what = call.what(group);
            let last = asking.last.take().unwrap_or_else(|| missing(&what));
            if let Err(error) = retry.pause(|| what, last).await {
                let waiting: Vec<String> =
                    std::mem::take(&mut asking.waiting).into_iter().collect();
                for group in waiting {
                    asking.outcomes.insert(group, Err(error.clone()));
                }
                return asking.outcomes;
            }
        }
    }

    async fn ask_once<C: GroupCall>(
        &self,
        asking: &mut Asking<'_, C>,
        attempt: usize,
        deadline: Instant,
    ) {
        let wanted: Vec<String> = asking.waiting.iter().cloned().collect();
        let mut by_coordinator: BTreeMap<Coordinator, Vec<String>> = BTreeMap::new();
        for groups in wanted.chunks(GROUPS_PER_REQUEST_MAX) {
            match self.find_coordinators(groups, attempt, deadline).await {
                Ok(found) => {
                    for (group, outcome) in found {
                        match outcome {
                            Ok(coordinator) => {
                                by_coordinator.entry(coordinator).or_default().push(group);
                            }
                            Err(error) => asking.settle(&group, Err(error)),
                        }
                    }
                }
                Err(error) => asking.settle_all(groups, &error),
            }
        }
        for (coordinator, groups) in by_coordinator {
            self.ask_one(asking, &coordinator, &groups, deadline).await;
        }
    }

    async fn ask_one<C: GroupCall>(
        &self,
        asking: &mut Asking<'_, C>,
        coordinator: &Coordinator,
        groups: &[String],
        deadline: Instant,
    ) {
        let linked = async {
            let link = self.connect(coordinator.endpoint.clone(), deadline).await?;
            let version = asking.call.version(&link)?;
            Ok((link, version))
        };
        let (link, version) = match linked.await {
            Ok(linked) => linked,
            Err(error) => return asking.settle_all(groups, &error),
        };
        for groups in groups.chunks(asking.call.groups_max(version).max(1)) {
            let request = asking.call.request(groups, version);
            let answered = Answered {
                coordinator,
                groups,
                version,
            };
            let called = link.call(version, &request, Duration::ZERO, deadline).await;
            let values = called.and_then(|answer| {
                let response = answer.body().map_err(|source| link.error(source))?;
                Ok(asking.call.values(answered, &response))
            });
            match values {
                Ok(values) => {
                    let named: BTreeSet<String> =
                        values.iter().map(|(group, _)| group.clone()).collect();
                    for (group, outcome) in values {
                        asking.settle(&group, outcome);
                    }
                    for group in groups.iter().filter(|group| !named.contains(*group)) {
                        let error = missing(&asking.call.what(group));
                        asking.settle(group, Err(error));
                    }
                }
                Err(error) => asking.settle_all(groups, &error),
            }
        }
    }

    /// The coordinators of groups, as one broker knows them; one try.
    async fn find_coordinators(
        &self,
        groups: &[String],
        attempt: usize,
        deadline: Instant,
    ) -> Result<Vec<(String, Result<Coordinator, ClientError>)>, ClientError> {
        let link = self.link(Target::Any, attempt, deadline).await?;
        let version = link.version_of::<FindCoordinatorRequest<'_>>(None)?;
        let mut found = Vec::with_capacity(groups.len());
        if version >= FIND_MANY_FROM {
            let request = FindCoordinatorRequest {
                key_type: GROUP_KEY,
                coordinator_keys: groups.iter().map(|group| group.as_str().into()).collect(),
                ..FindCoordinatorRequest::default()
            };
            let answer = link
                .call(version, &request, Duration::ZERO, deadline)
                .await?;
            let response = answer.body().map_err(|source| link.error(source))?;
            for group in groups {
                let answered = response.coordinators.iter().find(|one| one.key == **group);
                let outcome = match answered {
                    Some(answered) => coordinator(group, answered),
                    None => Err(missing(&finding(group))),
                };
                found.push((group.clone(), outcome));
            }
            return Ok(found);
        }
        for group in groups {
            let request = FindCoordinatorRequest {
                key: group.as_str().into(),
                key_type: GROUP_KEY,
                ..FindCoordinatorRequest::default()
            };
            let answer = link
                .call(version, &request, Duration::ZERO, deadline)
                .await?;
            let response = answer.body().map_err(|source| link.error(source))?;
            let answered = find_coordinator_response::Coordinator {
                key: group.as_str().into(),
                node_id: response.node_id,
                host: response.host,
                port: response.port,
                error_code: response.error_code,
                error_message: response.error_message,
            };
            found.push((group.clone(), coordinator(group, &answered)));
        }
        Ok(found)
    }
}

fn finding(group: &str) -> String {
    format!("looking for the coordinator of group {group}")
}

fn coordinator(
    group: &str,
    answered: &find_coordinator_response::Coordinator<'_>,
) -> Result<Coordinator, ClientError> {
    let message = answered.error_message.as_deref();
    let message = message.filter(|message| !message.is_empty());
    check(answered.error_code, message, || finding(group))?;
    let port = u16::try_from(answered.port).map_err(|_| ClientError::Nonsense {
        what: finding(group),
        reason: format!("{} is no port", answered.port),
    })?;
    Ok(Coordinator {
        broker: BrokerId(answered.node_id),
        endpoint: Endpoint {
            host: answered.host.to_string(),
            port,
        },
    })
}

pub(super) fn missing(what: &str) -> ClientError {
    ClientError::Nonsense {
        what: what.to_owned(),
        reason: "the group is missing".to_owned(),
    }
}
