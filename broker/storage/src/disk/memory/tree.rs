//! Files and directories, each as seen and as durable, and the changes between.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path, PathBuf};

use super::faults::Faults;
use crate::disk::{DirEntry, OpenMode};

/// The identity of a file or directory.
pub(super) type Inode = u64;

const ROOT: Inode = 0;

/// A change of a file that no sync has covered yet.
#[derive(Debug, Clone)]
pub(super) enum FileChange {
    Write { position: u64, bytes: Vec<u8> },
    Truncate { bytes: u64 },
}

#[derive(Debug, Clone, Default)]
pub(super) struct File {
    /// What programs read.
    pub(super) content: Vec<u8>,
    /// What a power cut leaves at least.
    pub(super) durable: Vec<u8>,
    pub(super) pending: Vec<FileChange>,
    /// Space taken beyond the content.
    pub(super) allocated: u64,
    pub(super) handles: u32,
}

impl File {
    fn space(&self) -> u64 {
        self.allocated.max(self.content.len() as u64)
    }
}

/// A change of a directory that no sync has covered yet.
#[derive(Debug, Clone)]
pub(super) enum NameChange {
    Link {
        name: String,
        inode: Inode,
    },
    Unlink {
        name: String,
    },
    /// Atomic: both names change or neither does.
    Rename {
        from: String,
        to: String,
        inode: Inode,
    },
}

#[derive(Debug, Clone, Default)]
pub(super) struct Directory {
    pub(super) entries: BTreeMap<String, Inode>,
    pub(super) durable: BTreeMap<String, Inode>,
    pub(super) pending: Vec<NameChange>,
}

#[derive(Debug, Clone)]
pub(super) enum Node {
    File(File),
    Directory(Directory),
}

#[derive(Debug)]
pub(super) struct Tree {
    pub(super) nodes: BTreeMap<Inode, Node>,
    pub(super) inode_next: Inode,
    pub(super) locked: BTreeSet<PathBuf>,
    pub(super) used: u64,
    pub(super) faults: Faults,
}

impl Default for Tree {
    fn default() -> Tree {
        let root = Node::Directory(Directory::default());
        Tree {
            nodes: BTreeMap::from([(ROOT, root)]),
            inode_next: ROOT + 1,
            locked: BTreeSet::new(),
            used: 0,
            faults: Faults::default(),
        }
    }
}

/// Applies a write or a cut to the bytes of a file.
pub(super) fn write_into(bytes: &mut Vec<u8>, position: u64, written: &[u8]) {
    let start = usize::try_from(position).unwrap_or(usize::MAX);
    let end = start.saturating_add(written.len());
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    if let Some(target) = bytes.get_mut(start..end) {
        target.copy_from_slice(written);
    }
}

/// Applies a change of names.
pub(super) fn rename_in(entries: &mut BTreeMap<String, Inode>, change: &NameChange) {
    match change {
        NameChange::Link { name, inode } => {
            entries.insert(name.clone(), *inode);
        }
        NameChange::Unlink { name } => {
            entries.remove(name);
        }
        NameChange::Rename { from, to, inode } => {
            if entries.get(from) == Some(inode) {
                entries.remove(from);
            }
            entries.insert(to.clone(), *inode);
        }
    }
}

fn names(path: &Path) -> impl Iterator<Item = &str> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => name.to_str(),
        _ => None,
    })
}

fn not_found(path: &Path) -> io::Error {
    io::Error::new(
        io::ErrorKind::NotFound,
        format!("{} does not exist", path.display()),
    )
}

impl Tree {
    pub(super) fn find(&self, path: &Path) -> Option<Inode> {
        names(path).try_fold(ROOT, |inode, name| match self.nodes.get(&inode)? {
            Node::Directory(directory) => directory.entries.get(name).copied(),
            Node::File(_) => None,
        })
    }

