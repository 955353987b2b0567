//! Cases from Consul's documentation, and expressions against a model that collects all values first.

mod model;

use serde_json::{Value, json};

use super::{Filter, MAX_BYTES, MAX_DEPTH, answers};

fn health() -> Value {
    json!({
        "Node": {"Node": "n1", "Datacenter": "dc1", "Meta": {"os": "linux", "a-b/c": "x"}},
        "Service": {
            "ID": "web-1", "Service": "web", "Tags": ["v1", "primary"], "Port": 8080,
            "Meta": {}, "Weights": {"Passing": 1, "Warning": 1},
            "TaggedAddresses": {"lan": {"Address": "10.0.0.1", "Port": 80}},
        },
        "Checks": [
            {"CheckID": "serfHealth", "Status": "passing", "ServiceTags": []},
            {"CheckID": "service:web-1", "Status": "critical", "ServiceTags": ["v1"], "Output": "refused\n"},
        ],
    })
}

fn holds(text: &str) -> Result<bool, String> {
    let filter =
        Filter::parse(text, &answers::SERVICE_HEALTH).map_err(|error| error.to_string())?;
    Ok(filter.matches(&health()))
}

#[test]
fn expressions_that_hold() {
    let cases = [
        r#"Service.Service == "web""#,
        "Service.Service==web",
        "Service.Service == `web`",
        "Service.Port == 8080",
        r#"Service.Port == "0x1f90""#,
        "Service.Port != -1",
        r#"Node.Meta.os == "linux""#,
        r#"Node.Meta["os"] == linux"#,
        r#"Node.Meta[ `a-b/c` ] == x"#,
        r#""/Node/Meta/os" == "linux""#,
        r#""/Node/Meta/a-b~1c" == "x""#,
        r#""v1" in Service.Tags"#,
        "v1 in Service.Tags",
        r#"Service.Tags contains "primary""#,
        r#"Service.Tags not contains "v2""#,
        r#""v2" not in Service.Tags"#,
        r#""eb" in Service.Service"#,
        "os in Node.Meta",
        r#"Node.Meta contains "os""#,
        "Node.Meta not contains zone",
        "Service.Meta is empty",
        "Node.Meta is not empty",
        "Checks is not empty",
        // an omitted field has the zero value of its type
        r#"Service.Kind == """#,
        "Service.EnableTagOverride == false",
        "Service.EnableTagOverride != T",
        "Service.Proxy.LocalServicePort == 0",
        "Service.Proxy.Upstreams is empty",
        "Service.TaggedAddresses.lan.Port == 80",
        // one check is enough, whatever the test
        "Checks.Status == critical",
        "Checks.Status != critical",
        "Checks.ServiceTags not contains v1",
        r#"Checks.Output matches "refused$|(?s)refused.$""#,
        r#"Service.Service matches "^w.b$""#,
        r#"Service.Service not matches "^db""#,
        "not Service.Port == 80",
        "not not Service.Port == 8080",
        "not (Service.Port == 80 or Service.Port == 81) and Node.Node == n1",
        "Service.Port == 80 and Node.Node == n1 or Node.Datacenter == dc1",
        "( (Service.Port == 8080) )",
        "\t\r\n Service.Port \n==\t8080 ",
        // no word is reserved
        "not not in Service.Tags",
        "or not in Service.Tags and and not in Service.Tags",
        "Service.ID != is and Service.ID != empty",
    ];
    for text in cases {
        assert_eq!(holds(text), Ok(true), "{text}");
        assert_eq!(holds(&format!("not ({text})")), Ok(false), "{text}");
    }
}

#[test]
fn a_key_that_a_map_lacks() {
    let cases = [
        ("Node.Meta.zone == a", false),
        ("Node.Meta.zone != a", true),
        ("a in Node.Meta.zone", false),
        ("a not in Node.Meta.zone", true),
        ("Node.Meta.zone matches a", false),
        ("Node.Meta.zone not matches a", true),
        ("Service.TaggedAddresses.wan.Port == 0", false),
        ("Service.TaggedAddresses.wan.Port != 0", true),
    ];
    for (text, expected) in cases {
        assert_eq!(holds(text), Ok(expected), "{text}");
    }
}

#[test]
fn nothing_is_in_an_empty_list() {
    let filter = |text| Filter::parse(text, &answers::SERVICE_HEALTH).expect("an expression");
    for text in
        ["Checks.Status == passing", "Checks.Status != passing", "a not in Checks.ServiceTags"]
    {
        assert!(!filter(text).matches(&json!({"Checks": null})), "{text}");
    }
    assert!(filter("Checks is empty").matches(&json!({})));
}

