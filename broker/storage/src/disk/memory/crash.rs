//! What is left after a crash.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use super::MemoryDisk;
use super::tree::{Directory, File, FileChange, Node, Tree, rename_in, write_into};

/// The unit in which a medium writes.
const BLOCK_BYTES: usize = 512;

/// A small generator, so that one seed gives one crash.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

/// How the changes of one file or directory fare. Pure chance would almost never lose or keep all.
#[derive(Clone, Copy)]
enum Fate {
    Lost,
    Kept,
    Prefix(usize),
    Subset,
}

impl Fate {
    fn draw(random: &mut Random, changes: usize) -> Fate {
        match random.below(5) {
            0 => Fate::Lost,
            1 => Fate::Kept,
            2 => Fate::Prefix(random.below(changes + 1)),
            _ => Fate::Subset,
        }
    }

    fn keeps(self, random: &mut Random, index: usize) -> bool {
        match self {
            Fate::Lost => false,
            Fate::Kept => true,
            Fate::Prefix(count) => index < count,
            Fate::Subset => random.below(2) == 0,
        }
    }
}

fn crash_file(file: &File, random: &mut Random) -> Vec<u8> {
    if file.pending.is_empty() {
        return file.durable.clone();
    }
    let mut bytes = file.durable.clone();
    let fate = Fate::draw(random, file.pending.len());
    // The length is settled on its own: every length that the file had since its sync is possible.
    let settled = match fate {
        Fate::Lost => 0,
        Fate::Kept => file.pending.len(),
        Fate::Prefix(count) => count,
        Fate::Subset => random.below(file.pending.len() + 1),
    };
    let mut length = file.durable.len();
    for (index, change) in file.pending.iter().enumerate() {
        match change {
            FileChange::Truncate { bytes: cut } => {
                if index < settled {
                    length = usize::try_from(*cut).unwrap_or(0);
                    bytes.truncate(length);
                }
            }
            FileChange::Write {
                position,
                bytes: written,
            } => {
                let start = usize::try_from(*position).unwrap_or(usize::MAX);
                if index < settled {
                    length = length.max(start.saturating_add(written.len()));
                }
                crash_write(&mut bytes, start, written, index, fate, random);
            }
        }
    }
    bytes.resize(length, 0);
    bytes
}

/// Lets a write survive block by block, the blocks being those of the medium.
fn crash_write(
    bytes: &mut Vec<u8>,
    start: usize,
    written: &[u8],
    index: usize,
    fate: Fate,
    random: &mut Random,
) {
    let mut done = 0;
    while done < written.len() {
        let block_end = (start + done) / BLOCK_BYTES * BLOCK_BYTES + BLOCK_BYTES;
        let end = (block_end - start).min(written.len());
        let mut piece = written.get(done..end).unwrap_or_default();
        if fate.keeps(random, index) {
            if matches!(fate, Fate::Subset) && random.below(8) == 0 {
                piece = piece
                    .get(..random.below(piece.len() + 1))
                    .unwrap_or_default();
            }
            write_into(bytes, (start + done) as u64, piece);
        }
        done = end;
    }
}

fn crash_directory(directory: &Directory, random: &mut Random) -> Directory {
    let mut entries = directory.durable.clone();
    let fate = Fate::draw(random, directory.pending.len());
    for (index, change) in directory.pending.iter().enumerate() {
        if fate.keeps(random, index) {
            rename_in(&mut entries, change);
        }
    }
    Directory {
        durable: entries.clone(),
        entries,
        pending: Vec::new(),
    }
}

impl MemoryDisk {
    /// The disk after a power cut: what was synced, and the subset of the rest that `seed` draws.
    /// This disk and its handles fail from here on.
    #[must_use]
    pub fn after_power_cut(&self, seed: u64) -> MemoryDisk {
        let mut old = self.tree();
        old.faults.die();
        let mut random = Random(seed);
        let mut nodes = BTreeMap::new();
        for (inode, node) in &old.nodes {
            let node = match node {
                Node::File(file) => {
                    let durable = crash_file(file, &mut random);
                    Node::File(File {
                        content: durable.clone(),
                        durable,
                        ..File::default()
                    })
                }
                Node::Directory(directory) => {
                    Node::Directory(crash_directory(directory, &mut random))
                }
            };
            nodes.insert(*inode, node);
        }
        MemoryDisk::restarted(&old, nodes)
    }

    /// The disk after the end of the process alone: all that was written is still there, and what
    /// was not synced can still be lost. This disk and its handles fail from here on.
    #[must_use]
    pub fn after_kill(&self) -> MemoryDisk {
        let mut old = self.tree();
        old.faults.die();
        let mut nodes = old.nodes.clone();
        for node in nodes.values_mut() {
            if let Node::File(file) = node {
                file.handles = 0;
            }
        }
        MemoryDisk::restarted(&old, nodes)
    }

    fn restarted(old: &Tree, mut nodes: BTreeMap<u64, Node>) -> MemoryDisk {
        let named = named(&nodes);
        nodes.retain(|inode, _| *inode == 0 || named.contains(inode));
        let space = |node: &Node| match node {
            Node::File(file) => file.allocated.max(file.content.len() as u64),
            Node::Directory(_) => 0,
        };
        let used = nodes.values().map(space).sum();
        let tree = Tree {
            nodes,
            inode_next: old.inode_next,
            locked: BTreeSet::new(),
            used,
            faults: old.faults.after_crash(),
        };
        MemoryDisk {
            tree: Arc::new(Mutex::new(tree)),
        }
    }
}

/// Every inode that a surviving or durable name leads to.
fn named(nodes: &BTreeMap<u64, Node>) -> BTreeSet<u64> {
    let mut named = BTreeSet::new();
    let mut next = vec![0];
    while let Some(inode) = next.pop() {
        if let Some(Node::Directory(directory)) = nodes.get(&inode) {
            for child in directory.entries.values().chain(directory.durable.values()) {
                if named.insert(*child) {
                    next.push(*child);
                }
            }
        }
    }
    named
}
