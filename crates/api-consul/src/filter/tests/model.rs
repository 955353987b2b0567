//! Random expressions on random items, against a model that first collects all values a selector leads to.

use proptest::prelude::*;
use serde_json::{Map, Value};

use super::super::{Filter, Shape};

const TEXTS: Shape = Shape::List(&Shape::Text);
const CHECK: Shape = Shape::Struct(&[("Status", Shape::Text), ("Tags", TEXTS)]);
const ADDRESS: Shape = Shape::Struct(&[("Port", Shape::Integer)]);
const ITEM: Shape = Shape::Struct(&[
    ("Name", Shape::Text),
    ("Port", Shape::Integer),
    ("On", Shape::Boolean),
    ("Tags", TEXTS),
    ("Ports", Shape::List(&Shape::Integer)),
    ("Meta", Shape::Map(&Shape::Text)),
    ("Checks", Shape::List(&CHECK)),
    ("Addresses", Shape::Map(&ADDRESS)),
]);

/// A selector as it is written, its steps, and what it leads to: a letter for a test that is allowed.
/// `e`qual, part of a `t`ext, item of a `l`ist, key of a `m`ap, empt`y`, `r`egular expression.
const SELECTORS: [(&str, &[&str], &str); 14] = [
    ("Name", &["Name"], "etr"),
    ("Port", &["Port"], "e"),
    ("On", &["On"], "e"),
    ("Tags", &["Tags"], "ly"),
    ("Ports", &["Ports"], "ly"),
    ("Meta", &["Meta"], "my"),
    ("Meta.a", &["Meta", "a"], "etr"),
    ("Meta[\"b\"]", &["Meta", "b"], "etr"),
    ("Checks", &["Checks"], "y"),
    ("Checks.Status", &["Checks", "Status"], "etr"),
    ("Checks.Tags", &["Checks", "Tags"], "ly"),
    ("\"/Checks/Tags\"", &["Checks", "Tags"], "ly"),
    ("Addresses", &["Addresses"], "my"),
    ("Addresses.a.Port", &["Addresses", "a", "Port"], "e"),
];

#[derive(Clone, Debug)]
enum Expr {
    Test { selector: usize, test: char, negated: bool, value: String },
    Not(Box<Expr>),
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
}

fn number_or_letter() -> impl Strategy<Value = String> {
    prop_oneof!["[abc]{0,2}", (0..3).prop_map(|n: i32| n.to_string())]
}

fn tests() -> impl Strategy<Value = Expr> {
    (
        0..SELECTORS.len(),
        any::<prop::sample::Index>(),
        any::<bool>(),
        number_or_letter(),
        0..3i64,
        any::<bool>(),
    )
        .prop_map(|(selector, test, negated, text, number, truth)| {
            let tests = SELECTORS[selector].2;
            let test = char::from(tests.as_bytes()[test.index(tests.len())]);
            let value = match SELECTORS[selector].1.last() {
                Some(&("Port" | "Ports")) => number.to_string(),
                Some(&"On") => truth.to_string(),
                _ => text,
            };
            Expr::Test { selector, test, negated, value }
        })
}

fn expressions() -> impl Strategy<Value = Expr> {
    tests().prop_recursive(4, 24, 2, |inner| {
        prop_oneof![
            inner.clone().prop_map(|e| Expr::Not(Box::new(e))),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| Expr::And(Box::new(a), Box::new(b))),
            (inner.clone(), inner).prop_map(|(a, b)| Expr::Or(Box::new(a), Box::new(b))),
        ]
    })
}

/// Writes an expression with as few parentheses as it can: `strength` is that of what is around it.
fn write(expr: &Expr, strength: u8) -> String {
    let (text, own) = match expr {
        Expr::Or(a, b) => (format!("{} or {}", write(a, 1), write(b, 0)), 0),
        Expr::And(a, b) => (format!("{} and  {}", write(a, 2), write(b, 1)), 1),
        Expr::Not(e) => (format!("not {}", write(e, 2)), 2),
        Expr::Test { selector, test, negated, value } => {
            let selector = SELECTORS[*selector].0;
            let not = if *negated { "not " } else { "" };
            let text = match test {
                'e' if *negated => format!("{selector}!=\"{value}\""),
                'e' => format!("{selector} == `{value}`"),
                'y' => format!("{selector} is {not}empty"),
                'r' => format!("{selector} {not}matches \"^{value}\""),
                't' => format!("{selector} {not}contains \"{value}\""),
                _ => format!("\"{value}\" {not}in {selector}"),
            };
            (text, 3)
        }
    };
    if own < strength { format!("( {text})") } else { text }
}

