//! Kubernetes' protobuf bodies, which Go's typed clients send for built-in kinds (`kubectl create`, `auth can-i`),
//! into the values that the same objects have as JSON. Answers are always JSON, which those clients accept.

mod messages;
mod wire;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use pontoon_model::status::Status;
use serde_json::{Map, Value};

use super::MAX_DEPTH;
use messages::{Kind, Messages, Slot};
use wire::{BadWire, Fields, Part};

/// What every body begins with.
const MAGIC: &[u8] = b"k8s\0";

/// Flags that mean something when they are false; other false flags are as good as absent, and Go sends them.
const TOLD_WHEN_FALSE: &[&str] = &[
    "allocateLoadBalancerNodePorts",
    "allowPrivilegeEscalation",
    "automountServiceAccountToken",
    "blockOwnerDeletion",
    "controller",
    "enableServiceLinks",
    "hostProcess",
    "hostUsers",
    "immutable",
    "optional",
    "orphanDependents",
    "privileged",
    "readOnlyRootFilesystem",
    "ready",
    "runAsNonRoot",
    "serving",
    "setHostnameAsFQDN",
    "shareProcessNamespace",
    "started",
    "terminating",
];

/// Numbers that are absent when they are 0; Go sends them.
const ABSENT_WHEN_ZERO: &[&str] = &[
    "count",
    "failureThreshold",
    "generation",
    "healthCheckNodePort",
    "hostPort",
    "initialDelaySeconds",
    "minReadySeconds",
    "nodePort",
    "observedGeneration",
    "periodSeconds",
    "successThreshold",
    "timeoutSeconds",
];

/// The object in a body; 400 when it is malformed, 415 when its kind is not known here.
pub(super) fn decode(bytes: &[u8]) -> Result<Value, Status> {
    let malformed = |error: BadWire| {
        Status::bad_request(format!("the body of the request is not valid protobuf: {error}"))
    };
    let envelope = bytes.strip_prefix(MAGIC).ok_or_else(|| malformed(BadWire::NoMagic))?;
    let envelope = Envelope::read(envelope).map_err(malformed)?;
    let messages = Messages::get()?;
    let message = messages.of_kind(envelope.api_version, envelope.kind).ok_or_else(|| {
        Status::unsupported_media_type(format!(
            "a {} of {} cannot be read from application/vnd.kubernetes.protobuf, send application/json",
            envelope.kind, envelope.api_version
        ))
    })?;
    let reader = Reader { messages };
    let mut object = reader.message(message, envelope.raw, 0).map_err(malformed)?;
    object.insert("apiVersion".to_owned(), envelope.api_version.into());
    object.insert("kind".to_owned(), envelope.kind.into());
    Ok(Value::Object(object))
}

/// What is around an object: its kind, and its message.
struct Envelope<'b> {
    api_version: &'b str,
    kind: &'b str,
    raw: &'b [u8],
}

impl<'b> Envelope<'b> {
    fn read(bytes: &'b [u8]) -> Result<Envelope<'b>, BadWire> {
        let mut envelope = Envelope { api_version: "", kind: "", raw: &[] };
        for field in Fields::new(bytes) {
            match field? {
                (1, Part::Bytes(meta)) => envelope.read_kind(meta)?,
                (2, Part::Bytes(raw)) => envelope.raw = raw,
                (3, Part::Bytes(encoding)) if !encoding.is_empty() => return Err(BadWire::Encoded),
                _ => {}
            }
        }
        Ok(envelope)
    }

    fn read_kind(&mut self, bytes: &'b [u8]) -> Result<(), BadWire> {
        for field in Fields::new(bytes) {
            match field? {
                (1, Part::Bytes(version)) => self.api_version = wire::text(version)?,
                (2, Part::Bytes(kind)) => self.kind = wire::text(kind)?,
                _ => {}
            }
        }
        Ok(())
    }
}

struct Reader {
    messages: &'static Messages,
}

impl Reader {
    fn message(
        &self,
        slots: &messages::Slots,
        bytes: &[u8],
        depth: usize,
    ) -> Result<Map<String, Value>, BadWire> {
        let mut object = Map::new();
        self.fill(&mut object, slots, bytes, depth)?;
        Ok(object)
    }

    fn fill(
        &self,
        object: &mut Map<String, Value>,
        slots: &messages::Slots,
        bytes: &[u8],
        depth: usize,
    ) -> Result<(), BadWire> {
        if depth > MAX_DEPTH {
            return Err(BadWire::TooDeep);
        }
        for field in Fields::new(bytes) {
            let (number, part) = field?;
            match slots.get(&number) {
                Some(Slot::Field(name, kind)) => self.field(object, name, kind, part, depth)?,
                Some(Slot::Embedded(inner)) => {
                    self.fill(object, inner, part.bytes()?, depth + 1)?;
                }
                None => {}
            }
        }
        Ok(())
    }

