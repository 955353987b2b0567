//! One case: a request, and how far its answers must be the same.
//!
//! A line is `METHOD PATH BODY`; the body is the rest of the line, or `@N` for N bytes. Indented lines below say more:
//!
//! - `keep NAME FIELD`: `$NAME` in later lines is what the answer's FIELD was, on each side;
//! - `soon`: the answers become the same after a while;
//! - `words WHY`: another text with the same status;
//! - `differs WHY`: another answer.

use std::collections::BTreeMap;

/// How far two answers must be the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Expect {
    #[default]
    Same,
    OtherWords,
    Other,
}

#[derive(Debug, Default)]
pub(super) struct Case {
    pub(super) line: usize,
    pub(super) method: String,
    pub(super) path: String,
    body: String,
    pub(super) keep: Vec<(String, String)>,
    pub(super) soon: bool,
    pub(super) expect: Expect,
}

impl Case {
    /// Path and body with what was kept before.
    pub(super) fn filled(&self, kept: &BTreeMap<String, String>) -> (String, Vec<u8>) {
        let fill = |text: &str| {
            kept.iter().rev().fold(text.to_owned(), |text, (name, value)| {
                text.replace(&format!("${name}"), value)
            })
        };
        let body = match self.body.strip_prefix('@').and_then(|count| count.parse().ok()) {
            Some(count) => vec![b'x'; count],
            None => fill(&self.body).into_bytes(),
        };
        (fill(&self.path), body)
    }
}

/// The cases of a file.
pub(super) fn read(text: &str) -> Result<Vec<Case>, String> {
    let mut cases: Vec<Case> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let bad = || format!("line {}: {line:?} says nothing", at + 1);
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(more) = line.strip_prefix("  ") {
            let case = cases.last_mut().ok_or_else(bad)?;
            let (word, rest) = more.split_once(' ').unwrap_or((more, ""));
            match (word, rest.split_once(' ')) {
                ("keep", Some((name, field))) => {
                    case.keep.push((name.to_owned(), field.to_owned()));
                }
                ("soon", None) => case.soon = true,
                ("words", Some(_)) => case.expect = Expect::OtherWords,
                ("differs", Some(_)) => case.expect = Expect::Other,
                _ => return Err(bad()),
            }
            continue;
        }
        let (method, rest) = line.split_once(' ').ok_or_else(bad)?;
        let (path, body) = rest.split_once(' ').unwrap_or((rest, ""));
        let [method, path, body] = [method, path, body].map(str::to_owned);
        cases.push(Case { line: at + 1, method, path, body, ..Case::default() });
    }
    Ok(cases)
}
