//! HCL, version 1, and its JSON form, as far as policies need them: named items, whose values are texts
//! or objects.

mod json;
mod parser;

/// A text longer than this is refused: it could not be stored.
pub(super) const MAX_BYTES: usize = 512 * 1024;
/// So many objects and lists may be inside each other.
const MAX_DEPTH: usize = 32;

/// `key "label" { … }` or `key = value`: one key and labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) keys: Vec<String>,
    pub(super) node: Node,
}

/// What an item's value is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Text(String),
    /// A number, a truth value or JSON's null, none of which a policy has a use for.
    Other,
    List(Vec<Node>),
    Object(Vec<Item>),
}

/// A text that is neither HCL nor JSON.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HclError {
    #[error("{bytes} bytes are more than the {MAX_BYTES} that are taken")]
    TooLong { bytes: usize },
    #[error("at {line}:{column}: {what}")]
    Syntax { line: usize, column: usize, what: String },
    #[error("as JSON, because it begins with a brace: {0}")]
    Json(String),
}

/// Reads a text; one that begins with a brace is JSON.
pub(super) fn parse(text: &str) -> Result<Vec<Item>, HclError> {
    if text.len() > MAX_BYTES {
        return Err(HclError::TooLong { bytes: text.len() });
    }
    if text.trim_start().starts_with('{') { json::parse(text) } else { parser::parse(text) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn item(keys: &[&str], node: Node) -> Item {
        Item { keys: keys.iter().map(|&key| key.to_owned()).collect(), node }
    }

    fn text(text: &str) -> Node {
        Node::Text(text.to_owned())
    }

    #[test]
    fn all_of_hcl_is_read() {
        let hcl = r#"
            # one comment
            // another
            a = "1" b="2", c = "x\ty" /* and
            a third */
            d "e f" { g = "h" }
            "i" "" {}
            j = { k = ["l", "m", { n = "o" },] p.q-r = 1.5e3 }
            s = true
            t = <<END
line one
  line two
END
            u = <<-END
                v
                END
            w = -0x1F
        "#;
        let expected = vec![
            item(&["a"], text("1")),
            item(&["b"], text("2")),
            item(&["c"], text("x\ty")),
            item(&["d", "e f"], Node::Object(vec![item(&["g"], text("h"))])),
            item(&["i", ""], Node::Object(vec![])),
            item(
                &["j"],
                Node::Object(vec![
                    item(
                        &["k"],
                        Node::List(vec![
                            text("l"),
                            text("m"),
                            Node::Object(vec![item(&["n"], text("o"))]),
                        ]),
                    ),
                    item(&["p.q-r"], Node::Other),
                ]),
            ),
            item(&["s"], Node::Other),
            item(&["t"], text("line one\n  line two\n")),
            item(&["u"], text("v\n")),
            item(&["w"], Node::Other),
        ];
        assert_eq!(parse(hcl), Ok(expected));
        assert_eq!(parse(""), Ok(vec![]));
        assert_eq!(parse(" # nothing"), Ok(vec![]));
    }

    #[test]
    fn json_is_read_and_keeps_what_is_there_twice() {
        let json = r#" {"a": "1", "k": {"": {"p": "r"}}, "k": [{"x": null}], "n": [1, true]}"#;
        let expected = vec![
            item(&["a"], text("1")),
            item(
                &["k"],
                Node::Object(vec![item(&[""], Node::Object(vec![item(&["p"], text("r"))]))]),
            ),
            item(&["k"], Node::List(vec![Node::Object(vec![item(&["x"], Node::Other)])])),
            item(&["n"], Node::List(vec![Node::Other, Node::Other])),
        ];
        assert_eq!(parse(json), Ok(expected));
        assert_eq!(parse("{}"), Ok(vec![]));
        for bad in ["{", "{} {}", "{\"a\"}", "{\"a\": tru}"] {
            assert!(matches!(parse(bad), Err(HclError::Json(_))), "{bad}");
        }
    }

    #[test]
    fn mistakes_have_a_place() {
        let cases = [
            ("a", 1, 2, "expected { or = after the name"),
            ("a\n= ", 2, 3, "expected a value"),
            ("a b = 1", 1, 5, "= comes after one name only"),
            ("a {", 1, 4, "expected a name or }"),
            ("}", 1, 1, "expected a name"),
            ("= 1", 1, 1, "expected a name"),
            ("a = \"b", 1, 5, "this text has no end"),
            ("a = \"b\n\"", 1, 5, "this text has no end"),
            ("a = \"\\q\"", 1, 5, "\\q is no escape"),
            ("a = [1", 1, 7, "expected a value or ]"),
            ("a = [1 2]", 1, 8, "expected , or ]"),
            ("/* a", 1, 1, "this comment has no end"),
            ("a = <<E\nb", 1, 5, "this text has no end"),
            ("a = <<\nb", 1, 5, "a name must follow <<"),
            ("é = ü", 1, 5, "expected a value"),
        ];
        for (hcl, line, column, what) in cases {
            let expected = HclError::Syntax { line, column, what: what.to_owned() };
            assert_eq!(parse(hcl), Err(expected), "{hcl}");
        }
    }

    #[test]
    fn size_is_bounded() {
        let deep = |depth| format!("a {}{}", "{ a ".repeat(depth) + "{}", "}".repeat(depth));
        assert!(parse(&deep(MAX_DEPTH - 1)).is_ok());
        assert!(parse(&deep(MAX_DEPTH)).is_err());
        assert!(parse(&format!("a = {}", "[".repeat(100_000))).is_err());
        assert!(parse(&format!("{{\"a\": {}", "[".repeat(100_000))).is_err());
        assert!(parse(&" ".repeat(MAX_BYTES + 1)).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_a_policy_or_an_error(text in ".{0,64}") {
            let _outcome = parse(&text);
        }

        #[test]
        fn any_tokens_are_a_policy_or_an_error(
            tokens in prop::collection::vec(
                prop::sample::select(vec![
                    "key", "\"a\"", "{", "}", "[", "]", "=", ",", ":", "policy", "\"\\", "<<E", "<<-", "E", "\n", "#",
                    "/*", "*/", "//", "-", "1", "é", "\"", "null",
                ]),
                0..24,
            ),
            space in " ?",
        ) {
            let _outcome = parse(&tokens.join(&space));
        }
    }
}
