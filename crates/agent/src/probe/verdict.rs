//! From single answers to a verdict: pure. A change needs as many equal answers in a row as its threshold.

use std::time::Duration;

use k8s_openapi::api::core::v1::Probe;

/// What a probe is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Startup,
    Liveness,
    Readiness,
}

impl Kind {
    /// The word in events.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }
}

/// When a probe asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timing {
    pub delay: Duration,
    pub period: Duration,
    pub timeout: Duration,
    pub success: u32,
    pub failure: u32,
}

impl Timing {
    /// The probe's timing, with Kubernetes' defaults.
    pub(crate) fn of(probe: &Probe) -> Self {
        let number = |given: Option<i32>, least: u32, default: u32| {
            given.and_then(|n| u32::try_from(n).ok()).filter(|&n| n >= least).unwrap_or(default)
        };
        let seconds =
            |given, least, default| Duration::from_secs(number(given, least, default).into());
        Self {
            delay: seconds(probe.initial_delay_seconds, 0, 0),
            period: seconds(probe.period_seconds, 1, 10),
            timeout: seconds(probe.timeout_seconds, 1, 1),
            success: number(probe.success_threshold, 1, 1),
            failure: number(probe.failure_threshold, 1, 3),
        }
    }
}

/// The row of answers so far.
#[derive(Debug)]
pub(crate) struct Verdict {
    timing: Timing,
    row: u32,
    last: Option<bool>,
}

impl Verdict {
    pub(crate) fn new(timing: Timing) -> Self {
        Self { timing, row: 0, last: None }
    }

    /// Takes an answer; gives the verdict once enough of them agree, and again with each further one.
    pub(crate) fn take(&mut self, healthy: bool) -> Option<bool> {
        self.row = if self.last == Some(healthy) { self.row.saturating_add(1) } else { 1 };
        self.last = Some(healthy);
        let needed = if healthy { self.timing.success } else { self.timing.failure };
        (self.row >= needed).then_some(healthy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_count_answers_in_a_row() {
        let probe = Probe { success_threshold: Some(2), ..Probe::default() };
        let mut verdict = Verdict::new(Timing::of(&probe));
        let mut take = |answers: &[bool]| -> Vec<Option<bool>> {
            answers.iter().map(|&answer| verdict.take(answer)).collect()
        };
        assert_eq!(take(&[true, true]), [None, Some(true)]);
        assert_eq!(take(&[false, false, true]), [None, None, None]);
        assert_eq!(take(&[false, false, false, false]), [None, None, Some(false), Some(false)]);
    }

    #[test]
    fn kubernetes_defaults() {
        let seconds = Duration::from_secs;
        let expected = Timing {
            delay: seconds(0),
            period: seconds(10),
            timeout: seconds(1),
            success: 1,
            failure: 3,
        };
        assert_eq!(Timing::of(&Probe::default()), expected);
        let nonsense =
            Probe { period_seconds: Some(0), timeout_seconds: Some(-1), ..Probe::default() };
        assert_eq!(Timing::of(&nonsense), expected);
    }
}
