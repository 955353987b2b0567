//! The operations of a transaction, read of its body.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Map, Value};

use crate::json::{self, field, number, text};
use crate::op::{KvOp, Verb};
use crate::refusal::Refusal;

/// All operations of a body, at most `max`.
pub(super) fn operations(body: &[u8], max: usize) -> Result<Vec<KvOp>, Refusal> {
    let bad = |words: String| Refusal::BadRequest(format!("Failed to parse body: {words}"));
    let body = json::decode(body).map_err(bad)?;
    let list = body.as_array().ok_or_else(|| bad("it must be a list of operations".to_owned()))?;
    if list.len() > max {
        return Err(Refusal::TooLarge(format!(
            "Transaction contains too many operations ({} > {max})",
            list.len()
        )));
    }
    list.iter().map(operation).collect()
}

fn operation(line: &Value) -> Result<KvOp, Refusal> {
    let bad = |words: String| Refusal::BadRequest(format!("Failed to parse body: {words}"));
    let line = line.as_object().ok_or_else(|| bad("an operation must be an object".to_owned()))?;
    if let Some(kv) = field(line, "KV") {
        let kv = kv.as_object().ok_or_else(|| bad("KV must be an object".to_owned()))?;
        return key_operation(kv).map_err(bad);
    }
    for kind in ["Node", "Service", "Check", "Session"] {
        if field(line, kind).is_some() {
            return Err(Refusal::NotServed(format!("a transaction with a {kind} operation")));
        }
    }
    Err(bad("an operation needs a KV".to_owned()))
}

fn key_operation(kv: &Map<String, Value>) -> Result<KvOp, String> {
    let word = text(kv, "Verb")?;
    let verb = Verb::parse(word).ok_or_else(|| format!("unknown KV verb {word:?}"))?;
    let value = STANDARD
        .decode(text(kv, "Value")?)
        .map_err(|error| format!("failed to decode value: {error}"))?;
    Ok(KvOp {
        value: Bytes::from(value),
        flags: number(kv, "Flags")?,
        index: number(kv, "Index")?,
        session: text(kv, "Session")?.to_owned(),
        ..KvOp::new(verb, Bytes::copy_from_slice(text(kv, "Key")?.as_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_read() {
        let body =
            br#"[{"KV": {"Verb": "cas", "Key": "a/../b", "Value": "aGk=", "Flags": 7, "Index": 3}},
                        {"kv": {"verb": "lock", "key": "\u0000", "value": null, "session": "s"}}]"#;
        let ops = operations(body, 64).unwrap();
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
        let bad: [&[u8]; 8] = [
            b"",
            b"{}",
            b"[1]",
            b"[{}]",
            br#"[{"KV": {"Verb": "fly", "Key": "a"}}]"#,
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
        let node = operations(br#"[{"Node": {"Verb": "get"}}]"#, 64);
        assert!(matches!(node, Err(Refusal::NotServed(_))));
    }
}
