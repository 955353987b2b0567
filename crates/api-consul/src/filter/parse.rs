//! The grammar of filter expressions: `and` binds closer than `or`, no word is reserved, and a value needs
//! no quotes if it reads like a selector or a number.

use super::cursor::Cursor;
use super::tree::Tree;
use super::{MAX_BYTES, MAX_DEPTH, Reason};

/// What a selector is to be tested for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    In,
    Empty,
    Matches,
}

/// One condition, as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) selector: Vec<String>,
    pub(super) operator: Operator,
    pub(super) negated: bool,
    /// Nothing for a test that needs no value.
    pub(super) value: String,
}

type Parsed<T> = Result<Option<T>, Reason>;

/// The operators between a selector and a value, with how they are written.
const BEFORE_VALUE: [(&[&str], Operator, bool); 4] = [
    (&["contains"], Operator::In, false),
    (&["not", "contains"], Operator::In, true),
    (&["matches"], Operator::Matches, false),
    (&["not", "matches"], Operator::Matches, true),
];

/// Reads the whole text.
pub(super) fn expression(text: &str) -> Result<Tree<Wanted>, Reason> {
    if text.len() > MAX_BYTES {
        return Err(Reason::TooLong { bytes: text.len() });
    }
    let mut cursor = Cursor::new(text);
    cursor.space();
    let found = any(&mut cursor, 0)?;
    let end = cursor.mark();
    cursor.space();
    let finished = cursor.rest().is_empty();
    if found.is_some() && !finished {
        cursor.back(end);
        cursor.miss("the end");
    }
    found.filter(|_| finished).ok_or_else(|| cursor.mismatch())
}

fn any(cursor: &mut Cursor<'_>, depth: usize) -> Parsed<Tree<Wanted>> {
    joined(cursor, "or", Tree::Any, |cursor| all(cursor, depth))
}

fn all(cursor: &mut Cursor<'_>, depth: usize) -> Parsed<Tree<Wanted>> {
    joined(cursor, "and", Tree::All, |cursor| negation(cursor, depth))
}

