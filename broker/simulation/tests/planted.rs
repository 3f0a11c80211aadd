//! Bugs planted below the broker: the invariants must notice each of them within a few seeds, or
//! they would notice nothing.

#![expect(
    clippy::print_stdout,
    reason = "a test says which seed noticed the bug"
)]

use esker_simulation::{Options, Outcome, Planted, run};

/// Seeds that are tried before a bug counts as unnoticed.
const SEEDS_MAX: u64 = 30;

fn run_seed(seed: u64, planted: Planted) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime of one thread can be made");
    runtime.block_on(run(
        seed,
        Options {
            planted,
            ..Options::default()
        },
    ))
}

/// The first violation that names lost or changed records, or a log that is damaged.
fn first_loss(planted: Planted) -> Option<(u64, String)> {
    const LOSSES: [&str; 4] = [
        "was acknowledged or shown",
        "is not in the log",
        "cannot be ",
        "now it has",
    ];
    (1..=SEEDS_MAX).find_map(|seed| {
        let violations = run_seed(seed, planted).violations;
        let names_loss = |text: &String| LOSSES.iter().any(|loss| text.contains(loss));
        violations
            .into_iter()
            .find(names_loss)
            .map(|violation| (seed, violation))
    })
}

fn check(planted: Planted) {
    let Some((seed, violation)) = first_loss(planted) else {
        panic!("{planted:?} loses records, and {SEEDS_MAX} seeds never missed any");
    };
    println!("{planted:?}: seed {seed}, {violation}");
    // The bug is what was noticed, and nothing else.
    assert_eq!(
        run_seed(seed, Planted::Nothing).violations,
        Vec::<String>::new(),
        "seed {seed}"
    );
}

#[test]
fn a_missing_directory_sync_is_noticed() {
    check(Planted::ForgetsDirectories);
}

#[test]
fn an_acknowledgement_before_the_sync_is_noticed() {
    check(Planted::SyncsLate);
}

#[test]
fn syncs_that_lie_are_noticed() {
    check(Planted::SyncsLie);
}
