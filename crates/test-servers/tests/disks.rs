//! Disks can be filled and emptied, directories locked and unlocked.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

/// Whether something is mounted there.
fn is_mounted(path: &Path) -> bool {
    fs::read_to_string("/proc/self/mounts").unwrap_or_default().contains(path.to_str().unwrap())
}

#[test]
fn a_disk_is_full_until_it_is_freed() {
    let Some(disk) = test_servers::disk(256 << 10) else { return };
    let (path, file) = (disk.path().to_owned(), disk.path().join("file"));
    fs::write(&file, vec![1; 100 << 10]).unwrap();
    disk.fill();
    assert_eq!(fs::write(disk.path().join("other"), [1]).unwrap_err().kind(), ErrorKind::StorageFull);
    fs::remove_file(&file).unwrap();
    disk.fill();
    assert_eq!(fs::write(&file, [1]).unwrap_err().kind(), ErrorKind::StorageFull);
    disk.free();
    fs::write(&file, vec![1; 100 << 10]).unwrap();
    drop(disk);
    assert!(!is_mounted(&path) && !path.exists());
}

#[test]
fn a_directory_is_read_only_for_a_while() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("file");
    fs::write(&file, "1").unwrap();
    let Some(locked) = test_servers::read_only(place.path()) else { return };
    assert_eq!(fs::write(&file, "2").unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem);
    assert_eq!(fs::create_dir(place.path().join("new")).unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem);
    drop(locked);
    assert!(!is_mounted(place.path()));
    fs::write(&file, "2").unwrap();
}
