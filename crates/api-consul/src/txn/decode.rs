//! The operations of a transaction, read of its body.

mod record;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Map, Value};

use crate::json::{self, field, number, text};
use crate::op::{KvOp, Operation, Verb};
use crate::refusal::Refusal;

/// All operations of a body, at most `max`; instead of one whose verb is unknown, what is said of it.
pub(super) fn operations(
    body: &[u8],
    max: usize,
) -> Result<Vec<Result<Operation, String>>, Refusal> {
    let body = json::decode(body).map_err(bad)?;
    let list = body.as_array().ok_or_else(|| bad("it must be a list of operations".to_owned()))?;
    if list.len() > max {
        return Err(Refusal::TooLarge(format!(
            "Transaction contains too many operations ({} > {max})",
            list.len()
        )));
    }
    let mut lines = Vec::with_capacity(list.len());
    for line in list {
        let line =
            line.as_object().ok_or_else(|| bad("an operation must be an object".to_owned()))?;
        // As in Consul, a line without an operation is none.
        lines.extend(operation(line)?);
    }
    Ok(lines)
}

fn bad(words: String) -> Refusal {
    Refusal::BadRequest(format!("Failed to parse body: {words}"))
}

/// The kinds of operations, in the order in which Consul looks for them in a line.
const KINDS: &[&str] = &["KV", "Node", "Service", "Check"];

fn operation(line: &Map<String, Value>) -> Result<Option<Result<Operation, String>>, Refusal> {
    for name in line.keys() {
        if !KINDS.iter().any(|known| name.eq_ignore_ascii_case(known)) {
            return Err(bad(format!("json: unknown field {name:?}")));
        }
    }
    let found = KINDS.iter().find_map(|kind| Some((*kind, field(line, kind)?)));
    let Some((kind, object)) = found else { return Ok(None) };
    let not_object = || bad(format!("{kind} must be an object"));
    let object = object.as_object().ok_or_else(not_object)?;
    if kind == "KV" {
        let op = key_operation(object).map_err(bad)?;
        return Ok(Some(op.map(Operation::Key)));
    }
    record::operation(kind, object).map(|op| Some(Ok(Operation::Catalog(Box::new(op)))))
}

fn key_operation(kv: &Map<String, Value>) -> Result<Result<KvOp, String>, String> {
    let word = text(kv, "Verb")?;
    let value = STANDARD
        .decode(text(kv, "Value")?)
        .map_err(|error| format!("failed to decode value: {error}"))?;
    let key = Bytes::copy_from_slice(text(kv, "Key")?.as_bytes());
    let (flags, index) = (number(kv, "Flags")?, number(kv, "Index")?);
    let session = text(kv, "Session")?.to_owned();
    let Some(verb) = Verb::parse(word) else {
        return Ok(Err(format!("unknown KV verb {word:?}")));
    };
    Ok(Ok(KvOp { verb, key, value: Bytes::from(value), flags, index, session }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_read() {
        let body =
            br#"[{"KV": {"Verb": "cas", "Key": "a/../b", "Value": "aGk=", "Flags": 7, "Index": 3}},
                        {"kv": {"verb": "lock", "key": "\u0000", "value": null, "session": "s"}}]"#;
        let key = |op: Result<Operation, String>| match op {
            Ok(Operation::Key(op)) => op,
            other => panic!("{other:?} is no operation on a key"),
        };
        let ops: Vec<_> = operations(body, 64).unwrap().into_iter().map(key).collect();
        assert_eq!(
            (ops[0].verb, &ops[0].key[..], &ops[0].value[..]),
            (Verb::Cas, &b"a/../b"[..], &b"hi"[..])
        );
        assert_eq!((ops[0].flags, ops[0].index), (7, 3));
        assert_eq!(
            (ops[1].verb, &ops[1].key[..], ops[1].session.as_str()),
            (Verb::Lock, &b"\0"[..], "s")
        );
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        let bad: [&[u8]; 7] = [
            b"",
            b"{}",
            b"[1]",
            br#"[{"Session": {"Verb": "delete"}}]"#,
            br#"[{"KV": {"Verb": "set", "Key": "a", "Value": "%"}}]"#,
            br#"[{"KV": {"Verb": "set", "Key": 1}}]"#,
            br#"[{"KV": {"Verb": "set", "Key": "a", "Flags": -1}}]"#,
        ];
        for body in bad {
            let refused = operations(body, 64);
            assert!(
                matches!(refused, Err(Refusal::BadRequest(_))),
                "{}",
                String::from_utf8_lossy(body)
            );
        }
        let many = format!("[{}]", [r#"{"KV":{"Verb":"get","Key":"a"}}"#; 65].join(","));
        assert!(matches!(operations(many.as_bytes(), 64), Err(Refusal::TooLarge(_))));
        let unknown = operations(br#"[{}, {"KV": {"Verb": "fly", "Key": "a"}}]"#, 64).unwrap();
        assert_eq!(unknown.len(), 1, "a line without an operation is none");
        assert_eq!(unknown[0].as_ref().err(), Some(&"unknown KV verb \"fly\"".to_owned()));
        for refused in [
            r#"{"Check": {"Verb": "set", "Check": {"CheckID": "c", "Definition": {"HTTP": "x"}}}}"#,
            r#"{"Service": {"Verb": "set", "Service": {"Service": "s", "Kind": "connect-proxy"}}}"#,
            r#"{"Service": {"Verb": "set", "Service": {"Service": "s", "Connect": {"Native": true}}}}"#,
        ] {
            let said = operations(format!("[{refused}]").as_bytes(), 64);
            assert!(matches!(said, Err(Refusal::NotServed(_))), "{refused}");
        }
        // What Consul shows of a service is taken back.
        let shown =
            r#"{"Service": "s", "Proxy": {"Expose": {}, "MeshGateway": {}}, "Connect": {}}"#;
        let back =
            format!(r#"[{{"Service": {{"Verb": "set", "Node": "n", "Service": {shown}}}}}]"#);
        assert!(operations(back.as_bytes(), 64).unwrap()[0].is_ok());
    }
}
