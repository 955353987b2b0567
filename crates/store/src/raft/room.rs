//! Whether snapshots find room on the disk: who waits for it is told in the log, now and then, and in the status.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::disk;
use crate::mvcc::State;
use crate::runtime::Instant;

/// How often the log tells again that a snapshot still waits.
const TELL_AGAIN: Duration = Duration::from_secs(300);

/// Room that a snapshot lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// Where.
    pub dir: PathBuf,
    /// About how many bytes the snapshot takes.
    pub needed: u64,
    /// How many bytes are free there, as far as that is known.
    pub free: Option<u64>,
    /// What the kernel said, if it was tried.
    pub error: Option<String>,
}

impl std::fmt::Display for Shortage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Shortage { dir, needed, free, error } = self;
        write!(f, "a snapshot takes about {needed} bytes in {}", dir.display())?;
        if let Some(free) = free {
            write!(f, ", where {free} are free")?;
            match needed.saturating_sub(*free) {
                0 => {}
                missing => write!(f, ": {missing} are missing")?,
            }
        }
        error.as_ref().map_or(Ok(()), |error| write!(f, " ({error})"))
    }
}

/// What waits for room, if anything does.
#[derive(Default)]
pub(crate) struct Room(Mutex<Option<Waiting>>);

struct Waiting {
    shortage: Shortage,
    since: Instant,
    told: Instant,
}

impl Room {
    /// What waits now.
    pub(crate) fn shortage(&self) -> Option<Shortage> {
        self.lock().as_ref().map(|waiting| waiting.shortage.clone())
    }

    /// A snapshot of `needed` bytes found no room.
    pub(crate) fn lacks(&self, dir: &Path, needed: u64, error: &io::Error) {
        let shortage = Shortage {
            dir: dir.to_owned(),
            needed,
            free: disk::free_space(dir).ok(),
            error: Some(error.to_string()),
        };
        let now = Instant::now();
        let mut waiting = self.lock();
        let (since, told) = waiting.as_ref().map_or((now, None), |w| (w.since, Some(w.told)));
        let tell = told.is_none_or(|told| told.elapsed() >= TELL_AGAIN);
        if tell {
            tracing::warn!("waiting for room on the disk: {shortage}");
        }
        let told = if tell { now } else { told.unwrap_or(now) };
        *waiting = Some(Waiting { shortage, since, told });
    }

    /// A snapshot found room, or does not need it any more.
    pub(crate) fn found(&self) {
        if let Some(waiting) = self.lock().take() {
            let waited_ms = u64::try_from(waiting.since.elapsed().as_millis()).unwrap_or(u64::MAX);
            tracing::info!(waited_ms, "no snapshot waits for room on the disk any more");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Waiting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// About how many bytes a snapshot of a state takes, rather too many than too few. History weighs a value twice, as what
/// came and as what went; a snapshot has it once.
pub(crate) fn snapshot_bytes(state: &State) -> u64 {
    state.live_bytes() + state.history_bytes() / 2
}

/// The room that a snapshot would lack in `dir`. Where that cannot be told, it is to be tried.
pub(crate) fn would_lack(dir: &Path, needed: u64) -> Option<Shortage> {
    let free = disk::free_space(dir).ok().filter(|free| *free < needed)?;
    Some(Shortage { dir: dir.to_owned(), needed, free: Some(free), error: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_shortage_lasts_until_there_is_room() {
        let (room, dir) = (Room::default(), tempfile::tempdir().unwrap());
        assert_eq!(room.shortage(), None);
        for _ in 0..3 {
            room.lacks(dir.path(), u64::MAX, &io::ErrorKind::StorageFull.into());
            tokio::time::advance(TELL_AGAIN / 2).await;
        }
        let words = room.shortage().unwrap().to_string();
        assert!(words.contains(&u64::MAX.to_string()) && words.contains("are missing"), "{words}");
        room.found();
        assert_eq!(room.shortage(), None);
        assert_eq!(would_lack(dir.path(), 0), None);
        assert!(would_lack(dir.path(), u64::MAX).is_some());
    }
}
