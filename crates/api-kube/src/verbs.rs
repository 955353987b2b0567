//! What is done for each verb and subresource.

pub(crate) mod attach;
mod backend;
mod container;
mod exec;
mod log;
mod pod_action;
mod read;
mod scale;
mod watch;
mod write;

use http::Response;
use pontoon_model::status::Status;

use crate::body::Body;
use crate::call::Call;

/// Answers a call that is allowed.
pub(crate) async fn serve(call: Call) -> Result<Response<Body>, Status> {
    match (call.target.subresource.as_deref(), call.verb) {
        (None | Some("status"), "get") => read::get(call).await,
        (None, "list") => read::list(call).await,
        (None, "watch") => watch::watch(call).await,
        (None, "create") => write::create(call).await,
        (None | Some("status" | "finalize"), "update") => write::update(call).await,
        (None | Some("status"), "patch") => write::patch(call).await,
        (None, "delete") => write::delete(call).await,
        (None, "deletecollection") => write::delete_collection(call).await,
        (Some("scale"), "get") => scale::get(call).await,
        (Some("scale"), "update") => scale::update(call).await,
        (Some("scale"), "patch") => scale::patch(call).await,
        (Some("binding"), "create") => pod_action::bind(call).await,
        (Some("eviction"), "create") => pod_action::evict(call).await,
        (Some("log"), "get") => log::log(call).await,
        (Some("exec"), "get" | "create") => exec::exec(call).await,
        _ => Err(attach::refuse(&call.target)),
    }
}
