//! Probes of containers.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{
    Container, ExecAction, HTTPGetAction, Lifecycle, LifecycleHandler, Probe,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::faults::Faults;
use super::name;
use super::path::Path;
use super::pod::MAX_GRACE_SECONDS;

pub(super) fn of_container(at: &Path<'_>, container: &Container, faults: &mut Faults) {
    let probes = [
        ("livenessProbe", &container.liveness_probe, true),
        ("readinessProbe", &container.readiness_probe, false),
        ("startupProbe", &container.startup_probe, true),
    ];
    for (field, probe, kills) in probes {
        let Some(probe) = probe else { continue };
        let at = at.child(field);
        check(&at, probe, faults);
        if kills && probe.success_threshold != Some(1) {
            faults.invalid(&at.child("successThreshold"), probe.success_threshold, "must be 1");
        }
        if let Some(seconds) = probe.termination_grace_period_seconds.filter(|_| kills)
            && !(1..=MAX_GRACE_SECONDS).contains(&seconds)
        {
            let why = "must be between 1 and 2147483647, inclusive";
            faults.invalid(&at.child("terminationGracePeriodSeconds"), seconds, why);
        }
        if !kills && probe.termination_grace_period_seconds.is_some() {
            let at = at.child("terminationGracePeriodSeconds");
            let why = "must not be set for readinessProbes";
            faults.invalid(&at, probe.termination_grace_period_seconds, why);
        }
    }
}

fn check(at: &Path<'_>, probe: &Probe, faults: &mut Faults) {
    let handlers = [
        probe.exec.is_some(),
        probe.http_get.is_some(),
        probe.tcp_socket.is_some(),
        probe.grpc.is_some(),
    ];
    match handlers.iter().filter(|h| **h).count() {
        0 => faults.required(at, "must specify a handler type"),
        1 => {}
        _ => faults.forbidden(at, "may not specify more than 1 handler type"),
    }
    let numbers = [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ];
    for (field, number) in numbers {
        faults.not_negative(&at.child(field), number.map(i64::from));
    }
    exec(at, probe.exec.as_ref(), faults);
    if let Some(get) = &probe.http_get {
        http_get(&at.child("httpGet"), get, faults);
    }
    if let Some(socket) = &probe.tcp_socket {
        let at = at.child("tcpSocket");
        port(&at.child("port"), &socket.port, faults);
        host(&at.child("host"), socket.host.as_deref(), faults);
    }
    if let Some(grpc) = &probe.grpc {
        let number = IntOrString::Int(grpc.port);
        port(&at.child("grpc").child("port"), &number, faults);
    }
}

fn http_get(at: &Path<'_>, get: &HTTPGetAction, faults: &mut Faults) {
    port(&at.child("port"), &get.port, faults);
    host(&at.child("host"), get.host.as_deref(), faults);
    let scheme = get.scheme.as_deref().unwrap_or_default();
    faults.one_of(&at.child("scheme"), scheme, &["HTTP", "HTTPS"]);
    for (i, header) in get.http_headers.iter().flatten().enumerate() {
        let word = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if header.name.is_empty() || !header.name.chars().all(word) {
            let list = at.child("httpHeaders");
            let why = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')";
            faults.invalid(&list.index(i), &header.name, why);
        }
    }
}

fn exec(at: &Path<'_>, exec: Option<&ExecAction>, faults: &mut Faults) {
    if exec.is_some_and(|exec| exec.command.as_ref().is_none_or(Vec::is_empty)) {
        faults.required(&at.child("exec").child("command"), "");
    }
}

/// Whom to ask other than the pod: by its address, since a node looks up no names for a pod.
fn host(at: &Path<'_>, host: Option<&str>, faults: &mut Faults) {
    if let Some(host) = host.filter(|host| !host.is_empty() && host.parse::<IpAddr>().is_err()) {
        let why = "must be an IP address: this cluster looks up no names for probes and hooks";
        faults.invalid(at, host, why);
    }
}

/// What is done after a container's start and before its end; `grace` is the pod's, in seconds.
pub(super) fn hooks(at: &Path<'_>, lifecycle: &Lifecycle, grace: i64, faults: &mut Faults) {
    for (field, hook) in [("postStart", &lifecycle.post_start), ("preStop", &lifecycle.pre_stop)] {
        let Some(hook) = hook else { continue };
        let at = at.child(field);
        let LifecycleHandler { exec: run, http_get: get, sleep, tcp_socket } = hook;
        let count = usize::from(run.is_some())
            + usize::from(get.is_some())
            + usize::from(sleep.is_some())
            + usize::from(tcp_socket.is_some());
        match count {
            0 => faults.required(&at, "must specify a handler type"),
            1 => {}
            _ => faults.forbidden(&at, "may not specify more than 1 handler type"),
        }
        exec(&at, run.as_ref(), faults);
        if let Some(get) = get {
            http_get(&at.child("httpGet"), get, faults);
        }
        if tcp_socket.is_some() {
            faults.forbidden(&at.child("tcpSocket"), "a lifecycle hook cannot be one");
        }
        if let Some(sleep) = sleep
            && !(1..=grace).contains(&sleep.seconds)
        {
            let why = format!(
                "must be greater than 0 and less than terminationGracePeriodSeconds ({grace})"
            );
            faults.invalid(&at.child("sleep"), sleep.seconds, &why);
        }
    }
}

/// A number, or the name of a port.
pub(super) fn port(at: &Path<'_>, port: &IntOrString, faults: &mut Faults) {
    match port {
        IntOrString::Int(number) if (1..=65535).contains(number) => {}
        IntOrString::Int(number) => {
            faults.invalid(at, number, "must be between 1 and 65535, inclusive");
        }
        IntOrString::String(text) => faults.all_invalid(at, text, name::port_name(text)),
    }
}
