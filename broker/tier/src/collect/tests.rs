use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use esker_protocol::{LeaderEpoch, Offset, Timestamp};
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};

use super::*;
use crate::fault::{Fault, Operation, Rule};
use crate::layout::{ManifestKind, Uuid};
use crate::pointer::advance_log_start;
use crate::testing::{EPOCH, Tier, listed, partition, segments};
use crate::upload::{Progress, Request};

const LIMITS: Limits = Limits {
    file_delete_delay_ms: 100,
    manifest_retention_ms: 10_000,
    reader_grace_ms: 1000,
};

fn object(base: i64, end: i64, epoch: i32) -> ObjectName {
    ObjectName {
        base: Offset(base),
        end: Offset(end),
        leader_epoch: LeaderEpoch(epoch),
        uuid: Uuid([epoch as u8; 16]),
    }
}

fn head(version: u64, epoch: i32) -> ManifestName {
    ManifestName {
        incarnation: 1,
        leader_epoch: LeaderEpoch(epoch),
        version,
        uuid: Uuid([version as u8; 16]),
        kind: ManifestKind::Head,
    }
}

fn page(version: u64, epoch: i32) -> ManifestName {
    ManifestName {
        kind: ManifestKind::Page,
        ..head(version, epoch)
    }
}

fn object_path(name: ObjectName) -> Path {
    layout::object(&partition(), &name)
}

fn manifest_path(name: ManifestName) -> Path {
    layout::manifest(&partition(), &name.to_string())
}

fn pointer(claimed: i32, log_start: i64) -> Pointer {
    Pointer {
        claimed_epoch: LeaderEpoch(claimed),
        manifest: None,
        checksum: 0,
        version: 9,
        tier_end: Offset(1000),
        tier_end_epoch: LeaderEpoch(claimed),
        log_start: Offset(log_start),
        local_floor: Offset(1000),
    }
}

/// A case of the pure decision.
struct Case {
    memory: Memory,
    listing: Vec<Path>,
    pointer: Pointer,
    committed: bool,
    named: Names,
    chain: Option<Vec<(String, Superseded)>>,
    ended: BTreeSet<Path>,
}

impl Case {
    fn new(listing: &[Path], claimed: i32) -> Case {
        Case {
            memory: Memory::default(),
            listing: listing.to_vec(),
            pointer: pointer(claimed, 0),
            committed: true,
            named: Names::default(),
            chain: Some(Vec::new()),
            ended: BTreeSet::new(),
        }
    }

    fn decide(&mut self, now: i64) -> Deletions {
        let view = View {
            listing: &self.listing,
            pointer: &self.pointer,
            claimant_committed: self.committed,
            named: &self.named,
            chain: self.chain.as_deref(),
            ended: &self.ended,
        };
        decide(&mut self.memory, &view, &LIMITS, Timestamp(now))
    }

    /// Everything that may go at a time, the readers' grace having begun at 0.
    fn goes_at(&mut self, now: i64) -> Vec<Path> {
        self.decide(0);
        let deletions = self.decide(now);
        let unless_retained = deletions.unless_retained.into_iter().map(|(path, _)| path);
        deletions.now.into_iter().chain(unless_retained).collect()
    }
}

#[test]
fn what_the_log_start_has_passed_goes_after_the_delay_whoever_names_it() {
    let passed = object_path(object(0, 10, 1));
    let partly = object_path(object(10, 20, 1));
    let mut case = Case::new(&[passed.clone(), partly.clone()], 1);
    case.named.add_path(&passed);
    case.named.add_path(&partly);
    case.pointer.log_start = Offset(19);
    assert_eq!(case.decide(1000).now, []);
    assert_eq!(case.decide(1099).now, []);
    assert_eq!(case.decide(1100).now, std::slice::from_ref(&passed));
    // A later log start has a delay of its own, while the earlier one still counts.
    case.pointer.log_start = Offset(20);
    assert_eq!(case.decide(1150).now, std::slice::from_ref(&passed));
    assert_eq!(case.decide(1250).now, [passed, partly]);
}

