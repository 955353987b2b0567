//! The parameters of a request.

use std::str::FromStr;

use jiff::{SignedDuration, Timestamp};

use crate::access::ExecOptions;
use crate::logs::LogOptions;

/// More parameters than this are not looked at.
const MOST_PARAMETERS: usize = 1024;

/// Names and values in their order.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads what is behind the `?`; what cannot be read is left out.
    pub(super) fn parse(text: &str) -> Self {
        let pairs = text.split('&').take(MOST_PARAMETERS).filter_map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decode(&value.replace('+', " "))?;
            Some((decode(name)?, value)).filter(|(name, _)| !name.is_empty())
        });
        Self(pairs.collect())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// A switch is on when it is named, unless it says `false` or `0`.
    fn is_on(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| !matches!(value, "false" | "0"))
    }

    fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>, String> {
        let Some(text) = self.get(name).filter(|text| !text.is_empty()) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| format!("{name}: {text:?} is not valid"))
    }

    /// The options of a request for logs at `now`, or what is wrong with them.
    pub(super) fn log_options(&self, now: Timestamp) -> Result<LogOptions, String> {
        let since_time = self.number::<Timestamp>("sinceTime")?;
        let since_seconds = self
            .number::<u32>("sinceSeconds")?
            .and_then(|seconds| now.checked_sub(SignedDuration::from_secs(seconds.into())).ok());
        Ok(LogOptions {
            follow: self.is_on("follow"),
            tail: self.number("tailLines")?,
            since: since_time.or(since_seconds),
            previous: self.is_on("previous"),
            timestamps: self.is_on("timestamps"),
            limit_bytes: self.number("limitBytes")?,
        })
    }

    /// The options of a request for a command, or what is wrong with them.
    pub(super) fn exec_options(&self) -> Result<ExecOptions, String> {
        let command = self.0.iter().filter(|(name, _)| name == "command");
        let command: Vec<String> = command.map(|(_, value)| value.clone()).collect();
        if command.is_empty() {
            return Err("you must specify at least 1 command for the container".to_owned());
        }
        if command.iter().any(|word| word.contains('\0')) {
            return Err("a command has no NUL byte".to_owned());
        }
        Ok(ExecOptions { command, stdin: self.is_on("stdin"), tty: self.is_on("tty") })
    }
}

/// Decodes `%xx`; `None` if what comes out is no text or a `%` stands alone.
pub(super) fn decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
            out.push(digit(bytes.next()?)? * 16 + digit(bytes.next()?)?);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::proptest;

    #[test]
    fn log_options_are_read_and_checked() {
        let now = Timestamp::from_second(1000).unwrap();
        let options =
            Query::parse("follow=true&tailLines=5&sinceSeconds=60&timestamps&previous=false");
        let expected = LogOptions {
            follow: true,
            tail: Some(5),
            since: Timestamp::from_second(940).ok(),
            timestamps: true,
            ..LogOptions::default()
        };
        assert_eq!(options.log_options(now), Ok(expected));
        let since = Query::parse("sinceTime=1970-01-01T00%3A00%3A07Z").log_options(now).unwrap();
        assert_eq!(since.since, Timestamp::from_second(7).ok());
        for wrong in ["tailLines=x", "tailLines=-1", "sinceTime=yesterday", "limitBytes=1k"] {
            assert!(Query::parse(wrong).log_options(now).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_command_is_its_words_in_order() {
        let options = Query::parse("command=sh&command=-c&command=echo+a%2Bb&stdin=1&tty=true")
            .exec_options();
        let expected = ExecOptions {
            command: vec!["sh".into(), "-c".into(), "echo a+b".into()],
            stdin: true,
            tty: true,
        };
        assert_eq!(options, Ok(expected));
        assert!(Query::parse("stdin=1").exec_options().is_err());
        assert!(Query::parse("command=a%00").exec_options().is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[%a-f0-9=&+ä]{0,40}") {
            let query = Query::parse(&text);
            drop((query.exec_options(), query.log_options(Timestamp::UNIX_EPOCH)));
        }
    }
}
