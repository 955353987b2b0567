//! The questions that clients ask about themselves: `kubectl auth can-i` and `whoami`. Nothing is stored.

use pontoon_model::status::Status;
use serde_json::{Value, json};

use crate::authorize::{self, Attributes, Decision};
use crate::identity::Identity;

/// A kind that is only posted and answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Review {
    pub group: &'static str,
    pub version: &'static str,
    pub plural: &'static str,
    pub singular: &'static str,
    pub kind: &'static str,
    pub namespaced: bool,
    answer: Answer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    WhoAmI,
    MayI,
    MyRules,
    MayTheyDo,
}

const fn authorization(
    plural: &'static str,
    singular: &'static str,
    kind: &'static str,
    namespaced: bool,
    answer: Answer,
) -> Review {
    let group = "authorization.k8s.io";
    Review { group, version: "v1", plural, singular, kind, namespaced, answer }
}

/// Every review.
pub(crate) const ALL: &[Review] = &[
    Review {
        group: "authentication.k8s.io",
        version: "v1",
        plural: "selfsubjectreviews",
        singular: "selfsubjectreview",
        kind: "SelfSubjectReview",
        namespaced: false,
        answer: Answer::WhoAmI,
    },
    authorization(
        "localsubjectaccessreviews",
        "localsubjectaccessreview",
        "LocalSubjectAccessReview",
        true,
        Answer::MayTheyDo,
    ),
    authorization(
        "selfsubjectaccessreviews",
        "selfsubjectaccessreview",
        "SelfSubjectAccessReview",
        false,
        Answer::MayI,
    ),
    authorization(
        "selfsubjectrulesreviews",
        "selfsubjectrulesreview",
        "SelfSubjectRulesReview",
        false,
        Answer::MyRules,
    ),
    authorization(
        "subjectaccessreviews",
        "subjectaccessreview",
        "SubjectAccessReview",
        false,
        Answer::MayTheyDo,
    ),
];

pub(crate) fn find(group: &str, plural: &str) -> Option<&'static Review> {
    ALL.iter().find(|review| review.group == group && review.plural == plural)
}

impl Review {
    pub(crate) fn api_version(&self) -> String {
        format!("{}/{}", self.group, self.version)
    }

    /// Whether anybody may ask: questions about oneself are free, about others for administrators.
    pub(crate) fn is_about_oneself(&self) -> bool {
        self.answer != Answer::MayTheyDo
    }

    /// The posted question with its answer in `status`.
    pub(crate) fn answer(
        &self,
        identity: &Identity,
        namespace: Option<&str>,
        question: Value,
    ) -> Result<Value, Status> {
        let Value::Object(mut question) = question else {
            return Err(Status::bad_request(format!("a {} must be an object", self.kind)));
        };
        self.check_kind(question.get("kind"), question.get("apiVersion"))?;
        let spec = question.get("spec").cloned().unwrap_or_default();
        let status = match self.answer {
            Answer::WhoAmI => json!({"userInfo": user_info(identity)}),
            Answer::MayI => decision(identity, &spec, namespace)?,
            Answer::MyRules => rules(identity, &spec)?,
            Answer::MayTheyDo => decision(&subject(&spec)?, &spec, namespace)?,
        };
        question.insert("apiVersion".to_owned(), self.api_version().into());
        question.insert("kind".to_owned(), self.kind.into());
        question.entry("metadata").or_insert_with(|| json!({"creationTimestamp": null}));
        question.insert("status".to_owned(), status);
        Ok(Value::Object(question))
    }

    fn check_kind(&self, kind: Option<&Value>, version: Option<&Value>) -> Result<(), Status> {
        let fits = |given: Option<&Value>, wanted: &str| {
            given.is_none_or(|given| given.as_str().is_none_or(|text| text == wanted))
        };
        if fits(kind, self.kind) && fits(version, &self.api_version()) {
            return Ok(());
        }
        Err(Status::bad_request(format!(
            "the object provided is not a {} of {}",
            self.kind,
            self.api_version()
        )))
    }
}

fn user_info(identity: &Identity) -> Value {
    json!({"username": identity.user, "groups": identity.groups})
}

fn subject(spec: &Value) -> Result<Identity, Status> {
    let user = text(spec, "/user");
    let groups: Vec<String> = spec
        .pointer("/groups")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|group| group.as_str().map(str::to_owned))
        .collect();
    if user.is_empty() && groups.is_empty() {
        return Err(Status::bad_request("at least one of spec.user and spec.groups must be given"));
    }
    Ok(Identity { user: user.to_owned(), groups })
}

fn decision(identity: &Identity, spec: &Value, namespace: Option<&str>) -> Result<Value, Status> {
    let attributes = match (spec.get("resourceAttributes"), spec.get("nonResourceAttributes")) {
        (Some(about), None) => Attributes {
            verb: text(about, "/verb"),
            group: text(about, "/group"),
            resource: text(about, "/resource"),
            subresource: text(about, "/subresource"),
            namespace: namespace.unwrap_or(text(about, "/namespace")),
            name: text(about, "/name"),
            path: None,
            field_selector: None,
        },
        (None, Some(about)) => Attributes {
            path: Some(text(about, "/path")),
            ..Attributes::of_verb(text(about, "/verb"))
        },
        _ => {
            return Err(Status::bad_request(
                "exactly one of nonResourceAttributes or resourceAttributes must be specified",
            ));
        }
    };
    Ok(match authorize::decide(identity, &attributes) {
        Decision::Allowed => json!({"allowed": true}),
        // Whether it is the node's own is seen only when the object is at hand.
        Decision::IfOwnPod => {
            json!({"allowed": true, "reason": "for objects of pods on this node"})
        }
        Decision::Denied(reason) => json!({"allowed": false, "reason": reason}),
    })
}

fn rules(identity: &Identity, spec: &Value) -> Result<Value, Status> {
    if text(spec, "/namespace").is_empty() {
        return Err(Status::bad_request("no namespace on request"));
    }
    let rules = authorize::rules_of(identity);
    let resources: Vec<Value> = rules
        .iter()
        .map(|rule| {
            json!({
                "verbs": rule.verbs,
                "apiGroups": rule.groups,
                "resources": rule.resources,
            })
        })
        .collect();
    let paths = if identity.is_master() { vec!["*"] } else { authorize::OPEN_PATHS.to_vec() };
    let verbs = if identity.is_master() { "*" } else { "get" };
    Ok(json!({
        "resourceRules": resources,
        "nonResourceRules": [{"verbs": [verbs], "nonResourceURLs": paths}],
        "incomplete": false,
    }))
}

fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}
