use std::time::Duration;

use esker_protocol::{LeaderEpoch, Offset, Timestamp};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use tokio::time::{Instant, timeout};

use super::*;
use crate::fault::{Fault, Operation, Rule};
use crate::pointer::{BatchBefore, advance_log_start};
use crate::read::ReadConfig;
use crate::testing::{
    BatchPlan, EPOCH, Segment, Tier, listed, partition, random, segment, segments,
};

const SMALL_PARTS: UploadConfig = UploadConfig {
    object_bytes_max: 64 << 20,
    part_bytes: 2 << 20,
    verification: Verification::ReadBack,
};

/// A segment of several MiB that does not compress.
fn noise(base: Offset, batches: usize) -> Segment {
    let plan = |n| BatchPlan {
        records: 1,
        value_bytes: 500_000,
        timestamp: n as i64,
        epoch: EPOCH,
        noise: true,
    };
    let plans: Vec<_> = (0..batches).map(plan).collect();
    segment(base, &plans, &random(17))
}

async fn try_upload(tier: &Tier, segments: &[Segment], epoch: i32) -> Result<Commit, UploadError> {
    let sources = segments.iter().map(Segment::source).collect();
    let epoch = LeaderEpoch(epoch);
    tier.uploader
        .upload(Request {
            partition: &partition(),
            epoch,
            sources,
            previous: &tier.pointer,
            previous_manifest: None,
            now: Timestamp(1),
            progress: &Progress::default(),
        })
        .await
}

#[tokio::test(start_paused = true)]
async fn a_commit_says_what_it_adds() {
    let mut tier = Tier::plain();
    let made = segments(Offset::ZERO, 3, 10);
    let commit = tier.offload(&made).await;
    assert_eq!(commit.pointer.version, 1);
    assert_eq!(
        (commit.pointer.tier_end, commit.pointer.tier_end_epoch),
        (Offset(90), EPOCH)
    );
    assert_eq!(commit.pointer.local_floor, Offset(90));
    assert_eq!(commit.pointer.log_start, Offset(0));
    let bytes: usize = made.iter().map(|segment| segment.bytes.len()).sum();
    assert_eq!(commit.segment_bytes, bytes as u64);
    assert_eq!(commit.objects.len(), 1);
    let paths: Vec<_> = commit.paths().iter().map(Path::to_string).collect();
    let mut names = listed(&tier.inner).await;
    names.sort();
    let mut expected = paths;
    expected.sort();
    assert_eq!(names, expected);
}

