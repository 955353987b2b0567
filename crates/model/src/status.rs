//! Kubernetes' `Status`: how every refusal is told, with code, reason, message and causes.

use serde::{Deserialize, Serialize};

use crate::resource::Resource;

/// One thing that is wrong, for people and for tools.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    pub reason: String,
    pub message: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub field: String,
}

/// What the refusal is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Details {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// The resource's plural, or the kind for what did not validate.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    /// When to try again, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u32>,
}

/// A refusal (or, with code 200, a success), as it is written to clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "camelCase", tag = "kind", rename = "Status")]
#[error("{message}")]
pub struct Status {
    pub api_version: String,
    pub metadata: EmptyMeta,
    /// `Failure` or `Success`.
    pub status: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Box<Details>>,
    /// The HTTP status code.
    pub code: u16,
}

/// A Status' metadata says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmptyMeta {}

impl Status {
    fn failure(code: u16, reason: &str, message: String) -> Self {
        Self {
            api_version: "v1".to_owned(),
            metadata: EmptyMeta {},
            status: "Failure".to_owned(),
            message,
            reason: reason.to_owned(),
            details: None,
            code,
        }
    }

    fn about(mut self, resource: &Resource, name: &str) -> Self {
        self.details = Some(Box::new(Details {
            name: name.to_owned(),
            group: resource.group.to_owned(),
            kind: resource.plural.to_owned(),
            ..Details::default()
        }));
        self
    }

    /// 200; what a deletion answers when there is no object to show.
    pub fn success(resource: &Resource, name: &str, uid: &str) -> Self {
        let mut status = Self::failure(200, "", String::new()).about(resource, name);
        "Success".clone_into(&mut status.status);
        if let Some(details) = &mut status.details {
            uid.clone_into(&mut details.uid);
        }
        status
    }

    /// 404 for an object.
    pub fn not_found(resource: &Resource, name: &str) -> Self {
        let message = format!("{} \"{name}\" not found", resource.qualified());
        Self::failure(404, "NotFound", message).about(resource, name)
    }

    /// 404 for a path that leads nowhere.
    pub fn no_such_path() -> Self {
        let message = "the server could not find the requested resource".to_owned();
        // Clients look into the details of a 404 without asking whether there are any.
        Self { details: Some(Box::default()), ..Self::failure(404, "NotFound", message) }
    }

    /// 409: the name is taken.
    pub fn already_exists(resource: &Resource, name: &str) -> Self {
        let message = format!("{} \"{name}\" already exists", resource.qualified());
        Self::failure(409, "AlreadyExists", message).about(resource, name)
    }

    /// 409: somebody else wrote first, or a precondition does not hold.
    pub fn conflict(resource: &Resource, name: &str, why: &str) -> Self {
        let message =
            format!("Operation cannot be fulfilled on {} \"{name}\": {why}", resource.qualified());
        Self::failure(409, "Conflict", message).about(resource, name)
    }

    /// 409 with the words for a resourceVersion that is not the newest.
    pub fn stale(resource: &Resource, name: &str) -> Self {
        Self::conflict(
            resource,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// 422: the object is not valid; one cause a field.
    pub fn invalid(resource: &Resource, name: &str, causes: Vec<Cause>) -> Self {
        let kind = if resource.group.is_empty() {
            resource.kind.to_owned()
        } else {
            format!("{}.{}", resource.kind, resource.group)
        };
        let told: Vec<String> =
            causes.iter().map(|c| format!("{}: {}", c.field, c.message)).collect();
        let told = match told.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let mut status =
            Self::failure(422, "Invalid", format!("{kind} \"{name}\" is invalid: {told}"));
        status.details = Some(Box::new(Details {
            name: name.to_owned(),
            group: resource.group.to_owned(),
            kind: resource.kind.to_owned(),
            causes,
            ..Details::default()
        }));
        status
    }

    /// 422 for a request that is well formed and does not fit the object.
    pub fn unprocessable(message: impl Into<String>) -> Self {
        Self::failure(422, "Invalid", message.into())
    }

    /// 400: the request itself makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::failure(400, "BadRequest", message.into())
    }

    /// 403 for an object.
    pub fn forbidden(resource: &Resource, name: &str, why: &str) -> Self {
        let message = format!("{} \"{name}\" is forbidden: {why}", resource.qualified());
        Self::failure(403, "Forbidden", message).about(resource, name)
    }

    /// 403 for a create in a namespace that is on its way out.
    pub fn namespace_terminating(resource: &Resource, name: &str, namespace: &str) -> Self {
        let why = format!(
            "unable to create new content in namespace {namespace} because it is being terminated"
        );
        let mut status = Self::forbidden(resource, name, &why);
        if let Some(details) = &mut status.details {
            details.causes.push(Cause {
                reason: "NamespaceTerminating".to_owned(),
                message: format!("namespace {namespace} is being terminated"),
                field: "metadata.namespace".to_owned(),
            });
        }
        status
    }

    /// 401.
    pub fn unauthorized() -> Self {
        Self::failure(401, "Unauthorized", "Unauthorized".to_owned())
    }

    /// 410: the revision asked for has been compacted away; list again.
    pub fn gone(message: impl Into<String>) -> Self {
        Self::failure(410, "Expired", message.into())
    }

    /// 413.
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::failure(413, "RequestEntityTooLarge", message.into())
    }

