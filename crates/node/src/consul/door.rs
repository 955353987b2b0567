//! An address of Consul's that another program may have a right to, a real Consul first of all: opened as soon as it is
//! free. A node whose address is taken is a manager all the same, and says so; nothing of its own needs it.

use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// Pause before an address that is taken is tried again; it doubles up to the longest.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// An address that is opened some time.
pub(super) struct Door {
    /// What is behind it, in words.
    what: &'static str,
    /// The option that gives it another port.
    option: &'static str,
    /// None where it is never opened.
    pub(super) listen: Option<SocketAddr>,
    /// Why it is not open.
    problem: Mutex<Option<String>>,
}

impl Door {
    pub(super) fn new(
        what: &'static str,
        option: &'static str,
        listen: Option<SocketAddr>,
    ) -> Door {
        Door { what, option, listen, problem: Mutex::default() }
    }

    /// The address, unless it could not be opened.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.listen.filter(|_| self.problem().is_none())
    }

    /// Why it is not open, for the user.
    pub(super) fn problem(&self) -> Option<String> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Opens it, however often that must be tried; `None` when the member stops, or where it is never opened.
    pub(super) async fn open<T, E: Display, F: Future<Output = Result<T, E>>>(
        &self,
        bind: impl Fn(SocketAddr) -> F,
        stop: &CancellationToken,
    ) -> Option<T> {
        let address = self.listen?;
        let mut pause = PAUSE;
        loop {
            let opened = bind(address).await;
            let problem = opened.as_ref().err().map(|error| {
                let Door { what, option, .. } = self;
                format!(
                    "{what} is not served here, all else is: {error}. {option} gives it another port (0: none), \
                     --client-addr another address; it is tried again"
                )
            });
            self.set_problem(problem);
            if let Ok(listener) = opened {
                tracing::info!(%address, "{}", self.what);
                return Some(listener);
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSE_MAX),
                () = stop.cancelled() => return None,
            }
        }
    }

    /// Takes over why it is not open; told to the log once.
    fn set_problem(&self, problem: Option<String>) {
        let mut known = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(words) = problem.as_ref().filter(|_| known.is_none()) {
            tracing::warn!("{words}");
        }
        *known = problem;
    }
}
