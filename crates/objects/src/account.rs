//! What a pod gets from its service account when it is created, as in Kubernetes.

use pontoon_model::names::SERVICE_ACCOUNT_DEFAULT;
use pontoon_model::resource::{PODS, SERVICE_ACCOUNTS};
use pontoon_model::status::Status;
use pontoon_store::Read;
use serde_json::Value;

use crate::failure::of_object;
use crate::objects::Objects;

impl Objects {
    /// Refuses a pod whose service account is not there, and gives one without `imagePullSecrets` those of its
    /// account. The account `default` is made by a controller a moment after its namespace: nobody waits for it.
    pub(crate) async fn admit_account(&self, name: &str, pod: &mut Value) -> Result<(), Status> {
        let namespace = pod.pointer("/metadata/namespace").and_then(Value::as_str);
        let account = pod.pointer("/spec/serviceAccountName").and_then(Value::as_str);
        let (Some(namespace), Some(account)) = (namespace, account) else { return Ok(()) };
        let load = |how| self.load(SERVICE_ACCOUNTS, Some(namespace), account, how);
        let found = match load(Read::Local).await {
            // This member may not have heard of it yet.
            Err(status) if status.is_not_found() && account != SERVICE_ACCOUNT_DEFAULT => {
                load(Read::Linearizable).await
            }
            found => found,
        };
        let found = match found {
            Ok(found) => found.value().map_err(|e| of_object(&e))?,
            Err(status) if !status.is_not_found() => return Err(status),
            Err(_) if account == SERVICE_ACCOUNT_DEFAULT => return Ok(()),
            Err(status) => {
                let why = format!(
                    "error looking up service account {namespace}/{account}: {}",
                    status.message
                );
                return Err(Status::forbidden(PODS, name, &why));
            }
        };
        let secrets = found.get("imagePullSecrets").and_then(Value::as_array);
        let has_own = pod.pointer("/spec/imagePullSecrets").and_then(Value::as_array);
        if let Some(secrets) =
            secrets.filter(|s| !s.is_empty() && has_own.is_none_or(Vec::is_empty))
        {
            pod["spec"]["imagePullSecrets"] = Value::from(secrets.clone());
        }
        Ok(())
    }
}
