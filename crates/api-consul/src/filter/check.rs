//! One condition, checked against the shape of the items, and whether it holds for an item.

use regex::{Regex, RegexBuilder};
use serde_json::Value;

use super::parse::{Operator, Wanted};
use super::{Reason, Shape, number};

/// A compiled expression may take so much memory.
const MAX_REGEX_BYTES: usize = 1 << 20;

/// A selector, and what is to be true of what it leads to.
#[derive(Clone, Debug)]
pub(super) struct Match {
    shape: &'static Shape,
    selector: Vec<String>,
    test: Test,
    negated: bool,
}

#[derive(Clone, Debug)]
enum Test {
    Equal(Plain),
    /// Part of a text, item of a list, key of a map.
    In(Plain),
    Empty,
    Matches(Regex),
}

/// A value as its selector's type has it.
#[derive(Clone, Debug)]
enum Plain {
    Text(String),
    Integer(i64),
    Boolean(bool),
}

impl Match {
    /// Checks what is written against the shape of the items.
    pub(super) fn of(wanted: Wanted, shape: &'static Shape) -> Result<Match, Reason> {
        let Wanted { selector, operator, negated, value } = wanted;
        let target = shape.select(&selector)?;
        if !target.allows(operator) {
            let operator = operator.name(negated);
            return Err(Reason::Operator { operator, selector: selector.join(".") });
        }
        let test = match operator {
            Operator::Equal => Test::Equal(Plain::coerce(value, target, &selector)?),
            Operator::In => Test::In(Plain::coerce(value, target, &selector)?),
            Operator::Empty => Test::Empty,
            Operator::Matches => Test::Matches(compile(value)?),
        };
        Ok(Match { shape, selector, test, negated })
    }

    pub(super) fn holds(&self, item: &Value) -> bool {
        self.follow(self.shape, item, &self.selector)
    }

    /// Follows the rest of the selector. Of a list's items one is enough, whether the test is negated or not.
    fn follow(&self, shape: &'static Shape, value: &Value, rest: &[String]) -> bool {
        let Some((name, after)) = rest.split_first() else {
            return self.test.holds(shape, value) != self.negated;
        };
        match shape {
            Shape::List(items) => array(value).iter().any(|item| self.follow(items, item, rest)),
            Shape::Map(values) => match value.get(name) {
                Some(found) => self.follow(values, found, after),
                // What is not there is equal to nothing, and in nothing.
                None => self.negated,
            },
            _ => match shape.field(name) {
                Some(field) => self.follow(field, value.get(name).unwrap_or(&Value::Null), after),
                None => false,
            },
        }
    }
}

impl Test {
    fn holds(&self, shape: &Shape, value: &Value) -> bool {
        match self {
            Test::Equal(wanted) => wanted.equals(value),
            Test::In(wanted) => wanted.is_in(shape, value),
            Test::Empty => match value {
                Value::Array(items) => items.is_empty(),
                Value::Object(entries) => entries.is_empty(),
                _ => true,
            },
            Test::Matches(pattern) => pattern.is_match(text(value)),
        }
    }
}

impl Plain {
    /// What is written, as a value of the type that it is compared with.
    fn coerce(value: String, target: &Shape, selector: &[String]) -> Result<Plain, Reason> {
        let (found, wanted) = match target {
            Shape::List(items) => return Plain::coerce(value, items, selector),
            Shape::Integer => (number::integer(&value).map(Plain::Integer), "whole number"),
            Shape::Boolean => (number::boolean(&value).map(Plain::Boolean), "truth value"),
            Shape::Text | Shape::Map(_) | Shape::Struct(_) => return Ok(Plain::Text(value)),
        };
        found.ok_or_else(|| Reason::Value { value, selector: selector.join("."), wanted })
    }

    /// What an item lacks is zero.
    fn equals(&self, value: &Value) -> bool {
        match self {
            Plain::Text(wanted) => text(value) == wanted,
            Plain::Integer(wanted) => value.as_i64().unwrap_or(0) == *wanted,
            Plain::Boolean(wanted) => value.as_bool().unwrap_or(false) == *wanted,
        }
    }

    fn is_in(&self, shape: &Shape, value: &Value) -> bool {
        match (shape, self) {
            (Shape::List(_), wanted) => array(value).iter().any(|item| wanted.equals(item)),
            (Shape::Map(_), Plain::Text(key)) => value.get(key).is_some(),
            (_, Plain::Text(part)) => text(value).contains(part.as_str()),
            _ => false,
        }
    }
}

impl Operator {
    /// Consul's name of it.
    fn name(self, negated: bool) -> &'static str {
        match (self, negated) {
            (Operator::Equal, false) => "Equal",
            (Operator::Equal, true) => "Not Equal",
            (Operator::In, false) => "In",
            (Operator::In, true) => "Not In",
            (Operator::Empty, false) => "Is Empty",
            (Operator::Empty, true) => "Is Not Empty",
            (Operator::Matches, false) => "Matches",
            (Operator::Matches, true) => "Not Matches",
        }
    }
}

fn compile(pattern: String) -> Result<Regex, Reason> {
    let compiled = RegexBuilder::new(&pattern).size_limit(MAX_REGEX_BYTES).build();
    compiled.map_err(|error| Reason::Regex { pattern, error: error.to_string() })
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
