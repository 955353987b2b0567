//! How a query is to be answered: how fresh, and whether to wait for a change first.

use std::time::Duration;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use pontoon_store::Read;

use crate::duration::GoDuration;
use crate::query::Query;
use crate::refusal::Refusal;

/// How long a blocking query waits that does not say, and how long it may ask for, as in Consul.
const WAIT_DEFAULT: Duration = Duration::from_secs(300);
const WAIT_MAX: Duration = Duration::from_secs(600);

/// How fresh an answer must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Consistency {
    /// What this server knows, leader or not.
    Stale,
    /// What the leader knows.
    Leader,
    /// What the leader knows while a quorum says that it leads.
    Consistent,
}

impl Consistency {
    /// The word for it in the headers of an answer.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Consistency::Stale => "stale",
            Consistency::Leader => "leader",
            Consistency::Consistent => "consistent",
        }
    }

    /// The store proves leadership for each read, so that the default is as good as `consistent`.
    pub(crate) fn read(self) -> Read {
        match self {
            Consistency::Stale => Read::Local,
            Consistency::Leader | Consistency::Consistent => Read::Linearizable,
        }
    }
}

/// The options that all queries have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) consistency: Consistency,
    /// Wait until there is something newer than this; 0 does not wait.
    pub(crate) index: u64,
    /// How long to wait at most, before jitter.
    pub(crate) wait: Duration,
}

impl Options {
    pub(crate) fn parse(query: &Query) -> Result<Options, Refusal> {
        let wait = match query.text("wait").as_ref() {
            "" => WAIT_DEFAULT,
            text => wait(text)?,
        };
        let index = match query.text("index").as_ref() {
            "" => 0,
            text => text.parse().map_err(|_| Refusal::bad_request("Invalid index"))?,
        };
        Ok(Options { consistency: consistency(query)?, index, wait })
    }
}

fn wait(text: &str) -> Result<Duration, Refusal> {
    let asked: GoDuration = text.parse().map_err(|_| Refusal::bad_request("Invalid wait time"))?;
    // What is not positive means the default, as in Consul.
    let asked = asked.to_std().filter(|wait| !wait.is_zero());
    Ok(asked.unwrap_or(WAIT_DEFAULT).min(WAIT_MAX))
}

fn consistency(query: &Query) -> Result<Consistency, Refusal> {
    let max_stale = query.text("max_stale");
    let stale = match max_stale.as_ref() {
        "" => query.has("stale"),
        text => {
            let bad = |_| Refusal::BadRequest(format!("Invalid max_stale value {text:?}"));
            text.parse::<GoDuration>().map_err(bad)?.nanos > 0 || query.has("stale")
        }
    };
    let conflict = |with: &str| {
        Refusal::BadRequest(format!(
            "Cannot specify ?{with} with ?consistent, conflicting semantics."
        ))
    };
    match (stale, query.has("consistent")) {
        (true, true) => Err(conflict("stale")),
        (false, true) if query.has("cached") => Err(conflict("cached")),
        (false, true) => Ok(Consistency::Consistent),
        (true, false) => Ok(Consistency::Stale),
        (false, false) => Ok(Consistency::Leader),
    }
}

/// The token that a request shows: in its URL, in Consul's header, or in the standard one; empty if in none.
pub(crate) fn token(query: &Query, headers: &HeaderMap) -> String {
    let asked = query.text("token");
    if !asked.is_empty() {
        return asked.into_owned();
    }
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("");
    let token = header("x-consul-token");
    if !token.is_empty() {
        return token.to_owned();
    }
    let bearer = header(AUTHORIZATION.as_str()).strip_prefix("Bearer ").unwrap_or("");
    bearer.split_whitespace().next().unwrap_or("").to_owned()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn parse(query: &str) -> Result<Options, Refusal> {
        Options::parse(&Query::parse(query).unwrap())
    }

    #[test]
    fn waiting() {
        let wait = |query: &str| parse(query).unwrap().wait.as_secs();
        assert_eq!(wait(""), 300);
        assert_eq!(wait("wait=10s"), 10);
        assert_eq!(wait("wait=1h"), 600);
        assert_eq!(wait("wait=-1s"), 300);
        assert_eq!(wait("wait=0"), 300);
        assert_eq!(parse("index=7").unwrap().index, 7);
        assert_eq!(parse("wait=10"), Err(Refusal::bad_request("Invalid wait time")));
        assert_eq!(parse("index=-1"), Err(Refusal::bad_request("Invalid index")));
    }

    #[test]
    fn freshness() {
        let of = |query: &str| parse(query).map(|options| options.consistency);
        assert_eq!(of(""), Ok(Consistency::Leader));
        assert_eq!(of("leader"), Ok(Consistency::Leader));
        assert_eq!(of("stale"), Ok(Consistency::Stale));
        assert_eq!(of("stale=false"), Ok(Consistency::Stale), "any value is yes, as in Consul");
        assert_eq!(of("max_stale=1s"), Ok(Consistency::Stale));
        assert_eq!(of("consistent"), Ok(Consistency::Consistent));
        for bad in ["stale&consistent", "cached&consistent", "max_stale=x"] {
            assert!(matches!(of(bad), Err(Refusal::BadRequest(_))), "{bad}");
        }
    }

    #[test]
    fn tokens() {
        let of = |query: &str, header: Option<(&'static str, &'static str)>| {
            let headers = header.map(|(name, value)| {
                (http::HeaderName::from_static(name), HeaderValue::from_static(value))
            });
            token(&Query::parse(query).unwrap(), &headers.into_iter().collect())
        };
        assert_eq!(of("token=a", Some(("x-consul-token", "b"))), "a");
        assert_eq!(of("", Some(("x-consul-token", "b"))), "b");
        assert_eq!(of("", Some(("authorization", "Bearer  c d"))), "c");
        assert_eq!(of("", Some(("authorization", "Basic c"))), "");
        assert_eq!(of("", None), "");
    }
}
