//! The faults found so far, each told as Kubernetes tells it.

use serde::Serialize;

use super::path::Path;
use super::{FieldError, Reason};

/// A list of faults that grows.
#[derive(Debug, Default)]
pub struct Faults {
    pub(super) errors: Vec<FieldError>,
}

/// More faults of one object than this are not told.
const MAX_FAULTS: usize = 100;

impl Faults {
    pub fn add(&mut self, at: &Path<'_>, reason: Reason, detail: String) {
        if self.errors.len() < MAX_FAULTS {
            self.errors.push(FieldError { field: at.to_string(), reason, detail });
        }
    }

    pub fn required(&mut self, at: &Path<'_>, why: &str) {
        let colon = if why.is_empty() { "" } else { ": " };
        self.add(at, Reason::Required, format!("Required value{colon}{why}"));
    }

    pub fn invalid(&mut self, at: &Path<'_>, value: impl Serialize, why: &str) {
        let value = shown(&value);
        self.add(at, Reason::Invalid, format!("Invalid value: {value}: {why}"));
    }

    /// One fault for each sentence.
    pub fn all_invalid(&mut self, at: &Path<'_>, value: &str, faults: Vec<String>) {
        for why in faults {
            self.invalid(at, value, &why);
        }
    }

    pub fn not_supported(&mut self, at: &Path<'_>, value: &str, supported: &[&str]) {
        let supported: Vec<String> = supported.iter().map(|s| format!("{s:?}")).collect();
        let supported = supported.join(", ");
        let detail = format!("Unsupported value: {value:?}: supported values: {supported}");
        self.add(at, Reason::NotSupported, detail);
    }

    pub fn duplicate(&mut self, at: &Path<'_>, value: impl Serialize) {
        self.add(at, Reason::Duplicate, format!("Duplicate value: {}", shown(&value)));
    }

    pub fn forbidden(&mut self, at: &Path<'_>, why: &str) {
        self.add(at, Reason::Forbidden, format!("Forbidden: {why}"));
    }

    pub fn not_found(&mut self, at: &Path<'_>, value: &str) {
        self.add(at, Reason::NotFound, format!("Not found: {value:?}"));
    }

    pub fn too_long(&mut self, at: &Path<'_>, limit: usize) {
        let detail = format!("Too long: may not be more than {limit} bytes");
        self.add(at, Reason::TooLong, detail);
    }

    /// A fault unless the value is at least 0.
    pub fn not_negative(&mut self, at: &Path<'_>, value: Option<i64>) {
        if let Some(value) = value.filter(|v| *v < 0) {
            self.invalid(at, value, "must be greater than or equal to 0");
        }
    }

    /// A fault if the value is not one of those supported.
    pub fn one_of(&mut self, at: &Path<'_>, value: &str, supported: &[&str]) {
        if !supported.contains(&value) {
            self.not_supported(at, value, supported);
        }
    }

    /// A fault if something was changed that cannot be.
    pub fn immutable<T: Serialize + PartialEq>(&mut self, at: &Path<'_>, new: &T, old: &T) {
        if new != old {
            self.invalid(at, new, "field is immutable");
        }
    }
}

/// A value in a message, cut if it is long.
fn shown<T: Serialize>(value: &T) -> String {
    const LONGEST: usize = 200;
    let text = serde_json::to_string(value).unwrap_or_default();
    match text.char_indices().nth(LONGEST) {
        None => text,
        Some((end, _)) => format!("{}...", &text[..end]),
    }
}