#[test]
fn what_is_wrong_is_said() {
    let cases = [
        ("", "1:1 (0): no match found, expected: a selector, a number, a string"),
        ("Node.Node", "1:10 (9): no match found, expected: an operator"),
        ("Checks is not full", "1:15 (14): no match found, expected: empty"),
        ("Node.Node == n1 or", "1:16 (15): no match found, expected: and, or, the end"),
        ("Node.Node == n1)", "1:16 (15): no match found, expected: and, or, the end"),
        ("(Node.Node == n1", "1:1 (0): Unmatched parentheses"),
        ("Node.Node == \"n1", "1:14 (13): Unterminated string literal"),
        ("Node.Node ==\n  `n1", "2:3 (15): Unterminated string literal"),
        (r#"Node.Node == "\q""#, r"1:14 (13): \q is no escape"),
        ("Service.Port == 80x", "1:17 (16): Invalid number literal"),
        ("Service.Port == 080", "1:17 (16): Invalid number literal"),
        ("a in ", "1:6 (5): Invalid selector"),
        ("Node.Meta[os] == a", "1:10 (9): Invalid index"),
        ("Node.Meta[`os` == a", "1:10 (9): Unclosed index expression"),
        ("Nope == 1", "Selector \"Nope\" is not valid"),
        ("Node.Nope.More == 1", "Selector \"Node.Nope\" is not valid"),
        ("Node.Node.More == 1", "Selector \"Node.Node.More\" is not valid"),
        ("Node == 1", "Invalid match operator \"Equal\" for selector \"Node\""),
        ("Service.Tags != a", "Invalid match operator \"Not Equal\" for selector \"Service.Tags\""),
        (
            "Service.Service is empty",
            "Invalid match operator \"Is Empty\" for selector \"Service.Service\"",
        ),
        (
            "Node.Meta.a is empty",
            "Invalid match operator \"Is Empty\" for selector \"Node.Meta.a\"",
        ),
        ("1 in Service.Port", "Invalid match operator \"In\" for selector \"Service.Port\""),
        ("a not in Checks", "Invalid match operator \"Not In\" for selector \"Checks\""),
        (
            "Service.Tags matches a",
            "Invalid match operator \"Matches\" for selector \"Service.Tags\"",
        ),
        (
            "Service.Port == http",
            "Failed to coerce value \"http\" for selector \"Service.Port\": \"http\" is no whole number",
        ),
        (
            "Service.EnableTagOverride == yes",
            "Failed to coerce value \"yes\" for selector \"Service.EnableTagOverride\": \"yes\" is no truth value",
        ),
    ];
    for (text, expected) in cases {
        let expected = format!("Failed to create boolean expression evaluator: {expected}");
        assert_eq!(holds(text), Err(expected), "{text}");
    }
    let pattern = holds("Node.Node matches \"(\"").expect_err("no expression");
    assert!(pattern.contains("Failed to compile regular expression \"(\": "), "{pattern}");
}

#[test]
fn size_is_bounded() {
    let deep = |depth| format!("{}Node.Node == n1{}", "(".repeat(depth), ")".repeat(depth));
    assert_eq!(holds(&deep(MAX_DEPTH)), Ok(true));
    assert!(holds(&deep(MAX_DEPTH + 1)).is_err());
    assert_eq!(holds(&format!("{}Node.Node == n1", "not ".repeat(4000))), Ok(true));
    assert!(holds(&format!("{}Node.Node", "not ".repeat(4000))).is_err());
    let long = vec!["Node.Node == n1"; MAX_BYTES / 20];
    assert_eq!(holds(&long.join(" and ")), Ok(true));
    assert_eq!(holds(&long.join(" or ")), Ok(true));
    assert!(holds(&" ".repeat(MAX_BYTES + 1)).is_err());
    assert!(holds(r#"Node.Node matches "(\\w{200}){200}""#).is_err());
}

#[test]
fn lists_and_objects_keep_what_matches() {
    let filter = Filter::parse("Port == 1", &answers::SERVICE).expect("an expression");
    let mut list = json!([{"Port": 1}, {"Port": 2}, {"Port": 1, "ID": "a"}]);
    filter.retain(&mut list);
    assert_eq!(list, json!([{"Port": 1}, {"Port": 1, "ID": "a"}]));
    let mut object = json!({"a": {"Port": 1}, "b": {"Port": 2}});
    filter.retain(&mut object);
    assert_eq!(object, json!({"a": {"Port": 1}}));
}
