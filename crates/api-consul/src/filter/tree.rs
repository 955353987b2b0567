//! Conditions joined by `and`, `or` and `not`.

/// An expression over leaves of some kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tree<L> {
    All(Vec<Tree<L>>),
    Any(Vec<Tree<L>>),
    Not(Box<Tree<L>>),
    Leaf(L),
}

impl<L> Tree<L> {
    /// The same expression over other leaves, or the first leaf's error.
    pub(super) fn try_map<M, E>(self, leaf: &impl Fn(L) -> Result<M, E>) -> Result<Tree<M>, E> {
        let each = |parts: Vec<Tree<L>>| {
            parts.into_iter().map(|part| part.try_map(leaf)).collect::<Result<Vec<_>, E>>()
        };
        Ok(match self {
            Tree::All(parts) => Tree::All(each(parts)?),
            Tree::Any(parts) => Tree::Any(each(parts)?),
            Tree::Not(part) => Tree::Not(Box::new(part.try_map(leaf)?)),
            Tree::Leaf(found) => Tree::Leaf(leaf(found)?),
        })
    }

    /// True if the expression holds, where `leaf` says so of its leaves.
    pub(super) fn holds(&self, leaf: &impl Fn(&L) -> bool) -> bool {
        match self {
            Tree::All(parts) => parts.iter().all(|part| part.holds(leaf)),
            Tree::Any(parts) => parts.iter().any(|part| part.holds(leaf)),
            Tree::Not(part) => !part.holds(leaf),
            Tree::Leaf(found) => leaf(found),
        }
    }
}
