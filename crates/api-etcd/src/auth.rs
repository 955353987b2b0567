//! The Auth service: there are no users and roles, and it says so. Who may connect is decided by certificates.

use crate::grpc::{Answer, Call, refused, unary};
use crate::proto::{AuthStatusResponse, Empty, HeaderResponse};
use crate::server::{EtcdServer, method};
use crate::status::{AUTH_NOT_ENABLED, Code, Status};

impl EtcdServer {
    pub(crate) async fn auth(self, call: Call) -> Answer {
        match method(&call) {
            "AuthStatus" => unary(call, |_: Empty| self.auth_status()).await,
            "Authenticate" => refused(&AUTH_NOT_ENABLED),
            // They are not in force, so there is nothing to do.
            "AuthDisable" => unary(call, |_: Empty| self.auth_disable()).await,
            _ => refused(&Status::new(
                Code::Unimplemented,
                "users and roles are not served; clients are told apart by certificates",
            )),
        }
    }

    async fn auth_status(&self) -> Result<AuthStatusResponse, Status> {
        Ok(AuthStatusResponse { header: self.header_now(), enabled: false, auth_revision: 1 })
    }

    async fn auth_disable(&self) -> Result<HeaderResponse, Status> {
        Ok(HeaderResponse { header: self.header_now() })
    }
}
