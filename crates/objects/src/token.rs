//! The `continue` token of a list: at which revision and from which key it goes on.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use pontoon_model::status::Status;
use serde::{Deserialize, Serialize};

const VERSION: u8 = 1;

/// Where the next part of a list begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Token {
    v: u8,
    /// The revision at which all parts are read.
    pub(crate) rev: u64,
    /// The last key of the part before.
    pub(crate) after: String,
}

impl Token {
    pub(crate) fn new(rev: u64, after: String) -> Self {
        Self { v: VERSION, rev, after }
    }

    pub(crate) fn write(&self) -> String {
        let text = serde_json::to_vec(self).expect("a token has only a number and a string");
        BASE64_URL_SAFE_NO_PAD.encode(text)
    }

    /// Reads a token; it must go on within the keys that the list is about.
    pub(crate) fn read(text: &str, prefix: &str) -> Result<Self, Status> {
        let bad = || Status::bad_request("continue key is not valid");
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| bad())?;
        let token: Self = serde_json::from_slice(&bytes).map_err(|_| bad())?;
        let fits = token.v == VERSION && token.rev > 0 && token.after.starts_with(prefix);
        if fits { Ok(token) } else { Err(bad()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_and_lead_nowhere_else() {
        let token = Token::new(7, "/registry/core/pods/a/b".to_owned());
        let text = token.write();
        assert_eq!(Token::read(&text, "/registry/core/pods/"), Ok(token));
        for (text, prefix) in
            [(text.as_str(), "/registry/core/secrets/"), ("", "/"), ("x!", "/"), ("e30", "/")]
        {
            assert_eq!(Token::read(text, prefix).unwrap_err().code, 400, "{text}");
        }
    }
}
