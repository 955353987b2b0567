//! The path of a URL, read as Consul's server reads it.
//!
//! Percent escapes are decoded once, over the whole path: `%2f` is `/`, `%25` is `%`, `+` is itself. A path with a byte
//! that cannot be printed (NUL, a line break) is refused; bytes that are no UTF-8 are kept as they are. A path with an
//! empty segment, `.` or `..`, however it was escaped, is redirected to its canonical form and never acted upon: so a
//! key's bytes are what the path says, and no key is ever a path.

use crate::refusal::Refusal;

/// The decoded path, which is in its canonical form.
pub(crate) fn decode(raw: &str) -> Result<Vec<u8>, Refusal> {
    let Some(path) = unescape(raw.as_bytes(), false) else {
        return Err(Refusal::bad_request("the path of the URL has a broken % escape"));
    };
    if !is_printable(&path) {
        return Err(Refusal::bad_request(
            "the path of the URL has a character that cannot be printed",
        ));
    }
    match canonical(&path) {
        Some(canonical) => Err(Refusal::Moved(escape(&canonical))),
        None => Ok(path),
    }
}

/// Decodes percent escapes, and `+` as a space where that is meant; none if an escape is broken.
pub(crate) fn unescape(raw: &[u8], plus_is_space: bool) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'%' => {
                let (digits, after) = rest.split_at_checked(2)?;
                bytes.push((hex(digits[0])? << 4) | hex(digits[1])?);
                rest = after;
            }
            b'+' if plus_is_space => bytes.push(b' '),
            byte => bytes.push(*byte),
        }
    }
    Some(bytes)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// Escapes all that has a meaning in a URL, but not `/`.
pub(crate) fn escape(path: &[u8]) -> String {
    let mut escaped = String::with_capacity(path.len());
    for byte in path {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                escaped.push(char::from(*byte));
            }
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

fn is_printable(path: &[u8]) -> bool {
    let printable = |c: char| match c.is_ascii() {
        true => matches!(c, ' '..='~'),
        // The standard library knows what can be printed only for its own escapes; of the first character it also
        // escapes marks, which can be.
        false => format!("x{c}").escape_debug().count() == 2,
    };
    path.utf8_chunks().all(|chunk| chunk.valid().chars().all(printable))
}

/// The canonical form of a path; none if it has it already.
fn canonical(path: &[u8]) -> Option<Vec<u8>> {
    let inside = path.strip_prefix(b"/").unwrap_or(path);
    let mut segments: Vec<&[u8]> = inside.split(|byte| *byte == b'/').collect();
    // What follows the last slash may be empty.
    let last = segments.pop().unwrap_or_default();
    let odd = |segment: &[u8]| matches!(segment, b"" | b"." | b"..");
    let is_clean = !segments.iter().any(|segment| odd(segment)) && !matches!(last, b"." | b"..");
    if is_clean && path.starts_with(b"/") {
        return None;
    }
    let mut kept: Vec<&[u8]> = Vec::new();
    for segment in segments.into_iter().chain((last != b"").then_some(last)) {
        match segment {
            b"" | b"." => {}
            b".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    let mut clean = vec![b'/'];
    clean.extend(kept.join(&b'/'));
    if last.is_empty() && clean.len() > 1 {
        clean.push(b'/');
    }
    Some(clean)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(raw: &str) -> Result<Vec<u8>, Refusal> {
        decode(&format!("/v1/kv/{raw}")).map(|path| path[b"/v1/kv/".len()..].to_vec())
    }

    #[test]
    fn keys_are_the_decoded_bytes() {
        let good: [(&str, &[u8]); 9] = [
            ("a/b", b"a/b"),
            ("a%2fb%2Fc", b"a/b/c"),
            ("a+b%20c", b"a+b c"),
            ("%2561", b"%61"),
            ("dir/", b"dir/"),
            ("...", b"..."),
            ("a..b/.c", b"a..b/.c"),
            ("%ff%fe", b"\xff\xfe"),
            ("%c3%bc", "ü".as_bytes()),
        ];
        for (raw, bytes) in good {
            assert_eq!(key(raw).as_deref(), Ok(bytes), "{raw}");
        }
    }

    #[test]
    fn other_forms_are_redirected() {
        let moved = [
            ("a//b", "/v1/kv/a/b"),
            ("/a", "/v1/kv/a"),
            ("a/../b", "/v1/kv/b"),
            ("../agent/leave", "/v1/agent/leave"),
            ("%2e%2e/%2e%2e/../..", "/"),
            ("a/./b/", "/v1/kv/a/b/"),
            ("a%2f%2fb", "/v1/kv/a/b"),
            ("a%2f..%2fb%3f", "/v1/kv/b%3F"),
            ("a//", "/v1/kv/a/"),
        ];
        for (raw, to) in moved {
            assert_eq!(key(raw), Err(Refusal::Moved(to.to_owned())), "{raw}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for raw in
            ["%", "%2", "%zz", "%+1", "a%00b", "%0a", "%0d", "%1b", "%7f", "%c2%a0", "%e2%80%8b"]
        {
            assert!(matches!(key(raw), Err(Refusal::BadRequest(_))), "{raw}");
        }
        assert_eq!(key("e%cc%81").as_deref(), Ok("e\u{301}".as_bytes()), "a mark can be printed");
    }

    proptest! {
        #[test]
        fn the_canonical_form_is_stable(raw in "(/|\\.|a|%2f|%2e|%41){0,12}") {
            let Err(Refusal::Moved(to)) = decode(&format!("/{raw}")) else { return Ok(()) };
            let again = decode(&to);
            prop_assert!(again.is_ok(), "{to}: {again:?}");
        }

        #[test]
        fn what_is_escaped_is_decoded(path in prop::collection::vec(any::<u8>(), 0..16)) {
            prop_assert_eq!(unescape(escape(&path).as_bytes(), false), Some(path));
        }
    }
}
