//! The members of a run: tasks that live until they are told to leave, and the board that they
//! report to.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::arguments::Protocol;
use crate::board::{Board, Held, Place};
use crate::call::{Counts, Failure, Link};
use crate::target::Topic;
use crate::{classic, consumer};

/// A run fails when its groups have not come to rest within this.
const STABLE_MAX: Duration = Duration::from_secs(300);
const LEAVE_MAX: Duration = Duration::from_secs(120);

/// What members share.
pub(crate) struct Shared {
    pub(crate) protocol: Protocol,
    pub(crate) topic: Topic,
    pub(crate) counts: Arc<Counts>,
    board: Mutex<Board>,
    changed: Notify,
}

impl Shared {
    pub(crate) fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One member of one group.
pub(crate) struct Member {
    pub(crate) link: Arc<Link>,
    pub(crate) group: String,
    pub(crate) place: Place,
    pub(crate) shared: Arc<Shared>,
    pub(crate) leave: CancellationToken,
}

impl Member {
    /// Says what it has been told.
    pub(crate) fn report(&self, member_id: &str, epoch: i32, partitions: &[i32]) {
        let held = Held {
            member_id: member_id.to_owned(),
            epoch,
            partitions: partitions.to_vec(),
        };
        self.shared.board().report(self.place, held);
        self.shared.changed.notify_one();
    }

    async fn live(self) -> Result<(), Failure> {
        match self.shared.protocol {
            Protocol::Classic => classic::live(&self).await,
            Protocol::Consumer => consumer::live(&self).await,
        }
    }
}

/// All members of a run.
pub(crate) struct Crew {
    shared: Arc<Shared>,
    tasks: JoinSet<Result<(), Failure>>,
    leave: CancellationToken,
}

impl Crew {
    pub(crate) fn new(protocol: Protocol, topic: Topic, counts: Arc<Counts>, board: Board) -> Crew {
        let shared = Shared {
            protocol,
            topic,
            counts,
            board: Mutex::new(board),
            changed: Notify::new(),
        };
        Crew {
            shared: Arc::new(shared),
            tasks: JoinSet::new(),
            leave: CancellationToken::new(),
        }
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// A member begins; the token tells it alone to leave.
    pub(crate) fn add(
        &mut self,
        link: Arc<Link>,
        group: String,
        place: Place,
    ) -> CancellationToken {
        let leave = self.leave.child_token();
        let member = Member {
            link,
            group,
            place,
            shared: Arc::clone(&self.shared),
            leave: leave.clone(),
        };
        self.tasks.spawn(member.live());
        leave
    }

    /// Waits until every group has come to rest.
    pub(crate) async fn come_to_rest(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + STABLE_MAX;
        while !self.shared.board().is_stable() {
            tokio::select! {
                // Both are cancel-safe.
                () = self.shared.changed.notified() => {}
                Some(ended) = self.tasks.join_next() => outcome(ended)?,
                () = sleep_until(deadline) => {
                    let stable = self.shared.board().stable();
                    let line = format!("{stable} groups are stable after {STABLE_MAX:?}");
                    return Err(Failure::Unexpected(line));
                }
            }
        }
        Ok(())
    }

    /// Lets time pass; a member that fails ends the run, and so does a group that loses its rest.
    pub(crate) async fn hold(&mut self, time: Duration) -> Result<(), Failure> {
        let until = Instant::now() + time;
        loop {
            tokio::select! {
                Some(ended) = self.tasks.join_next() => outcome(ended)?,
                () = sleep_until(until) => break,
            }
        }
        if self.shared.board().is_stable() {
            return Ok(());
        }
        let line = "a group was rebalanced although nobody came or went";
        Err(Failure::Unexpected(line.to_owned()))
    }

    /// Tells all to leave, and waits until they have.
    pub(crate) async fn disband(mut self) -> Result<(), Failure> {
        self.leave.cancel();
        let all = async {
            while let Some(ended) = self.tasks.join_next().await {
                outcome(ended)?;
            }
            Ok(())
        };
        let late = |_| Failure::Unexpected(format!("members had not left after {LEAVE_MAX:?}"));
        timeout_at(Instant::now() + LEAVE_MAX, all)
            .await
            .map_err(late)?
    }
}

fn outcome(ended: Result<Result<(), Failure>, JoinError>) -> Result<(), Failure> {
    ended.map_err(|error| Failure::Unexpected(format!("a member ended: {error}")))?
}
