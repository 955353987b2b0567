//! Go's durations, as Consul reads and writes them: `10s`, `1m30s`, `500ms`, or a number of nanoseconds.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const NANOS_A_SECOND: u64 = 1_000_000_000;
const NANOS_A_MINUTE: u64 = 60 * NANOS_A_SECOND;
const NANOS_A_HOUR: u64 = 60 * NANOS_A_MINUTE;

/// A span of time, to the nanosecond; it may be negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GoDuration {
    pub nanos: i64,
}

/// A text that is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("time: invalid duration {0:?}; write a number and a unit, such as 10s, 1m30s or 500ms")]
pub struct BadDuration(String);

impl GoDuration {
    /// As much of `span` as can be counted: 292 years.
    pub fn from_std(span: Duration) -> GoDuration {
        GoDuration { nanos: i64::try_from(span.as_nanos()).unwrap_or(i64::MAX) }
    }

    /// The same span, or none if it is negative.
    pub fn to_std(self) -> Option<Duration> {
        u64::try_from(self.nanos).ok().map(Duration::from_nanos)
    }
}

impl FromStr for GoDuration {
    type Err = BadDuration;

    fn from_str(text: &str) -> Result<GoDuration, BadDuration> {
        let (negative, unsigned) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let nanos = sum(unsigned).and_then(|sum| {
            let sum = i128::from(sum);
            i64::try_from(if negative { -sum } else { sum }).ok()
        });
        nanos.map(|nanos| GoDuration { nanos }).ok_or_else(|| BadDuration(text.to_owned()))
    }
}

/// The nanoseconds of one or more numbers with units.
fn sum(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let mut rest = text;
    let mut total = 0u64;
    loop {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(number);
        let unit = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        total = total.checked_add(amount(number, unit_nanos(unit)?)?)?;
        if after.is_empty() {
            return Some(total);
        }
        rest = after;
    }
}

fn unit_nanos(unit: &str) -> Option<u64> {
    Some(match unit {
        "ns" => 1,
        // the micro sign, and the Greek letter
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => NANOS_A_SECOND,
        "m" => NANOS_A_MINUTE,
        "h" => NANOS_A_HOUR,
        _ => return None,
    })
}

/// `number`, which may have a fraction, times `unit`; what is smaller than a nanosecond is dropped.
fn amount(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let whole = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()? };
    let whole = whole.checked_mul(unit)?;
    // Later digits weigh less than a nanosecond, alone and together.
    let digits = &fraction[..fraction.len().min(18)];
    if digits.is_empty() {
        return Some(whole);
    }
    let scale = 10u128.pow(u32::try_from(digits.len()).ok()?);
    let part = u128::from(unit) * u128::from(digits.parse::<u64>().ok()?) / scale;
    whole.checked_add(u64::try_from(part).ok()?)
}

impl fmt::Display for GoDuration {
    /// As Go writes it: `1m30s`, `1.5s`, `250ms`, `0s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.nanos.unsigned_abs();
        if self.nanos < 0 {
            f.write_str("-")?;
        }
        match nanos {
            0 => f.write_str("0s"),
            1..1_000 => write!(f, "{nanos}ns"),
            1_000..1_000_000 => decimal(f, nanos, 1_000, "\u{b5}s"),
            1_000_000..NANOS_A_SECOND => decimal(f, nanos, 1_000_000, "ms"),
            _ => {
                if nanos >= NANOS_A_HOUR {
                    write!(f, "{}h", nanos / NANOS_A_HOUR)?;
                }
                if nanos >= NANOS_A_MINUTE {
                    write!(f, "{}m", nanos % NANOS_A_HOUR / NANOS_A_MINUTE)?;
                }
                decimal(f, nanos % NANOS_A_MINUTE, NANOS_A_SECOND, "s")
            }
        }
    }
}

/// `nanos` in units of so many nanoseconds, without zeros at the end of the fraction.
fn decimal(f: &mut fmt::Formatter<'_>, nanos: u64, unit: u64, name: &str) -> fmt::Result {
    write!(f, "{}", nanos / unit)?;
    if !nanos.is_multiple_of(unit) {
        let digits = usize::try_from(unit.ilog10()).map_err(|_| fmt::Error)?;
        let fraction = format!("{:0digits$}", nanos % unit);
        write!(f, ".{}", fraction.trim_end_matches('0'))?;
    }
    f.write_str(name)
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<GoDuration, D::Error> {
        deserializer.deserialize_any(TextOrNanos)
    }
}

/// Consul takes a text, or a number, which counts nanoseconds.
struct TextOrNanos;

