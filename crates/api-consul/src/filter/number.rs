//! Whole numbers and truth values, as Go reads them where a base may be given.

/// A number in base 10, or with `0x`, `0o`, `0b` or a leading zero in another.
pub(super) fn integer(text: &str) -> Option<i64> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.get(..2) {
        Some("0x") => (16, &lower[2..]),
        Some("0o") => (8, &lower[2..]),
        Some("0b") => (2, &lower[2..]),
        Some(octal) if octal.starts_with('0') => (8, &lower[1..]),
        _ => (10, &lower[..]),
    };
    // `from_str_radix` would take another sign.
    if !digits.chars().all(|digit| digit.is_digit(radix)) {
        return None;
    }
    let value = i128::from(u64::from_str_radix(digits, radix).ok()?);
    i64::try_from(if negative { -value } else { value }).ok()
}

pub(super) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_are_those_of_go() {
        let cases = [
            ("0", Some(0)),
            ("-80", Some(-80)),
            ("+80", Some(80)),
            ("0x1F", Some(31)),
            ("0o17", Some(15)),
            ("017", Some(15)),
            ("0b11", Some(3)),
            ("00", Some(0)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("", None),
            ("-", None),
            ("+-1", None),
            ("0x", None),
            ("0x-1", None),
            ("08", None),
            ("1.5", None),
            ("1e3", None),
            ("é0", None),
            ("0é", None),
        ];
        for (text, expected) in cases {
            assert_eq!(integer(text), expected, "{text}");
        }
        assert_eq!((boolean("T"), boolean("0"), boolean("yes")), (Some(true), Some(false), None));
    }

    proptest! {
        #[test]
        fn decimals_are_themselves(number in any::<i64>(), text in "[-+0xbo1-9aé]{0,8}") {
            prop_assert_eq!(integer(&number.to_string()), Some(number));
            let _outcome = integer(&text);
        }
    }
}
