//! Policies as Consul's documentation has them, and random ones against a model that looks at every rule.

mod model;

use super::*;

fn rules(text: &str) -> Rules {
    Rules::parse(text).expect("a policy")
}

fn authorizer(text: &str) -> Authorizer {
    Authorizer::new([&rules(text)], Otherwise::Deny)
}

fn rule(resource: Resource, scope: Scope, access: Access) -> Rule {
    Rule { resource, scope, access, intentions: None }
}

fn exact(name: &str) -> Scope {
    Scope::Exact(name.to_owned())
}

fn prefix(name: &str) -> Scope {
    Scope::Prefix(name.to_owned())
}

#[test]
fn every_kind_of_rule_is_read() {
    let text = r#"
        acl = "write"
        agent "a" { policy = "write" }          agent_prefix "" { policy = "read" }
        event "deploy" { policy = "write" }     event_prefix "" { policy = "deny" }
        key "foo" { policy = "list" }           key_prefix "bar/" { policy = "write" }
        keyring = "read"                        mesh = "read"
        node "n" { policy = "write" }           node_prefix "" { policy = "read" }
        operator = "read"                       peering = "deny"
        query "q" { policy = "write" }          query_prefix "" { policy = "read" }
        service "web" { policy = "write" intentions = "deny" }
        service_prefix "" { policy = "read" }
        session "n" { policy = "write" }        session_prefix "" { policy = "read" }
    "#;
    let (read, write, deny) = (Access::Read, Access::Write, Access::Deny);
    let web = Rule { intentions: Some(deny), ..rule(Resource::Service, exact("web"), write) };
    let expected = vec![
        rule(Resource::Acl, Scope::Whole, write),
        rule(Resource::Agent, exact("a"), write),
        rule(Resource::Agent, prefix(""), read),
        rule(Resource::Event, exact("deploy"), write),
        rule(Resource::Event, prefix(""), deny),
        rule(Resource::Key, exact("foo"), Access::List),
        rule(Resource::Key, prefix("bar/"), write),
        rule(Resource::Keyring, Scope::Whole, read),
        rule(Resource::Mesh, Scope::Whole, read),
        rule(Resource::Node, exact("n"), write),
        rule(Resource::Node, prefix(""), read),
        rule(Resource::Operator, Scope::Whole, read),
        rule(Resource::Peering, Scope::Whole, deny),
        rule(Resource::Query, exact("q"), write),
        rule(Resource::Query, prefix(""), read),
        web,
        rule(Resource::Service, prefix(""), read),
        rule(Resource::Session, exact("n"), write),
        rule(Resource::Session, prefix(""), read),
    ];
    assert_eq!(rules(text), Rules(expected));
}