#[tokio::test(start_paused = true)]
async fn who_holds_no_claim_uploads_nothing() {
    let tier = Tier::plain();
    let made = segments(Offset::ZERO, 1, 5);
    assert!(matches!(
        try_upload(&tier, &made, 6).await,
        Err(UploadError::Fenced(_))
    ));
    assert!(matches!(
        try_upload(&tier, &made, 8).await,
        Err(UploadError::NotClaimed { .. })
    ));
    let late = segments(Offset(5), 1, 5);
    assert!(matches!(
        try_upload(&tier, &late, 7).await,
        Err(UploadError::NotAtTierEnd { .. })
    ));
    assert_eq!(listed(&tier.inner).await, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_damaged_segment_is_not_uploaded() {
    let tier = Tier::plain();
    let mut made = segments(Offset::ZERO, 1, 5);
    let mut bytes = made[0].bytes.to_vec();
    bytes[200] ^= 1;
    made[0].bytes = bytes.into();
    let result = try_upload(&tier, &made, 7).await;
    assert!(
        matches!(&result, Err(UploadError::Encode(error)) if error.is_damage()),
        "{result:?}"
    );
    assert_eq!(listed(&tier.inner).await, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_fault_at_any_step_is_tried_again_under_a_new_name() {
    for fault in [
        Fault::Fail,
        Fault::FailAfter,
        Fault::Hang,
        Fault::HangAfter,
        Fault::Zombie,
    ] {
        for step in 0..2 {
            let mut tier = Tier::plain();
            tier.faults
                .add(Rule::next(Operation::Put, fault).after(step));
            tier.offload(&segments(Offset::ZERO, 2, 10)).await;
            assert_eq!(tier.faults.count(Operation::Put), 3, "{fault:?} {step}");
            assert_eq!(
                tier.read_all(Offset::ZERO, 1 << 20).await,
                tier.expected(Offset::ZERO)
            );
            // A PUT that arrives after all touches nothing that is committed.
            tier.faults.release().await.unwrap();
            assert_eq!(
                tier.read_all(Offset::ZERO, 1 << 20).await,
                tier.expected(Offset::ZERO)
            );
            // What ended unknown is never said to have ended.
            assert_eq!(tier.uploader.ended_puts().len(), 0, "{fault:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_visible_before_the_commit_whatever_step_fails() {
    // Dropping the upload at any moment stands for a crash there.
    let made = segments(Offset::ZERO, 2, 10);
    for millis in (0..4000).step_by(130) {
        let mut tier = Tier::plain();
        tier.offload(&made[..1]).await;
        let before = tier.pointer.clone();
        let slow = Fault::Slow(Duration::from_millis(400));
        for operation in [Operation::Put, Operation::Get] {
            tier.faults.add(Rule::next(operation, slow).times(1000));
        }
        let upload = try_upload(&tier, &made[1..], 7);
        let done = timeout(Duration::from_millis(millis), upload).await.is_ok();
        tier.faults.heal();
        assert_eq!(tier.pointer, before);
        assert_eq!(
            tier.read_all(Offset::ZERO, 1 << 20).await,
            tier.expected(Offset::ZERO)
        );
        if !done {
            // Nobody will ever commit it; what is pending is the one PUT that has no answer.
            let pending = tier.uploader.pending_puts();
            let names = listed(&tier.inner).await;
            assert!(pending.len() <= 1, "{pending:?}");
            assert!(
                pending
                    .iter()
                    .all(|path| !names.contains(&path.to_string()))
            );
        }
        // And the next try works.
        tier.offload(&made[1..]).await;
        assert_eq!(
            tier.read_all(Offset::ZERO, 1 << 20).await,
            tier.expected(Offset::ZERO)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_object_that_the_store_damaged_is_not_committed() {
    for (part, fault) in [
        (".log.zst", Fault::Flip),
        (".log.zst", Fault::Truncate),
        (".log.zst", Fault::NotFound),
        (".head", Fault::Flip),
        (".head", Fault::NotFound),
    ] {
        let mut tier = Tier::plain();
        tier.faults.add(Rule::next(Operation::Get, fault).at(part));
        let commit = tier.offload(&segments(Offset::ZERO, 1, 10)).await;
        assert_eq!(
            tier.faults.count(Operation::Put),
            3,
            "one more for the one that was not right"
        );
        // The PUT that failed its verification has ended: collection may take it.
        let ended = tier.uploader.ended_puts();
        assert_eq!(ended.len(), 1);
        assert!(commit.paths().iter().all(|path| !ended.contains(path)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_is_waited_for_with_growing_pauses() {
    let mut tier = Tier::plain();
    tier.faults
        .add(Rule::next(Operation::Put, Fault::Fail).times(30));
    let begun = Instant::now();
    tier.offload(&segments(Offset::ZERO, 1, 5)).await;
    let waited = begun.elapsed();
    assert!(
        waited > Duration::from_secs(300) && waited < Duration::from_secs(700),
        "{waited:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_large_object_goes_in_parts_and_within_the_budget() {
    let mut tier = Tier::new(SMALL_PARTS, &ReadConfig::default());
    let made = noise(Offset::ZERO, 20);
    let commit = tier.offload(&[made]).await;
    assert_eq!(commit.objects.len(), 1);
    let count = |operation| tier.faults.count(operation);
    assert_eq!(
        (
            count(Operation::Start),
            count(Operation::Part),
            count(Operation::Complete)
        ),
        (1, 3, 1)
    );
    assert_eq!(count(Operation::Put), 1, "the head");
    assert_eq!(
        tier.read_all(Offset::ZERO, 1 << 20).await,
        tier.expected(Offset::ZERO)
    );
    let writes = tier
        .uploader
        .requests()
        .writes
        .load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(writes, 6);
}

#[tokio::test(start_paused = true)]
async fn a_part_that_fails_starts_the_object_again() {
    for (operation, skip) in [
        (Operation::Start, 0),
        (Operation::Part, 0),
        (Operation::Part, 1),
        (Operation::Complete, 0),
    ] {
        for fault in [Fault::Fail, Fault::Hang, Fault::HangAfter] {
            let mut tier = Tier::new(SMALL_PARTS, &ReadConfig::default());
            tier.faults.add(Rule::next(operation, fault).after(skip));
            tier.offload(&[noise(Offset::ZERO, 16)]).await;
            assert_eq!(
                tier.faults.count(Operation::Start),
                2,
                "{operation:?} {fault:?}"
            );
            assert_eq!(
                tier.read_all(Offset::ZERO, 4 << 20).await,
                tier.expected(Offset::ZERO)
            );
            // An upload that was aborted has ended; a completion without an answer has not.
            let ended = usize::from(operation == Operation::Part);
            assert_eq!(
                tier.uploader.ended_puts().len(),
                ended,
                "{operation:?} {fault:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_gigabyte_stays_within_its_write_requests() {
    // Sizes stand for bytes: the bundling and the parts decide how many requests there are.
    let gib = 1_u64 << 30;
    for segment_bytes in [16_u64 << 20, 64 << 20, 100 << 20, 256 << 20, gib] {
        let sizes: Vec<u64> = vec![segment_bytes; (gib / segment_bytes) as usize];
        let bytes_max = UploadConfig::default().object_bytes_max;
        let mut writes = 0;
        for commit in sizes.chunks(8) {
            let objects = plan::bundle(commit, bytes_max, |bytes| *bytes);
            for object in objects {
                let bytes: u64 = object.iter().sum();
                let parts = bytes.div_ceil(PART_BYTES as u64);
                writes += if parts == 1 { 1 } else { parts + 2 };
            }
            writes += 1;
        }
        assert!(writes <= 75, "{segment_bytes}: {writes}");
    }
}

#[tokio::test(start_paused = true)]
async fn many_commits_fold_into_pages_and_are_all_read_back() {
    let mut tier = Tier::plain();
    for segment in segments(Offset::ZERO, 150, 2) {
        tier.offload(&[segment]).await;
    }
    let head = tier
        .reader
        .manifest(&partition(), &tier.pointer)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(head.pages.len(), 1);
    assert!(head.entries.len() <= manifest::HEAD_ENTRIES_MAX);
    assert_eq!(
        tier.read_all(Offset::ZERO, 1 << 20).await,
        tier.expected(Offset::ZERO)
    );
}

#[tokio::test(start_paused = true)]
async fn a_log_start_that_moved_meanwhile_is_kept_and_anything_else_refuses() {
    let mut tier = Tier::plain();
    let made = segments(Offset::ZERO, 3, 10);
    tier.offload(&made[..1]).await;
    let commit = tier.upload(&made[1..2]).await;
    let moved = advance_log_start(&tier.pointer, Offset(4), None, LeaderEpoch::NONE);
    assert_eq!(commit.rebase(&moved).unwrap().log_start, Offset(4));
    let batch = BatchBefore {
        base: Offset(33),
        epoch_before: EPOCH,
    };
    let passed = advance_log_start(&tier.pointer, Offset(33), Some(batch), EPOCH);
    assert_eq!(commit.rebase(&passed), None, "the tier end moved");
    let claimed = Pointer {
        claimed_epoch: LeaderEpoch(8),
        ..tier.pointer.clone()
    };
    assert_eq!(commit.rebase(&claimed), None, "another leader");
    assert_eq!(commit.rebase(&commit.pointer), None, "it is done already");
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_commit_decides_what_becomes_of_its_objects() {
    let mut tier = Tier::plain();
    let made = segments(Offset::ZERO, 2, 10);
    let commit = tier.upload(&made[..1]).await;
    assert_eq!(tier.uploader.pending_puts().len(), 2);
    tier.uploader.resolve(&commit, &commit.pointer);
    assert_eq!(
        (
            tier.uploader.pending_puts().len(),
            tier.uploader.ended_puts().len()
        ),
        (0, 0)
    );
    tier.pointer = commit.pointer;
    let commit = tier.upload(&made[1..]).await;
    tier.uploader.resolve(&commit, &tier.pointer);
    assert_eq!(
        tier.uploader.ended_puts().into_iter().collect::<Vec<_>>(),
        {
            let mut paths = commit.paths().to_vec();
            paths.sort();
            paths
        }
    );
    tier.uploader.forget_puts(commit.paths());
    assert_eq!(tier.uploader.ended_puts().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_manifest_that_is_gone_asks_for_the_pointer_again() {
    let mut tier = Tier::plain();
    let made = segments(Offset::ZERO, 2, 10);
    let commit = tier.offload(&made[..1]).await;
    let name = commit.pointer.manifest.clone().unwrap();
    tier.inner
        .delete(&layout::manifest(&partition(), &name))
        .await
        .unwrap();
    let result = try_upload(&tier, &made[1..], 7).await;
    assert!(matches!(result, Err(UploadError::Moved(_))), "{result:?}");
    // Whoever has it at hand needs it from nowhere.
    let sources = vec![made[1].source()];
    let head = Some(&*commit.head);
    let place = partition();
    let progress = Progress::default();
    let done = tier.uploader.upload(Request {
        partition: &place,
        epoch: EPOCH,
        sources,
        previous: &tier.pointer,
        previous_manifest: head,
        now: Timestamp(1),
        progress: &progress,
    });
    assert_eq!(done.await.unwrap().head.entries.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_checks_is_not_read_back() {
    let config = UploadConfig {
        verification: Verification::StoreChecksum,
        ..UploadConfig::default()
    };
    let mut tier = Tier::new(config, &ReadConfig::default());
    tier.offload(&segments(Offset::ZERO, 1, 10)).await;
    assert_eq!(tier.faults.count(Operation::Get), 0);
}

/// An upload that met `rule` and was dropped some time later; what it knew of its PUTs while it went on
/// is checked here.
async fn dropped_at(tier: &Tier, made: &[Segment], rule: &Rule) {
    tier.faults.add(rule.clone());
    let mut upload = Box::pin(try_upload(tier, made, 7));
    // Shorter than any deadline of a request.
    let patience = Duration::from_secs(20);
    assert!(timeout(patience, &mut upload).await.is_err(), "{rule:?}");
    // Whatever is there may still be committed, so none of it may be taken.
    let pending = tier.uploader.pending_puts();
    let names = listed(&tier.inner).await;
    assert!(
        names
            .iter()
            .all(|name| pending.contains(&Path::from(name.as_str()))),
        "{names:?} {rule:?}"
    );
    assert_eq!(tier.uploader.ended_puts().len(), 0, "{rule:?}");
    drop(upload);
    tier.faults.heal();
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_is_dropped_anywhere_calls_no_open_put_ended() {
    use Operation::{Complete, Get, Part, Put, Start};
    // What is written in which order: the object, in one piece or in parts, then the head.
    let small = (UploadConfig::default(), vec![(Put, 0), (Put, 1)]);
    let parts = [(Start, 0), (Part, 0), (Part, 1), (Complete, 0), (Put, 0)];
    let large = (SMALL_PARTS, parts.to_vec());
    for (config, writes) in [small, large] {
        let made = if config.part_bytes == SMALL_PARTS.part_bytes {
            noise(Offset::ZERO, 16)
        } else {
            segments(Offset::ZERO, 1, 10).remove(0)
        };
        for (operation, skip) in writes {
            for fault in [Fault::Hang, Fault::HangAfter] {
                let tier = Tier::new(config.clone(), &ReadConfig::default());
                let rule = Rule::next(operation, fault).after(skip);
                dropped_at(&tier, std::slice::from_ref(&made), &rule).await;
                let (pending, ended) = (tier.uploader.pending_puts(), tier.uploader.ended_puts());
                assert_eq!(pending.len(), 1, "the PUT without an answer: {rule:?}");
                assert!(pending.is_disjoint(&ended), "{rule:?}");
                let object_is_done =
                    operation == Put && (skip == 1 || config.part_bytes < PART_BYTES);
                assert_eq!(ended.len(), usize::from(object_is_done), "{rule:?}");
            }
        }
        // While it is verified, everything has its answer.
        for skip in 0..2 {
            let tier = Tier::new(config.clone(), &ReadConfig::default());
            let rule = Rule::next(Get, Fault::Hang).after(skip);
            dropped_at(&tier, std::slice::from_ref(&made), &rule).await;
            let ended = tier.uploader.ended_puts();
            let names = ended.iter().map(Path::to_string).collect::<Vec<_>>();
            assert_eq!(names, listed(&tier.inner).await, "{rule:?}");
            assert_eq!(tier.uploader.pending_puts().len(), 0, "{rule:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_is_dropped_between_tries_leaves_each_try_pending() {
    let tier = Tier::plain();
    let fail = Rule::next(Operation::Put, Fault::Zombie).times(usize::MAX);
    let made = segments(Offset::ZERO, 1, 10);
    dropped_at(&tier, &made, &fail).await;
    let pending = tier.uploader.pending_puts();
    assert!(pending.len() > 3, "{pending:?}");
    assert_eq!(tier.faults.release().await.unwrap(), pending.len());
    let names = pending.iter().map(Path::to_string).collect::<Vec<_>>();
    assert_eq!(names, listed(&tier.inner).await);
    assert_eq!(tier.uploader.ended_puts().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_later_epochs_commit_ends_what_nobody_knows_the_end_of() {
    let mut tier = Tier::plain();
    let made = segments(Offset::ZERO, 3, 10);
    let hang = Rule::next(Operation::Put, Fault::HangAfter);
    dropped_at(&tier, &made[..1], &hang).await;
    tier.offload(&made[..1]).await;
    assert_eq!(tier.uploader.pending_puts().len(), 1, "the same epoch");
    tier.pointer.claimed_epoch = LeaderEpoch(8);
    let commit = try_upload(&tier, &made[1..2], 8).await.unwrap();
    assert_eq!(tier.uploader.pending_puts().len(), 3, "not committed yet");
    tier.uploader.committed(&commit);
    assert_eq!(tier.uploader.pending_puts().len(), 0);
    assert_eq!(tier.uploader.ended_puts().len(), 0);
}

/// Uploads, and gives up as a broker does; says how long that took and what came of it.
async fn watched(
    tier: &Tier,
    made: &[Segment],
    stall_max: Duration,
) -> (Duration, Option<Result<Commit, UploadError>>) {
    let begun = Instant::now();
    let progress = Progress::default();
    let place = partition();
    let upload = tier.uploader.upload(Request {
        partition: &place,
        epoch: EPOCH,
        sources: made.iter().map(Segment::source).collect(),
        previous: &tier.pointer,
        previous_manifest: None,
        now: Timestamp(1),
        progress: &progress,
    });
    let done = tokio::select! {
        biased;
        done = upload => Some(done),
        () = progress.stalled(stall_max) => None,
    };
    (begun.elapsed(), done)
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_slow_does_not_stall() {
    let tier = Tier::new(SMALL_PARTS, &ReadConfig::default());
    let slow = Fault::Slow(Duration::from_secs(100));
    for operation in [Operation::Put, Operation::Part] {
        tier.faults.add(Rule::next(operation, slow).times(1000));
    }
    let made = [noise(Offset::ZERO, 24)];
    let (took, done) = watched(&tier, &made, Duration::from_secs(110)).await;
    assert!(done.expect("it stalled").is_ok());
    assert!(took > Duration::from_secs(300), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_never_gets_further_stalls() {
    for (operation, fault) in [
        (Operation::Complete, Fault::Fail),
        (Operation::Get, Fault::Flip),
        (Operation::Part, Fault::Hang),
    ] {
        let tier = Tier::new(SMALL_PARTS, &ReadConfig::default());
        tier.faults
            .add(Rule::next(operation, fault).times(1_000_000));
        let made = [noise(Offset::ZERO, 24)];
        let (took, done) = watched(&tier, &made, Duration::from_secs(300)).await;
        assert!(done.is_none(), "{operation:?}");
        assert!(took < Duration::from_secs(400), "{operation:?} {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_waits_for_its_turn_does_not_stall() {
    let tier = Tier::new(SMALL_PARTS, &ReadConfig::default());
    let slow = Fault::Slow(Duration::from_secs(50));
    tier.faults
        .add(Rule::next(Operation::Part, slow).times(1000));
    let made = [noise(Offset::ZERO, 24)];
    let patience = Duration::from_secs(60);
    let all = (0..=UPLOADS_IN_FLIGHT_MAX).map(|_| watched(&tier, &made, patience));
    for (_, done) in futures::future::join_all(all).await {
        assert!(done.expect("it stalled").is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn a_multipart_upload_that_is_not_completed_is_aborted() {
    for (rule, aborts) in [
        (Rule::next(Operation::Part, Fault::Hang).after(1), 1),
        (Rule::next(Operation::Complete, Fault::Hang), 1),
        (Rule::next(Operation::Part, Fault::Fail).after(1), 1),
        (Rule::next(Operation::Complete, Fault::Fail), 1),
        (Rule::next(Operation::Put, Fault::Hang), 0),
    ] {
        let tier = Tier::new(SMALL_PARTS, &ReadConfig::default());
        tier.faults.add(rule.clone());
        let made = [noise(Offset::ZERO, 24)];
        let patience = Duration::from_secs(20);
        // Dropped where it hangs, and tried again where the store failed.
        let _ = timeout(patience, try_upload(&tier, &made, 7)).await;
        tokio::task::yield_now().await;
        assert_eq!(tier.faults.count(Operation::Abort), aborts, "{rule:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_abort_that_fails_is_tried_once_more() {
    let tier = Tier::new(SMALL_PARTS, &ReadConfig::default());
    tier.faults
        .add(Rule::next(Operation::Part, Fault::Fail).after(1));
    tier.faults.add(Rule::next(Operation::Abort, Fault::Fail));
    let made = [noise(Offset::ZERO, 24)];
    try_upload(&tier, &made, 7).await.unwrap();
    tokio::task::yield_now().await;
    assert_eq!(tier.faults.count(Operation::Abort), 2);
}
