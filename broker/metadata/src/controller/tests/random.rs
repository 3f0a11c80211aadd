//! Topics under random requests, lost answers, late effects and images that are out of date.

use std::time::Duration;

use proptest::collection::vec;

use super::*;
use crate::memory::{Faults, TransactionFault};

const CASES: u32 = 48;

#[derive(Debug, Clone)]
enum Act {
    Create {
        name: u8,
        partitions: usize,
    },
    Grow {
        name: u8,
        more: usize,
    },
    Delete {
        name: u8,
    },
    /// Runs the first transactions of a plan.
    Plan {
        transactions: usize,
    },
    /// Reads the image that later acts start from.
    Refresh,
    /// Lets late transactions arrive.
    Wait {
        seconds: u64,
    },
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        2 => (0..3_u8, 1..130_usize)
            .prop_map(|(name, partitions)| Act::Create { name, partitions }),
        1 => (0..3_u8, 1..120_usize).prop_map(|(name, more)| Act::Grow { name, more }),
        1 => (0..3_u8).prop_map(|name| Act::Delete { name }),
        4 => (0..3_usize).prop_map(|transactions| Act::Plan { transactions }),
        3 => Just(Act::Refresh),
        1 => (0..20_u64).prop_map(|seconds| Act::Wait { seconds }),
    ]
}

/// Takes one fault after another from a list, then none.
struct Listed(Vec<u8>);

impl Faults for Listed {
    fn transaction(&mut self, _: &Transaction) -> TransactionFault {
        match self.0.pop() {
            Some(0) => TransactionFault::Lost,
            Some(1) => TransactionFault::LostAnswer,
            Some(late @ 2..5) => {
                TransactionFault::LostAndLate(Duration::from_secs(u64::from(late) * 3))
            }
            Some(_) | None => TransactionFault::None,
        }
    }
}

/// Keys hold together whatever came before: this is what P3 promises.
fn check(image: &Image) {
    let mut partitions = 0;
    for (name, topic) in image.topics() {
        let value = &topic.value;
        assert_eq!(value.state, TopicState::Live, "{name}");
        assert!(value.assignment.is_empty());
        assert!(
            image.deleted_topic(value.topic_id).is_none(),
            "{name} is live and deleted"
        );
        assert_eq!(
            image
                .topic_like(name)
                .expect("it holds its name")
                .value
                .topic,
            name
        );
        let numbers: Vec<i32> = image.partitions(value.topic_id).map(|(n, _)| n).collect();
        assert_eq!(numbers, (0..value.partitions).collect::<Vec<_>>(), "{name}");
        partitions += numbers.len();
    }
    assert_eq!(
        image.all_partitions().len(),
        partitions,
        "a partition without its topic"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn topics_end_whole_or_gone(
        acts in vec(act(), 1..40),
        faults in vec(0..12_u8, 0..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let store = MemoryStore::new();
            let keys = Keys::default();
            start(&store, 1, 1, &[1]).await;
            store.set_faults(Box::new(Listed(faults)));
            let mut image = load(&store).await;
            let mut ids = 0;
            for act in acts {
                let name = |number: u8| format!("t{number}");
                let transactions = match act {
                    Act::Create { name: number, partitions } => {
                        ids += 1;
                        let new = new_topic(&name(number), ids, on_one_broker(partitions));
                        vec![create_topic(&keys, &new)]
                    }
                    Act::Grow { name: number, more } => {
                        let name = name(number);
                        image
                            .topic(&name)
                            .and_then(|topic| {
                                grow_topic(&keys, &name, topic, on_one_broker(more)).ok()
                            })
                            .into_iter()
                            .collect()
                    }
                    Act::Delete { name: number } => {
                        let name = name(number);
                        let topic = image.topic(&name);
                        topic.map(|topic| delete_topic(&keys, &name, topic)).into_iter().collect()
                    }
                    Act::Plan { transactions } => {
                        let mut plan = plan(&image, SETTINGS);
                        plan.truncate(transactions);
                        plan
                    }
                    Act::Refresh => {
                        image = load(&store).await;
                        Vec::new()
                    }
                    Act::Wait { seconds } => {
                        tokio::time::advance(Duration::from_secs(seconds)).await;
                        Vec::new()
                    }
                };
                for transaction in transactions {
                    // With or without an answer: the next image tells.
                    let _ = store.transact(transaction).await;
                }
            }
            store.set_faults(Box::new(crate::memory::NoFaults));
            settle(&store).await;
            store.deliver_late();
            let image = settle(&store).await;
            check(&image);
            for (id, _) in image.deleted() {
                let forget = forget_topic(&image, id).expect("its keys are gone");
                run(&store, forget).await;
            }
            let image = load(&store).await;
            assert_eq!(image.deleted().len(), 0);
            check(&image);
        });
    }
}