#[test]
fn an_unnamed_object_of_the_claimed_epoch_is_never_taken_for_its_age() {
    let young = object_path(object(0, 10, 5));
    let mut case = Case::new(std::slice::from_ref(&young), 5);
    assert_eq!(
        case.goes_at(i64::MAX / 2),
        [],
        "its leader may be about to commit it"
    );
    case.ended.insert(young.clone());
    assert_eq!(
        case.goes_at(1000),
        [young],
        "this process knows that it will not"
    );
}

#[test]
fn an_orphan_of_an_older_epoch_goes_once_the_claimant_has_committed() {
    let orphan = object_path(object(0, 10, 4));
    let newer = object_path(object(0, 10, 6));
    let mut case = Case::new(&[orphan.clone(), newer], 5);
    case.committed = false;
    assert_eq!(case.goes_at(5000), []);
    case.committed = true;
    assert_eq!(
        case.decide(5000).unless_retained,
        [],
        "the readers' grace begins when it is dead"
    );
    assert_eq!(case.decide(5999).unless_retained, []);
    assert_eq!(case.decide(6000).unless_retained.len(), 1);
}

#[test]
fn what_is_named_stays() {
    let named = object_path(object(0, 10, 4));
    let manifest = manifest_path(head(8, 4));
    let mut case = Case::new(&[named.clone(), manifest.clone()], 5);
    case.named.add_path(&named);
    case.named.add_path(&manifest);
    assert_eq!(case.goes_at(i64::MAX / 2), []);
}

#[test]
fn superseded_manifests_are_kept_for_their_retention_and_go_oldest_first() {
    let superseded = |at, pages: &[ManifestName]| Superseded {
        at: Timestamp(at),
        written_at: Timestamp(at - 10),
        pages: pages.iter().map(ManifestName::to_string).collect(),
        previous: None,
    };
    let names = [head(5, 5), head(6, 5), head(7, 5)];
    let mut listing: Vec<Path> = names.map(manifest_path).to_vec();
    listing.extend([manifest_path(page(5, 5)), manifest_path(page(7, 5))]);
    let mut case = Case::new(&listing, 5);
    case.chain = Some(vec![
        (names[0].to_string(), superseded(100, &[page(5, 5)])),
        (names[1].to_string(), superseded(200, &[page(5, 5)])),
        (names[2].to_string(), superseded(9000, &[page(7, 5)])),
    ]);
    assert_eq!(case.goes_at(10_099), []);
    // The first head has expired, but the page that it names is within retention by the second.
    let first = manifest_path(names[0]);
    case.decide(10_150);
    assert_eq!(case.decide(10_150).now, [], "the readers' grace");
    assert_eq!(case.decide(11_150).now, std::slice::from_ref(&first));
    assert_eq!(
        case.decide(12_150).now,
        [manifest_path(page(5, 5)), first, manifest_path(names[1])]
    );
}

#[test]
fn while_superseded_heads_are_not_all_known_no_manifest_goes() {
    let old = manifest_path(head(2, 1));
    let mut case = Case::new(std::slice::from_ref(&old), 5);
    case.chain = None;
    assert_eq!(case.goes_at(i64::MAX / 2), []);
    case.chain = Some(Vec::new());
    assert_eq!(case.goes_at(i64::MAX / 2), [old]);
}

#[test]
fn what_is_strange_is_never_deleted() {
    let strange = [
        Path::from("a/b/c"),
        layout::marker("clusterclusterclustere"),
    ];
    let mut case = Case::new(&strange, 5);
    case.pointer.log_start = Offset(i64::MAX);
    assert_eq!(case.goes_at(i64::MAX / 2), []);
}

