//! One contract for both disks, and what the memory one adds.

use super::*;

fn write(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Arc<dyn DiskFile> {
    let file = disk.open(path, OpenMode::Create).unwrap();
    file.write_all_at(0, bytes).unwrap();
    file
}

fn contract(disk: &dyn Disk, root: &Path) {
    let directory = root.join("a/b");
    disk.create_dir_all(&directory).unwrap();
    disk.create_dir_all(&directory).unwrap();
    let path = directory.join("file");
    let missing = disk.open(&path, OpenMode::Write).unwrap_err();
    assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    assert_eq!(disk.len(&path).unwrap(), None);

    let file = write(disk, &path, b"hello");
    file.write_all_vectored_at(5, &mut [IoSlice::new(b", "), IoSlice::new(b"world")])
        .unwrap();
    assert_eq!(file.len().unwrap(), 12);
    let mut buffer = b"> ".to_vec();
    assert_eq!(file.read_at(3, 6, &mut buffer).unwrap(), 6);
    assert_eq!(buffer, b"> lo, wo");
    assert_eq!(file.read_at(10, 100, &mut buffer).unwrap(), 2);
    assert_eq!(file.read_at(99, 100, &mut buffer).unwrap(), 0);

    // What was just written is in memory.
    let mut cached = b"> ".to_vec();
    assert_eq!(file.read_cached_at(3, 6, &mut cached).unwrap(), 6);
    assert_eq!(cached, b"> lo, wo");
    assert_eq!(file.read_cached_at(10, 100, &mut cached).unwrap(), 2);
    assert_eq!(file.read_cached_at(99, 100, &mut cached).unwrap(), 0);
    assert_eq!(cached, b"> lo, wold");

    match file.allocate_keep_size(0, 1 << 16) {
        Ok(()) => {}
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::Unsupported),
    }
    assert_eq!(file.len().unwrap(), 12);
    file.truncate(5).unwrap();
    file.write_all_at(7, b"!").unwrap();
    assert_eq!(read_all(disk, &path).unwrap(), b"hello\0\0!");
    file.sync_data().unwrap();
    disk.sync_dir(&directory).unwrap();
    disk.open_file_system(root).unwrap().sync().unwrap();

    let reader = disk.open(&path, OpenMode::Read).unwrap();
    assert!(reader.write_all_at(0, b"x").is_err());
    drop(disk.open(&path, OpenMode::Create).unwrap());
    assert_eq!(disk.len(&path).unwrap(), Some(8));
    replace_file(disk, &path, b"new").unwrap();
    assert_eq!(read_all(disk, &path).unwrap(), b"new");
    // The old file lives on behind its handles.
    let mut old = Vec::new();
    reader.read_at(0, 100, &mut old).unwrap();
    assert_eq!(old, b"hello\0\0!");
    drop(disk.open(&path, OpenMode::Replace).unwrap());
    assert_eq!(disk.len(&path).unwrap(), Some(0));

    disk.create_dir_all(&directory.join("sub")).unwrap();
    write(disk, &directory.join("other"), b"1");
    let names = |disk: &dyn Disk| -> Vec<(String, bool)> {
        let entries = disk.read_dir(&directory).unwrap();
        entries
            .into_iter()
            .map(|entry| (entry.name, entry.is_dir))
            .collect()
    };
    let named = |name: &str, is_dir| (name.to_owned(), is_dir);
    assert_eq!(
        names(disk),
        [
            named("file", false),
            named("other", false),
            named("sub", true)
        ]
    );
    disk.rename(&directory.join("other"), &directory.join("file"))
        .unwrap();
    disk.remove_dir_all(&directory.join("sub")).unwrap();
    assert_eq!(names(disk), [named("file", false)]);
    assert_eq!(read_all(disk, &path).unwrap(), b"1");
    disk.remove_file(&path).unwrap();
    let gone = disk.remove_file(&path).unwrap_err();
    assert_eq!(gone.kind(), io::ErrorKind::NotFound);
    assert!(disk.available_bytes(root).unwrap() <= disk.total_bytes(root).unwrap());

    journal_contract(disk, root);

    let lock = disk.lock_exclusive(&root.join(".lock")).unwrap();
    let taken = disk.lock_exclusive(&root.join(".lock")).unwrap_err();
    assert_eq!(taken.kind(), io::ErrorKind::WouldBlock);
    drop(lock);
    disk.lock_exclusive(&root.join(".lock")).unwrap();
}

/// Writes of whole blocks and others, over and beyond what is there.
fn journal_contract(disk: &dyn Disk, root: &Path) {
    const BLOCK: usize = BLOCK_BYTES;
    let path = root.join("journal");
    let file = disk.open_journal(&path).unwrap();
    let mut expected = Vec::new();
    for (fill, position, bytes) in [
        (1, 0, BLOCK),
        (2, 2 * BLOCK, 3 * BLOCK),
        (3, BLOCK, BLOCK),
        (4, 100, 10),
        (5, 0, 2 * BLOCK),
        (6, 4 * BLOCK, (1 << 20) + 2 * BLOCK),
        (7, BLOCK, BLOCK + 1),
    ] {
        // From memory at a block's address, and from other.
        let memory = vec![fill; bytes + 2 * BLOCK];
        let aligned = memory.as_ptr().align_offset(BLOCK);
        for start in [aligned, aligned + 1] {
            let from = &memory[start..start + bytes];
            file.write_all_at(position as u64, from).unwrap();
        }
        file.sync_data().unwrap();
        expected.resize(expected.len().max(position + bytes), 0);
        expected[position..position + bytes].fill(fill);
        assert_eq!(file.len().unwrap(), expected.len() as u64);
        assert!(read_all(disk, &path).unwrap() == expected, "write {fill}");
    }
    file.truncate(BLOCK as u64).unwrap();
    drop(file);
    let again = disk.open_journal(&path).unwrap();
    again.write_all_at(BLOCK as u64, &[8; BLOCK]).unwrap();
    let mut read = Vec::new();
    assert_eq!(again.read_at(0, 3 * BLOCK, &mut read).unwrap(), 2 * BLOCK);
    assert!(read[..BLOCK] == expected[..BLOCK] && read[BLOCK..] == [8; BLOCK]);
    disk.remove_file(&path).unwrap();
}

