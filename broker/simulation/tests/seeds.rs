//! Seeds, run one after the other: no invariant is broken, everything happens, runs repeat.
//!
//! `SIM_SEEDS=200` runs so many, `SIM_FIRST=1000` beginning with that one, `SIM_SEED=17` runs one and prints what happens.

#![expect(
    clippy::print_stderr,
    reason = "a failing seed says how to run it again"
)]

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

#[test]
fn seeds_hold_the_invariants_and_meet_everything() {
    let count = variable("SIM_SEEDS").unwrap_or(20);
    let mut total = Summary::default();
    let mut failed = Vec::new();
    let first = variable("SIM_FIRST").unwrap_or(1);
    for seed in first..first + count {
        let outcome = run_seed(seed, Options::default());
        if let Some(report) = report(seed, &outcome) {
            eprintln!("{report}\n");
            failed.push(seed);
        }
        let summary = outcome.summary;
        total.acknowledged += summary.acknowledged;
        total.read += summary.read;
        total.crashes += summary.crashes;
        total.stops += summary.stops;
        total.starts_killed += summary.starts_killed;
        total.objects += summary.objects;
        total.read_cold += summary.read_cold;
        total.milliseconds += summary.milliseconds;
    }
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
        && total.stops > 0;
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
