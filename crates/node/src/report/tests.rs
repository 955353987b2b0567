//! How reports are sent, and what of them is taken.

use super::*;

fn status(name: usize, bytes: usize) -> Report {
    let status = PodStatus { message: Some("x".repeat(bytes)), ..PodStatus::default() };
    let (namespace, name, uid) = ("d".to_owned(), name.to_string(), "u".to_owned());
    Report::PodStatus { namespace, name, uid, status: Box::new(status) }
}

/// The bodies that are sent, read as a manager reads them: how many reports, and the names.
fn sent(reports: Vec<Report>) -> (Vec<usize>, Vec<String>) {
    let (mut counts, mut names) = (Vec::new(), Vec::new());
    for request in requests(reports) {
        let body = serde_json::to_vec(&request).unwrap();
        assert!(body.len() <= BODY_BYTES_MAX, "{} bytes", body.len());
        let read: Vec<WireReport> = serde_json::from_slice(&body).unwrap();
        assert!(read.len() <= REPORTS_MAX);
        counts.push(read.len());
        names.extend(read.into_iter().map(|report| match report {
            WireReport::PodStatus { name, .. } => name,
            _ => panic!("another report than was sent"),
        }));
    }
    (counts, names)
}

#[test]
fn a_request_is_no_larger_than_is_taken() {
    assert_eq!(sent(Vec::new()), (vec![], vec![]));
    let small = (0..600).map(|n| status(n, 10)).collect();
    let (counts, names) = sent(small);
    assert_eq!(counts, [256, 256, 88]);
    assert_eq!(names, (0..600).map(|n| n.to_string()).collect::<Vec<_>>());
    let large = (0..200).map(|n| status(n, 100_000)).collect();
    let (counts, names) = sent(large);
    assert!(counts.len() > 4 && names.len() == 200, "{counts:?}");
    // To the byte: what fills a request, and one byte more.
    let overhead = serde_json::to_vec(&requests(vec![status(0, 0)])[0]).unwrap().len();
    let room = BODY_BYTES_MAX - overhead;
    assert_eq!(sent(vec![status(0, room)]).0, [1]);
    assert_eq!(sent(vec![status(0, room), status(1, 1)]).0, [1, 1]);
}

#[test]
fn what_nobody_would_take_holds_up_nothing_else() {
    let reports = vec![status(0, 1), status(1, BODY_BYTES_MAX), status(2, 1)];
    assert_eq!(sent(reports), (vec![2], vec!["0".to_owned(), "2".to_owned()]));
}

fn about(regarding: Value) -> Option<Value> {
    subject("here", serde_json::from_value(regarding).unwrap()).map(|found| json!(found))
}

#[test]
fn events_are_about_the_node_itself_or_pods() {
    let node = json!({ "kind": "Node", "name": "here", "namespace": "kube-system", "uid": "x" });
    let own = json!({ "apiVersion": "v1", "kind": "Node", "name": "here", "uid": "here" });
    assert_eq!(about(node), Some(own));
    assert_eq!(about(json!({ "kind": "Node", "name": "other" })), None);
    assert_eq!(about(json!({ "kind": "Secret", "name": "s", "namespace": "n" })), None);
    assert_eq!(about(json!({ "name": "here" })), None);
    let long = "x".repeat(FIELD_PATH_BYTES_MAX + 1);
    let pod =
        json!({ "kind": "Pod", "name": "p", "namespace": "n", "uid": "u", "fieldPath": long });
    let kept =
        json!({ "apiVersion": "v1", "kind": "Pod", "name": "p", "namespace": "n", "uid": "u" });
    assert_eq!(about(pod), Some(kept));
}
