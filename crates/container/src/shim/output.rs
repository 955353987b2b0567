//! From a container's pipes or terminal to its log.

use std::io;
use std::os::fd::OwnedFd;
use std::time::SystemTime;

use super::log::{Log, Stream};

/// Read at once, so that one loud container does not starve the others.
const CHUNK: usize = 32 << 10;

/// The reading end of one stream of a container.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) fd: OwnedFd,
    stream: Stream,
}

/// Whether there may be more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    More,
    Nothing,
    End,
}

impl Output {
    pub(super) fn new(fd: OwnedFd, stream: Stream) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        Ok(Self { fd, stream })
    }

    /// Moves one chunk to the log.
    pub(super) fn pump(&self, log: &mut Log) -> Progress {
        let mut chunk = [0; CHUNK];
        match rustix::io::read(&self.fd, &mut chunk) {
            Ok(0) => self.end(log),
            Ok(got) => {
                log.take(self.stream, &chunk[..got], SystemTime::now());
                if got == CHUNK { Progress::More } else { Progress::Nothing }
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Progress::Nothing,
            // EIO is how a terminal says that its last user is gone.
            Err(_) => self.end(log),
        }
    }

    fn end(&self, log: &mut Log) -> Progress {
        log.end(self.stream, SystemTime::now());
        Progress::End
    }
}
