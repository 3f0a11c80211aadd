//! The assignment of a classic group's leader: Kafka's range, for members that all read one topic.

use std::ops::Range;

/// Consecutive shares for members in the order of their ids; the first ones get one more where it
/// does not divide.
pub(crate) fn assign<'a>(members: &[&'a str], partitions: i32) -> Vec<(&'a str, Range<i32>)> {
    let mut members = members.to_vec();
    members.sort_unstable();
    let count = i32::try_from(members.len()).unwrap_or(i32::MAX).max(1);
    let (share, more) = (partitions / count, partitions % count);
    let mut start = 0;
    let mut assigned = Vec::with_capacity(members.len());
    for (index, member) in (0..count).zip(members) {
        let end = start + share + i32::from(index < more);
        assigned.push((member, start..end));
        start = end;
    }
    assigned
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_members_get_what_does_not_divide() {
        let assigned = assign(&["c", "a", "b"], 5);
        assert_eq!(assigned, [("a", 0..2), ("b", 2..4), ("c", 4..5)]);
    }

    #[test]
    fn members_beyond_the_partitions_get_nothing() {
        assert_eq!(assign(&["b", "a"], 1), [("a", 0..1), ("b", 1..1)]);
        assert_eq!(assign(&[], 3), []);
    }

    proptest! {
        #[test]
        fn every_partition_has_one_owner_and_shares_differ_by_one(
            members in 1usize..50, partitions in 0i32..200
        ) {
            let names: Vec<String> = (0..members).map(|index| format!("m{index}")).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let assigned = assign(&names, partitions);
            let all: Vec<i32> = assigned.iter().flat_map(|(_, share)| share.clone()).collect();
            prop_assert_eq!(all, (0..partitions).collect::<Vec<_>>());
            let sizes: Vec<usize> = assigned.iter().map(|(_, share)| share.len()).collect();
            let most = sizes.iter().max().copied().unwrap_or(0);
            prop_assert!(sizes.iter().all(|size| most - size <= 1));
        }
    }
}
