//! What nodes do not offer, refused in words that say what to do.

use pontoon_model::resource::PODS;
use pontoon_model::status::Status;

use crate::path::Target;

/// The answer for a part that the resource does not have: 501 where clients know it of other clusters, else 404.
pub(crate) fn refuse(target: &Target) -> Status {
    let part = target.subresource();
    let instead = match part {
        _ if *target.resource != *PODS => return Status::no_such_path(),
        "attach" => "use logs -f and exec",
        "portforward" | "proxy" => "use a Service of type NodePort",
        "ephemeralcontainers" => "use exec, or a pod of its own on the same node",
        "resize" => "delete the pod and create it anew",
        _ => return Status::no_such_path(),
    };
    let mut status =
        Status::bad_request(format!("{part} is not served by this version of Pontoon: {instead}"));
    status.code = 501;
    "NotImplemented".clone_into(&mut status.reason);
    status
}
