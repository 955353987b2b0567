//! Blobs: files named by their SHA-256, checked when they come in.

use std::fs::{self, File};
use std::io::{self, Read, Write};

use super::files::Files;
use super::pins::Session;
use crate::digest::{Digest, Hashing};
use crate::error::{ImageError, Result};
use crate::image::BlobInfo;

const BUFFER: usize = 128 * 1024;

/// A bound on, and where it is known the exact nature of, a blob that comes in.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Expect {
    /// Any bytes, up to so many.
    AtMost(u64),
    /// Exactly this blob.
    Exactly(BlobInfo),
}

impl Files {
    pub(crate) fn has_blob(&self, digest: &Digest) -> bool {
        self.blob(digest).is_file()
    }

    /// Stores a stream as a blob, which is pinned in `session`; `saw` is told the bytes so far.
    pub(crate) fn add_blob(
        &self,
        mut reader: impl Read,
        expect: Expect,
        session: &mut Session,
        saw: impl Fn(u64),
    ) -> Result<BlobInfo> {
        let limit = match expect {
            Expect::AtMost(limit) => limit,
            Expect::Exactly(blob) => blob.size,
        };
        let temporary = self.temporary();
        let failed = |error| ImageError::io("write", &temporary.path)(error);
        let mut out = Hashing::new(File::create_new(&temporary.path).map_err(failed)?);
        let mut buffer = vec![0; BUFFER];
        let mut size = 0;
        loop {
            let read = match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(ImageError::Archive(error)),
            };
            size += read as u64;
            if size > limit {
                return Err(ImageError::TooLarge { what: "a blob", limit });
            }
            out.write_all(&buffer[..read]).map_err(failed)?;
            saw(size);
        }
        let (file, digest, size) = out.finish();
        if let Expect::Exactly(wanted) = expect {
            check(&wanted, &BlobInfo { digest, size })?;
        }
        session.pin(digest);
        if !self.has_blob(&digest) {
            file.sync_all().map_err(failed)?;
            temporary.persist(&self.blob(&digest))?;
        }
        Ok(BlobInfo { digest, size })
    }

    /// A small blob's bytes, checked against the digest.
    pub(crate) fn read_blob(
        &self,
        digest: &Digest,
        what: &'static str,
        limit: u64,
    ) -> Result<Vec<u8>> {
        let path = self.blob(digest);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ImageError::BlobNotFound(*digest));
            }
            Err(error) => return Err(ImageError::io("open", path)(error)),
        };
        let mut bytes = Vec::new();
        file.take(limit + 1).read_to_end(&mut bytes).map_err(ImageError::io("read", &path))?;
        if bytes.len() as u64 > limit {
            return Err(ImageError::TooLarge { what, limit });
        }
        let actual = Digest::of(&bytes);
        if actual != *digest {
            self.discard_blob(digest);
            return Err(ImageError::DigestMismatch { what, expected: *digest, actual });
        }
        Ok(bytes)
    }

    /// Deletes a blob that turned out damaged, so that it is fetched again.
    pub(crate) fn discard_blob(&self, digest: &Digest) {
        tracing::warn!(%digest, "discarding a damaged blob");
        if let Err(error) = fs::remove_file(self.blob(digest)) {
            tracing::warn!(%digest, %error, "cannot remove a damaged blob");
        }
    }
}

fn check(wanted: &BlobInfo, got: &BlobInfo) -> Result<()> {
    if got.size != wanted.size {
        return Err(ImageError::malformed(
            "blob",
            format!("{} has {} bytes instead of {}", wanted.digest, got.size, wanted.size),
        ));
    }
    if got.digest != wanted.digest {
        return Err(ImageError::DigestMismatch {
            what: "a blob",
            expected: wanted.digest,
            actual: got.digest,
        });
    }
    Ok(())
}
