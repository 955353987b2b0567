//! Label selectors: `a=b,c!=d,e in (f,g),h notin (i),j,!k,l>5`.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    LabelSelector as TypedSelector, LabelSelectorRequirement,
};

use super::{BadSelector, bounded};
use crate::validate::name::{label_value, qualified_name};

/// How a requirement relates a label to its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
    GreaterThan,
    LessThan,
}

/// One requirement on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    pub key: String,
    pub operator: Operator,
    pub values: Vec<String>,
}

/// All requirements must hold; none selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    pub requirements: Vec<Requirement>,
}

impl LabelSelector {
    /// Reads the text of `?labelSelector=`.
    pub fn parse(text: &str) -> Result<Self, BadSelector> {
        let mut parser = Parser { tokens: tokens(bounded(text)?), at: 0 };
        let mut requirements = Vec::new();
        while !parser.done() {
            requirements.push(parser.requirement()?);
            if !parser.done() {
                parser.expect(",")?;
                if parser.done() {
                    return Err(syntax("found '', expected: identifier after ','"));
                }
            }
        }
        Ok(Self { requirements })
    }

    /// Every one of these labels must be there with that value.
    pub fn of_labels(labels: &BTreeMap<String, String>) -> Self {
        let one = |(key, value): (&String, &String)| Requirement {
            key: key.clone(),
            operator: Operator::In,
            values: vec![value.clone()],
        };
        Self { requirements: labels.iter().map(one).collect() }
    }

    /// The selector in the `spec` of a Deployment, ReplicaSet or DaemonSet.
    pub fn of_typed(typed: &TypedSelector) -> Result<Self, BadSelector> {
        let mut selector = Self::of_labels(typed.match_labels.as_ref().unwrap_or(&BTreeMap::new()));
        for expression in typed.match_expressions.iter().flatten() {
            selector.requirements.push(requirement_of(expression)?);
        }
        Ok(selector)
    }

    /// Whether an object with these labels is meant.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.requirements.iter().all(|r| r.matches(labels))
    }

    /// Whether everything is meant.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }
}

fn requirement_of(typed: &LabelSelectorRequirement) -> Result<Requirement, BadSelector> {
    let operator = match typed.operator.as_str() {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        other => return Err(BadSelector::Operator(other.to_owned())),
    };
    let values = typed.values.clone().unwrap_or_default();
    Ok(Requirement { key: typed.key.clone(), operator, values })
}

impl Requirement {
    /// Whether these labels satisfy the requirement. A label that is not there satisfies `NotIn`.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        match self.operator {
            Operator::In => value.is_some_and(|v| self.values.contains(v)),
            Operator::NotIn => value.is_none_or(|v| !self.values.contains(v)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan => self.compare(value).is_some_and(|(have, bound)| have > bound),
            Operator::LessThan => self.compare(value).is_some_and(|(have, bound)| have < bound),
        }
    }

    fn compare(&self, value: Option<&String>) -> Option<(i64, i64)> {
        Some((value?.parse().ok()?, self.values.first()?.parse().ok()?))
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        let values = self.values.join(",");
        match (self.operator, self.values.len()) {
            (Operator::In, 1) => write!(f, "{key}={values}"),
            (Operator::In, _) => write!(f, "{key} in ({values})"),
            (Operator::NotIn, 1) => write!(f, "{key}!={values}"),
            (Operator::NotIn, _) => write!(f, "{key} notin ({values})"),
            (Operator::Exists, _) => write!(f, "{key}"),
            (Operator::DoesNotExist, _) => write!(f, "!{key}"),
            (Operator::GreaterThan, _) => write!(f, "{key}>{values}"),
            (Operator::LessThan, _) => write!(f, "{key}<{values}"),
        }
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, requirement) in self.requirements.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            requirement.fmt(f)?;
        }
        Ok(())
    }
}

fn syntax(why: impl Into<String>) -> BadSelector {
    BadSelector::Syntax(why.into())
}

/// Words and the signs between them.
fn tokens(text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let end = match first {
            '=' | '!' if rest[1..].starts_with('=') => 2,
            '=' | '!' | ',' | '(' | ')' | '<' | '>' => 1,
            _ => rest
                .find(|c: char| c.is_whitespace() || "=!,()<>".contains(c))
                .unwrap_or(rest.len()),
        };
        tokens.push(&rest[..end]);
        rest = rest[end..].trim_start();
    }
    tokens
}

struct Parser<'t> {
    tokens: Vec<&'t str>,
    at: usize,
}

impl<'t> Parser<'t> {
    fn done(&self) -> bool {
        self.at >= self.tokens.len()
    }

    fn peek(&self) -> &'t str {
        self.tokens.get(self.at).copied().unwrap_or("")
    }

    fn take(&mut self) -> &'t str {
        let token = self.peek();
        self.at += 1;
        token
    }

    fn expect(&mut self, wanted: &str) -> Result<(), BadSelector> {
        let found = self.take();
        if found == wanted {
            return Ok(());
        }
        Err(syntax(format!("found '{found}', expected: '{wanted}'")))
    }

    fn requirement(&mut self) -> Result<Requirement, BadSelector> {
        let absent = self.peek() == "!";
        if absent {
            self.take();
        }
        let key = self.key()?;
        if absent || self.done() || self.peek() == "," {
            let operator = if absent { Operator::DoesNotExist } else { Operator::Exists };
            return Ok(Requirement { key, operator, values: Vec::new() });
        }
        let (operator, values) = match self.take() {
            "=" | "==" => (Operator::In, vec![self.value()?]),
            "!=" => (Operator::NotIn, vec![self.value()?]),
            "in" => (Operator::In, self.values()?),
            "notin" => (Operator::NotIn, self.values()?),
            ">" => (Operator::GreaterThan, vec![self.number()?]),
            "<" => (Operator::LessThan, vec![self.number()?]),
            other => {
                let expected = "in, notin, =, ==, !=, gt, lt";
                return Err(syntax(format!("found '{other}', expected: {expected}")));
            }
        };
        Ok(Requirement { key, operator, values })
    }

    fn key(&mut self) -> Result<String, BadSelector> {
        let key = self.take();
        match qualified_name(key).first() {
            None => Ok(key.to_owned()),
            Some(why) => Err(syntax(format!("key: Invalid value: {key:?}: {why}"))),
        }
    }

    /// A value; nothing is the empty value.
    fn value(&mut self) -> Result<String, BadSelector> {
        if self.done() || matches!(self.peek(), "," | ")") {
            return Ok(String::new());
        }
        let value = self.take();
        match label_value(value).first() {
            None => Ok(value.to_owned()),
            Some(why) => Err(syntax(format!("values: Invalid value: {value:?}: {why}"))),
        }
    }

    fn values(&mut self) -> Result<Vec<String>, BadSelector> {
        self.expect("(")?;
        let mut values = vec![self.value()?];
        while self.peek() == "," {
            self.take();
            values.push(self.value()?);
        }
        self.expect(")")?;
        values.sort();
        values.dedup();
        Ok(values)
    }

    fn number(&mut self) -> Result<String, BadSelector> {
        let value = self.take();
        if value.parse::<i64>().is_err() {
            return Err(syntax(format!("values: Invalid value: {value:?}: must be an integer")));
        }
        Ok(value.to_owned())
    }
}
