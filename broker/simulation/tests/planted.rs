//! Bugs planted below the broker: the invariants must notice each of them within a few seeds, or
//! they would notice nothing.

#![expect(
    clippy::print_stdout,
    reason = "a test says which seed noticed the bug"
)]

use esker_simulation::{Load, Options, Outcome, Planted, run};

/// Seeds that are tried before a bug counts as unnoticed.
const SEEDS_MAX: u64 = 30;

fn run_seed(seed: u64, planted: Planted, load: Load) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime of one thread can be made");
    runtime.block_on(run(
        seed,
        Options {
            planted,
            load,
            ..Options::default()
        },
    ))
}

/// The words in which the loss of records is told.
const RECORDS: [&str; 4] = [
    "was acknowledged or shown",
    "is not in the log",
    "cannot be ",
    "now it has",
];

/// The words in which the loss of commits is told.
const COMMITS: [&str; 1] = ["was acknowledged or seen, and now it is"];

/// The words in which the loss of what was compacted is told.
const COMPACTED: [&str; 3] = [
    "compacted: the last record of key",
    "compacted: cannot be read",
    "compacted: the log ends at",
];

/// The first violation that names a loss.
fn first_loss(planted: Planted, load: Load, losses: &[&str]) -> Option<(u64, String)> {
    (1..=SEEDS_MAX).find_map(|seed| {
        let violations = run_seed(seed, planted, load).violations;
        let names_loss = |text: &String| losses.iter().any(|loss| text.contains(loss));
        violations
            .into_iter()
            .find(names_loss)
            .map(|violation| (seed, violation))
    })
}

fn check(planted: Planted, load: Load, losses: &[&str]) {
    let Some((seed, violation)) = first_loss(planted, load, losses) else {
        panic!("{planted:?} loses something, and {SEEDS_MAX} seeds never missed any");
    };
    println!("{planted:?}: seed {seed}, {violation}");
    // The bug is what was noticed, and nothing else.
    assert_eq!(
        run_seed(seed, Planted::Nothing, load).violations,
        Vec::<String>::new(),
        "seed {seed}"
    );
}

#[test]
fn a_missing_directory_sync_is_noticed() {
    check(Planted::ForgetsDirectories, Load::All, &RECORDS);
}

#[test]
fn an_acknowledgement_before_the_sync_is_noticed() {
    check(Planted::SyncsLate, Load::All, &RECORDS);
}

#[test]
fn syncs_that_lie_are_noticed() {
    check(Planted::SyncsLie, Load::All, &RECORDS);
}

#[test]
fn a_commit_acknowledged_before_the_sync_is_noticed() {
    check(Planted::JournalLate, Load::Groups, &COMMITS);
}

#[test]
fn a_swap_of_an_unsynced_segment_is_noticed() {
    check(Planted::SwapsUnsynced, Load::Compacted, &COMPACTED);
}
