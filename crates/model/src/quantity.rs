//! Kubernetes' amounts: `100m`, `1.5`, `64Mi`, `2e3`, exact and in whole units.

/// A text that is no quantity, or one too large to count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$': {0:?}"
)]
pub struct BadQuantity(pub String);

/// CPU in thousandths of a core, rounded up: `100m` is 100, `2` is 2000.
pub fn cpu_millis(text: &str) -> Result<i64, BadQuantity> {
    scaled(text, 1000)
}

/// Whole units, rounded up: bytes of memory or disk, counts of pods.
pub fn bytes(text: &str) -> Result<i64, BadQuantity> {
    scaled(text, 1)
}

/// The amount in billionths, rounded up in magnitude as Kubernetes does; saturates.
pub fn nanos(text: &str) -> Result<i128, BadQuantity> {
    parse(text).map(|q| q.times(1_000_000_000)).ok_or_else(|| BadQuantity(text.to_owned()))
}

/// Writes bytes in the shortest binary unit that is exact: `64Mi`.
pub fn format_bytes(bytes: i64) -> String {
    const UNITS: [(&str, i64); 6] = [
        ("Ei", 1 << 60),
        ("Pi", 1 << 50),
        ("Ti", 1 << 40),
        ("Gi", 1 << 30),
        ("Mi", 1 << 20),
        ("Ki", 1 << 10),
    ];
    let fits = |unit: &&(&str, i64)| bytes != 0 && bytes % unit.1 == 0;
    match UNITS.iter().find(fits) {
        Some((suffix, factor)) => format!("{}{suffix}", bytes / factor),
        None => bytes.to_string(),
    }
}

/// Writes thousandths of a core: `1500m`, `2`.
pub fn format_millis(millis: i64) -> String {
    if millis % 1000 == 0 { (millis / 1000).to_string() } else { format!("{millis}m") }
}

fn scaled(text: &str, scale: i128) -> Result<i64, BadQuantity> {
    let bad = || BadQuantity(text.to_owned());
    i64::try_from(parse(text).ok_or_else(bad)?.times(scale)).map_err(|_| bad())
}

/// `digits` × 10^`tens` × 2^`twos`.
struct Parts {
    digits: i128,
    tens: i32,
    twos: u32,
}

/// More decimal digits than this say nothing that could be stored.
const MAX_DIGITS: usize = 32;

impl Parts {
    /// The amount times `scale`, rounded away from zero; saturating at the ends of i128.
    fn times(&self, scale: i128) -> i128 {
        if self.digits == 0 {
            return 0;
        }
        let sign = self.digits.signum();
        let edge = if sign < 0 { i128::MIN } else { i128::MAX };
        let mut value = match self.digits.checked_mul(scale) {
            Some(value) => value,
            None => return edge,
        };
        for _ in 0..self.twos {
            value = match value.checked_mul(2) {
                Some(value) => value,
                None => return edge,
            };
        }
        if self.tens >= 0 {
            for _ in 0..self.tens {
                value = match value.checked_mul(10) {
                    Some(value) => value,
                    None => return edge,
                };
            }
            return value;
        }
        let Some(divisor) = 10i128.checked_pow(self.tens.unsigned_abs()) else { return sign };
        let whole = value / divisor;
        if value % divisor == 0 { whole } else { whole + sign }
    }
}

fn parse(text: &str) -> Option<Parts> {
    let (negative, rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    let (number, suffix) = rest.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.len() + fraction.len() == 0
        || whole.len() + fraction.len() > MAX_DIGITS
        || fraction.contains('.')
    {
        return None;
    }
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let (tens, twos) = factor(suffix)?;
    let tens = tens.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    Some(Parts { digits: if negative { -digits } else { digits }, tens, twos })
}

/// The powers of ten and of two that a suffix stands for.
fn factor(suffix: &str) -> Option<(i32, u32)> {
    Some(match suffix {
        "" => (0, 0),
        "n" => (-9, 0),
        "u" => (-6, 0),
        "m" => (-3, 0),
        "k" => (3, 0),
        "M" => (6, 0),
        "G" => (9, 0),
        "T" => (12, 0),
        "P" => (15, 0),
        "E" => (18, 0),
        "Ki" => (0, 10),
        "Mi" => (0, 20),
        "Gi" => (0, 30),
        "Ti" => (0, 40),
        "Pi" => (0, 50),
        "Ei" => (0, 60),
        _ => (exponent(suffix.strip_prefix(['e', 'E'])?)?, 0),
    })
}

fn exponent(text: &str) -> Option<i32> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let plain =
        !digits.is_empty() && digits.len() <= 3 && digits.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn amounts() {
        let check = |text: &str, millis: i64, whole: i64| {
            assert_eq!((cpu_millis(text), bytes(text)), (Ok(millis), Ok(whole)), "{text}");
        };
        check("1", 1000, 1);
        check("100m", 100, 1);
        check("1.5", 1500, 2);
        check("0.1", 100, 1);
        check(".5", 500, 1);
        check("5.", 5000, 5);
        check("-1", -1000, -1);
        check("64Mi", 64 * 1024 * 1024 * 1000, 64 * 1024 * 1024);
        check("1k", 1_000_000, 1000);
        check("1e3", 1_000_000, 1000);
        check("1E3", 1_000_000, 1000);
    }

    #[test]
    fn what_is_refused() {
        for text in
            ["", "-", "x", "1x", "1.2.3", "1mi", " 1", "1 ", "1e", "1e+", "e3", "1e9999", "1KI"]
        {
            assert!(bytes(text).is_err(), "{text:?}");
        }
        assert!(bytes("12E").is_err(), "more than an i64 holds");
        assert!(bytes("1e300").is_err());
        assert_eq!(nanos("1n"), Ok(1));
        assert_eq!(bytes("1e-300"), Ok(1), "rounded up");
    }

    proptest! {
        #[test]
        fn written_amounts_read_back(n in any::<i64>()) {
            prop_assert_eq!(bytes(&format_bytes(n)), Ok(n));
            prop_assert_eq!(cpu_millis(&format_millis(n)), Ok(n));
        }

        #[test]
        fn no_text_breaks_it(text in "[+-]?[0-9.]{0,6}[a-zA-Z+-]{0,3}[0-9]{0,4}") {
            let read = bytes(&text);
            prop_assert_eq!(read.is_ok(), bytes(&text).is_ok());
        }
    }
}
