//! What one member does when its disk has no space for names, or no more files can be opened: nothing that it cannot take
//! up again later.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::{life, on, patient, simulated, world, write};
use crate::OpenError;
use crate::log::{Health, Kind, Log, LogTuning, Position, Record, check_files};
use crate::simulation::dice::Dice;
use crate::simulation::disk::Disk;
use crate::simulation::host::{Clock, Host};

/// How often what is up to chance is tried.
const SEEDS: u64 = 20;

/// Longer than a store waits before it tries something again, in virtual time.
const LONG: Duration = Duration::from_secs(10);

/// Does something with a new log on a disk of its own.
fn with_log<F>(seed: u64, test: impl FnOnce(Log, Arc<Disk>) -> F + Send + 'static)
where
    F: Future<Output = ()> + Send + 'static,
{
    simulated(async move {
        let disk = Disk::new(Dice::new(seed));
        let host = Host::new(1, Arc::clone(&disk), Clock::new(), Dice::new(seed));
        let work = async move {
            // Each entry has a file of its own.
            let tuning = LogTuning { segment_bytes: 4096, spares: 2 };
            let (log, _) = Log::open("/store".as_ref(), 1, tuning).expect("an empty log");
            test(log, disk).await;
        };
        host.spawn(work).await.expect("the host lives");
    });
}

async fn append(log: &Log, indexes: std::ops::Range<u64>) {
    for index in indexes {
        let (sender, receiver) = oneshot::channel();
        let payload = Bytes::from(vec![1; 4096]);
        let record = Record { index, term: 1, kind: Kind::Commands, payload };
        log.append(vec![record], Box::new(move |done| drop(sender.send(done))));
        receiver.await.expect("it is told").expect("it is written");
    }
}

/// The log's files, all that end so.
fn files(disk: &Disk, ending: &str) -> usize {
    let all = disk.list("/store/log".as_ref()).expect("it is there");
    all.iter().filter(|path| path.extension().is_some_and(|end| end == ending)).count()
}

#[test]
fn an_end_that_cannot_be_cut_off_yet_is_cut_off_later() {
    with_log(1, |log, disk| async move {
        append(&log, 0..9).await;
        let mut health = log.health();
        for handles in (0..3).rev() {
            // As many files go, and then the directory cannot be opened.
            disk.leave_handles(Some(handles));
            let next = 3 + handles;
            let cut = log.truncate(next);
            health.wait_for(|now| *now == Health::Full).await.expect("it says so");
            disk.leave_handles(None);
            cut.await.expect("it is told").expect("it is cut off");
            let found = check_files(log.dir()).expect("nothing is missing");
            assert_eq!(found.last, next.checked_sub(1).map(|index| Position { term: 1, index }));
            append(&log, next..9).await;
        }
        assert_eq!(*log.health().borrow(), Health::Good);
    });
}

#[test]
fn files_that_cannot_be_renamed_leave_no_hole() {
    for seed in 0..SEEDS {
        with_log(seed, |log, disk| async move {
            append(&log, 0..40).await;
            for upto in [5, 11, 12, 20, 30] {
                disk.leave_space(Some(0));
                let purged = log.purge(Position { term: 1, index: upto }, u64::MAX);
                purged.await.expect("it is told").expect("it is purged");
                disk.leave_space(None);
                let found = check_files(log.dir()).expect("nothing is missing");
                assert_eq!(found.prev.map(|prev| prev.index), Some(upto), "all are gone");
            }
            append(&log, 40..50).await;
            let found = check_files(log.dir()).expect("nothing is missing");
            assert_eq!((found.files, files(&disk, "log")), (19, 19));
        });
    }
}

#[test]
fn a_former_file_that_gets_no_name_does_not_stay() {
    for seed in 0..SEEDS {
        with_log(seed, |log, disk| async move {
            append(&log, 0..9).await;
            let purged = log.purge(Position { term: 1, index: 4 }, u64::MAX);
            purged.await.expect("it is told").expect("it is purged");
            while log.spares_ready() == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            disk.leave_space(Some(0));
            let mut health = log.health();
            let full = async {
                health.wait_for(|now| *now == Health::Full).await.expect("it says so");
            };
            let full = tokio::select! {
                biased;
                () = append(&log, 9..10) => false,
                () = full => true,
            };
            disk.leave_space(None);
            if full {
                append(&log, 10..11).await;
            }
            assert_eq!(files(&disk, "spare"), 0, "nobody would use it");
        });
    }
}

#[test]
fn a_snapshot_that_cannot_be_opened_is_not_taken_for_damaged() {
    simulated(async {
        let mut world = world(1, patient()).await;
        write(&life(&world, 1), 0..10, 10).await;
        on(&life(&world, 1), |store| async move { store.snapshot().await.expect("a snapshot") })
            .await;
        let disk = Arc::clone(&world.machines[&1].disk);
        for handles in 0..20 {
            world.kill(1, false).await;
            disk.leave_handles(Some(handles));
            let later = Arc::clone(&disk);
            // What has begun waits for more.
            let more = tokio::spawn(async move {
                tokio::time::sleep(LONG).await;
                later.leave_handles(None);
            });
            match world.start(1).await {
                Ok(started) => assert!(started),
                Err(error) => assert!(matches!(error, OpenError::Io { .. }), "{error}"),
            }
            more.abort();
            disk.leave_handles(None);
            let snapshots = disk.list(Path::new("/store/snapshots")).expect("it is there");
            assert!(snapshots.iter().all(|path| path.extension() != Some("damaged".as_ref())));
        }
    });
}
