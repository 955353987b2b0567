//! Reading back what is on the disk: every record of the log, every block of the snapshots, the vote. While the
//! store runs its files change under the reader, so what does not check is read again before it counts.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::core::Core;
use crate::disk;
use crate::error::OpenError;
use crate::log;
use crate::member::{Member, MemberId};
use crate::offline::io_error;
use crate::open::lock;
use crate::raft::{Answer, Call, blocking};
use crate::runtime;
use crate::snapshot::{Ending, SnapshotFiles, SnapshotSummary, inspect};

/// How often the files of a store that runs are read until damage counts: once a file is purged, or its end is being
/// written, reading it fails, and the next time it does not.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(200);

/// How long a member may take to read its files.
const CHECKING: Duration = Duration::from_secs(600);

/// What the files of a store hold.
#[derive(Debug, Default)]
pub struct StoreReport {
    /// Whose store it is.
    pub member: Option<MemberId>,
    /// Files of the log.
    pub log_files: usize,
    /// Bytes of the log's records.
    pub log_bytes: u64,
    /// The last entry in the log.
    pub last_index: Option<u64>,
    /// Bytes at the end of the log that a crash left half written: no damage, the next start cuts
    /// them off.
    pub torn_bytes: u64,
    /// The snapshots that are whole.
    pub snapshots: Vec<(PathBuf, SnapshotSummary)>,
    /// What is damaged, each with its file and place.
    pub problems: Vec<OpenError>,
}

/// What a member found on its disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileReport {
    /// Files of the log.
    pub log_files: u64,
    /// Bytes of the log's records that check.
    pub log_bytes: u64,
    /// Snapshots that are whole.
    pub snapshots: u64,
    /// Their bytes.
    pub snapshot_bytes: u64,
    /// What is damaged, each with its file and place.
    pub problems: Vec<String>,
}

/// A member's answer to the question whether its files are whole.
#[derive(Clone, Debug)]
pub struct MemberFiles {
    /// Who.
    pub member: Member,
    /// What it found, or why it found nothing.
    pub files: Result<FileReport, String>,
}

/// Reads every byte of the store in `dir` and checks it; changes nothing. Refused while the store
/// is open.
pub fn verify_store(dir: &Path) -> Result<StoreReport, OpenError> {
    // The lock must not be made where there is no store.
    if !disk::exists(dir).map_err(io_error("look for", dir))? {
        return Err(io_error("find a store in", dir)(io::ErrorKind::NotFound.into()));
    }
    let _lock = lock(dir)?;
    look(dir)
}

/// Reads all files of the store in `dir`.
fn look(dir: &Path) -> Result<StoreReport, OpenError> {
    let mut report = StoreReport::default();
    match log::owner(dir) {
        Ok(member) => report.member = Some(member),
        Err(problem) => report.problems.push(problem),
    }
    // The log first: by the time that the snapshots are read it may have been cut after a newer one.
    let log = log::check_files(&dir.join("log"));
    let held = check_snapshots(&dir.join("snapshots"), &mut report)?;
    match log {
        Ok(checked) => {
            report.log_files = checked.files;
            report.log_bytes = checked.bytes;
            report.torn_bytes = checked.torn;
            report.last_index = checked.last.map(|last| last.index);
            let log_start = checked.prev.map_or(0, |prev| prev.index + 1);
            if log_start > held.map_or(0, |held| held + 1) {
                let reason = "no snapshot that is whole reaches so far";
                report.problems.push(OpenError::Gap { dir: dir.to_owned(), log_start, reason });
            }
        }
        Err(problem) => report.problems.push(problem),
    }
    Ok(report)
}

/// Answers with the last entry that a whole snapshot holds.
fn check_snapshots(dir: &Path, report: &mut StoreReport) -> Result<Option<u64>, OpenError> {
    let list = SnapshotFiles::look(dir).map_err(io_error("list", dir))?;
    let mut held = None;
    for (name, path) in list {
        let looked = disk::uncache(&path).map_err(io_error("read", &path));
        match looked.and_then(|()| inspect(&path, Ending::Plain)) {
            Ok(summary) => {
                held = held.max(Some(name.index));
                report.snapshots.push((path, summary));
            }
            Err(problem) if is_gone(&problem) => {}
            Err(problem) => report.problems.push(problem),
        }
    }
    Ok(held)
}

/// A snapshot that was there a moment ago was removed for a newer one.
fn is_gone(problem: &OpenError) -> bool {
    matches!(problem, OpenError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
}

impl From<StoreReport> for FileReport {
    fn from(report: StoreReport) -> FileReport {
        FileReport {
            log_files: report.log_files as u64,
            log_bytes: report.log_bytes,
            snapshots: report.snapshots.len() as u64,
            snapshot_bytes: report.snapshots.iter().map(|(_, summary)| summary.bytes).sum(),
            problems: report.problems.iter().map(ToString::to_string).collect(),
        }
    }
}

impl Core {
    /// Has all members read their files.
    pub(crate) async fn all_files(&self) -> Vec<MemberFiles> {
        let asked = self.members().into_iter().map(|member| async move {
            let files = self.files_of(&member).await;
            MemberFiles { member, files }
        });
        futures::future::join_all(asked).await
    }

    async fn files_of(&self, member: &Member) -> Result<FileReport, String> {
        if member.id == self.me() {
            return self.files().await;
        }
        match self.network.peer(member).call(Call::Files, CHECKING).await {
            Ok(Answer::Files(answer)) => answer,
            Ok(_) => Err("it answered another question".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Reads this member's files; the store runs meanwhile.
    pub(crate) async fn files(&self) -> Result<FileReport, String> {
        let _one_at_a_time = self.checking.lock().await;
        let mut tries = 1;
        loop {
            let dir = self.config.dir.clone();
            let looked = blocking(move || look(&dir).map_err(io::Error::other)).await;
            let whole = looked.as_ref().is_ok_and(|report| report.problems.is_empty());
            if whole || tries == TRIES || self.is_stopped() {
                return looked.map(FileReport::from).map_err(|error| error.to_string());
            }
            tries += 1;
            runtime::sleep(PAUSE).await;
        }
    }
}