impl Visitor<'_> for TextOrNanos {
    type Value = GoDuration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration such as \"10s\", or a number of nanoseconds")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<GoDuration, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_i64<E: Error>(self, nanos: i64) -> Result<GoDuration, E> {
        Ok(GoDuration { nanos })
    }

    fn visit_u64<E: Error>(self, nanos: u64) -> Result<GoDuration, E> {
        let out_of_range = |_| E::invalid_value(Unexpected::Unsigned(nanos), &self);
        i64::try_from(nanos).map(|nanos| GoDuration { nanos }).map_err(out_of_range)
    }

    /// A fraction of a nanosecond is dropped.
    fn visit_f64<E: Error>(self, nanos: f64) -> Result<GoDuration, E> {
        // 2^63 is exact as a float; i64::MAX is not.
        const END: f64 = 9_223_372_036_854_775_808.0;
        if (-END..END).contains(&nanos) {
            Ok(GoDuration { nanos: nanos as i64 })
        } else {
            Err(E::invalid_value(Unexpected::Float(nanos), &self))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nanos(text: &str) -> Option<i64> {
        text.parse::<GoDuration>().ok().map(|span| span.nanos)
    }

    #[test]
    fn texts_are_read_as_go_reads_them() {
        let good = [
            ("0", 0),
            ("-0", 0),
            ("0s", 0),
            ("10s", 10_000_000_000),
            ("1m30s", 90_000_000_000),
            ("500ms", 500_000_000),
            ("1h", 3_600_000_000_000),
            ("+1.5h", 5_400_000_000_000),
            ("-1.5s", -1_500_000_000),
            (".5s", 500_000_000),
            ("5.s", 5_000_000_000),
            ("1us2\u{b5}s3\u{3bc}s4ns", 6_004),
            ("0.3333333333333333333h", 1_199_999_999_999),
            ("9223372036854775807ns", i64::MAX),
            ("-9223372036854775808ns", i64::MIN),
        ];
        for (text, expected) in good {
            assert_eq!(nanos(text), Some(expected), "{text}");
        }
        let bad = [
            "",
            "-",
            "+",
            "3",
            "s",
            ".s",
            ".",
            "1",
            "10",
            "1..5s",
            "1.2.3s",
            "1d",
            "1S",
            "1s ",
            " 1s",
            "1 s",
            "--1s",
            "1e3s",
            "s1",
            "1sm",
            "9223372036854775808ns",
            "9999999999999h",
            "1é",
        ];
        for text in bad {
            assert_eq!(nanos(text), None, "{text}");
        }
    }

    #[test]
    fn texts_are_written_as_go_writes_them() {
        let cases = [
            (0, "0s"),
            (1, "1ns"),
            (1_100, "1.1\u{b5}s"),
            (2_200_000, "2.2ms"),
            (250_000_000, "250ms"),
            (1_000_000_000, "1s"),
            (1_000_000_001, "1.000000001s"),
            (90_000_000_000, "1m30s"),
            (300_000_000_000, "5m0s"),
            (3_600_000_000_000, "1h0m0s"),
            (-1_500_000_000, "-1.5s"),
            (i64::MAX, "2562047h47m16.854775807s"),
            (i64::MIN, "-2562047h47m16.854775808s"),
        ];
        for (nanos, text) in cases {
            assert_eq!(GoDuration { nanos }.to_string(), text);
        }
    }

    #[test]
    fn json_has_texts_and_numbers() {
        let read =
            |json: &str| serde_json::from_str::<GoDuration>(json).ok().map(|span| span.nanos);
        assert_eq!(read("\"15s\""), Some(15_000_000_000));
        assert_eq!(read("15000000000"), Some(15_000_000_000));
        assert_eq!(read("-1"), Some(-1));
        assert_eq!(read("1.5e9"), Some(1_500_000_000));
        for bad in ["\"15\"", "\"\"", "18446744073709551615", "1e19", "null", "true", "[]"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        let written = serde_json::to_string(&GoDuration { nanos: 90_000_000_000 }).expect("a text");
        assert_eq!(written, "\"1m30s\"");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(nanos in any::<i64>()) {
            let span = GoDuration { nanos };
            prop_assert_eq!(span.to_string().parse::<GoDuration>(), Ok(span));
        }

        #[test]
        fn any_text_is_a_duration_or_an_error(text in "[-+]?([0-9.]{0,20}[nuµmsh.é]{0,2}){0,4}") {
            let _outcome = text.parse::<GoDuration>();
        }
    }
}
