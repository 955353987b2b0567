//! A model that asks every rule of every policy, and policies written and read back.

use proptest::prelude::*;

use super::super::*;

pub(super) const RESOURCES: [Resource; 13] = [
    Resource::Acl,
    Resource::Agent,
    Resource::Event,
    Resource::Intention,
    Resource::Key,
    Resource::Keyring,
    Resource::Mesh,
    Resource::Node,
    Resource::Operator,
    Resource::Peering,
    Resource::Query,
    Resource::Service,
    Resource::Session,
];
const NAMED: [(&str, Resource); 7] = [
    ("agent", Resource::Agent),
    ("event", Resource::Event),
    ("key", Resource::Key),
    ("node", Resource::Node),
    ("query", Resource::Query),
    ("service", Resource::Service),
    ("session", Resource::Session),
];
const WHOLE: [(&str, Resource); 5] = [
    ("acl", Resource::Acl),
    ("keyring", Resource::Keyring),
    ("mesh", Resource::Mesh),
    ("operator", Resource::Operator),
    ("peering", Resource::Peering),
];

/// All texts of `a` and `/` up to three long. (A pattern would be read anew for each value.)
fn names() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!['a', '/']), 0..=3)
        .prop_map(|letters| letters.into_iter().collect())
}

fn accesses() -> impl Strategy<Value = Access> {
    prop::sample::select(vec![Access::Deny, Access::Read, Access::Write])
}

fn named() -> impl Strategy<Value = Rule> {
    let key = prop::sample::select(vec![Access::Deny, Access::Read, Access::List, Access::Write]);
    // Keys come more often: they have more operations.
    let resource = prop_oneof![Just(Resource::Key), (0..NAMED.len()).prop_map(|n| NAMED[n].1)];
    let parts = (resource, names(), any::<bool>(), accesses(), key, prop::option::of(accesses()));
    parts.prop_map(|(resource, name, exact, access, key, intentions)| Rule {
        resource,
        scope: if exact { Scope::Exact(name) } else { Scope::Prefix(name) },
        access: if resource == Resource::Key { key } else { access },
        intentions: intentions.filter(|_| resource == Resource::Service),
    })
}

/// Policies with at most one rule for a resource that has no names, as a text has no more.
fn policies() -> impl Strategy<Value = Rules> {
    let whole = prop::collection::btree_map(0..WHOLE.len(), accesses(), 0..3);
    (prop::collection::vec(named(), 0..8), whole).prop_map(|(mut rules, whole)| {
        rules.extend(whole.into_iter().map(|(n, access)| Rule {
            resource: WHOLE[n].1,
            scope: Scope::Whole,
            access,
            intentions: None,
        }));
        Rules(rules)
    })
}

fn word(access: Access) -> &'static str {
    match access {
        Access::Deny => "deny",
        Access::Read => "read",
        Access::List => "list",
        Access::Write => "write",
    }
}

fn kind(rule: &Rule) -> &'static str {
    NAMED.iter().chain(&WHOLE).find(|(_, resource)| *resource == rule.resource).expect("a kind").0
}

fn hcl(rules: &Rules) -> String {
    let mut text = String::new();
    for rule in &rules.0 {
        let (kind, access) = (kind(rule), word(rule.access));
        let intentions = rule.intentions.map(|access| format!("intentions = \"{}\"", word(access)));
        let intentions = intentions.unwrap_or_default();
        text += &match &rule.scope {
            Scope::Whole => format!("{kind} = \"{access}\"\n"),
            Scope::Exact(name) => {
                format!("{kind} \"{name}\" {{ policy = \"{access}\" {intentions} }}\n")
            }
            Scope::Prefix(name) => {
                format!(
                    "{kind}_prefix \"{name}\" {{ policy = \"{access}\"\n{intentions} }} # {name}\n"
                )
            }
        };
    }
    text
}

fn json(rules: &Rules) -> String {
    let each = rules.0.iter().map(|rule| {
        let (kind, access) = (kind(rule), word(rule.access));
        let intentions =
            rule.intentions.map(|access| format!(", \"intentions\": \"{}\"", word(access)));
        let fields = format!("{{\"policy\": \"{access}\"{}}}", intentions.unwrap_or_default());
        match &rule.scope {
            Scope::Whole => format!("\"{kind}\": \"{access}\""),
            Scope::Exact(name) => format!("\"{kind}\": {{\"{name}\": {fields}}}"),
            Scope::Prefix(name) => format!("\"{kind}_prefix\": {{\"{name}\": {fields}}}"),
        }
    });
    format!("{{{}}}", each.collect::<Vec<_>>().join(", "))
}

/// Of rules for the same, which counts.
fn strongest(accesses: &[Access]) -> Option<Access> {
    [Access::Deny, Access::Write, Access::List, Access::Read]
        .into_iter()
        .find(|a| accesses.contains(a))
}

/// What rules of a resource that are written for exactly this name or prefix say together.
fn said(rules: &[&Rule], resource: Resource, scope: &Scope) -> Option<Access> {
    let of = if resource == Resource::Intention { Resource::Service } else { resource };
    let same = rules.iter().filter(|rule| rule.resource == of && rule.scope == *scope);
    let access = strongest(&same.clone().map(|rule| rule.access).collect::<Vec<_>>())?;
    if resource != Resource::Intention {
        return Some(access);
    }
    let given: Vec<Access> = same.filter_map(|rule| rule.intentions).collect();
    let implied = if access == Access::Deny { Access::Deny } else { Access::Read };
    Some(strongest(&given).unwrap_or(implied))
}

