//! Random operations, crashes and faults against a plain model of the log.

#![expect(clippy::unwrap_used, reason = "a test fails where its set-up does")]

#[expect(
    unreachable_pub,
    reason = "one module tree serves several test binaries"
)]
mod support;

use esker_storage::CommitMode;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use support::driver::{Driver, Op, Planted, op};

/// Cases of a quick run; `FULL=1` runs many more.
const CASES: u32 = 96;
const CASES_FULL: u32 = 5000;
/// Cases in which a planted bug must show at least once.
const CASES_PLANTED: u32 = 60;

#[expect(
    clippy::disallowed_methods,
    reason = "a test's length is chosen by its caller"
)]
fn cases() -> u32 {
    if std::env::var("FULL").is_ok_and(|full| full == "1") {
        CASES_FULL
    } else {
        CASES
    }
}

/// Another seed by `SEED`, for long runs.
#[expect(
    clippy::disallowed_methods,
    reason = "a test's seed is chosen by its caller"
)]
fn seed() -> u64 {
    std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(20_260_101)
}

fn run(planted: Planted, commit: CommitMode, ops: &[Op]) -> Result<(), String> {
    Driver::new(planted, commit)?.run(ops)
}

#[test]
fn the_log_agrees_with_its_model_through_crashes_and_faults() {
    let config = Config {
        cases: cases(),
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(seed()),
        max_shrink_iters: 2000,
        ..Config::default()
    };
    let commit = prop_oneof![
        1 => Just(CommitMode::SyncFs),
        1 => Just(CommitMode::FileByFile),
        2 => Just(CommitMode::Journal),
    ];
    let strategy = (commit, prop::collection::vec(op(), 1..120));
    TestRunner::new(config)
        .run(&strategy, |(commit, ops)| {
            run(Planted::Nothing, commit, &ops).map_err(TestCaseError::fail)
        })
        .unwrap();
}

/// Whether the comparison notices a bug in random operations, whichever way rounds sync.
fn is_caught(planted: Planted) -> bool {
    let caught =
        [CommitMode::FileByFile, CommitMode::Journal].map(|commit| is_caught_by(planted, commit));
    assert_eq!(caught[0], caught[1], "file by file, with a journal");
    caught[0]
}

fn is_caught_by(planted: Planted, commit: CommitMode) -> bool {
    let config = Config {
        rng_seed: RngSeed::Fixed(7),
        ..Config::default()
    };
    let mut runner = TestRunner::new(config);
    let strategy = prop::collection::vec(op(), 60..120);
    (0..CASES_PLANTED).any(|_| {
        let ops = strategy.new_tree(&mut runner).unwrap().current();
        run(planted, commit, &ops).is_err()
    })
}

#[test]
fn nothing_is_caught_where_nothing_is_planted() {
    assert!(!is_caught(Planted::Nothing));
}

#[test]
fn an_acknowledgement_before_the_sync_is_caught() {
    assert!(is_caught(Planted::AcknowledgesBeforeTheSync));
}

#[test]
fn a_missing_directory_sync_is_caught() {
    assert!(is_caught(Planted::ForgetsDirectories));
}

#[test]
fn a_lying_disk_loses_acknowledged_batches() {
    assert!(is_caught(Planted::SyncsLie));
}