#[test]
fn the_real_disk_keeps_the_contract() {
    let root = tempfile::tempdir().unwrap();
    contract(&RealDisk, root.path());
}

#[test]
fn the_memory_disk_keeps_the_contract() {
    let disk = MemoryDisk::new();
    disk.create_dir_all(Path::new("root")).unwrap();
    contract(&disk, Path::new("root"));
}

fn survivors(seeds: u64, make: impl Fn(&MemoryDisk)) -> Vec<Option<Vec<u8>>> {
    let after = |seed| {
        let disk = MemoryDisk::new();
        make(&disk);
        read_all(&disk.after_power_cut(seed), Path::new("file")).ok()
    };
    (0..seeds).map(after).collect()
}

#[test]
fn what_was_synced_survives_every_power_cut() {
    let found = survivors(50, |disk| {
        write(disk, Path::new("file"), &[7; 3000])
            .sync_data()
            .unwrap();
        disk.sync_dir(Path::new("")).unwrap();
    });
    assert!(
        found
            .iter()
            .all(|bytes| bytes.as_deref() == Some(&[7; 3000][..]))
    );
}

#[test]
fn content_and_name_survive_independently() {
    let found = survivors(200, |disk| {
        write(disk, Path::new("file"), &[7; 3000])
            .sync_data()
            .unwrap();
    });
    assert!(
        found.contains(&None),
        "a name that was not synced can be lost"
    );
    assert!(found.contains(&Some(vec![7; 3000])));
    let found = survivors(200, |disk| {
        write(disk, Path::new("file"), &[7; 3000]);
        disk.sync_dir(Path::new("")).unwrap();
    });
    assert!(found.iter().all(Option::is_some));
    assert!(found.contains(&Some(Vec::new())));
    let torn = |bytes: &Option<Vec<u8>>| {
        bytes
            .as_ref()
            .is_some_and(|bytes| bytes.len() == 3000 && bytes.contains(&0) && bytes.contains(&7))
    };
    assert!(
        found.iter().any(torn),
        "the length can survive with only some of the blocks"
    );
}

#[test]
fn a_failed_sync_loses_what_it_covered_though_it_is_still_read() {
    let disk = MemoryDisk::new();
    let file = write(&disk, Path::new("file"), b"lost");
    disk.sync_dir(Path::new("")).unwrap();
    disk.fail_syncs(1);
    assert!(file.sync_data().is_err());
    file.sync_data().unwrap();
    assert_eq!(read_all(&disk, Path::new("file")).unwrap(), b"lost");
    assert_eq!(
        read_all(&disk.after_power_cut(1), Path::new("file")).unwrap(),
        b""
    );
}

#[test]
fn a_kill_keeps_the_page_cache_and_ends_the_old_handles() {
    let disk = MemoryDisk::new();
    let file = write(&disk, Path::new("file"), b"cached");
    let after = disk.after_kill();
    assert_eq!(read_all(&after, Path::new("file")).unwrap(), b"cached");
    assert!(file.write_all_at(0, b"x").is_err());
    assert!(disk.is_dead());
}

#[test]
fn a_full_disk_refuses_and_changes_nothing() {
    let disk = MemoryDisk::new();
    disk.set_capacity(100);
    let file = write(&disk, Path::new("file"), &[1; 90]);
    assert_eq!(
        file.write_all_at(90, &[1; 11]).unwrap_err().kind(),
        io::ErrorKind::StorageFull
    );
    assert_eq!(
        file.allocate_keep_size(0, 101).unwrap_err().kind(),
        io::ErrorKind::StorageFull
    );
    file.allocate_keep_size(0, 100).unwrap();
    assert_eq!(disk.available_bytes(Path::new("")).unwrap(), 0);
    file.truncate(40).unwrap();
    assert_eq!(disk.available_bytes(Path::new("")).unwrap(), 60);
    // Of a disk that has become smaller than what it holds, what needs no more is had.
    disk.set_capacity(0);
    file.truncate(30).unwrap();
    file.write_all_at(0, &[2; 30]).unwrap();
    disk.set_capacity(100);
    disk.remove_file(Path::new("file")).unwrap();
    assert_eq!(disk.available_bytes(Path::new("")).unwrap(), 100);
}

#[test]
fn a_crash_can_be_planned_for_any_change() {
    let disk = MemoryDisk::new();
    let file = write(&disk, Path::new("file"), b"1");
    disk.crash_at(disk.operations() + 2);
    file.write_all_at(1, b"2").unwrap();
    assert!(file.write_all_at(2, b"3").is_err());
    assert!(file.sync_data().is_err());
    assert!(read_all(&disk, Path::new("file")).is_err());
}
