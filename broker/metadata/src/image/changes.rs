//! What changed lately: whoever acts on images one after another looks at that, and not at the whole
//! cluster each time.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use esker_protocol::TopicId;
use rpds::RedBlackTreeMapSync;

use super::Image;
use crate::keys::{ConfigKind, Key};
use crate::store::Revision;

/// The revisions whose changes are remembered. Whoever falls behind by more looks at everything.
pub(super) const REVISIONS_MAX: usize = 1024;

/// The keys that changed in the latest revisions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Changes {
    /// Shared by the images that were made one from another, and by no others: after a reload the
    /// same revision may stand for something else, where the store was rewound.
    origin: Arc<()>,
    /// Everything that changed after this revision is here.
    after: Revision,
    by_revision: RedBlackTreeMapSync<Revision, Arc<[Key]>>,
}

impl Changes {
    /// Nothing has changed since everything was read at `revision`.
    pub(super) fn none(revision: Revision) -> Changes {
        Changes {
            origin: Arc::new(()),
            after: revision,
            by_revision: RedBlackTreeMapSync::new_sync(),
        }
    }

    /// Remembers what a revision has changed, and forgets the oldest.
    pub(super) fn add(&mut self, revision: Revision, keys: Vec<Key>) {
        self.by_revision.insert_mut(revision, keys.into());
        if self.by_revision.size() > REVISIONS_MAX
            && let Some(oldest) = self.by_revision.first().map(|(revision, _)| *revision)
        {
            self.by_revision.remove_mut(&oldest);
            self.after = oldest;
        }
    }

    /// The keys that changed after `revision` of an image with the changes `earlier`.
    fn since(
        &self,
        earlier: &Changes,
        revision: Revision,
    ) -> Option<impl Iterator<Item = &Key> + '_> {
        let is_known = Arc::ptr_eq(&self.origin, &earlier.origin) && self.after <= revision;
        let range = (Bound::Excluded(revision), Bound::Unbounded);
        is_known.then(|| {
            let revisions = self.by_revision.range(range);
            revisions.flat_map(|(_, keys)| keys.iter())
        })
    }
}

impl Image {
    /// The partitions that are not the same in this image as in an earlier one: those whose own key
    /// or whose topic's key has changed. A tier pointer is no part of it.
    ///
    /// There may be too many of them, but none is missing. `None` where all may have changed:
    /// everything was read again in between, or too many revisions ago, or the brokers' settings,
    /// which are the defaults of all topics, are others.
    #[must_use]
    pub fn partitions_changed_since(&self, earlier: &Image) -> Option<BTreeSet<(TopicId, i32)>> {
        let mut changed = BTreeSet::new();
        for key in self.changes.since(&earlier.changes, earlier.revision)? {
            match key {
                Key::Partition(topic, partition) => {
                    changed.insert((*topic, *partition));
                }
                Key::Topic(name) => {
                    // The name may be another topic's by now.
                    for image in [earlier, self] {
                        let Some(topic) = image.topic(name) else {
                            continue;
                        };
                        let id = topic.value.topic_id;
                        changed.extend(image.partitions(id).map(|(partition, _)| (id, partition)));
                    }
                }
                Key::Config(ConfigKind::Broker, _) => return None,
                _ => {}
            }
        }
        Some(changed)
    }
}
