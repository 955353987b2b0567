//! Which keys a client sees: all but those of the cluster itself, below `/pontoon/`, which hold the key of
//! its certificate authority.

use bytes::Bytes;

const HIDDEN: &[u8] = b"/pontoon/";
/// The first key after all hidden ones.
const HIDDEN_END: &[u8] = b"/pontoon0";
/// As the end of a range: no end.
const NO_END: &[u8] = b"\0";

/// A key, or the keys from one to another, as the store names them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) key: Bytes,
    /// `None` for the key alone; `\0` for no end.
    pub(crate) end: Option<Bytes>,
}

impl Span {
    /// What a request means by a key and the end of a range, which is empty for one key.
    pub(crate) fn asked(key: Bytes, range_end: Bytes) -> Span {
        Span { key, end: (!range_end.is_empty()).then_some(range_end) }
    }

    /// A span that holds no key.
    pub(crate) fn empty() -> Span {
        let hidden = Bytes::from_static(HIDDEN);
        Span { key: hidden.clone(), end: Some(hidden) }
    }

    /// The parts that a client sees, in order.
    pub(crate) fn visible(self) -> [Option<Span>; 2] {
        let Span { key, end } = self;
        let Some(end) = end else {
            return [(!is_hidden(&key)).then_some(Span { key, end: None }), None];
        };
        let ends_before = |bound: &[u8]| end != NO_END && end <= bound;
        if key >= HIDDEN_END || ends_before(HIDDEN) {
            return [Some(Span { key, end: Some(end) }), None];
        }
        let after = (!ends_before(HIDDEN_END))
            .then_some(Span { key: Bytes::from_static(HIDDEN_END), end: Some(end) });
        let before = (key < HIDDEN).then_some(Span { key, end: Some(Bytes::from_static(HIDDEN)) });
        [before, after]
    }

    /// True if a client may not see all of it.
    pub(crate) fn touches_hidden(&self) -> bool {
        match &self.end {
            None => is_hidden(&self.key),
            Some(end) => self.key < HIDDEN_END && (end == NO_END || end > HIDDEN),
        }
    }
}

/// True for a key of the cluster itself.
pub(crate) fn is_hidden(key: &[u8]) -> bool {
    key.starts_with(HIDDEN)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Keys around the hidden ones, and others.
    fn keys() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            Just(b"/pontoon".to_vec()),
            Just(HIDDEN.to_vec()),
            Just(HIDDEN_END.to_vec()),
            "/pontoon[./0].?".prop_map(String::into_bytes),
            "/[a-z]{0,3}".prop_map(String::into_bytes),
            prop::collection::vec(any::<u8>(), 0..4),
        ]
    }

    fn holds(span: &Span, key: &[u8]) -> bool {
        match span.end.as_deref() {
            None => key == span.key,
            Some(NO_END) => key >= &span.key[..],
            Some(end) => key >= &span.key[..] && key < end,
        }
    }

    proptest! {
        #[test]
        fn what_is_visible_is_what_was_asked_without_the_hidden_keys(
            key in keys(),
            range_end in keys(),
            probes in prop::collection::vec(keys(), 1..32),
        ) {
            let asked = Span::asked(key.into(), range_end.into());
            let visible = asked.clone().visible();
            let parts: Vec<&Span> = visible.iter().flatten().collect();
            prop_assert!(parts.windows(2).all(|pair| pair[0].key <= pair[1].key), "in order");
            for probe in probes {
                let wanted = holds(&asked, &probe) && !probe.starts_with(HIDDEN);
                let found = parts.iter().filter(|part| holds(part, &probe)).count();
                prop_assert_eq!(found, usize::from(wanted), "{:?}", probe);
                if holds(&asked, &probe) && probe.starts_with(HIDDEN) {
                    prop_assert!(asked.touches_hidden());
                }
                prop_assert!(!holds(&Span::empty(), &probe));
            }
        }
    }
}