/// Takes as many parts as there are with `word` between them.
fn joined(
    cursor: &mut Cursor<'_>,
    word: &'static str,
    join: fn(Vec<Tree<Wanted>>) -> Tree<Wanted>,
    part: impl Fn(&mut Cursor<'_>) -> Parsed<Tree<Wanted>>,
) -> Parsed<Tree<Wanted>> {
    let Some(first) = part(cursor)? else { return Ok(None) };
    let mut parts = vec![first];
    loop {
        let mark = cursor.mark();
        if !cursor.spaced(&[word]) {
            cursor.miss(word);
            break;
        }
        let Some(next) = part(cursor)? else {
            cursor.back(mark);
            break;
        };
        parts.push(next);
    }
    Ok(match parts.len() {
        1 => parts.pop(),
        _ => Some(join(parts)),
    })
}

/// Takes `not`s and what they are about. The last of them may be a selector or a value itself, as in
/// `not in Tags`; so what fails behind all of them is tried behind all but one, and so on.
fn negation(cursor: &mut Cursor<'_>, depth: usize) -> Parsed<Tree<Wanted>> {
    let mut starts = vec![cursor.mark()];
    while cursor.word("not") && cursor.space() {
        starts.push(cursor.mark());
    }
    for (negations, start) in starts.into_iter().enumerate().rev() {
        cursor.back(start);
        if let Some(found) = atom(cursor, depth)? {
            return Ok(Some(if negations % 2 == 0 { found } else { Tree::Not(Box::new(found)) }));
        }
    }
    Ok(None)
}

/// Takes an expression in parentheses, or one condition.
fn atom(cursor: &mut Cursor<'_>, depth: usize) -> Parsed<Tree<Wanted>> {
    let start = cursor.mark();
    if !cursor.word("(") {
        return Ok(condition(cursor)?.map(Tree::Leaf));
    }
    if depth == MAX_DEPTH {
        return Err(Reason::TooDeep { place: cursor.place(start) });
    }
    cursor.space();
    let found = any(cursor, depth + 1)?;
    if found.is_some() {
        cursor.space();
        if !cursor.word(")") {
            return Err(cursor.broken(start, "Unmatched parentheses"));
        }
    }
    Ok(found)
}

fn condition(cursor: &mut Cursor<'_>) -> Parsed<Wanted> {
    let start = cursor.mark();
    if let Some(selector) = selector(cursor)? {
        let after = cursor.mark();
        if let Some((operator, negated)) = before_value(cursor)
            && let Some(value) = value(cursor)?
        {
            return Ok(Some(Wanted { selector, operator, negated, value }));
        }
        cursor.back(after);
        if let Some(negated) = emptiness(cursor) {
            let operator = Operator::Empty;
            return Ok(Some(Wanted { selector, operator, negated, value: String::new() }));
        }
        cursor.back(after);
        cursor.miss("an operator");
        cursor.back(start);
    }
    membership(cursor)
}

/// Takes `value in selector`.
fn membership(cursor: &mut Cursor<'_>) -> Parsed<Wanted> {
    let Some(value) = value(cursor)? else { return Ok(None) };
    let negated = if cursor.spaced(&["in"]) {
        false
    } else if cursor.spaced(&["not", "in"]) {
        true
    } else {
        cursor.miss("an operator");
        return Ok(None);
    };
    let at = cursor.mark();
    let selector = selector(cursor)?.ok_or_else(|| cursor.broken(at, "Invalid selector"))?;
    Ok(Some(Wanted { selector, operator: Operator::In, negated, value }))
}

fn before_value(cursor: &mut Cursor<'_>) -> Option<(Operator, bool)> {
    let mark = cursor.mark();
    cursor.space();
    for (sign, negated) in [("==", false), ("!=", true)] {
        if cursor.word(sign) {
            cursor.space();
            return Some((Operator::Equal, negated));
        }
    }
    cursor.back(mark);
    let found = BEFORE_VALUE.iter().find(|(words, ..)| cursor.spaced(words))?;
    Some((found.1, found.2))
}

/// Takes `is empty` or `is not empty`, after which a word may end without white space.
fn emptiness(cursor: &mut Cursor<'_>) -> Option<bool> {
    if !cursor.spaced(&["is"]) {
        return None;
    }
    let mark = cursor.mark();
    let negated = cursor.word("not") && cursor.space();
    if !negated {
        cursor.back(mark);
    }
    if !cursor.word("empty") {
        cursor.miss("empty");
        return None;
    }
    Some(negated)
}

fn value(cursor: &mut Cursor<'_>) -> Parsed<String> {
    if let Some(path) = path(cursor)? {
        return Ok(Some(path.join(".")));
    }
    if let Some(number) = cursor.number()? {
        return Ok(Some(number.to_owned()));
    }
    cursor.literal()
}

fn selector(cursor: &mut Cursor<'_>) -> Parsed<Vec<String>> {
    match path(cursor)? {
        Some(path) => Ok(Some(path)),
        None => Ok(pointer(cursor)),
    }
}

/// Takes a name, with `.name` and `["name"]` behind it.
fn path(cursor: &mut Cursor<'_>) -> Parsed<Vec<String>> {
    let name = identifier(cursor);
    if name.is_empty() {
        cursor.miss("a selector");
        return Ok(None);
    }
    let mut path = vec![name.to_owned()];
    loop {
        let mark = cursor.mark();
        if cursor.word(".") {
            let name = match identifier(cursor) {
                "" => cursor.run(|_, c| c.is_ascii_digit()),
                name => name,
            };
            if name.is_empty() {
                cursor.back(mark);
                break;
            }
            path.push(name.to_owned());
        } else if cursor.word("[") {
            path.push(index(cursor, mark)?);
        } else {
            break;
        }
    }
    Ok(Some(path))
}

fn identifier<'a>(cursor: &mut Cursor<'a>) -> &'a str {
    cursor.run(|index, c| {
        c.is_ascii_alphabetic() || index > 0 && (c.is_ascii_digit() || "_/".contains(c))
    })
}

/// Takes what stands in brackets.
fn index(cursor: &mut Cursor<'_>, start: usize) -> Result<String, Reason> {
    cursor.space();
    let name = cursor.literal()?.ok_or_else(|| cursor.broken(start, "Invalid index"))?;
    cursor.space();
    if cursor.word("]") { Ok(name) } else { Err(cursor.broken(start, "Unclosed index expression")) }
}

/// Takes a JSON pointer in double quotes: `"/Meta/a~1b"`.
fn pointer(cursor: &mut Cursor<'_>) -> Option<Vec<String>> {
    let start = cursor.mark();
    let mut path = Vec::new();
    if cursor.word("\"") {
        while cursor.word("/") {
            let part = cursor.run(|_, c| c.is_alphanumeric() || "-_.~:|".contains(c));
            path.push(part.replace("~1", "/").replace("~0", "~"));
        }
    }
    let whole = !path.is_empty() && path.iter().all(|part| !part.is_empty()) && cursor.word("\"");
    if !whole {
        cursor.back(start);
    }
    whole.then_some(path)
}
