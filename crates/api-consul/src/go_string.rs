//! Go's quoted strings: the escapes that filter expressions and HCL have in common.

/// What stands between double quotes is no Go string.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadString {
    #[error("\\{0} is no escape")]
    Escape(char),
    #[error("the escape \\{0} lacks digits, or its digits name no character")]
    Digits(char),
    #[error("a backslash at its end escapes nothing")]
    End,
    #[error("a line break must be written \\n")]
    LineBreak,
    #[error("its escapes make bytes that are not UTF-8")]
    NotUtf8,
}

/// What is meant by the text between two double quotes.
pub(crate) fn unescape(inside: &str) -> Result<String, BadString> {
    let mut bytes = Vec::with_capacity(inside.len());
    let mut rest = inside;
    while let Some(first) = rest.chars().next() {
        rest = &rest[first.len_utf8()..];
        match first {
            '\n' => return Err(BadString::LineBreak),
            '\\' => rest = escape(rest, &mut bytes)?,
            _ => bytes.extend(first.encode_utf8(&mut [0; 4]).bytes()),
        }
    }
    String::from_utf8(bytes).map_err(|_| BadString::NotUtf8)
}

/// Takes what follows a backslash, and says what follows that.
fn escape<'a>(text: &'a str, bytes: &mut Vec<u8>) -> Result<&'a str, BadString> {
    let kind = text.chars().next().ok_or(BadString::End)?;
    let rest = &text[kind.len_utf8()..];
    let byte = match kind {
        'a' => 0x07,
        'b' => 0x08,
        'f' => 0x0c,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 0x0b,
        '\\' | '"' => kind as u8,
        'x' => return numeric(kind, rest, 2, 16, bytes),
        'u' => return numeric(kind, rest, 4, 16, bytes),
        'U' => return numeric(kind, rest, 8, 16, bytes),
        '0'..='7' => return numeric(kind, text, 3, 8, bytes),
        _ => return Err(BadString::Escape(kind)),
    };
    bytes.push(byte);
    Ok(rest)
}

/// `\x` and octal escapes name a byte, `\u` and `\U` a character.
fn numeric<'a>(
    kind: char,
    text: &'a str,
    digits: usize,
    radix: u32,
    bytes: &mut Vec<u8>,
) -> Result<&'a str, BadString> {
    let bad = || BadString::Digits(kind);
    let number = text.get(..digits).ok_or_else(bad)?;
    if !number.chars().all(|digit| digit.is_digit(radix)) {
        return Err(bad());
    }
    let number = u32::from_str_radix(number, radix).map_err(|_| bad())?;
    if matches!(kind, 'u' | 'U') {
        let named = char::from_u32(number).ok_or_else(bad)?;
        bytes.extend(named.encode_utf8(&mut [0; 4]).bytes());
    } else {
        bytes.push(u8::try_from(number).map_err(|_| bad())?);
    }
    Ok(&text[digits..])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escapes_are_those_of_go() {
        let good = [
            ("", ""),
            ("plain ü", "plain ü"),
            (r#"\"\\"#, "\"\\"),
            (r"\a\b\f\n\r\t\v", "\x07\x08\x0c\n\r\t\x0b"),
            (r"\x41\101\u00e9\U0001F600", "AAé😀"),
            (r"\xc3\xa9", "é"),
        ];
        for (inside, meant) in good {
            assert_eq!(unescape(inside).as_deref(), Ok(meant), "{inside}");
        }
        let bad = [
            (r"\q", BadString::Escape('q')),
            (r"\'", BadString::Escape('\'')),
            (r"\x4", BadString::Digits('x')),
            (r"\x+1", BadString::Digits('x')),
            (r"\ud800", BadString::Digits('u')),
            (r"\400", BadString::Digits('4')),
            (r"\xé", BadString::Digits('x')),
            ("\\", BadString::End),
            ("a\nb", BadString::LineBreak),
            (r"\xff", BadString::NotUtf8),
        ];
        for (inside, error) in bad {
            assert_eq!(unescape(inside), Err(error), "{inside}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_string_or_an_error(inside in r#"(\\.|.|\n){0,16}"#) {
            let _outcome = unescape(&inside);
        }

        #[test]
        fn what_needs_no_escape_is_itself(inside in "[^\\\\\n]{0,16}") {
            let meant = unescape(&inside);
            prop_assert_eq!(meant.as_deref(), Ok(inside.as_str()));
        }
    }
}
