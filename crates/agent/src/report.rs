//! What the agent tells the managers, and the queue that keeps only what is still news.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{NodeStatus, ObjectReference, PodStatus};
use thiserror::Error;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::problems::{Part, Problems};

/// Events kept while no manager can be reached; the oldest go first.
const MOST_EVENTS: usize = 500;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Short, since until a manager has the news services lead to where pods were before a power cut.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// From when on it is a problem that they are not delivered, longer than managers take to agree on a leader; and how often
/// it is told again.
const PATIENCE: Duration = Duration::from_secs(10);
const TELL_AGAIN: Duration = Duration::from_secs(300);

/// One piece of news from a node.
#[derive(Clone, Debug, PartialEq)]
pub enum Report {
    /// A pod's newest status.
    PodStatus { namespace: String, name: String, uid: String, status: Box<PodStatus> },
    /// Nothing of the pod is left on the node: its object may go.
    PodGone { namespace: String, name: String, uid: String },
    /// The node's newest status and the labels it gives itself.
    NodeStatus { status: Box<NodeStatus>, labels: BTreeMap<String, String> },
    /// Something that happened, for people.
    Event(Box<NodeEvent>),
}

/// Something that happened to an object on this node.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeEvent {
    /// The object, with `fieldPath` when it is about one container.
    pub regarding: ObjectReference,
    /// Whether somebody should look (`Warning`), or not (`Normal`).
    pub warning: bool,
    /// One word in camel case, such as `BackOff`.
    pub reason: &'static str,
    /// A sentence for people.
    pub message: String,
    /// When it happened.
    pub at: Timestamp,
}

/// Reports could not be delivered; they will be sent again.
#[derive(Debug, Error)]
#[error("reporting to the managers: {0}")]
pub struct ReportError(pub String);

/// The way to the managers.
#[async_trait]
pub trait Reports: Send + Sync + 'static {
    /// Delivers all of `reports` in their order or fails; the same ones may come twice.
    async fn report(&self, reports: Vec<Report>) -> Result<(), ReportError>;
}

type PodKey = (String, String, String);

/// News not yet delivered: the newest status of each pod and of the node, and events in their order.
#[derive(Debug, Default)]
struct Pending {
    statuses: BTreeMap<PodKey, Box<PodStatus>>,
    gone: BTreeMap<PodKey, ()>,
    node: Option<(Box<NodeStatus>, BTreeMap<String, String>)>,
    events: VecDeque<Box<NodeEvent>>,
}

impl Pending {
    fn put(&mut self, report: Report) {
        match report {
            Report::PodStatus { namespace, name, uid, status } => {
                self.statuses.insert((namespace, name, uid), status);
            }
            Report::PodGone { namespace, name, uid } => {
                self.gone.insert((namespace, name, uid), ());
            }
            Report::NodeStatus { status, labels } => self.node = Some((status, labels)),
            Report::Event(event) => {
                self.events.push_back(event);
                if self.events.len() > MOST_EVENTS {
                    self.events.pop_front();
                }
            }
        }
    }

    /// Puts back what could not be delivered, except for what is no longer the newest.
    fn put_back(&mut self, reports: Vec<Report>) {
        let mut events = VecDeque::new();
        for report in reports {
            match report {
                Report::PodStatus { namespace, name, uid, status } => {
                    self.statuses.entry((namespace, name, uid)).or_insert(status);
                }
                Report::NodeStatus { status, labels } => {
                    self.node.get_or_insert((status, labels));
                }
                Report::Event(event) => events.push_back(event),
                gone @ Report::PodGone { .. } => self.put(gone),
            }
        }
        events.append(&mut self.events);
        self.events = events;
        while self.events.len() > MOST_EVENTS {
            self.events.pop_front();
        }
    }

    /// All of it in an order in which it can be applied: a pod's last status before its end.
    fn take(&mut self) -> Vec<Report> {
        let Self { statuses, gone, node, events } = std::mem::take(self);
        let node = node.map(|(status, labels)| Report::NodeStatus { status, labels });
        let statuses = statuses.into_iter().map(|((namespace, name, uid), status)| {
            Report::PodStatus { namespace, name, uid, status }
        });
        let gone =
            gone.into_keys().map(|(namespace, name, uid)| Report::PodGone { namespace, name, uid });
        node.into_iter()
            .chain(statuses)
            .chain(gone)
            .chain(events.into_iter().map(Report::Event))
            .collect()
    }
}

/// The queue between the parts of the agent, which never wait, and the managers, who may be away.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pending: Mutex<Pending>,
    news: Notify,
}