    fn field(
        &self,
        object: &mut Map<String, Value>,
        name: &str,
        kind: &Kind,
        part: Part<'_>,
        depth: usize,
    ) -> Result<(), BadWire> {
        match kind {
            Kind::List(of) => {
                let item = self.value(of, part, depth + 1)?;
                let list = object.entry(name).or_insert_with(|| Value::Array(Vec::new()));
                if let Value::Array(items) = list {
                    items.push(item);
                }
            }
            Kind::Map(of) => {
                let (key, value) = self.entry(of, part.bytes()?, depth + 1)?;
                let map = object.entry(name).or_insert_with(|| Value::Object(Map::new()));
                if let Value::Object(entries) = map {
                    entries.insert(key, value);
                }
            }
            kind => {
                let value = self.value(kind, part, depth)?;
                if !is_absent(name, &value) {
                    object.insert(name.to_owned(), value);
                }
            }
        }
        Ok(())
    }

    fn entry(&self, of: &Kind, bytes: &[u8], depth: usize) -> Result<(String, Value), BadWire> {
        let mut key = String::new();
        let mut value = Value::String(String::new());
        for field in Fields::new(bytes) {
            match field? {
                (1, part) => wire::text(part.bytes()?)?.clone_into(&mut key),
                (2, part) => value = self.map_value(of, part, depth)?,
                _ => {}
            }
        }
        Ok((key, value))
    }

    /// Lists in maps are messages with nothing but the list.
    fn map_value(&self, of: &Kind, part: Part<'_>, depth: usize) -> Result<Value, BadWire> {
        let Kind::List(item) = of else { return self.value(of, part, depth) };
        let mut items = Vec::new();
        for field in Fields::new(part.bytes()?) {
            if let (1, part) = field? {
                items.push(self.value(item, part, depth + 1)?);
            }
        }
        Ok(Value::Array(items))
    }

    fn value(&self, kind: &Kind, part: Part<'_>, depth: usize) -> Result<Value, BadWire> {
        Ok(match kind {
            Kind::Text => wire::text(part.bytes()?)?.into(),
            Kind::Blob => STANDARD.encode(part.bytes()?).into(),
            // Negative numbers are written as their 64-bit complement.
            Kind::Integer => part.varint()?.cast_signed().into(),
            Kind::Flag => (part.varint()? != 0).into(),
            Kind::Number => f64::from_bits(part.fixed()?).into(),
            Kind::Quantity => quantity(part.bytes()?)?,
            Kind::IntOrString => int_or_string(part.bytes()?)?,
            Kind::Time => time(part.bytes()?, "%Y-%m-%dT%H:%M:%SZ")?,
            Kind::MicroTime => time(part.bytes()?, "%Y-%m-%dT%H:%M:%S.%6fZ")?,
            Kind::Json => json(part.bytes()?)?,
            Kind::Message(name) => {
                let slots = self.messages.by_name(name).ok_or(BadWire::UnknownMessage)?;
                Value::Object(self.message(slots, part.bytes()?, depth + 1)?)
            }
            Kind::List(_) | Kind::Map(_) => return Err(BadWire::WrongType),
        })
    }
}

/// Whether a value is what Go sends for a field that was never set.
fn is_absent(name: &str, value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty() || (name == "divisor" && text == "0"),
        Value::Bool(false) => !TOLD_WHEN_FALSE.contains(&name),
        Value::Number(number) if number.as_i64() == Some(0) => {
            name == "targetPort" || ABSENT_WHEN_ZERO.contains(&name)
        }
        _ => false,
    }
}

fn quantity(bytes: &[u8]) -> Result<Value, BadWire> {
    for field in Fields::new(bytes) {
        if let (1, part) = field? {
            return Ok(wire::text(part.bytes()?)?.into());
        }
    }
    Ok(Value::Null)
}

fn int_or_string(bytes: &[u8]) -> Result<Value, BadWire> {
    let (mut is_text, mut number, mut text) = (false, 0, "");
    for field in Fields::new(bytes) {
        match field? {
            (1, part) => is_text = part.varint()? == 1,
            (2, part) => number = part.varint()?.cast_signed(),
            (3, part) => text = wire::text(part.bytes()?)?,
            _ => {}
        }
    }
    Ok(if is_text { text.into() } else { number.into() })
}

/// Seconds and nanoseconds since 1970; nothing at all is no time.
fn time(bytes: &[u8], format: &str) -> Result<Value, BadWire> {
    let (mut seconds, mut nanos) = (0, 0);
    for field in Fields::new(bytes) {
        match field? {
            (1, part) => seconds = part.varint()?.cast_signed(),
            (2, part) => nanos = i32::try_from(part.varint()?).map_err(|_| BadWire::WrongType)?,
            _ => {}
        }
    }
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let at = Timestamp::new(seconds, nanos).map_err(|_| BadWire::WrongType)?;
    Ok(at.strftime(format).to_string().into())
}

fn json(bytes: &[u8]) -> Result<Value, BadWire> {
    for field in Fields::new(bytes) {
        if let (1, part) = field? {
            return serde_json::from_slice(part.bytes()?).map_err(|_| BadWire::WrongType);
        }
    }
    Ok(Value::Null)
}

#[cfg(test)]
mod tests;
