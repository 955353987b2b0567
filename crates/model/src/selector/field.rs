//! Field selectors: `status.phase=Running,spec.nodeName!=a`, for the fields each kind offers.

use std::fmt;

use super::{BadSelector, bounded};
use crate::object::Object;
use crate::resource::Resource;

/// One comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldTerm {
    pub field: String,
    /// False for `!=`.
    pub equal: bool,
    pub value: String,
}

/// All terms must hold; none selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    pub terms: Vec<FieldTerm>,
}

/// What can be selected by, beside `metadata.name` and `metadata.namespace`.
const FIELDS: &[(&str, &str, &[&str])] = &[
    (
        "",
        "pods",
        &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
    ),
    ("", "nodes", &["spec.unschedulable"]),
    ("", "namespaces", &["status.phase"]),
    ("", "secrets", &["type"]),
    ("", "services", &["spec.clusterIP", "spec.type"]),
    ("apps", "replicasets", &["status.replicas"]),
    (
        "",
        "events",
        &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
    ),
];

impl FieldSelector {
    /// Reads the text of `?fieldSelector=`. Backslash escapes a comma, an equals sign or itself.
    pub fn parse(text: &str) -> Result<Self, BadSelector> {
        let terms = split_terms(bounded(text)?);
        let terms = terms.iter().filter(|t| !t.is_empty()).map(|t| term(t));
        Ok(Self { terms: terms.collect::<Result<_, _>>()? })
    }

    /// Only the object of that name.
    pub fn name(name: &str) -> Self {
        Self::equal("metadata.name", name)
    }

    /// Only objects that have this value there.
    pub fn equal(field: &str, value: &str) -> Self {
        let (field, value) = (field.to_owned(), value.to_owned());
        Self { terms: vec![FieldTerm { field, equal: true, value }] }
    }

    /// Refuses fields that the resource cannot be selected by.
    pub fn check(&self, resource: &Resource) -> Result<(), BadSelector> {
        let offered = FIELDS.iter().find(|f| f.0 == resource.group && f.1 == resource.plural);
        let offered = offered.map_or(&[] as &[&str], |f| f.2);
        let known = |field: &str| {
            field == "metadata.name"
                || (field == "metadata.namespace" && resource.namespaced)
                || offered.contains(&field)
        };
        match self.terms.iter().find(|t| !known(&t.field)) {
            None => Ok(()),
            Some(t) => Err(BadSelector::UnsupportedField(t.field.clone())),
        }
    }

    /// Whether the object is meant.
    pub fn matches(&self, object: &Object) -> bool {
        self.terms.iter().all(|t| (object.field(&t.field) == t.value) == t.equal)
    }

    /// The value that the field must have, if the selector says so.
    pub fn required(&self, field: &str) -> Option<&str> {
        self.terms.iter().find(|t| t.equal && t.field == field).map(|t| t.value.as_str())
    }

    /// Whether everything is meant.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, term) in self.terms.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            let sign = if term.equal { "=" } else { "!=" };
            let value = term.value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=");
            write!(f, "{comma}{}{sign}{value}", term.field)?;
        }
        Ok(())
    }
}

/// Splits at commas that are not escaped.
fn split_terms(text: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (i, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

fn term(text: &str) -> Result<FieldTerm, BadSelector> {
    let bad = || BadSelector::Syntax(format!("invalid selector: '{text}'; can't understand it"));
    let at = text.find('=').ok_or_else(bad)?;
    let (left, right) = (&text[..at], &text[at + 1..]);
    let (field, equal) = match left.strip_suffix('!') {
        Some(field) => (field, false),
        None => (left, true),
    };
    let right = if equal { right.strip_prefix('=').unwrap_or(right) } else { right };
    let value = unescape(right).ok_or_else(bad)?;
    let field = field.trim();
    // `! =`: written down again it would say something else.
    if field.is_empty() || field.ends_with('!') {
        return Err(bad());
    }
    Ok(FieldTerm { field: field.to_owned(), equal, value })
}

fn unescape(text: &str) -> Option<String> {
    let mut value = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next()? {
                c @ ('\\' | ',' | '=') => value.push(c),
                _ => return None,
            },
            '=' => return None,
            c => value.push(c),
        }
    }
    Some(value)
}
