//! What a pod's specification says, read with Kubernetes' defaults.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use pontoon_model::validate::MAX_GRACE_SECONDS;

/// When a container whose run is over is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    Always,
    OnFailure,
    Never,
}

impl Rule {
    fn parse(text: Option<&str>) -> Option<Self> {
        match text {
            Some("Always") => Some(Self::Always),
            Some("OnFailure") => Some(Self::OnFailure),
            Some("Never") => Some(Self::Never),
            _ => None,
        }
    }

    pub(crate) fn restarts_after(self, succeeded: bool) -> bool {
        match self {
            Self::Always => true,
            Self::OnFailure => !succeeded,
            Self::Never => false,
        }
    }
}

/// Namespace, name and uid of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PodId {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

impl PodId {
    /// `None` for a pod that lacks any of them: it never came from a manager.
    pub(crate) fn of(pod: &Pod) -> Option<Self> {
        let meta = &pod.metadata;
        Some(Self {
            namespace: meta.namespace.clone()?,
            name: meta.name.clone()?,
            uid: meta.uid.clone().filter(|uid| is_plain(uid))?,
        })
    }
}

impl std::fmt::Display for PodId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}_{}({})", self.name, self.namespace, self.uid)
    }
}

/// Whether the text can be a directory's name: uids become paths.
pub(crate) fn is_plain(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 253
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && !text.starts_with('.')
}

/// The pod's specification; an absent one is an empty one.
pub(crate) fn spec(pod: &Pod) -> &PodSpec {
    static EMPTY: std::sync::LazyLock<PodSpec> = std::sync::LazyLock::new(PodSpec::default);
    pod.spec.as_ref().unwrap_or(&EMPTY)
}

pub(crate) fn containers(pod: &Pod) -> &[Container] {
    &spec(pod).containers
}

pub(crate) fn init_containers(pod: &Pod) -> &[Container] {
    spec(pod).init_containers.as_deref().unwrap_or_default()
}

/// Every container of the pod: init containers first.
pub(crate) fn all_containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    init_containers(pod).iter().chain(containers(pod))
}

/// An init container that stays beside the others.
pub(crate) fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

pub(crate) fn pod_rule(pod: &Pod) -> Rule {
    Rule::parse(spec(pod).restart_policy.as_deref()).unwrap_or(Rule::Always)
}

/// The rule of one of `containers`.
pub(crate) fn main_rule(pod: &Pod, container: &Container) -> Rule {
    Rule::parse(container.restart_policy.as_deref()).unwrap_or_else(|| pod_rule(pod))
}

/// The rule of one of `init_containers`: it runs until it succeeds, or once if the pod never restarts.
pub(crate) fn init_rule(pod: &Pod, container: &Container) -> Rule {
    match Rule::parse(container.restart_policy.as_deref()) {
        Some(rule) => rule,
        None if pod_rule(pod) == Rule::Never => Rule::Never,
        None => Rule::OnFailure,
    }
}

pub(crate) fn uses_host_network(pod: &Pod) -> bool {
    spec(pod).host_network.unwrap_or(false)
}

/// How long the pod may take to end when nobody said otherwise; 30 s by default.
pub(crate) fn grace(pod: &Pod) -> Duration {
    let asked = pod
        .metadata
        .deletion_grace_period_seconds
        .filter(|_| pod.metadata.deletion_timestamp.is_some())
        .or(spec(pod).termination_grace_period_seconds);
    asked.and_then(grace_seconds).unwrap_or(Duration::from_secs(30))
}

/// A grace period given in seconds, bounded: it is added to the clock. `None` if it is negative.
pub(crate) fn grace_seconds(seconds: i64) -> Option<Duration> {
    u64::try_from(seconds.min(MAX_GRACE_SECONDS)).ok().map(Duration::from_secs)
}

/// The number of a port given by number or by the name it has in the container.
pub(crate) fn port_number(container: &Container, port: &IntOrString) -> Option<u16> {
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => {
            let named = container.ports.iter().flatten().find(|p| p.name.as_ref() == Some(name));
            match named {
                Some(port) => port.container_port,
                None => name.parse().ok()?,
            }
        }
    };
    u16::try_from(number).ok().filter(|&number| number != 0)
}

/// The pod's host name inside: what it asks for, or its own name cut to a label.
pub(crate) fn hostname(pod: &Pod) -> String {
    let spec = spec(pod);
    let name = spec.hostname.as_deref().or(pod.metadata.name.as_deref()).unwrap_or("pod");
    let cut: String = name.chars().take(63).collect();
    cut.trim_end_matches(['-', '.']).to_owned()
}
