//! Who gives the writer its turns: a thread that may wait for the disk as long as it takes.

use std::io;
use std::ops::ControlFlow;
use std::sync::{Arc, Condvar, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::writer::{RETRY, Turn, Writer};
use super::{Queue, Shared};

/// Wakes the driver.
#[derive(Default)]
pub(crate) struct Bell {
    rung: Condvar,
    #[cfg(test)]
    pub(crate) rung_in_simulation: tokio::sync::Notify,
}

impl Bell {
    pub(super) fn ring(&self) {
        self.rung.notify_all();
        #[cfg(test)]
        self.rung_in_simulation.notify_one();
    }

    fn wait(&self, queue: MutexGuard<'_, Queue>) {
        let idle = |queue: &mut Queue| queue.jobs.is_empty() && !queue.stop;
        drop(self.rung.wait_while(queue, idle).unwrap_or_else(PoisonError::into_inner));
    }

    fn wait_for_space(&self, queue: MutexGuard<'_, Queue>) {
        let waited = self.rung.wait_timeout_while(queue, RETRY, |queue| !queue.stop);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}

/// Starts the log's thread; a simulated host has a task instead.
pub(super) fn start(shared: Arc<Shared>, writer: Writer) -> io::Result<Option<JoinHandle<()>>> {
    #[cfg(test)]
    if crate::simulation::host::is_simulated() {
        crate::runtime::spawn(simulated(shared, writer));
        return Ok(None);
    }
    let work = move || drive(&shared, writer);
    std::thread::Builder::new().name("store-log".to_owned()).spawn(work).map(Some)
}

/// Does something beside the log, step by step until one says that it was the last.
pub(super) fn beside(
    name: &str,
    mut step: impl FnMut() -> ControlFlow<()> + Send + 'static,
) -> io::Result<()> {
    #[cfg(test)]
    if crate::simulation::host::is_simulated() {
        crate::runtime::spawn(async move {
            loop {
                tokio::time::sleep(crate::simulation::disk::latency()).await;
                if step().is_break() {
                    return;
                }
            }
        });
        return Ok(());
    }
    let work = move || while step().is_continue() {};
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map(drop)
}

fn drive(shared: &Shared, mut writer: Writer) {
    loop {
        match writer.turn() {
            Turn::More => {}
            Turn::Idle => shared.bell.wait(shared.queue()),
            Turn::Full => shared.bell.wait_for_space(shared.queue()),
            Turn::Closed => return,
        }
    }
}

/// As [`drive`], on a simulated disk that takes its time.
#[cfg(test)]
async fn simulated(shared: Arc<Shared>, mut writer: Writer) {
    loop {
        tokio::time::sleep(crate::simulation::disk::latency()).await;
        match writer.turn() {
            Turn::More => {}
            Turn::Idle => shared.bell.rung_in_simulation.notified().await,
            Turn::Full => tokio::time::sleep(RETRY).await,
            Turn::Closed => return,
        }
    }
}
