//! What an answer's items consist of, as far as one can filter by it.

use super::Reason;
use super::parse::Operator;

/// The type of an item or of a part of it.
#[derive(Debug, PartialEq, Eq)]
pub enum Shape {
    Text,
    Integer,
    Boolean,
    List(&'static Shape),
    /// Any key leads to such a value.
    Map(&'static Shape),
    Struct(&'static [(&'static str, Shape)]),
}

impl Shape {
    /// Follows a selector; a list has the fields of its items, which is how Consul filters lists.
    pub(super) fn select(&'static self, selector: &[String]) -> Result<&'static Shape, Reason> {
        let mut shape = self;
        for (index, name) in selector.iter().enumerate() {
            shape =
                shape.field(name).ok_or_else(|| Reason::Selector(selector[..=index].join(".")))?;
        }
        Ok(shape)
    }

    pub(super) fn field(&'static self, name: &str) -> Option<&'static Shape> {
        match self {
            Shape::Struct(fields) => {
                fields.iter().find(|field| field.0 == name).map(|field| &field.1)
            }
            Shape::Map(values) => Some(values),
            Shape::List(items) if matches!(items, Shape::Struct(_)) => items.field(name),
            _ => None,
        }
    }

    /// True if an operator can be used on this type.
    pub(super) fn allows(&self, operator: Operator) -> bool {
        match self {
            Shape::Text => operator != Operator::Empty,
            Shape::Integer | Shape::Boolean => operator == Operator::Equal,
            Shape::Map(_) => matches!(operator, Operator::In | Operator::Empty),
            Shape::List(items) => {
                operator == Operator::Empty || items.is_plain() && operator == Operator::In
            }
            Shape::Struct(_) => false,
        }
    }

    fn is_plain(&self) -> bool {
        matches!(self, Shape::Text | Shape::Integer | Shape::Boolean)
    }
}
