//! A fault of this program in one pod's task must not lose sight of what the pod runs: the task goes on with what it
//! knows and what is there, as a new daemon would.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::error;

use super::{Note, Worker};
use crate::pod::order::Order;
use crate::pod::state::{ImageState, SandboxState};

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

impl Worker {
    /// Runs to the pod's end.
    pub(super) async fn live(
        &mut self,
        mut orders: watch::Receiver<Order>,
        mut notes: mpsc::UnboundedReceiver<Note>,
    ) {
        let mut pause = FIRST_PAUSE;
        // Nothing of a worker is broken by a step that was not done to its end: `recollect` and `adopt` look anew.
        while let Err(panic) =
            AssertUnwindSafe(self.run(&mut orders, &mut notes)).catch_unwind().await
        {
            let words = words(panic.as_ref());
            error!(words, "a fault in this program; going on with the pod in {pause:?}");
            let message = format!("a fault in Pontoon, please report it: {words}");
            self.event(true, "InternalError", message, None);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            self.recollect().await;
        }
    }

    /// Forgets what was under way.
    async fn recollect(&mut self) {
        self.tasks.clear();
        self.pulls = JoinSet::new();
        for own in self.state.containers.values_mut() {
            own.stopping = false;
            if own.image == ImageState::Pulling {
                own.image = ImageState::Unknown;
            }
        }
        // One that was not complete has nothing in it yet; one that was is taken over.
        if self.state.sandbox != SandboxState::Ready {
            self.drop_cell().await;
        }
    }
}

/// What the fault said.
fn words(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no words")
}
