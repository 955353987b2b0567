//! Which objects are meant: by labels, and by a few of their fields.

mod field;
mod label;

pub use field::{FieldSelector, FieldTerm};
pub use label::{LabelSelector, Operator, Requirement};

/// A selector that cannot be read, in words for the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSelector {
    #[error("unable to parse requirement: {0}")]
    Syntax(String),
    #[error("field label not supported: {0}")]
    UnsupportedField(String),
    #[error("{0:?} is not a valid label selector operator")]
    Operator(String),
    #[error("a selector may have {limit} bytes, this one has {bytes}")]
    TooLong { bytes: usize, limit: usize },
}

/// Longer selectors are refused before they are read.
const MAX_BYTES: usize = 64 * 1024;

fn bounded(text: &str) -> Result<&str, BadSelector> {
    if text.len() > MAX_BYTES {
        return Err(BadSelector::TooLong { bytes: text.len(), limit: MAX_BYTES });
    }
    Ok(text)
}
