//! The query of a URL, decoded once.

use std::borrow::Cow;

use crate::path::{escape, unescape};
use crate::refusal::Refusal;

/// More pairs than any client sends.
const PAIRS_MAX: usize = 256;

/// The pairs of a query, in order.
#[derive(Clone, Default, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub(crate) struct Query(Vec<(Vec<u8>, Vec<u8>)>);

impl Query {
    pub(crate) fn parse(text: &str) -> Result<Query, Refusal> {
        let broken = || Refusal::bad_request("the query of the URL cannot be read");
        let mut pairs = Vec::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decode = |part: &str| unescape(part.as_bytes(), true).ok_or_else(broken);
            pairs.push((decode(name)?, decode(value)?));
            if pairs.len() > PAIRS_MAX {
                return Err(broken());
            }
        }
        Ok(Query(pairs))
    }

    /// True if the parameter is there, with a value or without.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.bytes(name).is_some()
    }

    /// The same without some parameters.
    pub(crate) fn without(&self, names: &[&str]) -> Query {
        let is_kept = |name: &[u8]| !names.iter().any(|other| other.as_bytes() == name);
        Query(self.0.iter().filter(|(name, _)| is_kept(name)).cloned().collect())
    }

    /// The first value of that name.
    pub(crate) fn bytes(&self, name: &str) -> Option<&[u8]> {
        let found = self.0.iter().find(|(key, _)| key == name.as_bytes());
        found.map(|(_, value)| &value[..])
    }

    /// All values of that name as text.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = String> {
        let named = self.0.iter().filter(move |(key, _)| key == name.as_bytes());
        named.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
    }

    /// The first value of that name as text; empty if it is not there.
    pub(crate) fn text(&self, name: &str) -> Cow<'_, str> {
        self.bytes(name).map_or(Cow::Borrowed(""), String::from_utf8_lossy)
    }

    /// A number that the parameter must be if it is there.
    pub(crate) fn number(&self, name: &str) -> Result<Option<u64>, Refusal> {
        let Some(value) = self.bytes(name) else { return Ok(None) };
        let text = String::from_utf8_lossy(value);
        // Rust would take a sign that Go does not.
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let wrong = if is_number { "value out of range" } else { "invalid syntax" };
        let number = is_number.then(|| text.parse().ok()).flatten();
        let words = || format!("strconv.ParseUint: parsing {text:?}: {wrong}");
        number.map(Some).ok_or_else(|| Refusal::Failed(words()))
    }

    /// Refuses parameters that exclude each other.
    pub(crate) fn at_most_one_of(&self, names: &[&str]) -> Result<(), Refusal> {
        if names.iter().filter(|name| self.has(name)).count() <= 1 {
            return Ok(());
        }
        Err(Refusal::BadRequest(format!("Conflicting flags: {}", self.encoded())))
    }

    /// The pairs as a query again, in the order of their names.
    fn encoded(&self) -> String {
        let mut pairs = self.0.clone();
        pairs.sort_by(|one, other| one.0.cmp(&other.0));
        let quote = |part: &[u8]| escape(part).replace('/', "%2F").replace("%20", "+");
        let pair = |(name, value): &(Vec<u8>, Vec<u8>)| format!("{}={}", quote(name), quote(value));
        pairs.iter().map(pair).collect::<Vec<_>>().join("&")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_decoded() {
        let query = Query::parse("recurse&separator=%2f&a=b+c%26&a=d&n=5&x=").unwrap();
        assert!(query.has("recurse") && query.has("x") && !query.has("raw"));
        assert_eq!(query.text("separator"), "/");
        assert_eq!(query.text("a"), "b c&");
        assert_eq!(query.number("n"), Ok(Some(5)));
        assert_eq!(query.number("m"), Ok(None));
    }

    #[test]
    fn bad_queries_are_refused() {
        assert!(Query::parse("a=%").is_err());
        assert!(Query::parse("%zz=1").is_err());
        assert!(Query::parse(&"a&".repeat(300)).is_err());
        for number in ["", "-1", "+1", "x", "18446744073709551616"] {
            let query = Query::parse(&format!("n={}", escape(number.as_bytes()))).unwrap();
            assert!(matches!(query.number("n"), Err(Refusal::Failed(_))), "{number}");
        }
    }

    #[test]
    fn parameters_exclude_each_other() {
        let query = Query::parse("release=a/b&cas=1").unwrap();
        assert_eq!(query.at_most_one_of(&["cas", "acquire"]), Ok(()));
        let words = "Conflicting flags: cas=1&release=a%2Fb".to_owned();
        let refused = query.at_most_one_of(&["cas", "acquire", "release"]);
        assert_eq!(refused, Err(Refusal::BadRequest(words)));
    }
}
