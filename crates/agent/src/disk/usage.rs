//! How much of the disk a directory takes. What is in it is its containers', who may change it meanwhile: no link is
//! followed, and neither depth nor number is without bound.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, statat};

/// Entries that are counted of one directory with all below it.
const MOST_ENTRIES: u64 = 2_000_000;
/// Each level takes an open file while it is read.
const DEEPEST: usize = 64;
const BLOCK_BYTES: u64 = 512;

/// The bytes on the disk of everything in a directory; what cannot be read, or is not there, counts nothing. Blocking.
pub(super) fn of(path: &Path) -> u64 {
    let mut tally = Tally::default();
    if let Ok(dir) = rustix::fs::open(path, FLAGS, Mode::empty()) {
        tally.add(&dir, 0);
    }
    tally.bytes
}

const FLAGS: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

#[derive(Default)]
struct Tally {
    bytes: u64,
    entries: u64,
}

impl Tally {
    fn add(&mut self, dir: &OwnedFd, depth: usize) {
        let Ok(entries) = Dir::read_from(dir) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            self.entries += 1;
            if self.entries > MOST_ENTRIES {
                return;
            }
            let Ok(stat) = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            // A file of many names is counted once for each share of it.
            let names = u64::from(u32::try_from(stat.st_nlink).unwrap_or(1)).max(1);
            let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            let shares = if is_dir { 1 } else { names };
            let blocks = u64::try_from(stat.st_blocks).unwrap_or(0);
            self.bytes = self.bytes.saturating_add(blocks * BLOCK_BYTES / shares);
            if is_dir
                && depth < DEEPEST
                && let Ok(inner) = openat(dir, name, FLAGS, Mode::empty())
            {
                self.add(&inner, depth + 1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_counted_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("a/b");
        std::fs::create_dir_all(&inner).unwrap();
        let before = of(dir.path());
        std::fs::write(inner.join("file"), vec![1; 1 << 20]).unwrap();
        let with_file = of(dir.path());
        assert!(with_file - before >= 1 << 20, "{before} {with_file}");
        std::os::unix::fs::symlink("/", inner.join("root")).unwrap();
        assert!(of(dir.path()) - with_file < 1 << 16);
        // A sparse file takes what it has, not what it says.
        std::fs::File::create(inner.join("sparse")).unwrap().set_len(1 << 40).unwrap();
        assert!(of(dir.path()) - with_file < 1 << 16);
        assert_eq!(of(&dir.path().join("none")), 0);
        assert_eq!(of(&inner.join("root")), 0, "a link is no directory");
    }
}
