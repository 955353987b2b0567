//! Consul's filter expressions (`?filter=`): which items of an answer a client wants to see.
//!
//! [`Filter::parse`] checks an expression against the [`Shape`] of the answer's items, so that an unknown
//! field is an error even where there is nothing to filter; [`answers`] has the shapes. What an item lacks
//! has its type's zero value, because answers leave empty fields out.

pub mod answers;
mod check;
mod cursor;
mod number;
mod parse;
mod shape;
mod tree;

#[cfg(test)]
mod tests;

use serde_json::Value;

pub use self::shape::Shape;

use self::check::Match;
use self::tree::Tree;

/// A longer expression is refused.
pub const MAX_BYTES: usize = 16 * 1024;
/// So many parentheses may be inside each other.
pub const MAX_DEPTH: usize = 64;

/// An expression that holds for some items of an answer.
#[derive(Clone, Debug)]
pub struct Filter {
    conditions: Tree<Match>,
}

/// An expression that is wrong in itself, or that does not fit what it is to filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Failed to create boolean expression evaluator: {0}")]
pub struct FilterError(pub(crate) Reason);

/// What is wrong with an expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Reason {
    #[error("the expression has {bytes} bytes, {MAX_BYTES} at most are taken")]
    TooLong { bytes: usize },
    #[error("{place}: more than {MAX_DEPTH} parentheses inside each other")]
    TooDeep { place: String },
    #[error("{place}: no match found, expected: {expected}")]
    Syntax { place: String, expected: String },
    #[error("{place}: {what}")]
    Token { place: String, what: String },
    #[error("Selector {0:?} is not valid")]
    Selector(String),
    #[error("Invalid match operator {operator:?} for selector {selector:?}")]
    Operator { operator: &'static str, selector: String },
    #[error("Failed to coerce value {value:?} for selector {selector:?}: {value:?} is no {wanted}")]
    Value { value: String, selector: String, wanted: &'static str },
    #[error("Failed to compile regular expression {pattern:?}: {error}")]
    Regex { pattern: String, error: String },
}

impl Filter {
    /// Reads an expression about items of such a shape.
    pub fn parse(text: &str, shape: &'static Shape) -> Result<Filter, FilterError> {
        let written = parse::expression(text).map_err(FilterError)?;
        let conditions =
            written.try_map(&|wanted| Match::of(wanted, shape)).map_err(FilterError)?;
        Ok(Filter { conditions })
    }

    /// True if the expression holds for this item.
    pub fn matches(&self, item: &Value) -> bool {
        self.conditions.holds(&|leaf| leaf.holds(item))
    }

    /// Leaves only the items of a list, or the values of an object, for which the expression holds.
    pub fn retain(&self, answer: &mut Value) {
        match answer {
            Value::Array(items) => items.retain(|item| self.matches(item)),
            Value::Object(entries) => entries.retain(|_, item| self.matches(item)),
            _ => {}
        }
    }
}