#[test]
fn a_rewound_metadata_store_is_noticed() {
    let check = |name, epoch, version| {
        let pointer = Pointer {
            version,
            ..pointer(epoch, 0)
        };
        check_not_rewound(
            &[manifest_path(name)],
            1,
            LeaderEpoch(epoch),
            Some(&pointer),
        )
        .is_ok()
    };
    assert!(
        check(head(9, 5), 5, 9) && check(head(10, 5), 5, 9),
        "a try that was not committed"
    );
    assert!(
        !check(head(11, 5), 5, 9),
        "a version that was committed and is forgotten"
    );
    assert!(!check(head(9, 6), 5, 9), "a leader that is forgotten");
    let listing = [manifest_path(ManifestName {
        incarnation: 0,
        ..head(50, 50)
    })];
    assert!(
        check_not_rewound(&listing, 1, LeaderEpoch(5), None).is_ok(),
        "another incarnation"
    );
    assert!(check_not_rewound(&[manifest_path(head(1, 1))], 1, LeaderEpoch(1), None).is_ok());
    assert!(check_not_rewound(&[manifest_path(head(2, 1))], 1, LeaderEpoch(1), None).is_err());
}

/// One round as the server does it.
async fn round(tier: &Tier, collector: &Collector, now: i64) -> Vec<Path> {
    let place = partition();
    let listing = collector.list(&place).await.unwrap();
    let pointer = &tier.pointer;
    collector
        .collect(
            &place,
            &listing,
            pointer,
            &tier.uploader,
            &LIMITS,
            Timestamp(now),
        )
        .await
        .unwrap()
}

fn collector(tier: &Tier) -> Collector {
    Collector::new(Arc::new(tier.faults.clone()), tier.reader.clone())
}

#[tokio::test(start_paused = true)]
async fn a_life_of_commits_orphans_and_retention_leaves_exactly_what_is_needed() {
    let mut tier = Tier::plain();
    let collector = collector(&tier);
    let made = segments(Offset::ZERO, 120, 2);
    let mut now = 2_000_000;
    for (number, segment) in made.iter().enumerate() {
        if number % 10 == 3 {
            // A commit that is refused, and a PUT that nobody heard the end of.
            let refused = tier.upload(std::slice::from_ref(segment)).await;
            tier.uploader.abandoned(&refused);
            tier.faults
                .add(Rule::next(Operation::Put, Fault::HangAfter));
        }
        tier.offload(std::slice::from_ref(segment)).await;
        if number % 20 == 19 {
            let to = Offset(tier.pointer.tier_end.0 - 60);
            tier.pointer = advance_log_start(&tier.pointer, to, None, EPOCH);
        }
        now += 500;
        round(&tier, &collector, now).await;
        let start = tier.pointer.log_start;
        assert_eq!(tier.read_all(start, 1 << 20).await, tier.expected(start));
    }
    for _ in 0..30 {
        now += 2000;
        round(&tier, &collector, now).await;
    }
    let start = tier.pointer.log_start;
    assert_eq!(tier.read_all(start, 1 << 20).await, tier.expected(start));
    let head = tier
        .reader
        .manifest(&partition(), &tier.pointer)
        .await
        .unwrap()
        .unwrap();
    let mut named: BTreeSet<String> = head
        .entries
        .iter()
        .filter(|entry| entry.end > start)
        .map(|entry| object_path(entry.name()).to_string())
        .collect();
    for page_ref in &head.pages {
        named.insert(layout::manifest(&partition(), &page_ref.name).to_string());
        let page = tier.reader.page(&partition(), page_ref).await.unwrap();
        let kept = page.entries.iter().filter(|entry| entry.end > start);
        named.extend(kept.map(|entry| object_path(entry.name()).to_string()));
    }
    named.insert(
        layout::manifest(&partition(), tier.pointer.manifest.as_deref().unwrap()).to_string(),
    );
    let left: BTreeSet<String> = listed(&tier.inner).await.into_iter().collect();
    assert!(named.is_subset(&left));
    // What is left over are the PUTs whose end nobody knows: they wait for the next epoch.
    let unknown: Vec<_> = left.difference(&named).collect();
    assert!(unknown.len() <= 12 && !unknown.is_empty(), "{unknown:?}");

    // A later leader claims and commits: then they go too.
    let mut later = Tier {
        pointer: tier.pointer.clone(),
        ..tier
    };
    later.pointer.claimed_epoch = LeaderEpoch(8);
    let sources = vec![segments(later.pointer.tier_end, 1, 3)[0].source()];
    let commit = later
        .uploader
        .upload(Request {
            partition: &partition(),
            epoch: LeaderEpoch(8),
            sources,
            previous: &later.pointer,
            previous_manifest: None,
            now: Timestamp(now),
            progress: &Progress::default(),
        })
        .await;
    // Epoch 8 goes on with batches of epoch 7: what was replicated before its time.
    let commit = commit.unwrap();
    later.uploader.committed(&commit);
    later.pointer = commit.pointer.clone();
    for _ in 0..30 {
        now += 2000;
        round(&later, &collector, now).await;
    }
    let left: BTreeSet<String> = listed(&later.inner).await.into_iter().collect();
    let unnamed: Vec<_> = unknown
        .into_iter()
        .filter(|path| left.contains(*path))
        .collect();
    assert_eq!(unnamed, Vec::<&String>::new());
}

