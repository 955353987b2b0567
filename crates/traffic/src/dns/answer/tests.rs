//! Cases for the answers: each asks a small fixed cluster and compares the text of the records.

use hickory_proto::op::{DEFAULT_MAX_PAYLOAD_LEN, Edns, MessageType, OpCode};
use hickory_proto::rr::DNSClass;
use proptest::prelude::{any, proptest};
use serde_json::{Value, json};

use super::*;
use crate::dns::ZoneSource;

fn typed<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn service(name: &str, spec: Value) -> Value {
    json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec})
}

fn slice(service: &str, endpoints: Value) -> Value {
    json!({
        "metadata": {"name": format!("{service}-x"), "namespace": "default",
            "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": endpoints,
    })
}

fn zone() -> Zone {
    let http = json!([{"name": "http", "port": 80}]);
    let services = [
        service("web", json!({"clusterIP": "10.96.0.10", "ports": http})),
        service("db", json!({"clusterIP": "None", "ports": [{"name": "http", "port": 8080}]})),
        service("out", json!({"type": "ExternalName", "externalName": "example.org"})),
        service(
            "loop",
            json!({"type": "ExternalName",
            "externalName": "loop.default.svc.cluster.local"}),
        ),
        service("bad name!", json!({"clusterIP": "10.96.0.11", "ports": http})),
    ]
    .map(typed);
    let slices = [
        slice(
            "web",
            json!([{"addresses": ["10.244.1.2"]}, {"addresses": ["10.244.2.2"]},
            {"addresses": ["10.244.3.2"], "conditions": {"ready": false}}]),
        ),
        slice(
            "db",
            json!([{"addresses": ["10.244.1.7"], "hostname": "db-0"},
            {"addresses": ["10.244.2.7"]}]),
        ),
    ]
    .map(typed);
    let pod = typed(json!({"metadata": {"name": "p", "namespace": "kube"},
        "status": {"podIP": "192.168.1.1"}}));
    let node = typed(json!({"metadata": {"name": "n1"}, "spec": {"podCIDR": "10.244.1.0/24"}}));
    Zone::build(&ZoneSource {
        domain: "cluster.local",
        ranges: &["10.96.0.0/16".parse().unwrap()],
        services: services.iter().collect(),
        slices: slices.iter().collect(),
        pods: vec![&pod],
        nodes: vec![&node],
    })
}

fn request(name: &str, kind: RecordType) -> Message {
    let mut request = Message::query();
    request.metadata.recursion_desired = true;
    request.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    request
}

fn reply(name: &str, kind: RecordType) -> Message {
    match answer(&zone(), &request(name, kind), &Rotation::default()) {
        Outcome::Reply(reply) => *reply,
        other => panic!("{name}: {other:?}"),
    }
}

fn data(records: &[Record]) -> Vec<String> {
    records.iter().map(|record| record.data.to_string()).collect()
}

#[track_caller]
fn check(name: &str, kind: RecordType, expected: &[&str]) {
    let reply = reply(name, kind);
    assert_eq!(data(&reply.answers), expected, "{name}");
    assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
    assert!(reply.metadata.authoritative);
}

#[track_caller]
fn check_denied(name: &str, kind: RecordType, code: ResponseCode) {
    let reply = reply(name, kind);
    assert_eq!(reply.metadata.response_code, code, "{name}");
    assert!(reply.answers.is_empty(), "{name}");
    let [soa] = reply.authorities.as_slice() else { panic!("{name}: no SOA") };
    assert_eq!(soa.record_type(), RecordType::SOA);
    assert_eq!(soa.ttl, TTL_SECONDS);
}

#[test]
fn a_service_has_its_address_under_all_forms_of_its_name() {
    for name in [
        "web.default.svc.cluster.local.",
        "web.default.svc.",
        "web.default.",
        "WEB.Default.Svc.Cluster.Local.",
    ] {
        check(name, RecordType::A, &["10.96.0.10"]);
    }
}

#[test]
fn a_headless_service_has_its_pods_in_turn() {
    let (zone, turns) = (zone(), Rotation::default());
    let ask = |kind| match answer(&zone, &request("db.default.", kind), &turns) {
        Outcome::Reply(reply) => data(&reply.answers),
        other => panic!("{other:?}"),
    };
    assert_eq!(ask(RecordType::A), ["10.244.1.7", "10.244.2.7"]);
    assert_eq!(ask(RecordType::AAAA), [""; 0]);
    assert_eq!(ask(RecordType::A), ["10.244.2.7", "10.244.1.7"]);
}

#[test]
fn tasks_are_the_ready_pods_of_any_service() {
    check("tasks.web.default.svc.cluster.local.", RecordType::A, &["10.244.1.2", "10.244.2.2"]);
    check("tasks.db.default.", RecordType::A, &["10.244.1.7", "10.244.2.7"]);
}

#[test]
fn pods_of_a_headless_service_have_their_own_names() {
    check("db-0.db.default.svc.cluster.local.", RecordType::A, &["10.244.1.7"]);
    check("10-244-2-7.db.default.svc.cluster.local.", RecordType::A, &["10.244.2.7"]);
}

#[test]
fn pods_are_found_by_address_where_a_pod_can_be() {
    check("10-244-1-99.any.pod.cluster.local.", RecordType::A, &["10.244.1.99"]);
    check("192-168-1-1.kube.pod.cluster.local.", RecordType::A, &["192.168.1.1"]);
    let nowhere = "192-168-1-1.default.pod.cluster.local.";
    check_denied(nowhere, RecordType::A, ResponseCode::NXDomain);
}

#[test]
fn ports_lead_to_targets_whose_addresses_come_along() {
    let name = "_http._tcp.web.default.svc.cluster.local.";
    check(name, RecordType::SRV, &["0 100 80 web.default.svc.cluster.local."]);
    let reply = reply("_http._tcp.db.default.", RecordType::SRV);
    assert_eq!(
        data(&reply.answers),
        [
            "0 50 8080 db-0.db.default.svc.cluster.local.",
            "0 50 8080 10-244-2-7.db.default.svc.cluster.local."
        ]
    );
    assert_eq!(data(&reply.additionals), ["10.244.1.7", "10.244.2.7"]);
}

#[test]
fn addresses_have_names() {
    check("10.0.96.10.in-addr.arpa.", RecordType::PTR, &["web.default.svc.cluster.local."]);
    check("7.1.244.10.in-addr.arpa.", RecordType::PTR, &["db-0.db.default.svc.cluster.local."]);
    check_denied("99.1.244.10.in-addr.arpa.", RecordType::PTR, ResponseCode::NXDomain);
}

#[test]
fn what_is_not_there_is_denied_here() {
    use ResponseCode::{NXDomain, NoError};
    check_denied("nothing.default.svc.cluster.local.", RecordType::A, NXDomain);
    check_denied("web.other.svc.cluster.local.", RecordType::A, NXDomain);
    check_denied("web.", RecordType::A, NXDomain);
    check_denied("a\\.b.cluster.local.", RecordType::A, NXDomain);
    check_denied("web.default.svc.cluster.local.", RecordType::AAAA, NoError);
    check_denied("default.svc.cluster.local.", RecordType::A, NoError);
    check_denied("_tcp.web.default.svc.cluster.local.", RecordType::SRV, NoError);
    check_denied("cluster.local.", RecordType::A, NoError);
}

#[test]
fn other_names_go_upstream() {
    for name in ["example.org.", "8.8.8.8.in-addr.arpa.", "nothing.default."] {
        let outcome = answer(&zone(), &request(name, RecordType::A), &Rotation::default());
        assert!(matches!(outcome, Outcome::Forward), "{name}: {outcome:?}");
    }
}

#[test]
fn an_alias_is_followed_upstream_and_cannot_go_round() {
    let out = answer(&zone(), &request("out.default.", RecordType::A), &Rotation::default());
    let Outcome::Chase { reply, target } = out else { panic!("{out:?}") };
    assert_eq!(target.to_string(), "example.org.");
    assert_eq!(data(&reply.answers), ["example.org."]);
    check("loop.default.", RecordType::A, &["loop.default.svc.cluster.local."]);
}

#[test]
fn odd_requests_are_refused_by_their_code() {
    let code = |change: fn(&mut Message)| {
        let mut request = request("web.default.", RecordType::A);
        change(&mut request);
        match answer(&zone(), &request, &Rotation::default()) {
            Outcome::Reply(reply) => reply.metadata.response_code,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(code(|r| r.metadata.op_code = OpCode::Update), ResponseCode::NotImp);
    assert_eq!(code(|r| r.queries.clear()), ResponseCode::FormErr);
    let chaos = |r: &mut Message| {
        r.queries[0].set_query_class(DNSClass::CH);
    };
    assert_eq!(code(chaos), ResponseCode::Refused);
    let newer = |r: &mut Message| {
        let mut edns = Edns::new();
        edns.set_version(1);
        r.set_edns(edns);
    };
    assert_eq!(code(newer), ResponseCode::BADVERS);
    let mut response = request("web.default.", RecordType::A);
    response.metadata.message_type = MessageType::Response;
    assert!(matches!(answer(&zone(), &response, &Rotation::default()), Outcome::Ignore));
}

#[test]
fn what_does_not_fit_is_cut_and_marked() {
    let mut reply = reply("web.default.", RecordType::A);
    let one = reply.answers[0].clone();
    reply.answers = vec![one; 10_000];
    reply.set_edns(Edns::new());
    let bytes = encode(&mut reply, usize::from(DEFAULT_MAX_PAYLOAD_LEN)).unwrap();
    assert!(bytes.len() <= usize::from(DEFAULT_MAX_PAYLOAD_LEN));
    let read = Message::from_vec(&bytes).unwrap();
    assert!(read.metadata.truncation && read.answers.len() > 50 && read.edns.is_some());
}

proptest! {
    #[test]
    fn any_name_and_type_has_an_outcome(labels in proptest::collection::vec("[a-z_.*-]{1,12}", 0..8),
        suffix in 0_usize..4, kind in any::<u16>()) {
        let suffix = ["", "svc.cluster.local", "pod.cluster.local", "in-addr.arpa"][suffix];
        if let Ok(name) = Name::from_ascii(format!("{}.{suffix}", labels.join("."))) {
            let mut request = Message::query();
            request.add_query(Query::query(name, RecordType::from(kind)));
            let outcome = answer(&zone(), &request, &Rotation::default());
            if let Outcome::Reply(mut reply) = outcome {
                assert!(encode(&mut reply, 512).is_some_and(|bytes| bytes.len() <= 512));
            }
        }
    }
}