/// All values that the steps lead to; none for a key that a map lacks.
fn reach<'a>(shape: &'static Shape, value: &'a Value, steps: &[&str]) -> Vec<Option<&'a Value>> {
    let Some((step, rest)) = steps.split_first() else { return vec![Some(value)] };
    match shape {
        Shape::List(items) => value
            .as_array()
            .into_iter()
            .flatten()
            .flat_map(|item| reach(items, item, steps))
            .collect(),
        Shape::Map(values) => {
            value.get(step).map_or(vec![None], |found| reach(values, found, rest))
        }
        Shape::Struct(fields) => {
            let field = fields.iter().find(|field| field.0 == *step).expect("a field of the shape");
            reach(&field.1, value.get(step).unwrap_or(&Value::Null), rest)
        }
        _ => panic!("{step} of a plain value"),
    }
}

/// A plain value as text; what is missing as the text of its type's zero.
fn plain(value: &Value, like: &str) -> String {
    match value {
        Value::Null if like.parse::<i64>().is_ok() => "0".to_owned(),
        Value::Null if like.parse::<bool>().is_ok() => "false".to_owned(),
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn test(found: Option<&Value>, test: char, wanted: &str, zero: &str) -> bool {
    let Some(found) = found else { return test == 'y' };
    match test {
        'e' => plain(found, zero) == wanted,
        't' => plain(found, zero).contains(wanted),
        'r' => plain(found, zero).starts_with(wanted),
        'l' => found.as_array().into_iter().flatten().any(|item| plain(item, zero) == wanted),
        'm' => found.as_object().is_some_and(|map| map.contains_key(wanted)),
        _ => match found {
            Value::Array(items) => items.is_empty(),
            Value::Object(map) => map.is_empty(),
            _ => true,
        },
    }
}

fn model(expr: &Expr, item: &Value) -> bool {
    match expr {
        Expr::And(a, b) => model(a, item) & model(b, item),
        Expr::Or(a, b) => model(a, item) | model(b, item),
        Expr::Not(e) => !model(e, item),
        Expr::Test { selector, test: kind, negated, value } => {
            let steps = SELECTORS[*selector].1;
            let zero = match steps.last() {
                Some(&("Port" | "Ports")) => "0",
                Some(&"On") => "false",
                _ => "",
            };
            reach(&ITEM, item, steps)
                .into_iter()
                .any(|found| test(found, *kind, value, zero) != *negated)
        }
    }
}

fn objects(fields: Vec<(&'static str, BoxedStrategy<Value>)>) -> BoxedStrategy<Value> {
    let fields: Vec<_> = fields
        .into_iter()
        .map(|(name, values)| {
            prop::option::of(values).prop_map(move |value| value.map(|v| (name, v)))
        })
        .collect();
    fields
        .prop_map(|fields| {
            Value::Object(
                fields.into_iter().flatten().map(|(name, v)| (name.to_owned(), v)).collect(),
            )
        })
        .boxed()
}

fn lists(items: BoxedStrategy<Value>) -> BoxedStrategy<Value> {
    prop_oneof![Just(Value::Null), prop::collection::vec(items, 0..3).prop_map(Value::Array)]
        .boxed()
}

fn maps(values: BoxedStrategy<Value>) -> BoxedStrategy<Value> {
    prop::collection::btree_map("[ab]", values, 0..3)
        .prop_map(|entries| Value::Object(entries.into_iter().collect::<Map<_, _>>()))
        .boxed()
}

fn items() -> BoxedStrategy<Value> {
    let text = || number_or_letter().prop_map(Value::from).boxed();
    let number = || (0..3i64).prop_map(Value::from).boxed();
    let check = objects(vec![("Status", text()), ("Tags", lists(text()))]);
    objects(vec![
        ("Name", text()),
        ("Port", number()),
        ("On", any::<bool>().prop_map(Value::from).boxed()),
        ("Tags", lists(text())),
        ("Ports", lists(number())),
        ("Meta", maps(text())),
        ("Checks", lists(check)),
        ("Addresses", maps(objects(vec![("Port", number())]))),
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn filters_agree_with_the_model(expr in expressions(), items in prop::collection::vec(items(), 1..8)) {
        let text = write(&expr, 0);
        let filter = Filter::parse(&text, &ITEM);
        let filter = filter.map_err(|error| TestCaseError::fail(format!("{text}: {error}")))?;
        for item in items {
            prop_assert_eq!(filter.matches(&item), model(&expr, &item), "{} on {}", text, item);
        }
    }

    #[test]
    fn any_text_is_an_expression_or_an_error(text in ".{0,64}") {
        let _outcome = Filter::parse(&text, &ITEM);
    }

    #[test]
    fn any_words_are_an_expression_or_an_error(
        words in prop::collection::vec(
            prop::sample::select(vec![
                "not", "and", "or", "in", "is", "empty", "matches", "contains", "==", "!=", "(", ")", "[", "]", "Name",
                "Meta.a", "Tags", "\"", "`", "\"/Name\"", "\"a\\x\"", ".", "-1", "0", "é", " ",
            ]),
            0..24,
        ),
        space in "[ \n]?",
    ) {
        let _outcome = Filter::parse(&words.join(&space), &ITEM);
    }
}