#[tokio::test(start_paused = true)]
async fn pending_commits_are_not_collected() {
    let mut tier = Tier::plain();
    let collector = collector(&tier);
    let made = segments(Offset::ZERO, 3, 4);
    tier.offload(&made[..1]).await;
    let pending = tier.upload(&made[1..2]).await;
    for now in (0..100_000).step_by(5000) {
        round(&tier, &collector, now).await;
    }
    // Its transaction turns out to have gone through.
    tier.pointer = pending.pointer.clone();
    tier.log.push(made[1].clone());
    assert_eq!(
        tier.read_all(Offset::ZERO, 1 << 20).await,
        tier.expected(Offset::ZERO)
    );
}

#[tokio::test(start_paused = true)]
async fn a_round_that_fails_deletes_nothing_it_should_not() {
    let mut tier = Tier::plain();
    let collector = collector(&tier);
    for segment in segments(Offset::ZERO, 8, 4) {
        tier.offload(&[segment]).await;
    }
    tier.pointer = advance_log_start(&tier.pointer, Offset(60), None, EPOCH);
    for seed in 1..60 {
        let rates = [Operation::Get, Operation::List, Operation::Delete].map(|operation| {
            [
                (operation, Fault::Fail, 150),
                (operation, Fault::FailAfter, 100),
            ]
        });
        tier.faults.set_rates(
            crate::fault::Rates {
                permille: rates.concat(),
            },
            seed * 31,
        );
        tier.faults
            .add(Rule::next(Operation::List, Fault::Stale(3)));
        let place = partition();
        if let Ok(listing) = collector.list(&place).await {
            let now = Timestamp(seed as i64 * 3000);
            let _ = collector
                .collect(
                    &place,
                    &listing,
                    &tier.pointer,
                    &tier.uploader,
                    &LIMITS,
                    now,
                )
                .await;
        }
        tier.faults.heal();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(
            tier.read_all(Offset(60), 1 << 20).await,
            tier.expected(Offset(60))
        );
    }
    let objects = listed(&tier.inner)
        .await
        .into_iter()
        .filter(|path| path.ends_with(".zst"));
    assert_eq!(objects.count(), 3, "those from offset 60 on");
}

#[tokio::test(start_paused = true)]
async fn a_deleted_topic_leaves_nothing_but_its_neighbours() {
    let mut tier = Tier::plain();
    let collector = collector(&tier);
    tier.offload(&segments(Offset::ZERO, 2, 4)).await;
    let other = Path::from("clusterclusterclustere/cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd/0/x");
    tier.inner.put(&other, PutPayload::from("x")).await.unwrap();
    let deleted = collector
        .delete_topic("clusterclusterclustere", partition().topic_id)
        .await;
    assert_eq!(deleted, Ok(2));
    assert_eq!(listed(&tier.inner).await, [other.to_string()]);
    let again = collector
        .delete_topic("clusterclusterclustere", partition().topic_id)
        .await;
    assert_eq!(again, Ok(0));
}
