//! Seeds, run side by side on all cores: no invariant is broken, everything happens, runs repeat.
//!
//! Each seed has its own runtime and world, so that what comes of it does not depend on the others.
//! `SIM_SEEDS=200` runs so many, `SIM_FIRST=1000` beginning with that one, `SIM_SEED=17` runs one and prints what happens.

#![expect(
    clippy::print_stderr,
    reason = "a failing seed says how to run it again"
)]

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use esker_simulation::{Options, Outcome, Summary, run};

fn run_seed(seed: u64, options: Options) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime of one thread can be made");
    // A panic of the product names no seed by itself.
    let named = Named(seed);
    let outcome = runtime.block_on(run(seed, options));
    std::mem::forget(named);
    outcome
}

struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        eprintln!("seed {} panicked; run it alone: {}", self.0, rerun(self.0));
    }
}

fn rerun(seed: u64) -> String {
    format!("SIM_SEED={seed} cargo test -p esker-simulation --test seeds one_seed -- --nocapture")
}

#[expect(
    clippy::disallowed_methods,
    reason = "the number of seeds is the caller's choice"
)]
fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// What is wrong with a seed's run, with the end of its trace and the way to see it again.
fn report(seed: u64, outcome: &Outcome) -> Option<String> {
    if outcome.violations.is_empty() {
        return None;
    }
    let last: Vec<&str> = outcome
        .lines
        .iter()
        .rev()
        .take(25)
        .rev()
        .map(String::as_str)
        .collect();
    Some(format!(
        "seed {seed} breaks an invariant:\n  {}\nthe end of its trace:\n  {}\nrun it again: {}",
        outcome.violations.join("\n  "),
        last.join("\n  "),
        rerun(seed)
    ))
}

/// What came of many seeds.
#[derive(Default)]
struct Total {
    summary: Summary,
    failed: Vec<u64>,
}

/// Runs seeds on every core. A seed that breaks an invariant is reported at once, in one piece.
fn run_seeds(first: u64, count: u64) -> Total {
    let next = AtomicU64::new(first);
    let total = Mutex::new(Total::default());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count {
                return;
            }
            let outcome = run_seed(seed, Options::default());
            let report = report(seed, &outcome);
            let mut total = total.lock().expect("no thread panics while it adds");
            total.summary.add(&outcome.summary);
            if let Some(report) = report {
                eprintln!("{report}\n");
                total.failed.push(seed);
            }
        }
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(work);
        }
    });
    let mut total = total.into_inner().expect("no thread panicked");
    total.failed.sort_unstable();
    total
}

#[test]
fn seeds_hold_the_invariants_and_meet_everything() {
    let count = variable("SIM_SEEDS").unwrap_or(20);
    let first = variable("SIM_FIRST").unwrap_or(1);
    let Total {
        summary: total,
        failed,
    } = run_seeds(first, count);
    println!("{count} seeds: {total:?}");
    assert!(
        failed.is_empty(),
        "seeds {failed:?} break invariants, see above"
    );
    let each_happened = total.acknowledged > 0
        && total.crashes > 0
        && total.objects > 0
        && total.read_cold > 0
        && total.starts_killed > 0
        && total.stops > 0
        && total.commits > 0
        && total.owned > 0
        && total.compacted > 0;
    assert!(
        each_happened || count < 20,
        "the scenario misses something: {total:?}"
    );
}

#[test]
fn a_seed_repeats_itself_event_for_event() {
    for seed in [3, 1009] {
        let first = run_seed(seed, Options::default());
        let second = run_seed(seed, Options::default());
        let difference = first
            .lines
            .iter()
            .zip(&second.lines)
            .position(|(one, other)| one != other);
        if let Some(at) = difference {
            panic!(
                "seed {seed} differs:\n{}\n{}",
                first.lines[at], second.lines[at]
            );
        }
        assert_eq!(first.lines.len(), second.lines.len(), "seed {seed}");
        assert_eq!(first.hash, second.hash, "seed {seed}");
        assert_eq!(first.summary, second.summary, "seed {seed}");
        assert!(first.lines.len() > 1000, "seed {seed} does next to nothing");
    }
    let one = run_seed(3, Options::default()).hash;
    let other = run_seed(4, Options::default()).hash;
    assert_ne!(one, other, "seeds make no difference");
}

/// The way to run one seed by hand.
#[test]
fn one_seed() {
    let Some(seed) = variable("SIM_SEED") else {
        return;
    };
    let outcome = run_seed(
        seed,
        Options {
            prints: true,
            ..Options::default()
        },
    );
    println!("{:?}", outcome.summary);
    assert_eq!(report(seed, &outcome), None);
}
