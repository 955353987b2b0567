//! Unpacking a layer's tar into a directory in overlayfs form. Every name is resolved by the kernel beneath that directory,
//! so no entry, link or order of entries reaches outside it.

mod attributes;
mod tree;

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use self::attributes::{set_attributes, set_link_attributes, set_times};
use self::tree::{CleanPath, Tree};
use crate::tar_reader::{Entry, Kind, TarReader};

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
const AUFS_META: &[u8] = b".wh..wh.";

/// The entry at which unpacking stopped, and why.
#[derive(Debug)]
pub(crate) struct UnpackError {
    pub(crate) entry: String,
    pub(crate) source: io::Error,
}

/// Unpacks all entries into `root`, an empty directory, above the unpacked layers `lower` (lowest first). Gives the bytes
/// of all regular files.
pub(crate) fn unpack<R: Read>(
    reader: &mut TarReader<R>,
    root: &Path,
    lower: &[PathBuf],
) -> Result<u64, UnpackError> {
    let outside = |source| UnpackError { entry: String::new(), source };
    let mut unpacker = Unpacker {
        tree: Tree::open(root, lower).map_err(outside)?,
        directory_times: Vec::new(),
        bytes: 0,
    };
    while let Some(entry) = reader.next_entry().map_err(outside)? {
        unpacker.entry(&entry, reader).map_err(|source| UnpackError {
            entry: String::from_utf8_lossy(&entry.path).chars().take(300).collect(),
            source,
        })?;
    }
    unpacker.finish().map_err(outside)
}

struct Unpacker {
    tree: Tree,
    directory_times: Vec<(CleanPath, (i64, u32))>,
    bytes: u64,
}

impl Unpacker {
    fn entry<R: Read>(&mut self, entry: &Entry, data: &mut TarReader<R>) -> io::Result<()> {
        let path = CleanPath::parse(&entry.path)?;
        let Some(name) = path.name() else { return self.root(entry) };
        if name == OPAQUE {
            return self.tree.make_opaque(&path.parent());
        }
        if name.starts_with(AUFS_META) {
            return Ok(());
        }
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            return self.tree.whiteout(&path.parent(), &CleanPath::single(hidden)?);
        }
        match entry.kind {
            Kind::Directory => self.directory(&path, entry),
            Kind::Hardlink => self.tree.hard_link(&CleanPath::parse(&entry.link)?, &path),
            Kind::File => self.file(&path, entry, data),
            Kind::Symlink => {
                self.tree.clear(&path)?;
                let (parent, name) = self.tree.place(&path)?;
                rustix::fs::symlinkat(&entry.link[..], parent, name)?;
                set_link_attributes(parent, name, entry)
            }
            Kind::Fifo | Kind::Char { .. } | Kind::Block { .. } => {
                self.tree.clear(&path)?;
                let (parent, name) = self.tree.place(&path)?;
                attributes::make_node(parent, name, entry)
            }
        }
    }

    fn root(&mut self, entry: &Entry) -> io::Result<()> {
        if entry.kind != Kind::Directory {
            return Err(invalid("the entry has no name"));
        }
        set_attributes(self.tree.root(), entry)?;
        self.directory_times.push((CleanPath::root(), entry.mtime));
        Ok(())
    }

    fn directory(&mut self, path: &CleanPath, entry: &Entry) -> io::Result<()> {
        let directory = self.tree.directory(path)?;
        set_attributes(&directory, entry)?;
        // Its time changes with what is put into it, so it is set when all is there.
        self.directory_times.push((path.clone(), entry.mtime));
        Ok(())
    }

    fn file<R: Read>(
        &mut self,
        path: &CleanPath,
        entry: &Entry,
        data: &mut TarReader<R>,
    ) -> io::Result<()> {
        self.tree.clear(path)?;
        let mut file = self.tree.create_file(path)?;
        self.bytes += io::copy(data, &mut file)?;
        set_attributes(&file, entry)?;
        set_times(&file, entry.mtime)
    }

    fn finish(mut self) -> io::Result<u64> {
        for (path, time) in std::mem::take(&mut self.directory_times) {
            // It may have been replaced by a later entry.
            if let Ok(directory) = self.tree.open_directory(&path) {
                set_times(&directory, time)?;
            }
        }
        Ok(self.bytes)
    }
}

fn invalid(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests;
