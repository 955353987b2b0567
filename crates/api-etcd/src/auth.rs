//! The Auth service: there are no users and roles, and it says so. Who may connect is decided by certificates.

use crate::grpc::{Answer, Call, refused, unary};
use crate::proto::{AuthStatusResponse, Empty};
use crate::server::{EtcdServer, method};
use crate::status::{AUTH_NOT_ENABLED, Code, Status};

impl EtcdServer {
    pub(crate) async fn auth(self, call: Call) -> Answer {
        match method(&call) {
            "AuthStatus" => unary(call, |_: Empty| self.auth_status()).await,
            "Authenticate" | "AuthDisable" => refused(&AUTH_NOT_ENABLED),
            _ => refused(&Status::new(
                Code::Unimplemented,
                "users and roles are not served; clients are told apart by certificates",
            )),
        }
    }

    async fn auth_status(&self) -> Result<AuthStatusResponse, Status> {
        Ok(AuthStatusResponse { header: self.header_now(), enabled: false, auth_revision: 1 })
    }
}
