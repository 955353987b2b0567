//! An entry as a client reads it.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use crate::entry::Entry;

/// An entry as JSON. A key that is no UTF-8 is shown with replacement characters, as by Go.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Shown<'k> {
    lock_index: u64,
    key: Cow<'k, str>,
    flags: u64,
    /// In base64; `null` if it is empty.
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<String>,
    create_index: u64,
    modify_index: u64,
}

impl<'k> Shown<'k> {
    pub(crate) fn of(key: &'k [u8], entry: &Entry) -> Shown<'k> {
        Shown {
            lock_index: entry.lock_index,
            key: String::from_utf8_lossy(key),
            flags: entry.flags,
            value: (!entry.value.is_empty()).then(|| STANDARD.encode(&entry.value)),
            session: entry.session.map(|id| id.to_string()),
            create_index: entry.create_index,
            modify_index: entry.modify_index,
        }
    }

    /// The same without its value, as transactions show what they wrote.
    pub(crate) fn without_value(self) -> Shown<'k> {
        Shown { value: None, ..self }
    }
}