impl Outbox {
    /// Takes a report; replaces an older one of the same kind about the same object.
    pub(crate) fn put(&self, report: Report) {
        self.lock().put(report);
        self.news.notify_one();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Pending> {
        // A panic elsewhere leaves the maps whole: each change is one insertion.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Delivers until `shutdown`, then makes one last attempt.
    pub(crate) async fn run(
        &self,
        to: &dyn Reports,
        problems: &Problems,
        shutdown: CancellationToken,
    ) {
        let mut pause = FIRST_PAUSE;
        let mut failing: Option<Failing> = None;
        loop {
            let stop = tokio::select! {
                () = self.news.notified() => false,
                () = shutdown.cancelled() => true,
            };
            let reports = self.lock().take();
            if reports.is_empty() && !stop {
                continue;
            }
            match to.report(reports.clone()).await {
                Ok(()) => {
                    (pause, failing) = (FIRST_PAUSE, None);
                    problems.set(Part::Reports, None);
                }
                Err(error) if stop => debug!(%error, "the last reports were not delivered"),
                Err(error) => {
                    debug!(%error, retry_in_ms = pause.as_millis(), "reports not delivered");
                    failing.get_or_insert_default().again(&error, problems);
                    self.lock().put_back(reports);
                    self.news.notify_one();
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = shutdown.cancelled() => {}
                    }
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
            if stop {
                return;
            }
        }
    }
}

/// Deliveries that fail, one after the other.
struct Failing {
    since: Timestamp,
    attempts: u64,
    tell: Instant,
}

impl Default for Failing {
    fn default() -> Self {
        Self { since: Timestamp::now(), attempts: 0, tell: Instant::now() + PATIENCE }
    }
}

impl Failing {
    /// Makes a problem of it when it has lasted, and tells it anew after a while.
    fn again(&mut self, error: &ReportError, problems: &Problems) {
        self.attempts += 1;
        if Instant::now() < self.tell {
            return;
        }
        self.tell = Instant::now() + TELL_AGAIN;
        let Self { since, attempts, .. } = self;
        problems.set(
            Part::Reports,
            Some(format!(
                "since {since:.0} no manager has taken what this node reports of its pods ({attempts} attempts): {}",
                error.0
            )),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(phase: &str) -> Report {
        let status = PodStatus { phase: Some(phase.to_owned()), ..PodStatus::default() };
        let (namespace, name, uid) = ("d".to_owned(), "p".to_owned(), "u".to_owned());
        Report::PodStatus { namespace, name, uid, status: Box::new(status) }
    }

    fn gone() -> Report {
        Report::PodGone { namespace: "d".into(), name: "p".into(), uid: "u".into() }
    }

    fn event(reason: &'static str) -> Report {
        Report::Event(Box::new(NodeEvent {
            regarding: ObjectReference::default(),
            warning: false,
            reason,
            message: String::new(),
            at: Timestamp::UNIX_EPOCH,
        }))
    }

    #[test]
    fn only_the_newest_status_is_sent_and_before_the_end() {
        let mut pending = Pending::default();
        for report in [gone(), status("Pending"), event("A"), status("Running")] {
            pending.put(report);
        }
        assert_eq!(pending.take(), [status("Running"), gone(), event("A")]);
        assert_eq!(pending.take(), []);
    }

    #[test]
    fn what_comes_back_does_not_replace_newer_news() {
        let mut pending = Pending::default();
        pending.put(status("Running"));
        pending.put(event("B"));
        pending.put_back(vec![status("Pending"), event("A")]);
        assert_eq!(pending.take(), [status("Running"), event("A"), event("B")]);
    }

    #[test]
    fn events_are_bounded() {
        let mut pending = Pending::default();
        for _ in 0..2 * MOST_EVENTS {
            pending.put(event("A"));
        }
        pending.put_back(vec![event("B"); MOST_EVENTS]);
        assert_eq!(pending.take().len(), MOST_EVENTS);
    }

    struct Flaky(Mutex<(u32, Vec<Report>)>, CancellationToken);

    #[async_trait]
    impl Reports for Flaky {
        async fn report(&self, reports: Vec<Report>) -> Result<(), ReportError> {
            let mut state = self.0.lock().unwrap();
            if state.0 > 0 {
                state.0 -= 1;
                return Err(ReportError("away".into()));
            }
            state.1.extend(reports);
            self.1.cancel();
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_delivery_is_repeated() {
        let stop = CancellationToken::new();
        let flaky = Flaky(Mutex::new((3, Vec::new())), stop.clone());
        let outbox = Outbox::default();
        outbox.put(status("Running"));
        outbox.run(&flaky, &Problems::default(), stop).await;
        assert_eq!(flaky.0.lock().unwrap().1, [status("Running")]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_delivered_for_long_is_a_problem_told_seldom() {
        let (stop, problems) = (CancellationToken::new(), Problems::default());
        let mut changes = problems.subscribe();
        let (outbox, flaky) =
            (Outbox::default(), Flaky(Mutex::new((500, Vec::new())), stop.clone()));
        outbox.put(status("Running"));
        let mut told = Vec::new();
        tokio::join!(outbox.run(&flaky, &problems, stop), async {
            loop {
                changes.changed().await.unwrap();
                let now = changes.borrow_and_update().get(&Part::Reports).cloned();
                let Some(words) = now else { return };
                told.push(words);
            }
        });
        // 500 attempts, two seconds apart.
        assert_eq!(told.len(), 4, "{told:?}");
        assert!(told[0].contains("away") && told[0].contains("attempts"), "{told:?}");
    }
}
