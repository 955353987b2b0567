//! The probes of one running container, asked as long as it runs.

use std::future::Future;

use k8s_openapi::api::core::v1::{Container, Probe};
use tokio::time::sleep;

use super::ask::{Asked, Question};
use super::verdict::{Kind, Timing, Verdict};

/// What a probe found; `verdict` is there once enough answers agree.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Finding {
    pub kind: Kind,
    pub verdict: Option<bool>,
    /// Why the last answer was bad.
    pub problem: Option<String>,
}

/// Asks the probes of `container` and tells what is found: the startup probe first, then the others beside each other.
/// Ends when there is nothing to ask, or when dropped.
pub(crate) async fn watch<F: Future<Output = ()>>(
    container: &Container,
    asked: &Asked,
    started: bool,
    tell: impl Fn(Finding) -> F,
) {
    if let Some(probe) = container.startup_probe.as_ref().filter(|_| !started) {
        repeat(container, probe, Kind::Startup, asked, &tell).await;
    }
    let other = async |probe: &Option<Probe>, kind| {
        if let Some(probe) = probe {
            repeat(container, probe, kind, asked, &tell).await;
        }
    };
    tokio::join!(
        other(&container.liveness_probe, Kind::Liveness),
        other(&container.readiness_probe, Kind::Readiness),
    );
}

/// Asks one probe again and again; a startup probe only until it has its first good verdict.
async fn repeat<F: Future<Output = ()>>(
    container: &Container,
    probe: &Probe,
    kind: Kind,
    asked: &Asked,
    tell: &impl Fn(Finding) -> F,
) {
    let timing = Timing::of(probe);
    let question = Question::of_probe(container, probe, asked.address);
    let mut verdict = Verdict::new(timing);
    sleep(timing.delay).await;
    loop {
        let outcome = question.ask(asked, timing.timeout).await;
        let found = verdict.take(outcome.is_ok());
        tell(Finding { kind, verdict: found, problem: outcome.err() }).await;
        if kind == Kind::Startup && found == Some(true) {
            return;
        }
        sleep(timing.period).await;
    }
}
