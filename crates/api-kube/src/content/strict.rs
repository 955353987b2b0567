//! JSON into a value, noting fields that are given twice (the last one counts) and refusing deep nesting.

use std::fmt;

use pontoon_model::status::Status;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::{Decoded, MAX_DEPTH};

/// How many doubled fields are told.
const MAX_DUPLICATES: usize = 32;

pub(super) fn from_json(bytes: &[u8]) -> Result<Decoded, Status> {
    let mut notes = Notes { path: Vec::new(), duplicates: Vec::new() };
    let malformed = |error: serde_json::Error| {
        Status::bad_request(format!("the body of the request is not valid JSON: {error}"))
    };
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Node(&mut notes).deserialize(&mut deserializer).map_err(malformed)?;
    deserializer.end().map_err(malformed)?;
    Ok(Decoded { value, duplicates: notes.duplicates })
}

struct Notes {
    path: Vec<Step>,
    duplicates: Vec<String>,
}

enum Step {
    Field(String),
    Item(usize),
}

impl Notes {
    fn here(&self) -> String {
        let mut text = String::new();
        for step in &self.path {
            match step {
                Step::Field(name) if text.is_empty() => text.push_str(name),
                Step::Field(name) => {
                    text.push('.');
                    text.push_str(name);
                }
                Step::Item(index) => text.push_str(&format!("[{index}]")),
            }
        }
        text
    }
}

struct Node<'n>(&'n mut Notes);

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        if self.0.path.len() > MAX_DEPTH {
            return Err(D::Error::custom(format_args!("nested deeper than {MAX_DEPTH} levels")));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        loop {
            self.0.path.push(Step::Item(list.len()));
            let item = items.next_element_seed(Node(self.0))?;
            self.0.path.pop();
            match item {
                Some(item) => list.push(item),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(name) = fields.next_key::<String>()? {
            self.0.path.push(Step::Field(name.clone()));
            if map.contains_key(&name) && self.0.duplicates.len() < MAX_DUPLICATES {
                let here = self.0.here();
                self.0.duplicates.push(here);
            }
            let value = fields.next_value_seed(Node(self.0))?;
            self.0.path.pop();
            map.insert(name, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn doubled_fields_are_told_and_the_last_counts() {
        let text = br#"{"a":1,"l":[{"b":1,"b":[2]}],"a":"x\"","f":1.5,"n":null,"m":-3}"#;
        let decoded = from_json(text).unwrap();
        let wanted = json!({"a": "x\"", "l": [{"b": [2]}], "f": 1.5, "n": null, "m": -3});
        assert_eq!(decoded.value, wanted);
        assert_eq!(decoded.duplicates, ["l[0].b", "a"]);
    }

    #[test]
    fn deep_or_broken_json_is_refused() {
        let deep = format!("{}1{}", "[".repeat(5000), "]".repeat(5000));
        for text in [deep.as_str(), "{", "{} {}", "{\"a\":}", "[1,]", "\u{feff}{}", "nul"] {
            assert_eq!(from_json(text.as_bytes()).unwrap_err().code, 400);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            drop(from_json(&bytes));
        }

        #[test]
        fn well_formed_json_is_read_as_serde_json_does(text in "[\\[\\]{}:,0-9a\" ]{0,30}") {
            let plain = serde_json::from_str::<Value>(&text);
            proptest::prop_assert_eq!(from_json(text.as_bytes()).ok().map(|d| d.value), plain.ok());
        }
    }
}
