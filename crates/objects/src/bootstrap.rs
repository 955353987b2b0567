//! What every cluster has from its first moment.

use pontoon_model::names::NAMESPACES_BUILT_IN;
use pontoon_model::resource::NAMESPACES;
use pontoon_model::status::Status;
use serde_json::json;

use crate::objects::Objects;
use crate::options::WriteOptions;

impl Objects {
    /// Makes what every cluster has: its four namespaces. May be called again at any time.
    pub async fn bootstrap(&self) -> Result<(), Status> {
        for name in NAMESPACES_BUILT_IN {
            let body = json!({"metadata": {"name": name}});
            match self.create(NAMESPACES, None, body, &WriteOptions::default()).await {
                Err(status) if !status.is_already_exists() => return Err(status),
                _ => {}
            }
        }
        Ok(())
    }
}