    /// 415: a body in a language that is not understood.
    pub fn unsupported_media_type(message: impl Into<String>) -> Self {
        Self::failure(415, "UnsupportedMediaType", message.into())
    }

    /// 406: an answer is wanted in a language that is not spoken.
    pub fn not_acceptable(message: impl Into<String>) -> Self {
        Self::failure(406, "NotAcceptable", message.into())
    }

    /// 405.
    pub fn method_not_allowed(resource: &Resource, verb: &str) -> Self {
        let message =
            format!("{verb} is not supported on resources of kind \"{}\"", resource.qualified());
        Self::failure(405, "MethodNotAllowed", message).about(resource, "")
    }

    /// 500: a fault of ours.
    pub fn internal(message: impl Into<String>) -> Self {
        let message = format!("Internal error occurred: {}", message.into());
        Self::failure(500, "InternalError", message)
    }

    /// 504: it may have happened or not.
    pub fn timeout(message: impl Into<String>) -> Self {
        let message = format!("Timeout: {}", message.into());
        let mut status = Self::failure(504, "Timeout", message);
        status.details =
            Some(Box::new(Details { retry_after_seconds: Some(1), ..Details::default() }));
        status
    }

    /// 503: not now, for want of a leader or of space.
    pub fn service_unavailable(message: impl Into<String>) -> Self {
        let mut status = Self::failure(503, "ServiceUnavailable", message.into());
        status.details =
            Some(Box::new(Details { retry_after_seconds: Some(1), ..Details::default() }));
        status
    }

    /// 429: slow down, or a budget forbids it for now.
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        let mut status = Self::failure(429, "TooManyRequests", message.into());
        status.details = Some(Box::new(Details {
            retry_after_seconds: Some(retry_after_seconds),
            ..Details::default()
        }));
        status
    }

    /// Whether the object or path does not exist.
    pub fn is_not_found(&self) -> bool {
        self.code == 404
    }

    /// Whether the name was taken.
    pub fn is_already_exists(&self) -> bool {
        self.reason == "AlreadyExists"
    }

    /// Whether somebody else wrote first.
    pub fn is_conflict(&self) -> bool {
        self.reason == "Conflict"
    }

    /// Whether the revision asked for is gone.
    pub fn is_gone(&self) -> bool {
        self.code == 410
    }

    /// The JSON that clients read.
    pub fn json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a Status has only strings and numbers")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::{DEPLOYMENTS, PODS};

    #[test]
    fn reads_as_kubernetes_writes_it() {
        let text = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"pods \"x\" not found","reason":"NotFound","details":{"name":"x","kind":"pods"},"code":404}"#;
        assert_eq!(String::from_utf8(Status::not_found(PODS, "x").json()).unwrap(), text);
        assert_eq!(serde_json::from_str::<Status>(text).unwrap(), Status::not_found(PODS, "x"));
    }

    #[test]
    fn causes_are_told_in_the_message() {
        let cause = |field: &str| Cause {
            reason: "FieldValueRequired".to_owned(),
            message: "Required value".to_owned(),
            field: field.to_owned(),
        };
        let one = Status::invalid(DEPLOYMENTS, "d", vec![cause("spec.selector")]);
        assert_eq!(one.message, r#"Deployment.apps "d" is invalid: spec.selector: Required value"#);
        let two = Status::invalid(PODS, "p", vec![cause("a"), cause("b")]);
        assert_eq!(two.message, r#"Pod "p" is invalid: [a: Required value, b: Required value]"#);
        assert_eq!(two.code, 422);
    }
}
