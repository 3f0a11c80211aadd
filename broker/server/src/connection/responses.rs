//! The memory of responses that are built and not yet written.
//!
//! A response that may be large reserves room before it reads, gives back what it did not need, and
//! holds the rest until its last byte has left. Whoever reserves holds no other room, and room that
//! is held waits for nothing but the peer, so that a wait for room always ends.
//!
//! While room gets scarce a response gets less of it instead of waiting: half of what is free, at
//! least what it cannot do without. A few slow readers therefore never take all of it.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::PERMIT_BYTES;

/// What is sent as the answer to one request.
pub struct Response {
    chunks: Vec<Bytes>,
    /// Given back once the response is written.
    room: Option<Room>,
}

impl Response {
    /// A response that lies in room reserved for it.
    #[must_use]
    pub fn within(room: Option<Room>, chunks: Vec<Bytes>) -> Response {
        Response { chunks, room }
    }

    pub(super) fn bytes(&self) -> usize {
        self.chunks.iter().map(Bytes::len).sum()
    }

    pub(super) fn into_parts(self) -> (Vec<Bytes>, Option<Room>) {
        (self.chunks, self.room)
    }
}

/// A small response needs no room.
impl From<Vec<Bytes>> for Response {
    fn from(chunks: Vec<Bytes>) -> Response {
        Response::within(None, chunks)
    }
}

/// The memory that all responses share.
pub struct ResponseBudget {
    permits: Arc<Semaphore>,
    permits_max: u32,
}

impl ResponseBudget {
    /// A budget of `bytes`.
    #[must_use]
    pub fn new(bytes: usize) -> ResponseBudget {
        let permits = bytes.div_ceil(PERMIT_BYTES).min(Semaphore::MAX_PERMITS);
        let permits_max = u32::try_from(permits).unwrap_or(u32::MAX).max(1);
        ResponseBudget {
            permits: Arc::new(Semaphore::new(permits_max as usize)),
            permits_max,
        }
    }

    /// Reserves at most `most` bytes, half of what is free where that is less, and `least` in any
    /// case: it is waited for, in the order of asking. More than the whole budget is charged as the
    /// whole budget. Cancel-safe: who gives up has reserved nothing.
    pub async fn reserve(&self, least: usize, most: usize) -> Room {
        let least = self.permits_for(least);
        let half = self.permits.available_permits() / 2;
        let share = u32::try_from(half).unwrap_or(u32::MAX).max(least);
        let wanted = self.permits_for(most).max(least).min(share);
        let now = Arc::clone(&self.permits).try_acquire_many_owned(wanted);
        let permit = match now {
            Ok(permit) => Some(permit),
            // Nothing closes the semaphore.
            Err(_) => Arc::clone(&self.permits)
                .acquire_many_owned(least)
                .await
                .ok(),
        };
        Room(permit)
    }

    /// The most that a response should wait for, in bytes: so many can wait side by side.
    #[must_use]
    pub fn share(&self) -> usize {
        const SHARES: usize = 8;
        (self.permits_max as usize * PERMIT_BYTES / SHARES).max(1)
    }

    fn permits_for(&self, bytes: usize) -> u32 {
        let permits = u32::try_from(bytes.div_ceil(PERMIT_BYTES)).unwrap_or(u32::MAX);
        permits.clamp(1, self.permits_max)
    }
}

/// Room that one response holds; dropping it gives it back.
pub struct Room(Option<OwnedSemaphorePermit>);

impl Room {
    /// How much it is.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let permits = self.0.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        permits * PERMIT_BYTES
    }

    /// Gives back all but `bytes`.
    pub fn shrink_to(&mut self, bytes: usize) {
        if let Some(permit) = &mut self.0 {
            let surplus = permit
                .num_permits()
                .saturating_sub(bytes.div_ceil(PERMIT_BYTES));
            drop(permit.split(surplus));
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::poll;

    use super::*;

    const MIB: usize = 1 << 20;

    #[tokio::test]
    async fn scarce_room_is_shared_instead_of_waited_for() {
        let budget = ResponseBudget::new(64 * MIB);
        let mut held = Vec::new();
        for expected in [32, 16, 8, 4, 2, 1, 1] {
            let room = budget.reserve(MIB, 57 * MIB).await;
            assert_eq!(room.bytes(), expected * MIB);
            held.push(room);
        }
        let mut next = std::pin::pin!(budget.reserve(MIB, 57 * MIB));
        assert!(poll!(next.as_mut()).is_pending());
        held.truncate(6);
        assert_eq!(next.await.bytes(), MIB);
    }

    #[tokio::test]
    async fn what_is_not_needed_is_given_back() {
        let budget = ResponseBudget::new(4 * MIB);
        let mut first = budget.reserve(4 * MIB, 4 * MIB).await;
        first.shrink_to(MIB + 1);
        assert_eq!(first.bytes(), MIB + PERMIT_BYTES);
        let second = budget.reserve(2 * MIB, 2 * MIB).await;
        assert_eq!(second.bytes(), 2 * MIB);
    }

    #[tokio::test]
    async fn more_than_the_whole_budget_waits_for_all_of_it_and_is_served() {
        let budget = ResponseBudget::new(MIB);
        let small = budget.reserve(1, 1).await;
        let mut large = std::pin::pin!(budget.reserve(100 * MIB, 100 * MIB));
        assert!(poll!(large.as_mut()).is_pending());
        drop(small);
        assert_eq!(large.await.bytes(), MIB);
    }

    #[tokio::test]
    async fn who_gives_up_waiting_holds_nothing() {
        let budget = ResponseBudget::new(MIB);
        let small = budget.reserve(1, 1).await;
        {
            let mut large = std::pin::pin!(budget.reserve(MIB, MIB));
            assert!(poll!(large.as_mut()).is_pending());
        }
        drop(small);
        assert_eq!(budget.permits.available_permits(), MIB / PERMIT_BYTES);
    }
}
