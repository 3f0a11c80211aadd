//! Percentiles of many durations in little memory.
//!
//! Durations are counted in microseconds. Each power of two is cut into [`STEPS`] equal parts, and a
//! percentile is the upper end of its part: at most 1/[`STEPS`] too large, never too small.

use std::time::Duration;

const STEP_BITS: u32 = 5;
const STEPS: u64 = 1 << STEP_BITS;
/// Values below `STEPS` are exact; each further bit of 64 has `STEPS` parts.
const PARTS: usize = (64 - STEP_BITS as usize + 1) * STEPS as usize;

/// Durations, counted.
#[derive(Debug, Clone)]
pub(crate) struct Latencies {
    counts: Vec<u64>,
    count: u64,
    max: u64,
}

impl Latencies {
    pub(crate) fn new() -> Latencies {
        Latencies {
            counts: vec![0; PARTS],
            count: 0,
            max: 0,
        }
    }

    pub(crate) fn add(&mut self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        if let Some(count) = self.counts.get_mut(part(micros)) {
            *count += 1;
        }
        self.count += 1;
        self.max = self.max.max(micros);
    }

    pub(crate) fn merge(&mut self, other: &Latencies) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.count += other.count;
        self.max = self.max.max(other.max);
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn max(&self) -> Duration {
        Duration::from_micros(self.max)
    }

    /// The duration that `percent` of all do not exceed.
    pub(crate) fn percentile(&self, percent: u64) -> Duration {
        let rank = (self.count * percent).div_ceil(100).max(1);
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Duration::from_micros(end(index).min(self.max));
            }
        }
        self.max()
    }
}

/// The part that a value falls into.
fn part(value: u64) -> usize {
    let above = (u64::BITS - value.leading_zeros()).saturating_sub(STEP_BITS + 1);
    let step = value >> above;
    (u64::from(above) * STEPS + step) as usize
}

/// The largest value of a part.
fn end(part: usize) -> u64 {
    let part = part as u64;
    if part < 2 * STEPS {
        return part;
    }
    let above = part / STEPS - 1;
    let step = part - above * STEPS;
    (step << above) + ((1 << above) - 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(micros: &[u64]) -> Latencies {
        let mut latencies = Latencies::new();
        for value in micros {
            latencies.add(Duration::from_micros(*value));
        }
        latencies
    }

    #[test]
    fn small_values_are_exact() {
        let latencies = of(&(1..=50).collect::<Vec<u64>>());
        assert_eq!(latencies.percentile(50), Duration::from_micros(25));
        assert_eq!(latencies.percentile(100), Duration::from_micros(50));
        assert_eq!(latencies.count(), 50);
    }

    #[test]
    fn nothing_has_percentiles_of_zero() {
        assert_eq!(Latencies::new().percentile(99), Duration::ZERO);
    }

    #[test]
    fn what_is_merged_counts() {
        let mut first = of(&[1, 2]);
        first.merge(&of(&[3, 4_000_000]));
        assert_eq!((first.count(), first.max()), (4, Duration::from_secs(4)));
        assert_eq!(first.percentile(75), Duration::from_micros(3));
    }

    proptest! {
        #[test]
        fn every_value_lies_in_its_part(value in any::<u64>()) {
            let at = part(value);
            prop_assert!(at < PARTS);
            prop_assert!(value <= end(at));
            prop_assert!(at == 0 || value > end(at - 1));
        }

        #[test]
        fn percentiles_are_close_to_those_of_the_sorted_values(
            values in proptest::collection::vec(0u64..10_000_000, 1..200), percent in 1u64..=100
        ) {
            let found = of(&values).percentile(percent).as_micros() as u64;
            let mut sorted = values.clone();
            sorted.sort_unstable();
            let rank = (sorted.len() as u64 * percent).div_ceil(100).max(1) as usize;
            let exact = sorted[rank - 1];
            prop_assert!(found >= exact);
            prop_assert!(found - exact <= exact / STEPS, "{found} for {exact}");
        }
    }
}
