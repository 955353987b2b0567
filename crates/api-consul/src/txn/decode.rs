//! The operations of a transaction, read of its body.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Map, Value};

use crate::json::{self, field, number, text};
use crate::op::{KvOp, Verb};
use crate::refusal::Refusal;

/// All operations of a body, at most `max`; instead of one whose verb is unknown, what is said of it.
pub(super) fn operations(body: &[u8], max: usize) -> Result<Vec<Result<KvOp, String>>, Refusal> {
    let bad = |words: String| Refusal::BadRequest(format!("Failed to parse body: {words}"));
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

fn operation(line: &Map<String, Value>) -> Result<Option<Result<KvOp, String>>, Refusal> {
    let bad = |words: String| Refusal::BadRequest(format!("Failed to parse body: {words}"));
    let is = |name: &&String, known: &str| name.eq_ignore_ascii_case(known);
    for name in line.keys() {
        if ["Node", "Service", "Check"].iter().any(|known| is(&name, known)) {
            return Err(Refusal::NotServed(format!("a transaction with a {name} operation")));
        }
        if !is(&name, "KV") {
            return Err(bad(format!("json: unknown field {name:?}")));
        }
    }
    let Some(kv) = field(line, "KV") else { return Ok(None) };
    let kv = kv.as_object().ok_or_else(|| bad("KV must be an object".to_owned()))?;
    key_operation(kv).map(Some).map_err(bad)
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
        let ops: Result<Vec<_>, _> = operations(body, 64).unwrap().into_iter().collect();
        let ops = ops.unwrap();
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
        let node = operations(br#"[{"Node": {"Verb": "get"}}]"#, 64);
        assert!(matches!(node, Err(Refusal::NotServed(_))));
    }
}
