//! How access control is set up, and a secret that is not shown by chance.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Otherwise;

/// Access control that is on.
#[derive(Clone, Debug, Default)]
pub struct AclSettings {
    /// What may be done where no policy of a token has a rule.
    pub default_policy: DefaultPolicy,
    /// The secret of a token for management that is made when there is none with it; it should be a random UUID. Without
    /// it `consul acl bootstrap` gives out the first token.
    pub initial_management: Option<Secret>,
}

/// What may be done without a rule; tokens, policies and roles are never seen or changed without one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DefaultPolicy {
    /// Everything.
    Allow,
    /// Nothing.
    #[default]
    Deny,
}

impl DefaultPolicy {
    /// Reads `allow` or `deny`.
    #[must_use]
    pub fn parse(word: &str) -> Option<DefaultPolicy> {
        match word {
            "allow" => Some(DefaultPolicy::Allow),
            "deny" => Some(DefaultPolicy::Deny),
            _ => None,
        }
    }
}

impl From<DefaultPolicy> for Otherwise {
    fn from(policy: DefaultPolicy) -> Otherwise {
        match policy {
            DefaultPolicy::Allow => Otherwise::Allow,
            DefaultPolicy::Deny => Otherwise::Deny,
        }
    }
}

/// What a token is shown by. It is left out wherever it would be written by chance.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Secret {
        Secret(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}