    fn file(&mut self, inode: Inode) -> io::Result<&mut File> {
        match self.nodes.get_mut(&inode) {
            Some(Node::File(file)) => Ok(file),
            _ => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    fn directory(&mut self, path: &Path) -> io::Result<&mut Directory> {
        let inode = self.find(path).ok_or_else(|| not_found(path))?;
        match self.nodes.get_mut(&inode) {
            Some(Node::Directory(directory)) => Ok(directory),
            _ => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn rename_names(&mut self, directory: &Path, change: NameChange) -> io::Result<()> {
        let directory = self.directory(directory)?;
        rename_in(&mut directory.entries, &change);
        directory.pending.push(change);
        Ok(())
    }

    pub(super) fn content(&self, inode: Inode) -> io::Result<&[u8]> {
        match self.nodes.get(&inode) {
            Some(Node::File(file)) => Ok(&file.content),
            _ => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    pub(super) fn len(&self, inode: Inode) -> u64 {
        self.content(inode)
            .map_or(0, |content| content.len() as u64)
    }

    pub(super) fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let inode = self.find(path).ok_or_else(|| not_found(path))?;
        let Some(Node::Directory(directory)) = self.nodes.get(&inode) else {
            return Err(io::ErrorKind::NotADirectory.into());
        };
        let entry = |(name, inode): (&String, &Inode)| DirEntry {
            name: name.clone(),
            is_dir: matches!(self.nodes.get(inode), Some(Node::Directory(_))),
        };
        Ok(directory.entries.iter().map(entry).collect())
    }

    fn link(&mut self, path: &Path, node: Node) -> io::Result<Inode> {
        let name = file_name(path)?;
        let inode = self.inode_next;
        self.rename_names(parent(path), NameChange::Link { name, inode })?;
        self.inode_next += 1;
        self.nodes.insert(inode, node);
        Ok(inode)
    }

    pub(super) fn create_dir_all(&mut self, path: &Path) -> io::Result<()> {
        let mut made = PathBuf::new();
        for name in names(path) {
            made.push(name);
            match self.find(&made).and_then(|inode| self.nodes.get(&inode)) {
                Some(Node::Directory(_)) => {}
                Some(Node::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
                None => {
                    self.link(&made.clone(), Node::Directory(Directory::default()))?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn open(&mut self, path: &Path, mode: OpenMode) -> io::Result<Inode> {
        let inode = match self.find(path) {
            Some(inode) => inode,
            None if matches!(mode, OpenMode::Create | OpenMode::Replace) => {
                self.link(path, Node::File(File::default()))?
            }
            None => return Err(not_found(path)),
        };
        self.file(inode)?.handles += 1;
        if mode == OpenMode::Replace && self.len(inode) > 0 {
            self.truncate(inode, 0)?;
        }
        Ok(inode)
    }

    pub(super) fn close(&mut self, inode: Inode) {
        if let Ok(file) = self.file(inode) {
            file.handles = file.handles.saturating_sub(1);
        }
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        if parent(from) != parent(to) {
            // The real one can, but nothing here relies on it being atomic in a crash.
            return Err(io::ErrorKind::CrossesDevices.into());
        }
        let inode = self.find(from).ok_or_else(|| not_found(from))?;
        if let Some(replaced) = self.find(to)
            && replaced != inode
        {
            self.give_back(replaced);
        }
        let change = NameChange::Rename {
            from: file_name(from)?,
            to: file_name(to)?,
            inode,
        };
        self.rename_names(parent(from), change)
    }

    pub(super) fn remove(&mut self, path: &Path, recursive: bool) -> io::Result<()> {
        let inode = self.find(path).ok_or_else(|| not_found(path))?;
        if let Some(Node::Directory(directory)) = self.nodes.get(&inode) {
            if !recursive {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            for name in directory.entries.keys().cloned().collect::<Vec<_>>() {
                self.remove(&path.join(name), true)?;
            }
        }
        self.give_back(inode);
        self.rename_names(
            parent(path),
            NameChange::Unlink {
                name: file_name(path)?,
            },
        )
    }

    /// The space of a file that lost its name. (A handle that is still open holds it on a real
    /// disk; the difference is one segment for the time of a read.)
    fn give_back(&mut self, inode: Inode) {
        if let Ok(file) = self.file(inode) {
            let space = file.space();
            file.allocated = 0;
            self.used = self.used.saturating_sub(space);
        }
    }

    /// Takes space for growth to `bytes`, or refuses and changes nothing.
    fn grow(&mut self, inode: Inode, bytes: u64) -> io::Result<()> {
        let space = self.file(inode)?.space();
        let more = bytes.saturating_sub(space);
        // What takes no more space is not refused, however full the disk is.
        if more > 0 && self.used.saturating_add(more) > self.faults.capacity {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.used += more;
        Ok(())
    }

    pub(super) fn write(
        &mut self,
        inode: Inode,
        position: u64,
        mut bytes: Vec<u8>,
    ) -> io::Result<()> {
        let cut = self.faults.cut_write(bytes.len());
        if let Some(kept) = cut {
            bytes.truncate(kept);
        }
        self.grow(inode, position.saturating_add(bytes.len() as u64))?;
        let file = self.file(inode)?;
        write_into(&mut file.content, position, &bytes);
        file.pending.push(FileChange::Write { position, bytes });
        match cut {
            None => Ok(()),
            Some(_) => Err(io::Error::other("the write failed on demand")),
        }
    }

    pub(super) fn truncate(&mut self, inode: Inode, bytes: u64) -> io::Result<()> {
        self.grow(inode, bytes)?;
        let file = self.file(inode)?;
        let before = file.space();
        if bytes != file.content.len() as u64 {
            let length = usize::try_from(bytes).map_err(|_| io::ErrorKind::FileTooLarge)?;
            file.content.resize(length, 0);
            file.pending.push(FileChange::Truncate { bytes });
        }
        file.allocated = 0;
        let freed = before.saturating_sub(file.space());
        self.used = self.used.saturating_sub(freed);
        Ok(())
    }

    pub(super) fn allocate(&mut self, inode: Inode, end: u64) -> io::Result<()> {
        self.grow(inode, end)?;
        let file = self.file(inode)?;
        file.allocated = file.allocated.max(end);
        Ok(())
    }

    pub(super) fn sync_file(&mut self, inode: Inode) -> io::Result<()> {
        let verdict = self.faults.sync_verdict();
        let file = self.file(inode)?;
        verdict.settle_file(file)
    }

    pub(super) fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        let verdict = self.faults.sync_verdict();
        verdict.settle_directory(self.directory(path)?)?;
        self.sweep();
        Ok(())
    }

    pub(super) fn sync_all(&mut self) -> io::Result<()> {
        let verdict = self.faults.sync_verdict();
        let mut result = Ok(());
        for node in self.nodes.values_mut() {
            let settled = match node {
                Node::File(file) => verdict.settle_file(file),
                Node::Directory(directory) => verdict.settle_directory(directory),
            };
            result = result.and(settled);
        }
        self.sweep();
        result
    }

    /// Drops files that no name, durable or not, and no handle leads to.
    fn sweep(&mut self) {
        let mut reached = BTreeSet::from([ROOT]);
        for (inode, node) in &self.nodes {
            match node {
                Node::File(file) if file.handles > 0 => {
                    reached.insert(*inode);
                }
                Node::File(_) => {}
                Node::Directory(directory) => {
                    reached.extend(directory.entries.values());
                    reached.extend(directory.durable.values());
                    reached.extend(directory.pending.iter().filter_map(|change| match change {
                        NameChange::Link { inode, .. } | NameChange::Rename { inode, .. } => {
                            Some(*inode)
                        }
                        NameChange::Unlink { .. } => None,
                    }));
                }
            }
        }
        self.nodes.retain(|inode, _| reached.contains(inode));
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

fn file_name(path: &Path) -> io::Result<String> {
    let name = path.file_name().and_then(|name| name.to_str());
    name.map(str::to_owned)
        .ok_or_else(|| io::ErrorKind::InvalidInput.into())
}
