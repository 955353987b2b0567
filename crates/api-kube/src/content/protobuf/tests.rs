//! Bodies as Go writes them, put together by hand.

use serde_json::json;

use super::*;

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

fn bytes(number: u64, content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    [varint(number << 3 | 2), varint(content.len() as u64), content.to_vec()].concat()
}

fn number(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

fn body(version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let meta = [bytes(1, version), bytes(2, kind)].concat();
    [MAGIC.to_vec(), bytes(1, meta), bytes(2, raw), bytes(3, ""), bytes(4, "")].concat()
}

#[test]
fn every_message_that_is_named_is_there_and_every_served_kind_is_one() {
    let messages = Messages::get().unwrap();
    for resource in pontoon_model::resource::ALL {
        let found = messages.of_kind(&resource.api_version(), resource.kind);
        assert!(found.is_some_and(|slots| !slots.is_empty()), "{resource}");
    }
    for review in crate::review::ALL {
        assert!(messages.of_kind(&review.api_version(), review.kind).is_some());
    }
    for (version, kind) in [
        ("v1", "DeleteOptions"),
        ("policy/v1", "Eviction"),
        ("autoscaling/v1", "Scale"),
        ("v1", "Binding"),
    ] {
        assert!(messages.of_kind(version, kind).is_some(), "{kind}");
    }
}

#[test]
fn a_secret() {
    let meta = [
        bytes(1, "s"),
        bytes(2, ""),
        bytes(8, ""),
        bytes(11, [bytes(1, "l"), bytes(2, "")].concat()),
    ]
    .concat();
    let raw =
        [bytes(1, meta), bytes(2, [bytes(1, "k"), bytes(2, "v")].concat()), bytes(3, "Opaque")]
            .concat();
    let wanted = json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": {"k": "dg=="},
        "metadata": {"name": "s", "labels": {"l": ""}}});
    assert_eq!(decode(&body("v1", "Secret", &raw)).unwrap(), wanted);
}

#[test]
fn a_deployment_with_what_go_sends_for_nothing() {
    let port =
        [bytes(1, "http"), number(2, 0), number(3, 8080), bytes(4, "TCP"), bytes(5, "")].concat();
    let limits = bytes(1, [bytes(1, "cpu"), bytes(2, bytes(1, "500m"))].concat());
    let http =
        [bytes(1, "/"), bytes(2, [number(1, 1), number(2, 0), bytes(3, "http")].concat())].concat();
    let probe = [bytes(1, bytes(2, http)), number(2, 0), number(3, 0), number(4, 5)].concat();
    let container = [
        bytes(1, "c"),
        bytes(2, "i"),
        bytes(3, "sh"),
        bytes(3, ""),
        bytes(6, port),
        bytes(8, limits),
        bytes(11, probe),
        number(16, 0),
        number(17, 1),
    ]
    .concat();
    let volume = [bytes(1, "v"), bytes(2, bytes(2, bytes(1, "Memory")))].concat();
    let pod =
        [bytes(1, volume), bytes(2, container), bytes(3, ""), number(4, 0), number(11, 0)].concat();
    let selector = bytes(1, [bytes(1, "a"), bytes(2, "b")].concat());
    let rolling = bytes(1, [number(1, 0), number(2, 0), bytes(3, "")].concat());
    let strategy = [bytes(1, ""), bytes(2, rolling)].concat();
    let spec = [
        number(1, 0),
        bytes(2, selector),
        bytes(3, [bytes(1, ""), bytes(2, pod)].concat()),
        bytes(4, strategy),
        number(5, 0),
    ]
    .concat();
    let raw = [bytes(1, bytes(1, "d")), bytes(2, spec), bytes(3, number(1, 0))].concat();
    let decoded = decode(&body("apps/v1", "Deployment", &raw)).unwrap();
    assert_eq!(
        decoded["spec"],
        json!({
            "replicas": 0,
            "selector": {"matchLabels": {"a": "b"}},
            "strategy": {"rollingUpdate": {"maxUnavailable": 0}},
            "template": {"metadata": {}, "spec": {
                "terminationGracePeriodSeconds": 0,
                "volumes": [{"name": "v", "emptyDir": {"medium": "Memory"}}],
                "containers": [{"name": "c", "image": "i", "command": ["sh", ""], "stdinOnce": true,
                    "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
                    "resources": {"limits": {"cpu": "500m"}},
                    "readinessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 5}}]}},
        })
    );
}

#[test]
fn times_and_reviews() {
    let micro = [number(1, 1_700_000_000), number(2, 5_000)].concat();
    let raw = bytes(2, [bytes(1, "me"), bytes(4, micro)].concat());
    let lease = decode(&body("coordination.k8s.io/v1", "Lease", &raw)).unwrap();
    assert_eq!(
        lease["spec"],
        json!({"holderIdentity": "me", "renewTime": "2023-11-14T22:13:20.000005Z"})
    );
    let extra = [bytes(1, "k"), bytes(2, [bytes(1, "a"), bytes(1, "b")].concat())].concat();
    let raw = bytes(2, bytes(5, extra));
    let review = decode(&body("authorization.k8s.io/v1", "SubjectAccessReview", &raw)).unwrap();
    assert_eq!(review["spec"]["extra"], json!({"k": ["a", "b"]}));
    let raw = [number(1, 5), bytes(4, "Background")].concat();
    let options = decode(&body("apps/v1", "DeleteOptions", &raw)).unwrap();
    assert_eq!(
        (&options["gracePeriodSeconds"], &options["propagationPolicy"]),
        (&json!(5), &json!("Background"))
    );
}

#[test]
fn what_is_not_a_message_is_refused() {
    let code = |bytes: &[u8]| decode(bytes).unwrap_err().code;
    assert_eq!(code(b"{}"), 400);
    assert_eq!(code(&body("example.com/v1", "Thing", b"")), 415);
    assert_eq!(code(&body("v1", "Secret", &[0x0a, 0x7f, 1])), 400);
    assert_eq!(code(&body("v1", "Secret", &number(1, 5))), 400);
    assert_eq!(code(&body("v1", "Secret", &bytes(3, [0xff]))), 400);
    assert_eq!(code(&body("v1", "Secret", &[0xff; 20])), 400);
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(raw: Vec<u8>) {
        drop(decode(&body("v1", "Pod", &raw)));
        drop(decode(&[MAGIC.to_vec(), raw].concat()));
    }
}
