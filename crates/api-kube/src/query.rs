//! A request's query, decoded once, and the parameters that Kubernetes defines for it.

use std::time::Duration;

use pontoon_model::status::Status;

use crate::path::percent_decode;

/// More pairs than any client sends.
const MAX_PAIRS: usize = 256;

/// The pairs of a query, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Refuses broken escapes and more than 256 pairs.
    pub(crate) fn parse(text: &str) -> Result<Query, Status> {
        let broken = || Status::bad_request("the query of the request is not valid");
        let mut pairs = Vec::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let key = percent_decode(key, true).ok_or_else(broken)?;
            let value = percent_decode(value, true).ok_or_else(broken)?;
            pairs.push((key, value));
            if pairs.len() > MAX_PAIRS {
                return Err(broken());
            }
        }
        Ok(Query(pairs))
    }

    /// The first value of that name, when it is not empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// All values of that name.
    pub(crate) fn values<'q>(&'q self, name: &'q str) -> impl Iterator<Item = &'q str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A flag as Kubernetes reads it: there and not `false` or `0`.
    pub(crate) fn flag(&self, name: &str) -> bool {
        let value = self.values(name).next();
        value.is_some_and(|value| !matches!(value, "false" | "0" | "False" | "FALSE"))
    }

    /// A number that is not negative.
    pub(crate) fn number(&self, name: &str) -> Result<Option<u64>, Status> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let number = text.parse().map_err(|_| {
            Status::bad_request(format!(
                "{name}: Invalid value: \"{text}\": must be a number that is not negative"
            ))
        })?;
        Ok(Some(number))
    }

    /// `timeoutSeconds` of a list or watch, when it is there and not 0.
    pub(crate) fn timeout(&self) -> Result<Option<Duration>, Status> {
        let seconds = self.number("timeoutSeconds")?;
        Ok(seconds.filter(|seconds| *seconds > 0).map(Duration::from_secs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_decoded() {
        let query = Query::parse("command=sh&command=-c&command=a+b%26c&tty&x=&n=5").unwrap();
        assert_eq!(query.values("command").collect::<Vec<_>>(), ["sh", "-c", "a b&c"]);
        assert!(query.flag("tty"));
        assert!(!query.flag("stdin"));
        assert_eq!(query.get("x"), None);
        assert_eq!(query.number("n").unwrap(), Some(5));
    }

    #[test]
    fn bad_queries_are_refused() {
        assert!(Query::parse("a=%").is_err());
        assert!(Query::parse("a=%ff").is_err());
        assert!(Query::parse(&"a&".repeat(300)).is_err());
        assert!(Query::parse("n=-1").unwrap().number("n").is_err());
        assert!(Query::parse("n=99999999999999999999").unwrap().number("n").is_err());
    }
}
