//! Answers: bodies, the headers that clients go by, and refusals in plain text.

use bytes::Bytes;
use http::header::{
    ALLOW, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;

use crate::json;
use crate::options::Consistency;
use crate::refusal::Refusal;

/// What every answer carries.
pub type Body = Full<Bytes>;

const INDEX: HeaderName = HeaderName::from_static("x-consul-index");
const KNOWN_LEADER: HeaderName = HeaderName::from_static("x-consul-knownleader");
const LAST_CONTACT: HeaderName = HeaderName::from_static("x-consul-lastcontact");
const EFFECTIVE_CONSISTENCY: HeaderName = HeaderName::from_static("x-consul-effective-consistency");

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const PLAIN: HeaderValue = HeaderValue::from_static("text/plain");

/// What is said of the state that an answer was made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    /// To wait for what is newer; none for what cannot be waited for.
    pub(crate) index: Option<u64>,
    pub(crate) known_leader: bool,
    pub(crate) consistency: Consistency,
}

/// An answer to a request.
#[derive(Debug)]
pub(crate) struct Answer {
    response: Response<Body>,
}

impl Answer {
    fn of(status: StatusCode, content_type: Option<HeaderValue>, body: Bytes) -> Answer {
        let mut response = Response::new(Full::new(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        if let Some(content_type) = content_type {
            headers.insert(CONTENT_TYPE, content_type);
        }
        headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
        // Nobody may take for a page what somebody else stored here.
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        Answer { response }
    }

    /// A value as JSON.
    pub(crate) fn json(value: &impl Serialize, pretty: bool) -> Result<Answer, Refusal> {
        Answer::json_with(StatusCode::OK, value, pretty)
    }

    pub(crate) fn json_with(
        status: StatusCode,
        value: &impl Serialize,
        pretty: bool,
    ) -> Result<Answer, Refusal> {
        let body = json::encode(value, pretty)?;
        Ok(Answer::of(status, Some(JSON), Bytes::from(body)))
    }

    /// A value that is JSON already.
    pub(crate) fn json_bytes(body: Vec<u8>) -> Answer {
        Answer::of(StatusCode::OK, Some(JSON), Bytes::from(body))
    }

    /// The same without its body: nothing is there.
    pub(crate) fn not_found(self) -> Answer {
        let mut answer = Answer::nothing();
        for (name, value) in self.response.headers() {
            if name != CONTENT_TYPE {
                answer.response.headers_mut().insert(name.clone(), value.clone());
            }
        }
        answer
    }

    /// It is done, without a word.
    pub(crate) fn done() -> Answer {
        Answer::of(StatusCode::OK, None, Bytes::new())
    }

    pub(crate) fn with_header(mut self, name: &'static str, value: &str) -> Answer {
        self.insert(HeaderName::from_static(name), value);
        self
    }

    /// Bytes that somebody stored. They are never a page or a script, whatever they look like.
    pub(crate) fn raw(bytes: Bytes) -> Answer {
        let mut answer = Answer::of(StatusCode::OK, Some(PLAIN), bytes);
        let sandbox = HeaderValue::from_static("sandbox");
        answer.response.headers_mut().insert(CONTENT_SECURITY_POLICY, sandbox);
        answer
    }

    /// A snapshot.
    pub(crate) fn archive(bytes: Vec<u8>) -> Answer {
        let gzip = HeaderValue::from_static("application/x-gzip");
        Answer::of(StatusCode::OK, Some(gzip), Bytes::from(bytes))
    }

    /// A word, without its character set, where Consul does not name it either.
    pub(crate) fn plain(status: StatusCode, word: &str) -> Answer {
        Answer::of(status, Some(PLAIN), Bytes::from(word.to_owned()))
    }

    /// A line of text.
    pub(crate) fn text(status: StatusCode, words: String) -> Answer {
        Answer::of(status, (!words.is_empty()).then_some(TEXT), Bytes::from(words))
    }

    /// Nothing is there; without a word, as Consul says it of keys.
    pub(crate) fn nothing() -> Answer {
        Answer::of(StatusCode::NOT_FOUND, None, Bytes::new())
    }

    /// The methods that a path has.
    pub(crate) fn allow(methods: &str) -> Answer {
        let mut answer = Answer::of(StatusCode::OK, None, Bytes::new());
        answer.insert(ALLOW, methods);
        answer
    }

    pub(crate) fn refused(refusal: &Refusal) -> Answer {
        let mut answer = Answer::text(refusal.status(), refusal.to_string());
        match refusal {
            Refusal::Method { allowed, .. } => answer.insert(ALLOW, allowed),
            Refusal::Moved(to) => answer.insert(LOCATION, to),
            _ => {}
        }
        answer
    }

    /// The same answer, saying what to wait behind, and nothing of the cluster.
    pub(crate) fn with_index(mut self, index: u64) -> Answer {
        self.response.headers_mut().insert(INDEX, HeaderValue::from(index.max(1)));
        self
    }

    /// The same answer, saying what it was made from.
    pub(crate) fn with_meta(mut self, meta: Meta) -> Answer {
        let headers = self.response.headers_mut();
        if let Some(index) = meta.index {
            // An index of 0 would make clients ask again at once, for ever.
            headers.insert(INDEX, HeaderValue::from(index.max(1)));
        }
        let known_leader = if meta.known_leader { "true" } else { "false" };
        headers.insert(KNOWN_LEADER, HeaderValue::from_static(known_leader));
        // The store does not say how long ago it heard of the leader; while it knows none, that is told above.
        headers.insert(LAST_CONTACT, HeaderValue::from_static("0"));
        let consistency = HeaderValue::from_static(meta.consistency.word());
        headers.insert(EFFECTIVE_CONSISTENCY, consistency);
        self
    }

    pub(crate) fn into_response(self) -> Response<Body> {
        self.response
    }

    fn insert(&mut self, name: HeaderName, value: &str) {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.response.headers_mut().insert(name, value);
        }
    }
}
