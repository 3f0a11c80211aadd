//! The subscribers of one topic, sorted by how many partitions they have, as if filled with water
//! from the left and drained from the right.
//!
//! ```text
//!                             high
//!   partitions                            left of the last `exhausted` members, which
//!        |   low            [      ]##    have more but nothing of this topic to give
//!        |  [        ]   ###[######]##
//!        |  [########]######[######]##
//!        +---------------------------->  members
//! ```
//!
//! The low stretch takes one partition for each of its members, from left to right; then its level
//! is one higher, and the members to its right that were there already join it. The high stretch
//! gives one for each of its members, from right to left, and grows to the left in the same way.
//! The topic is balanced when the levels are one apart, not when the stretches touch.

/// How many partitions each member of the group has, in the order of the members.
pub(super) type Sizes = [i64];

/// See the module. Members are their indexes in the group.
pub(super) struct Levels {
    members: Vec<usize>,
    /// The low stretch is `..low_end`.
    low_end: usize,
    /// What its members had when it was last entered from the left.
    low_level: i64,
    /// The next to take, within the low stretch or just past it.
    low_next: usize,
    /// The high stretch is `high_start..high_end`; right of it are the exhausted members.
    high_start: usize,
    high_end: usize,
    /// What its members had when it was last entered from the right.
    high_level: i64,
    /// One more than the next to give, or `high_start` when the stretch is through.
    high_next: usize,
}

impl Levels {
    /// The levels of a topic's subscribers, of whom there must be one.
    pub(super) fn new(subscribers: &[usize], sizes: &Sizes) -> Levels {
        let mut members = subscribers.to_vec();
        members.sort_by_key(|member| (sizes[*member], *member));
        let least = members.first().map_or(0, |member| sizes[*member]);
        let most = members.last().map_or(0, |member| sizes[*member]);
        let count = members.len();
        Levels {
            members,
            low_end: 0,
            low_level: least - 1,
            low_next: 0,
            high_start: count,
            high_end: count,
            high_level: most + 1,
            high_next: count,
        }
    }

    /// Whether giving and taking would not improve the balance any more.
    pub(super) fn balanced(&self) -> bool {
        self.high_level - self.low_level <= 1
    }

    /// The member that takes the next partition.
    pub(super) fn take(&mut self, sizes: &Sizes) -> usize {
        if self.low_next >= self.low_end {
            self.low_level += 1;
            while self.low_end < self.members.len()
                && sizes[self.members[self.low_end]] == self.low_level
            {
                self.low_end += 1;
            }
            self.low_next = 0;
        }
        self.low_next += 1;
        self.members[self.low_next - 1]
    }

    /// The member that gives the next partition. `None` when all are exhausted.
    pub(super) fn give(&mut self, sizes: &Sizes) -> Option<usize> {
        if self.high_next <= self.high_start {
            self.high_level = if self.high_end <= self.high_start && self.high_start > 0 {
                // All of the stretch were exhausted: it starts anew with the member to its left.
                sizes[self.members[self.high_start - 1]]
            } else {
                self.high_level - 1
            };
            while self.high_start > 0 && sizes[self.members[self.high_start - 1]] == self.high_level
            {
                self.high_start -= 1;
            }
            self.high_next = self.high_end;
        }
        self.high_next = self.high_next.checked_sub(1)?;
        Some(self.members[self.high_next])
    }

    /// The member that [`Levels::give`] named last has nothing of this topic to give.
    pub(super) fn exhausted(&mut self) {
        self.high_end -= 1;
        self.members.swap(self.high_next, self.high_end);
    }
}
