//! Rules by name: for one name exactly, or for all that begin so.

use std::collections::BTreeMap;
use std::ops::Bound::{Included, Unbounded};

use super::rules::Access;

type Names = BTreeMap<Box<[u8]>, Access>;

/// All rules about one resource.
#[derive(Clone, Debug, Default)]
pub(super) struct Segments {
    exact: Names,
    prefixes: Names,
}

impl Segments {
    pub(super) fn add_exact(&mut self, name: &[u8], access: Access) {
        add(&mut self.exact, name, access);
    }

    pub(super) fn add_prefix(&mut self, prefix: &[u8], access: Access) {
        add(&mut self.prefixes, prefix, access);
    }

    /// What is granted for a name: by its own rule, or by that for the longest prefix of it.
    pub(super) fn find(&self, name: &[u8]) -> Option<Access> {
        self.exact.get(name).copied().or_else(|| self.longest_prefix(name))
    }

    /// What the rule for the longest prefix of `name` grants.
    pub(super) fn longest_prefix(&self, name: &[u8]) -> Option<Access> {
        let mut bound = name;
        loop {
            let mut before = self.prefixes.range::<[u8], _>((Unbounded, Included(bound)));
            let (prefix, access) = before.next_back()?;
            let shared = prefix.iter().zip(name).take_while(|(a, b)| a == b).count();
            if shared == prefix.len() {
                return Some(*access);
            }
            // Prefixes of the name that are longer than this would lie between the rule found and the bound.
            bound = &name[..shared];
        }
    }

    /// What all rules for names and prefixes that begin with `prefix` grant.
    pub(super) fn below<'a>(&'a self, prefix: &'a [u8]) -> impl Iterator<Item = Access> + 'a {
        let within = move |names: &'a Names| {
            let from = names.range::<[u8], _>((Included(prefix), Unbounded));
            from.take_while(move |rule| rule.0.starts_with(prefix)).map(|rule| *rule.1)
        };
        within(&self.exact).chain(within(&self.prefixes))
    }
}

/// Of two rules for the same, a denial counts, and otherwise the one that grants more.
fn add(names: &mut Names, name: &[u8], access: Access) {
    let joined = names.entry(name.into()).or_insert(access);
    *joined = stronger(*joined, access);
}

/// Which of two rules for the same counts.
pub(super) fn stronger(a: Access, b: Access) -> Access {
    if a == Access::Deny || b == Access::Deny { Access::Deny } else { a.max(b) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn accesses() -> impl Strategy<Value = Access> {
        prop::sample::select(vec![Access::Deny, Access::Read, Access::List, Access::Write])
    }

    fn names() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop::sample::select(vec![0, b'/', b'a', b'b', 255]), 0..5)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1024))]

        #[test]
        fn the_longest_prefix_is_found(
            rules in prop::collection::btree_map(names(), accesses(), 0..12),
            name in names(),
        ) {
            let mut segments = Segments::default();
            for (prefix, access) in &rules {
                segments.add_prefix(prefix, *access);
            }
            let matching = rules.iter().filter(|rule| name.starts_with(rule.0));
            let longest = matching.max_by_key(|rule| rule.0.len()).map(|rule| *rule.1);
            prop_assert_eq!(segments.longest_prefix(&name), longest);
            let mut below: Vec<Access> = segments.below(&name).collect();
            let mut expected: Vec<Access> =
                rules.iter().filter(|rule| rule.0.starts_with(&name)).map(|rule| *rule.1).collect();
            below.sort();
            expected.sort();
            prop_assert_eq!(below, expected);
        }

        #[test]
        fn the_order_of_rules_does_not_matter(a in accesses(), b in accesses(), c in accesses()) {
            prop_assert_eq!(stronger(a, b), stronger(b, a));
            prop_assert_eq!(stronger(stronger(a, b), c), stronger(a, stronger(b, c)));
        }
    }
}
