//! What a list answers.

use pontoon_model::object::Object;

/// Objects as they were at one revision, in order of namespace and name.
#[derive(Clone, Debug, PartialEq)]
pub struct List {
    pub items: Vec<Object>,
    /// The revision at which all of them were read; a watch from here misses nothing.
    pub revision: u64,
    /// Where the next part begins, if there is one.
    pub continue_token: Option<String>,
    /// How many objects are left, if that is known (without selectors).
    pub remaining: Option<u64>,
}