fn prefixes(name: &str) -> impl Iterator<Item = &str> {
    (0..=name.len()).rev().map(|length| &name[..length])
}

fn prefix_rule(rules: &[&Rule], resource: Resource, name: &str) -> Option<Access> {
    prefixes(name).find_map(|prefix| said(rules, resource, &Scope::Prefix(prefix.to_owned())))
}

fn found(rules: &[&Rule], resource: Resource, name: &str) -> Option<Access> {
    match resource {
        Resource::Mesh | Resource::Peering => said(rules, resource, &Scope::Whole)
            .or_else(|| said(rules, Resource::Operator, &Scope::Whole)),
        Resource::Acl | Resource::Keyring | Resource::Operator => {
            said(rules, resource, &Scope::Whole)
        }
        _ => said(rules, resource, &Scope::Exact(name.to_owned()))
            .or_else(|| prefix_rule(rules, resource, name)),
    }
}

fn allowed(rule: Option<Access>, wanted: Access, otherwise: Otherwise, resource: Resource) -> bool {
    match (rule, otherwise) {
        (Some(Access::Write), _) => true,
        (Some(Access::List), _) => wanted != Access::Write,
        (Some(Access::Read), _) => wanted == Access::Read,
        (Some(Access::Deny), _) | (None, Otherwise::Deny) => false,
        (None, Otherwise::Allow) => resource != Resource::Acl,
        (None, Otherwise::AllowAll) => true,
    }
}

fn key_prefix(rules: &[&Rule], prefix: &str, otherwise: Otherwise) -> bool {
    let own = prefix_rule(rules, Resource::Key, prefix);
    let below = rules.iter().filter(|rule| rule.resource == Resource::Key).all(|rule| {
        let (Scope::Exact(name) | Scope::Prefix(name)) = &rule.scope else { return true };
        !name.starts_with(prefix) || said(rules, Resource::Key, &rule.scope) == Some(Access::Write)
    });
    below && allowed(own, Access::Write, otherwise, Resource::Key)
}

fn defaults() -> impl Strategy<Value = Otherwise> {
    prop::sample::select(vec![Otherwise::Deny, Otherwise::Allow, Otherwise::AllowAll])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn decisions_agree_with_the_model(
        policies in prop::collection::vec(policies(), 0..4),
        otherwise in defaults(),
        asked in prop::collection::vec(names(), 1..6),
    ) {
        let authorizer = Authorizer::new(&policies, otherwise);
        let rules: Vec<&Rule> = policies.iter().flat_map(|policy| &policy.0).collect();
        for name in &asked {
            for resource in RESOURCES {
                let rule = found(&rules, resource, name);
                for wanted in [Access::Read, Access::List, Access::Write] {
                    let expected = allowed(rule, wanted, otherwise, resource);
                    let decided = authorizer.allows(resource, name, wanted);
                    prop_assert_eq!(decided, expected, "{:?} {:?} {:?}", resource, name, wanted);
                }
            }
            prop_assert_eq!(
                authorizer.allows_key_prefix(name),
                key_prefix(&rules, name, otherwise),
                "below {:?}",
                name
            );
        }
    }

    #[test]
    fn who_may_delete_a_tree_may_write_every_key_of_it(
        policies in prop::collection::vec(policies(), 0..4),
        otherwise in defaults(),
        prefix in names(),
        rest in names(),
    ) {
        let authorizer = Authorizer::new(&policies, otherwise);
        if authorizer.allows_key_prefix(&prefix) {
            prop_assert!(authorizer.allows(Resource::Key, prefix + &rest, Access::Write));
        }
    }

    #[test]
    fn all_and_any_agree_with_every_name(policies in prop::collection::vec(policies(), 0..3), otherwise in defaults()) {
        let authorizer = Authorizer::new(&policies, otherwise);
        for (_, resource) in NAMED {
            for wanted in [Access::Read, Access::Write] {
                // a name that no rule is about, which the default or the rule for all decides
                let every = ["", "a", "/", "aa", "a/", "/a", "//", "a//", "z"];
                let mut answers = every.map(|name| authorizer.allows(resource, name, wanted)).into_iter();
                let all = authorizer.allows_all(resource, wanted);
                prop_assert!(!all || answers.all(|answer| answer));
                let mut answers = every.map(|name| authorizer.allows(resource, name, wanted)).into_iter();
                prop_assert!(authorizer.allows_any(resource, wanted) || !answers.any(|answer| answer));
            }
        }
    }

    #[test]
    fn policies_are_read_as_they_are_written(rules in policies()) {
        prop_assert_eq!(Rules::parse(&hcl(&rules)), Ok(rules.clone()));
        prop_assert_eq!(Rules::parse(&json(&rules)), Ok(rules));
    }

    #[test]
    fn any_text_is_a_policy_or_an_error(
        text in prop::string::string_regex(
            r#"((key|node_prefix|acl|policy|service)( "a?")? ?[={}\[\],]? ?("(read|write)?"|1)?\n?){0,6}"#,
        ).expect("a pattern"),
    ) {
        let _outcome = Rules::parse(&text);
    }
}
