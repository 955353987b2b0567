//! What is in each message: numbers from `field_numbers.txt`, names and types from the schemas.

use std::collections::{BTreeMap, HashMap};
use std::sync::OnceLock;

use pontoon_model::status::Status;
use serde_json::Value;

use crate::openapi::{SCHEMAS, meta_schema, schema_name};

const NUMBERS: &str = include_str!("../field_numbers.txt");

/// The type of a value.
#[derive(Debug)]
pub(super) enum Kind {
    Text,
    /// Bytes, which JSON has in base64.
    Blob,
    Integer,
    Number,
    Flag,
    Quantity,
    IntOrString,
    Time,
    MicroTime,
    /// JSON in bytes.
    Json,
    Message(String),
    List(Box<Kind>),
    Map(Box<Kind>),
}

/// What a field's number stands for.
#[derive(Debug)]
pub(super) enum Slot {
    Field(String, Kind),
    /// Fields that JSON has one level higher.
    Embedded(Slots),
}

/// The fields of a message by number.
pub(super) type Slots = HashMap<u32, Slot>;

/// All messages by the name of their schema.
#[derive(Debug)]
pub(super) struct Messages(HashMap<String, Slots>);

impl Messages {
    /// The messages, made when first needed.
    pub(super) fn get() -> Result<&'static Messages, Status> {
        static MADE: OnceLock<Option<Messages>> = OnceLock::new();
        MADE.get_or_init(Messages::make)
            .as_ref()
            .ok_or_else(|| Status::internal("the built-in schemas cannot be read"))
    }

    fn make() -> Option<Messages> {
        let schemas: BTreeMap<String, Value> = serde_json::from_str(SCHEMAS).ok()?;
        let lines = NUMBERS.lines().filter(|line| !line.starts_with('#'));
        let message = |line: &str| {
            let (name, fields) = line.split_once(' ').unwrap_or((line, ""));
            let properties = schemas.get(name).and_then(|schema| schema.get("properties"));
            let mut slots = Slots::new();
            for (field, number) in fields.split(' ').filter_map(|field| field.split_once('=')) {
                let kind = properties.and_then(|properties| kind(properties.get(field)?))?;
                add(&mut slots, field, number, kind)?;
            }
            Some((name.to_owned(), slots))
        };
        lines.map(message).collect::<Option<HashMap<_, _>>>().map(Messages)
    }

    pub(super) fn by_name(&self, name: &str) -> Option<&Slots> {
        self.0.get(name)
    }

    /// The message of a kind. Options of requests have the version of what they are sent to.
    pub(super) fn of_kind(&self, api_version: &str, kind: &str) -> Option<&Slots> {
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        if kind == "DeleteOptions" {
            return self.by_name(&meta_schema(kind));
        }
        self.by_name(&schema_name(group, version, kind))
    }
}

/// Adds a field at `4`, or at `2/4`: number 4 of what is embedded as number 2.
fn add(slots: &mut Slots, field: &str, number: &str, kind: Kind) -> Option<()> {
    match number.split_once('/') {
        None => {
            slots.insert(number.parse().ok()?, Slot::Field(field.to_owned(), kind));
        }
        Some((outer, inner)) => {
            let slot =
                slots.entry(outer.parse().ok()?).or_insert_with(|| Slot::Embedded(Slots::new()));
            let Slot::Embedded(embedded) = slot else { return None };
            add(embedded, field, inner, kind)?;
        }
    }
    Some(())
}

fn kind(schema: &Value) -> Option<Kind> {
    if let Some(reference) = reference(schema) {
        return Some(of_reference(reference));
    }
    let format = schema.get("format").and_then(Value::as_str);
    Some(match schema.get("type")?.as_str()? {
        "string" if format == Some("byte") => Kind::Blob,
        "string" => Kind::Text,
        "integer" => Kind::Integer,
        "number" => Kind::Number,
        "boolean" => Kind::Flag,
        "array" => Kind::List(Box::new(kind(schema.get("items")?)?)),
        "object" => Kind::Map(Box::new(kind(schema.get("additionalProperties")?)?)),
        _ => return None,
    })
}

fn reference(schema: &Value) -> Option<&str> {
    let direct = schema.get("$ref");
    let wrapped = || schema.get("allOf")?.get(0)?.get("$ref");
    direct.or_else(wrapped)?.as_str()?.strip_prefix("#/definitions/")
}

fn of_reference(name: &str) -> Kind {
    match name.rsplit('.').next().unwrap_or(name) {
        "Quantity" => Kind::Quantity,
        "IntOrString" => Kind::IntOrString,
        "Time" => Kind::Time,
        "MicroTime" => Kind::MicroTime,
        "FieldsV1" | "RawExtension" => Kind::Json,
        _ => Kind::Message(name.to_owned()),
    }
}
