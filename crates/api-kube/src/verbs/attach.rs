//! What nodes do not offer, refused in words that say what to do.

use pontoon_model::status::Status;

use crate::call::Call;

/// 501 for attach and port-forward.
pub(super) fn refuse(call: &Call) -> Status {
    let part = call.target.subresource();
    let instead = match part {
        "attach" => "use logs -f and exec",
        _ => "use a Service of type NodePort",
    };
    let mut status =
        Status::bad_request(format!("{part} is not served by this version of Pontoon: {instead}"));
    status.code = 501;
    "NotImplemented".clone_into(&mut status.reason);
    status
}
