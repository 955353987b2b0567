//! The parser of HCL itself. Line breaks mean nothing, and commas between items may be there.

use super::{HclError, Item, MAX_DEPTH, Node};
use crate::go_string;

pub(super) fn parse(text: &str) -> Result<Vec<Item>, HclError> {
    Parser { text, at: 0, depth: 0 }.items(None)
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    /// How many objects and lists the place is inside of.
    depth: usize,
}

impl<'a> Parser<'a> {
    /// Takes items up to `end`, or up to the end of the text.
    fn items(&mut self, end: Option<char>) -> Result<Vec<Item>, HclError> {
        let mut items = Vec::new();
        loop {
            self.skip()?;
            let next = self.next();
            if next == end {
                self.at += next.map_or(0, char::len_utf8);
                return Ok(items);
            }
            items.push(self.item(end)?);
            self.skip()?;
            self.take(',');
        }
    }

    fn item(&mut self, end: Option<char>) -> Result<Item, HclError> {
        let mut keys = Vec::new();
        loop {
            self.skip()?;
            let start = self.at;
            let next = self.next();
            if keys.is_empty() && matches!(next, None | Some('=' | '{')) {
                return Err(self.no_name(end));
            }
            match next {
                Some('"') => keys.push(self.quoted()?),
                Some(c) if begins_name(c) => keys.push(self.name().to_owned()),
                Some('{') => {
                    let node = self.value()?;
                    return Ok(Item { keys, node });
                }
                Some('=') if keys.len() > 1 => {
                    return Err(self.error(start, "= comes after one name only"));
                }
                Some('=') => {
                    self.at += 1;
                    let node = self.value()?;
                    return Ok(Item { keys, node });
                }
                _ if keys.is_empty() => return Err(self.no_name(end)),
                _ => return Err(self.error(start, "expected { or = after the name")),
            }
        }
    }

    fn no_name(&self, end: Option<char>) -> HclError {
        self.error(self.at, if end.is_some() { "expected a name or }" } else { "expected a name" })
    }

    fn value(&mut self) -> Result<Node, HclError> {
        self.skip()?;
        let start = self.at;
        match self.next() {
            Some('"') => Ok(Node::Text(self.quoted()?)),
            Some('{') => self.nested(|parser| Ok(Node::Object(parser.items(Some('}'))?))),
            Some('[') => self.nested(|parser| Ok(Node::List(parser.list()?))),
            Some('<') if self.rest().starts_with("<<") => Ok(Node::Text(self.heredoc()?)),
            Some('-' | '+' | '.' | '0'..='9') => {
                self.run(|c| c.is_ascii_alphanumeric() || "-+._".contains(c));
                Ok(Node::Other)
            }
            Some(_) if matches!(self.name(), "true" | "false") => Ok(Node::Other),
            _ => Err(self.error(start, "expected a value")),
        }
    }

    /// Takes an opening bracket and what `inside` takes, unless that is too deep.
    fn nested(
        &mut self,
        inside: impl Fn(&mut Parser<'a>) -> Result<Node, HclError>,
    ) -> Result<Node, HclError> {
        if self.depth == MAX_DEPTH {
            let what = format!("more than {MAX_DEPTH} objects and lists inside each other");
            return Err(self.error(self.at, &what));
        }
        self.at += 1;
        self.depth += 1;
        let node = inside(self)?;
        self.depth -= 1;
        Ok(node)
    }

    fn list(&mut self) -> Result<Vec<Node>, HclError> {
        let mut nodes = Vec::new();
        loop {
            self.skip()?;
            if self.take(']') {
                return Ok(nodes);
            }
            if self.next().is_none() {
                return Err(self.error(self.at, "expected a value or ]"));
            }
            nodes.push(self.value()?);
            self.skip()?;
            if !self.take(',') && self.next().is_some_and(|c| c != ']') {
                return Err(self.error(self.at, "expected , or ]"));
            }
        }
    }

    fn quoted(&mut self) -> Result<String, HclError> {
        let start = self.at;
        let inside = &self.text[start + 1..];
        let mut escaped = false;
        let end = inside.char_indices().find(|&(_, c)| {
            let ends = c == '\n' || c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        let Some((length, '"')) = end else {
            return Err(self.error(start, "this text has no end"));
        };
        self.at = start + length + 2;
        go_string::unescape(&inside[..length])
            .map_err(|error| self.error(start, &error.to_string()))
    }

    /// Takes lines up to one that is the name behind `<<`; with `<<-` without what all lines are indented by.
    fn heredoc(&mut self) -> Result<String, HclError> {
        let start = self.at;
        self.at += 2;
        let indented = self.take('-');
        let (mark, body) = self.rest().split_once('\n').unwrap_or((self.rest(), ""));
        let mark = mark.trim();
        if mark.is_empty() {
            return Err(self.error(start, "a name must follow <<"));
        }
        let mut at = self.text.len() - body.len();
        let mut lines = Vec::new();
        for line in body.split_inclusive('\n') {
            at += line.len();
            let content = line.trim_end_matches(['\r', '\n']);
            let content = if indented { content.trim_start() } else { content };
            if content == mark {
                self.at = at;
                return Ok(if indented { unindented(&lines) } else { lines.concat() });
            }
            lines.push(line);
        }
        Err(self.error(start, "this text has no end"))
    }

    /// Skips white space and comments.
    fn skip(&mut self) -> Result<(), HclError> {
        loop {
            self.run(|c| matches!(c, ' ' | '\t' | '\r' | '\n'));
            let rest = self.rest();
            if rest.starts_with('#') || rest.starts_with("//") {
                self.run(|c| c != '\n');
            } else if let Some(comment) = rest.strip_prefix("/*") {
                let length = comment.find("*/");
                let length =
                    length.ok_or_else(|| self.error(self.at, "this comment has no end"))?;
                self.at += length + 4;
            } else {
                return Ok(());
            }
        }
    }

    fn name(&mut self) -> &'a str {
        self.run(|c| begins_name(c) || c.is_numeric() || matches!(c, '-' | '.'))
    }

    fn run(&mut self, belongs: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let found = &rest[..rest.find(|c| !belongs(c)).unwrap_or(rest.len())];
        self.at += found.len();
        found
    }

    fn take(&mut self, wanted: char) -> bool {
        let found = self.next() == Some(wanted);
        if found {
            self.at += wanted.len_utf8();
        }
        found
    }

    fn next(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn error(&self, at: usize, what: &str) -> HclError {
        let before = &self.text[..at];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or(before).chars().count() + 1;
        HclError::Syntax { line, column, what: what.to_owned() }
    }
}

fn begins_name(c: char) -> bool {
    c.is_alphabetic() || c == '_'
}

fn unindented(lines: &[&str]) -> String {
    let indent = |line: &&str| line.len() - line.trim_start_matches([' ', '\t']).len();
    let least = lines.iter().filter(|line| !line.trim().is_empty()).map(indent).min().unwrap_or(0);
    lines.iter().map(|line| line.get(least..).unwrap_or("\n")).collect()
}
