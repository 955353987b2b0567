//! `/v1/agent/metrics`: what this server counts of itself, in Consul's form or in that of Prometheus.

use http::StatusCode;
use jiff::Timestamp;
use serde::Serialize;

use crate::answer::Answer;
use crate::call::Call;
use crate::operator;
use crate::permit::Wish;
use crate::refusal::Refusal;

/// Something that is as large as it is now. Those that Consul has have its names.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Gauge {
    name: &'static str,
    value: f64,
    labels: Labels,
}

#[derive(Serialize)]
struct Labels {}

/// Consul's form; what it counts beside gauges is not counted here.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Metrics {
    timestamp: String,
    gauges: Vec<Gauge>,
    points: [Labels; 0],
    counters: [Labels; 0],
    samples: [Labels; 0],
}

pub(crate) async fn metrics(call: Call) -> Result<Answer, Refusal> {
    call.require(Wish::AgentRead(call.node()))?;
    let gauges = gauges(&call);
    if call.query.text("format") == "prometheus" {
        return Ok(Answer::text(StatusCode::OK, prometheus(&gauges)));
    }
    let timestamp = Timestamp::now().strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string();
    call.json(&Metrics { timestamp, gauges, points: [], counters: [], samples: [] })
}

fn gauges(call: &Call) -> Vec<Gauge> {
    let status = call.store().status();
    let health = operator::look(&call.server);
    let number = |number: u64| number as f64;
    let yes = |is: bool| if is { 1.0 } else { 0.0 };
    let all = [
        ("consul.autopilot.failure_tolerance", number(health.failure_tolerance as u64)),
        ("consul.autopilot.healthy", yes(health.healthy)),
        ("consul.raft.applied_index", number(status.applied_index)),
        ("consul.raft.last_index", number(status.last_index)),
        ("consul.server.isLeader", yes(status.leadership.is_me)),
        ("pontoon.store.keys", number(status.keys)),
        ("pontoon.store.keys_bytes", number(status.keys_bytes)),
        ("pontoon.store.log_bytes", number(status.log_bytes)),
        ("pontoon.store.revision", number(status.revision)),
    ];
    all.into_iter().map(|(name, value)| Gauge { name, value, labels: Labels {} }).collect()
}

fn prometheus(gauges: &[Gauge]) -> String {
    let line = |gauge: &Gauge| {
        let name = gauge.name.replace('.', "_");
        format!("# TYPE {name} gauge\n{name} {}\n", gauge.value)
    };
    gauges.iter().map(line).collect()
}