#[test]
fn json_says_the_same_as_hcl() {
    let hcl = r#"key_prefix "" { policy = "read" } key "a" { policy = "deny" } operator = "read""#;
    let forms = [
        r#"{"key_prefix": {"": {"policy": "read"}}, "key": {"a": {"policy": "deny"}}, "operator": "read"}"#,
        r#"{"key_prefix": [{"": [{"policy": "read"}]}], "key": [{"a": {"policy": "deny"}}], "operator": "read"}"#,
        r#"key_prefix = { "" = { policy = "read" } } key { a { policy = "deny" } } operator = "read""#,
        r#"KEY_PREFIX "" { Policy = "read" } Key "a" { POLICY = "deny" } Operator = "read""#,
        r#"key_prefix "" { policy = "deny" policy = "read" sentinel { code = "x" } } key "a" { policy = "deny" }
           operator = "deny" operator = "read" namespace "x" { acl = "no" } unknown = 1"#,
    ];
    for form in forms {
        assert_eq!(rules(form), rules(hcl), "{form}");
    }
    assert_eq!(rules(""), Rules::default());
    assert_eq!(rules(r#"acl = """#), Rules::default());
}

#[test]
fn what_is_wrong_is_said() {
    let cases = [
        (r#"acl = "list""#, r#"Invalid acl policy: "list"; it must be read, write or deny"#),
        (
            r#"key "a" { policy = "Read" }"#,
            r#"Invalid key policy: "a" has "Read", which must be read, list, write or deny"#,
        ),
        (
            r#"node_prefix "a" { policy = "list" }"#,
            r#"Invalid node_prefix policy: "a" has "list", which must be read, write or deny"#,
        ),
        (
            r#"key "a" {}"#,
            r#"Invalid key policy: "a" has "", which must be read, list, write or deny"#,
        ),
        (
            r#"service "a" { policy = "read" intentions = "x" }"#,
            r#"Invalid service intentions policy: "a" has "x", which must be read, write or deny"#,
        ),
        ("acl = 1", r#"Failed to parse ACL rules: acl takes a text: write it as name = "read""#),
        (
            r#"acl "a" { policy = "read" }"#,
            r#"Failed to parse ACL rules: acl takes a text: write it as name = "read""#,
        ),
        (
            r#"key = "read""#,
            r#"Failed to parse ACL rules: key takes an object: write it as name "label" { … }"#,
        ),
        (
            r#"key { policy = "read" }"#,
            r#"Failed to parse ACL rules: key takes an object: write it as name "label" { … }"#,
        ),
        (r#"key "a" "b" {}"#, "Failed to parse ACL rules: key takes one label"),
        (
            r#"key "a" { policy = 1 }"#,
            "Failed to parse ACL rules: key has a policy that is no text",
        ),
        (r#"{"key": {"a": ["b"]}}"#, "Failed to parse ACL rules: key takes a list of objects only"),
        ("key \"a\" {", "Failed to parse ACL rules: at 1:10: expected a name or }"),
    ];
    for (text, expected) in cases {
        let error = Rules::parse(text).expect_err(text);
        assert_eq!(error.to_string(), expected, "{text}");
    }
}

#[test]
fn an_exact_rule_wins_over_a_longer_prefix_over_a_shorter() {
    let keys = authorizer(
        r#"key_prefix "" { policy = "read" } key_prefix "foo/" { policy = "write" }
           key_prefix "foo/private/" { policy = "deny" } key "foo/bar/secret" { policy = "deny" }
           key_prefix "list/" { policy = "list" }"#,
    );
    let can = |name: &str| {
        let accesses = [Access::Read, Access::List, Access::Write];
        accesses.map(|access| keys.allows(Resource::Key, name, access))
    };
    assert_eq!(can("bar"), [true, false, false]);
    assert_eq!(can("foo"), [true, false, false]);
    assert_eq!(can("foo/"), [true, true, true]);
    assert_eq!(can("foo/bar/secret"), [false, false, false]);
    assert_eq!(can("foo/bar/secret2"), [true, true, true]);
    assert_eq!(can("foo/private/a"), [false, false, false]);
    assert_eq!(can("list/a"), [true, true, false]);
    assert_eq!(can("../foo/private/a"), [true, false, false], "a name is no path");
}

#[test]
fn a_tree_is_deleted_only_where_all_of_it_may_be() {
    let keys = authorizer(
        r#"key_prefix "a/" { policy = "write" } key "a/x" { policy = "write" }
           key_prefix "b/" { policy = "write" } key "b/x" { policy = "read" }
           key_prefix "c/" { policy = "write" } key_prefix "c/d/" { policy = "deny" }
           key_prefix "e" { policy = "list" }"#,
    );
    let cases = [
        ("a/", true),
        ("a/x", true),
        ("a", false),
        ("b/", false),
        ("b/w", true),
        ("b/x", false),
        ("c/", false),
        ("c/d", false),
        ("c/e", true),
        ("e", false),
        ("", false),
        ("z", false),
    ];
    for (prefix, expected) in cases {
        assert_eq!(keys.allows_key_prefix(prefix), expected, "{prefix}");
    }
    let open = Authorizer::new([&rules(r#"key "a/b" { policy = "read" }"#)], Otherwise::Allow);
    assert!(!open.allows_key_prefix("a/") && open.allows_key_prefix("b/"));
    let none = Authorizer::new([&Rules::default()], Otherwise::Allow);
    assert!(none.allows_key_prefix(""));
}

#[test]
fn of_rules_for_the_same_a_denial_counts_then_the_one_that_grants_most() {
    let policies = [
        rules(r#"node "a" { policy = "read" } key "k" { policy = "read" } acl = "read""#),
        rules(r#"node "a" { policy = "write" } key "k" { policy = "list" } acl = "deny""#),
        rules(r#"node "a" { policy = "read" } acl = "write""#),
    ];
    let joined = Authorizer::new(&policies, Otherwise::Allow);
    assert!(joined.allows(Resource::Node, "a", Access::Write));
    assert!(joined.allows(Resource::Key, "k", Access::List));
    assert!(!joined.allows(Resource::Key, "k", Access::Write));
    assert!(!joined.allows(Resource::Acl, "", Access::Read) && !joined.allows_snapshot());
}

#[test]
fn without_a_rule_the_default_counts() {
    let ask = |otherwise| {
        let nobody = Authorizer::new([], otherwise);
        let key = nobody.allows(Resource::Key, "a", Access::Write);
        [key, nobody.allows(Resource::Operator, "", Access::Write), nobody.allows_snapshot()]
    };
    assert_eq!(ask(Otherwise::Deny), [false, false, false]);
    assert_eq!(ask(Otherwise::Allow), [true, true, false]);
    assert_eq!(ask(Otherwise::AllowAll), [true, true, true]);
}

#[test]
fn intentions_follow_their_service() {
    let services = authorizer(
        r#"service "seen" { policy = "read" } service "own" { policy = "write" }
           service "both" { policy = "write" intentions = "write" } service "no" { policy = "deny" }
           service "shut" { policy = "write" intentions = "deny" }"#,
    );
    let can = |name: &str| {
        [Access::Read, Access::Write]
            .map(|access| services.allows(Resource::Intention, name, access))
    };
    assert_eq!(can("seen"), [true, false]);
    assert_eq!(can("own"), [true, false]);
    assert_eq!(can("both"), [true, true]);
    assert_eq!(can("no"), [false, false]);
    assert_eq!(can("shut"), [false, false]);
    assert_eq!(can("other"), [false, false]);
    assert_eq!(can("*"), [true, false]);
    let joined = [
        rules(r#"service "a" { policy = "write" }"#),
        rules(r#"service "a" { policy = "read" intentions = "write" }"#),
    ];
    let joined = Authorizer::new(&joined, Otherwise::Deny);
    assert!(joined.allows(Resource::Intention, "a", Access::Write));
}

#[test]
fn mesh_and_peering_follow_the_operator() {
    let operator = authorizer(r#"operator = "write" peering = "read""#);
    assert!(operator.allows(Resource::Mesh, "", Access::Write));
    assert!(operator.allows(Resource::Peering, "", Access::Read));
    assert!(!operator.allows(Resource::Peering, "", Access::Write));
}

#[test]
fn all_and_any() {
    let nodes = authorizer(r#"node_prefix "" { policy = "read" } node "a" { policy = "write" }"#);
    assert!(nodes.allows_all(Resource::Node, Access::Read));
    assert!(!nodes.allows_all(Resource::Node, Access::Write));
    assert!(nodes.allows_any(Resource::Node, Access::Write));
    assert!(!nodes.allows_any(Resource::Service, Access::Read));
    let hidden = authorizer(r#"node_prefix "" { policy = "read" } node "a" { policy = "deny" }"#);
    assert!(!hidden.allows_all(Resource::Node, Access::Read));
}

#[test]
fn questions_in_consuls_words() {
    let keys = authorizer(r#"key_prefix "a/" { policy = "write" } operator = "read""#);
    assert_eq!(keys.enforce("key", "a/b", "WRITE"), Ok(true));
    assert_eq!(keys.enforce("key", "a/", "write-prefix"), Ok(true));
    assert_eq!(keys.enforce("key", "", "write-prefix"), Ok(false));
    assert_eq!(keys.enforce("key", "a", "list"), Ok(false));
    assert_eq!(keys.enforce("operator", "", "read"), Ok(true));
    let error =
        |resource, access| keys.enforce(resource, "", access).expect_err("an error").to_string();
    assert_eq!(error("keys", "read"), r#"Invalid ACL resource requested: "keys""#);
    assert_eq!(error("node", "list"), "Invalid access level for node resource: list");
}

#[test]
fn management_may_do_all() {
    let management = authorizer(GLOBAL_MANAGEMENT_RULES);
    for resource in model::RESOURCES {
        assert!(management.allows(resource, "any", Access::Write), "{resource:?}");
    }
    assert!(management.allows_snapshot() && management.allows_key_prefix(""));
    assert!(management.allows(Resource::Intention, "*", Access::Write));
}

#[test]
fn identities_stand_for_rules() {
    let web = service_identity("web").expect("an identity");
    let written = r#"service "web" { policy = "write" } service "web-sidecar-proxy" { policy = "write" }
        service_prefix "" { policy = "read" } node_prefix "" { policy = "read" }"#;
    assert_eq!(web, rules(written));
    let node = node_identity("n-1").expect("an identity");
    let written = r#"node "n-1" { policy = "write" } service_prefix "" { policy = "read" }"#;
    assert_eq!(node, rules(written));
    for bad in ["", "-", "a-", "_a", "Web", "a b", "a\"{}", "é", &"a".repeat(257)] {
        assert_eq!(service_identity(bad), Err(BadName(bad.to_owned())));
        assert_eq!(node_identity(bad), Err(BadName(bad.to_owned())));
    }
    assert!(service_identity(&"a".repeat(256)).is_ok() && service_identity("a_0-b").is_ok());
}
