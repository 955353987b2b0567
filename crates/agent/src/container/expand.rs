//! Kubernetes' `$(NAME)` in commands, arguments and values.

/// Replaces `$(NAME)` by what `value` has for it; one that it does not have stays as it is, `$$` is a dollar.
pub(crate) fn expand(text: &str, value: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let tail = &rest[at + 1..];
        if let Some(tail) = tail.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some((name, tail)) = tail.strip_prefix('(').and_then(|t| t.split_once(')')) {
            match value(name) {
                Some(value) => out.push_str(&value),
                None => {
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
            }
            rest = tail;
        } else {
            out.push('$');
            rest = tail;
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::expand;
    use proptest::prelude::proptest;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let value = |name: &str| (name == "A").then(|| "x$(A)".to_owned());
        assert_eq!(expand(text, value), expected, "{text}");
    }

    #[test]
    fn as_kubernetes_does() {
        check("$(A)-$(A)", "x$(A)-x$(A)");
        check("$(B)", "$(B)");
        check("$$(A)", "$(A)");
        check("$$$(A)", "$x$(A)");
        check("$A $ $(A", "$A $ $(A");
        check("", "");
        check("ä$(A)ö", "äx$(A)ö");
    }

    proptest! {
        #[test]
        fn text_without_dollars_stays(text in "[^$]*") {
            assert_eq!(expand(&text, |_| None), text);
        }

        #[test]
        fn no_text_panics(text in "[$()A ]*") {
            expand(&text, |_| Some(String::new()));
        }
    }
}
