//! What a table's columns are called and what they mean.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::age;
use super::value::text;

/// One column. Columns of priority 1 are shown by `-o wide` only.
pub(super) struct Column {
    pub name: &'static str,
    /// `string` or `integer`.
    pub kind: &'static str,
    pub priority: u8,
    pub description: &'static str,
}

/// A column of text.
pub(super) const fn shown(name: &'static str, description: &'static str) -> Column {
    Column { name, kind: "string", priority: 0, description }
}

/// A column of text for `-o wide`.
pub(super) const fn wide(name: &'static str, description: &'static str) -> Column {
    Column { name, kind: "string", priority: 1, description }
}

/// A column of numbers.
pub(super) const fn number(name: &'static str, description: &'static str) -> Column {
    Column { name, kind: "integer", priority: 0, description }
}

/// The first column of every table.
pub(super) const NAME: Column = shown("Name", "Name, unique within its namespace.");

/// The age of an object, which the server words.
pub(super) const AGE: Column = shown("Age", "Time since the object was created.");

/// The columns of a kind and what stands in them.
pub(super) struct Layout {
    pub columns: &'static [Column],
    /// The cells of one object, as many as there are columns.
    pub cells: fn(&Value, Timestamp) -> Vec<Value>,
    /// Conditions of the row, such as that a pod is completed.
    pub row_conditions: Option<fn(&Value) -> Option<Value>>,
}

impl Layout {
    pub(super) fn definitions(&self) -> Value {
        self.columns
            .iter()
            .map(|column| {
                json!({
                    "name": column.name,
                    "type": column.kind,
                    "format": if column.name == NAME.name { "name" } else { "" },
                    "description": column.description,
                    "priority": column.priority,
                })
            })
            .collect()
    }
}

/// The table of a kind that has none of its own.
pub(super) static PLAIN: Layout = Layout {
    columns: &[NAME, shown("Created At", "When the object was created.")],
    cells: |object, _| vec![name(object), text(object, "/metadata/creationTimestamp").into()],
    row_conditions: None,
};

pub(super) fn name(object: &Value) -> Value {
    text(object, "/metadata/name").into()
}

pub(super) fn age(object: &Value, now: Timestamp) -> Value {
    age::since(text(object, "/metadata/creationTimestamp"), now).into()
}
