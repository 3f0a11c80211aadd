//! `uniform`: members have equally many partitions, and keep what they have as far as that allows.

mod heterogeneous;
mod homogeneous;
mod levels;

use std::collections::BTreeMap;

use super::{AssignError, Assignment, PartitionCounts, Spec};

pub(super) fn assign<'a>(
    spec: &Spec<'a>,
    counts: &dyn PartitionCounts,
) -> Result<BTreeMap<&'a str, Assignment>, AssignError> {
    if spec.homogeneous {
        homogeneous::assign(spec, counts)
    } else {
        heterogeneous::assign(spec, counts)
    }
}
