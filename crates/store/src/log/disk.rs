//! Writing to files: errors that pass told from those that do not.

use std::io;

use crate::disk::File;

/// True if space may come back and the write may then succeed. Space is also that for one more open file:
/// a process that has too many for a moment must not lose its log for good.
pub(crate) fn is_full(error: &io::Error) -> bool {
    let no_file = [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE];
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        || no_file.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Makes tests see a full or a failing disk.
#[cfg(test)]
#[derive(Default)]
pub(crate) struct Faults {
    /// Bytes that still fit; negative is "all".
    pub(crate) space: std::sync::atomic::AtomicI64,
    pub(crate) limited: std::sync::atomic::AtomicBool,
}

#[cfg(test)]
impl Faults {
    /// From now on only `bytes` more can be written.
    pub(crate) fn leave_space(&self, bytes: i64) {
        use std::sync::atomic::Ordering::SeqCst;
        self.space.store(bytes, SeqCst);
        self.limited.store(true, SeqCst);
    }

    /// There is space again.
    pub(crate) fn free(&self) {
        self.limited.store(false, std::sync::atomic::Ordering::SeqCst);
    }

    fn check(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        use std::sync::atomic::Ordering::SeqCst;
        if !self.limited.load(SeqCst) {
            return Ok(());
        }
        let fits = usize::try_from(self.space.load(SeqCst)).unwrap_or(0).min(bytes.len());
        if fits == bytes.len() {
            self.space.fetch_sub(fits as i64, SeqCst);
            return Ok(());
        }
        file.write_all_at(&bytes[..fits], at)?;
        Err(io::Error::from(io::ErrorKind::StorageFull))
    }
}

impl super::Shared {
    /// Writes all of `bytes` at `at`.
    pub(super) fn write_at(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        #[cfg(test)]
        self.faults.check(file, bytes, at)?;
        file.write_all_at(bytes, at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_told_from_what_does_not() {
        for (errno, passes) in [
            (rustix::io::Errno::NOSPC, true),
            (rustix::io::Errno::DQUOT, true),
            (rustix::io::Errno::MFILE, true),
            (rustix::io::Errno::NFILE, true),
            (rustix::io::Errno::IO, false),
            (rustix::io::Errno::ROFS, false),
        ] {
            assert_eq!(is_full(&errno.into()), passes, "{errno}");
        }
    }
}
