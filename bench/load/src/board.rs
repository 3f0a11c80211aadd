//! What every member holds, and which groups have come to rest.
//!
//! A group is stable when all members that it should have are in one epoch (the classic protocol
//! says generation), later than the one before the last change, and every partition has one owner
//! among them, with shares that differ by one at most. The shares tell a target that counts all members
//! from an earlier one: a member that has just joined a consumer group is in the epoch of the others
//! before anything is assigned to it.

use std::collections::BTreeMap;

/// Which member is meant: the group's index and its own within the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) group: usize,
    pub(crate) member: usize,
}

/// What a member has been told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) member_id: String,
    pub(crate) epoch: i32,
    pub(crate) partitions: Vec<i32>,
}

/// All groups of a run.
#[derive(Debug)]
pub(crate) struct Board {
    partitions: i32,
    groups: Vec<Group>,
    stable: usize,
}

#[derive(Debug, Clone)]
struct Group {
    expected: usize,
    /// Only later epochs count.
    after: i32,
    members: BTreeMap<usize, Held>,
    is_stable: bool,
}

/// Before any epoch.
const NO_EPOCH: i32 = -1;

impl Board {
    /// Groups that should each have so many members, which read all partitions of one topic.
    pub(crate) fn new(groups: usize, members: usize, partitions: i32) -> Board {
        let group = Group {
            expected: members,
            after: NO_EPOCH,
            members: BTreeMap::new(),
            is_stable: false,
        };
        Board {
            partitions,
            groups: vec![group; groups],
            stable: 0,
        }
    }

    /// Notes what a member has been told.
    pub(crate) fn report(&mut self, place: Place, held: Held) {
        self.change(place.group, |group| {
            group.members.insert(place.member, held);
        });
    }

    /// A member goes; until the others have come to rest in a later epoch, its group is not stable.
    pub(crate) fn replace(&mut self, place: Place) {
        self.change(place.group, |group| {
            group.members.remove(&place.member);
            let epochs = group.members.values().map(|held| held.epoch);
            group.after = epochs.max().unwrap_or(group.after);
        });
    }

    /// Whether every group is stable.
    pub(crate) fn is_stable(&self) -> bool {
        self.stable == self.groups.len()
    }

    /// How many groups are stable.
    pub(crate) fn stable(&self) -> usize {
        self.stable
    }

    /// What the members of all groups hold.
    pub(crate) fn held(&self) -> impl Iterator<Item = (Place, &Held)> {
        let groups = self.groups.iter().enumerate();
        groups.flat_map(|(group, state)| {
            let members = state.members.iter();
            members.map(move |(member, held)| {
                let member = *member;
                (Place { group, member }, held)
            })
        })
    }

    fn change(&mut self, group: usize, change: impl FnOnce(&mut Group)) {
        let Some(group) = self.groups.get_mut(group) else {
            return;
        };
        let before = group.is_stable;
        change(group);
        group.is_stable = group.has_come_to_rest(self.partitions);
        self.stable = self.stable + usize::from(group.is_stable) - usize::from(before);
    }
}

impl Group {
    fn has_come_to_rest(&self, partitions: i32) -> bool {
        let mut members = self.members.values();
        let Some(first) = members.next() else {
            return false;
        };
        let owned: usize = self
            .members
            .values()
            .map(|held| held.partitions.len())
            .sum();
        let wanted = usize::try_from(partitions).unwrap_or(0);
        self.members.len() == self.expected
            && first.epoch > self.after
            && members.all(|held| held.epoch == first.epoch)
            && owned == wanted
            && self.is_balanced(wanted)
            && self.owns_each_once(wanted)
    }

    fn is_balanced(&self, partitions: usize) -> bool {
        let least = partitions / self.expected.max(1);
        let most = partitions.div_ceil(self.expected.max(1));
        self.members
            .values()
            .all(|held| (least..=most).contains(&held.partitions.len()))
    }

    fn owns_each_once(&self, partitions: usize) -> bool {
        let mut owned = vec![false; partitions];
        for partition in self.members.values().flat_map(|held| &held.partitions) {
            let slot = usize::try_from(*partition)
                .ok()
                .and_then(|at| owned.get_mut(at));
            match slot {
                Some(taken) if !*taken => *taken = true,
                _ => return false,
            }
        }
        owned.iter().all(|taken| *taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(epoch: i32, partitions: &[i32]) -> Held {
        Held {
            member_id: "m".to_owned(),
            epoch,
            partitions: partitions.to_vec(),
        }
    }

    fn at(group: usize, member: usize) -> Place {
        Place { group, member }
    }

    fn two_members() -> Board {
        let mut board = Board::new(1, 2, 3);
        board.report(at(0, 0), held(1, &[0, 2]));
        board.report(at(0, 1), held(1, &[1]));
        board
    }

    #[test]
    fn a_group_rests_when_all_are_in_one_epoch_and_every_partition_is_owned() {
        let mut board = Board::new(1, 2, 3);
        assert!(!board.is_stable());
        board.report(at(0, 0), held(1, &[0, 1, 2]));
        assert!(!board.is_stable(), "a member is missing");
        board.report(at(0, 1), held(2, &[]));
        assert!(!board.is_stable(), "epochs differ");
        board.report(at(0, 0), held(2, &[0, 1]));
        assert!(!board.is_stable(), "partition 2 has no owner");
        board.report(at(0, 1), held(2, &[2]));
        assert!(board.is_stable());
    }

    #[test]
    fn a_member_that_has_yet_to_get_its_share_is_no_rest() {
        let mut board = Board::new(1, 2, 3);
        board.report(at(0, 0), held(2, &[0, 1, 2]));
        board.report(at(0, 1), held(2, &[]));
        assert!(!board.is_stable());
    }

    #[test]
    fn a_partition_with_two_owners_is_no_rest() {
        let mut board = Board::new(1, 2, 3);
        board.report(at(0, 0), held(1, &[0, 1]));
        board.report(at(0, 1), held(1, &[1]));
        assert!(!board.is_stable());
        board.report(at(0, 1), held(1, &[7]));
        assert!(!board.is_stable(), "there is no partition 7");
    }

    #[test]
    fn after_a_change_only_a_later_epoch_is_rest() {
        let mut board = two_members();
        assert!(board.is_stable());
        board.replace(at(0, 1));
        assert!(!board.is_stable());
        board.report(at(0, 2), held(1, &[1]));
        assert!(!board.is_stable(), "that is the epoch before the change");
        board.report(at(0, 2), held(2, &[1]));
        board.report(at(0, 0), held(2, &[0, 2]));
        assert!(board.is_stable());
    }

    #[test]
    fn every_group_counts() {
        let mut board = Board::new(2, 1, 1);
        board.report(at(1, 0), held(5, &[0]));
        assert_eq!((board.stable(), board.is_stable()), (1, false));
        board.report(at(0, 0), held(1, &[0]));
        assert_eq!((board.stable(), board.is_stable()), (2, true));
        board.report(at(1, 0), held(6, &[]));
        assert_eq!((board.stable(), board.is_stable()), (1, false));
        let epochs: Vec<_> = board
            .held()
            .map(|(place, held)| (place.group, held.epoch))
            .collect();
        assert_eq!(epochs, [(0, 1), (1, 6)]);
    }
}
