//! JSON as Go reads and writes it: field names in any case, `<`, `>` and `&` escaped.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::ser::PrettyFormatter;
use serde_json::{Map, Serializer, Value};

use crate::refusal::Refusal;

/// A value as the body of an answer.
pub(crate) fn encode(value: &impl Serialize, pretty: bool) -> Result<Vec<u8>, Refusal> {
    let failed = |error| Refusal::Failed(format!("write the answer: {error}"));
    if !pretty {
        return serde_json::to_vec(value).map(escape_html).map_err(failed);
    }
    let mut bytes = Vec::new();
    let formatter = PrettyFormatter::with_indent(b"    ");
    value.serialize(&mut Serializer::with_formatter(&mut bytes, formatter)).map_err(failed)?;
    bytes.push(b'\n');
    Ok(escape_html(bytes))
}

/// These bytes occur only inside strings, so that they can be replaced wherever they are.
fn escape_html(bytes: Vec<u8>) -> Vec<u8> {
    let special = |byte: &u8| matches!(byte, b'<' | b'>' | b'&');
    if !bytes.iter().any(special) {
        return bytes;
    }
    let mut escaped = Vec::with_capacity(bytes.len() + 64);
    for byte in bytes {
        match special(&byte) {
            true => escaped.extend(format!("\\u00{byte:02x}").bytes()),
            false => escaped.push(byte),
        }
    }
    escaped
}

/// A value as Consul takes it: the bytes may not be empty.
pub(crate) fn decode(body: &[u8]) -> Result<Value, String> {
    match body.is_empty() {
        true => Err("EOF".to_owned()),
        false => serde_json::from_slice(body).map_err(|error| error.to_string()),
    }
}

/// Objects whose keys are somebody's own words, and not names of fields.
const OWN_WORDS: [&str; 5] = ["meta", "nodemeta", "servicemeta", "taggedaddresses", "header"];

/// Reads a body as Consul's agents do: fields in any case and with `_` anywhere; `null` is as if it were not there.
pub(crate) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    let bad = |words: String| Refusal::BadRequest(format!("Request decode failed: {words}"));
    take(decode(body).map_err(bad)?).map_err(bad)
}

/// The same of a value, or of a part of one.
pub(crate) fn take<T: DeserializeOwned>(value: Value) -> Result<T, String> {
    serde_json::from_value(plain(value, false)).map_err(|error| error.to_string())
}

/// A value with its fields in lower case and without `_`, and without those that are `null`.
pub(crate) fn plain(value: Value, keeps_keys: bool) -> Value {
    match value {
        Value::Object(fields) => {
            let field = |(key, value): (String, Value)| {
                if keeps_keys {
                    return (key, plain(value, false));
                }
                let key = key.replace('_', "").to_lowercase();
                let value = plain(value, OWN_WORDS.contains(&key.as_str()));
                (key, value)
            };
            let there = fields.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(there.map(field).collect())
        }
        Value::Array(items) => items.into_iter().map(|item| plain(item, false)).collect(),
        value => value,
    }
}

/// A field, whatever its case; `null` counts as not there.
pub(crate) fn field<'v>(object: &'v Map<String, Value>, name: &str) -> Option<&'v Value> {
    let exact = object.get(name);
    let found = exact.or_else(|| {
        object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    });
    found.filter(|value| !value.is_null())
}

/// A field that must be text; empty if it is not there.
pub(crate) fn text<'v>(object: &'v Map<String, Value>, name: &str) -> Result<&'v str, String> {
    let Some(value) = field(object, name) else { return Ok("") };
    value.as_str().ok_or_else(|| format!("{name} must be a string"))
}

/// A field that must be a number that is not negative; 0 if it is not there.
pub(crate) fn number(object: &Map<String, Value>, name: &str) -> Result<u64, String> {
    let Some(value) = field(object, name) else { return Ok(0) };
    value.as_u64().ok_or_else(|| format!("{name} must be a number that is not negative"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn html_is_escaped() {
        let plain = encode(&"<a & b>", false).unwrap();
        assert_eq!(plain, br#""\u003ca \u0026 b\u003e""#);
        assert_eq!(serde_json::from_slice::<Value>(&plain).unwrap(), json!("<a & b>"));
    }

    #[test]
    fn pretty_is_indented_by_four() {
        let pretty = encode(&json!([{"a": 1, "b": []}]), true).unwrap();
        let wanted = "[\n    {\n        \"a\": 1,\n        \"b\": []\n    }\n]\n";
        assert_eq!(String::from_utf8(pretty).unwrap(), wanted);
    }

    #[test]
    fn fields_have_any_case() {
        let Value::Object(object) = json!({"verb": "set", "FLAGS": 3, "Session": null}) else {
            unreachable!("it is an object")
        };
        assert_eq!(text(&object, "Verb"), Ok("set"));
        assert_eq!(number(&object, "Flags"), Ok(3));
        assert_eq!(text(&object, "Session"), Ok(""));
        assert!(text(&object, "Flags").is_err());
        assert!(number(&object, "Verb").is_err());
    }
}
