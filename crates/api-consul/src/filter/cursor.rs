//! A place in an expression, and the words and literals that may stand there.

use super::Reason;
use crate::go_string;

/// A place in a text, from which a parser may go back.
pub(super) struct Cursor<'a> {
    text: &'a str,
    at: usize,
    /// The farthest place where something else was expected, and what.
    missed: (usize, Vec<&'static str>),
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Cursor<'a> {
        Cursor { text, at: 0, missed: (0, Vec::new()) }
    }

    pub(super) fn mark(&self) -> usize {
        self.at
    }

    pub(super) fn back(&mut self, mark: usize) {
        self.at = mark;
    }

    pub(super) fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// Skips white space; true if there was some.
    pub(super) fn space(&mut self) -> bool {
        let rest = self.rest();
        let after = rest.trim_start_matches([' ', '\t', '\r', '\n']);
        self.at += rest.len() - after.len();
        rest.len() != after.len()
    }

    /// Takes `word`, if the text goes on with it.
    pub(super) fn word(&mut self, word: &str) -> bool {
        let found = self.rest().starts_with(word);
        if found {
            self.at += word.len();
        }
        found
    }

    /// Takes words with white space before, between and after them, or nothing.
    pub(super) fn spaced(&mut self, words: &[&str]) -> bool {
        let mark = self.at;
        let found = self.space() && words.iter().all(|word| self.word(word) && self.space());
        if !found {
            self.at = mark;
        }
        found
    }

    /// Takes what the characters are that `belongs` says, given their index.
    pub(super) fn run(&mut self, belongs: impl Fn(usize, char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.char_indices().find(|(index, c)| !belongs(*index, *c));
        let found = &rest[..end.map_or(rest.len(), |(index, _)| index)];
        self.at += found.len();
        found
    }

    /// Notes that something else should have been here.
    pub(super) fn miss(&mut self, expected: &'static str) {
        if self.at > self.missed.0 {
            self.missed = (self.at, Vec::new());
        }
        if self.at == self.missed.0 && !self.missed.1.contains(&expected) {
            self.missed.1.push(expected);
        }
    }

    /// The error of a text that is no expression.
    pub(super) fn mismatch(&self) -> Reason {
        let (at, expected) = &self.missed;
        Reason::Syntax { place: self.place(*at), expected: expected.join(", ") }
    }

    /// An error about what begins at `at`.
    pub(super) fn broken(&self, at: usize, what: impl ToString) -> Reason {
        Reason::Token { place: self.place(at), what: what.to_string() }
    }

    /// Line, column and offset, as Consul gives them.
    pub(super) fn place(&self, at: usize) -> String {
        let before = &self.text[..at];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or(before).chars().count() + 1;
        format!("{line}:{column} ({at})")
    }

    /// Takes a literal in double quotes or backticks.
    pub(super) fn literal(&mut self) -> Result<Option<String>, Reason> {
        let start = self.at;
        let Some(quote) = self.rest().chars().next().filter(|c| matches!(c, '"' | '`')) else {
            self.miss("a string");
            return Ok(None);
        };
        let inside = &self.rest()[1..];
        // A double quote ends the literal whatever is before it: only \x22 writes one inside.
        let Some(length) = inside.find(quote) else {
            return Err(self.broken(start, "Unterminated string literal"));
        };
        let inside = &inside[..length];
        self.at += length + 2;
        if quote == '`' {
            return Ok(Some(inside.replace('\r', "")));
        }
        go_string::unescape(inside).map(Some).map_err(|error| self.broken(start, error))
    }

    /// Takes a number, which must end where a word could.
    pub(super) fn number(&mut self) -> Result<Option<&'a str>, Reason> {
        let start = self.at;
        self.word("-");
        let whole = if self.word("0") { "0" } else { self.run(|_, c| c.is_ascii_digit()) };
        if whole.is_empty() {
            self.at = start;
            self.miss("a number");
            return Ok(None);
        }
        let mark = self.at;
        if self.word(".") && self.run(|_, c| c.is_ascii_digit()).is_empty() {
            self.at = mark;
        }
        if !matches!(self.rest().chars().next(), None | Some(' ' | '\t' | '\r' | '\n' | ')')) {
            return Err(self.broken(start, "Invalid number literal"));
        }
        Ok(Some(&self.text[start..self.at]))
    }
}
