//! A node's way to the managers: one HTTP/2 connection to any of them, another one when that fails.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex as AsyncMutex;

use super::{Body, Refusal, full, read_json};
use crate::config::MANAGER_PORT;
use crate::identity::ANY_MANAGER;
use crate::membership::ManagerAddress;
use crate::tls::{ALPN_H2, Tls, connect_anonymous};

/// How long an answer may take: longer than whatever a manager waits for itself before it answers.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(90);

/// Asks the managers of the cluster, whichever answers. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ManagerClient {
    inner: Arc<Inner>,
}

struct Inner {
    tls: Tls,
    managers: Mutex<Vec<ManagerAddress>>,
    connection: AsyncMutex<Standing>,
}

/// The connection in use, and to whom it is or was.
#[derive(Default)]
struct Standing {
    address: Option<SocketAddr>,
    sender: Option<SendRequest<Body>>,
}

impl ManagerClient {
    /// A client that starts with these managers.
    #[must_use]
    pub(crate) fn new(tls: Tls, managers: Vec<ManagerAddress>) -> Self {
        let inner =
            Inner { tls, managers: Mutex::new(managers), connection: AsyncMutex::default() };
        Self { inner: Arc::new(inner) }
    }

    /// Replaces the managers known; an empty list is ignored.
    pub(crate) fn set_managers(&self, managers: Vec<ManagerAddress>) {
        if !managers.is_empty() {
            *self.lock() = managers;
        }
    }

    /// The managers known.
    #[must_use]
    pub(crate) fn managers(&self) -> Vec<ManagerAddress> {
        self.lock().clone()
    }

    /// Sends one request and reads a JSON answer.
    ///
    /// # Errors
    /// What the manager answered, or that none could be reached.
    pub(crate) async fn call<Q, A>(
        &self,
        method: Method,
        path: &str,
        query: &Q,
    ) -> Result<A, Refusal>
    where
        Q: Serialize + Sync,
        A: DeserializeOwned,
    {
        let body = serde_json::to_vec(query).expect("plain data becomes JSON");
        let asked = async {
            let response = self.send(method, path, body.into()).await?;
            if response.status().is_success() {
                return read_json(response.into_body()).await;
            }
            let status = response.status();
            let refusal = read_json::<Refusal, _>(response.into_body()).await;
            Err(refusal
                .unwrap_or_else(|_| Refusal::new(status, format!("{path}: answered {status}"))))
        };
        tokio::time::timeout(ANSWER_TIMEOUT, asked).await.unwrap_or_else(|_| {
            let seconds = ANSWER_TIMEOUT.as_secs();
            Err(Refusal::unavailable(format!("{path}: no manager answered in {seconds} s")))
        })
    }

    /// Sends one request and hands back the answer as it comes. A request that no manager took in is
    /// tried at each manager once.
    ///
    /// # Errors
    /// When no manager can be reached.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, Refusal> {
        let mut last = "no manager is known".to_owned();
        for _ in 0..self.managers().len().max(1) {
            let (address, mut sender) = match self.sender().await {
                Ok(found) => found,
                Err(words) => return Err(Refusal::unavailable(words)),
            };
            let request = Request::builder()
                .method(method.clone())
                .uri(format!("https://{ANY_MANAGER}{path}"))
                .body(full(body.clone()))
                .map_err(|e| Refusal::bad_request(format!("make the request {path}: {e}")))?;
            match sender.send_request(request).await {
                Ok(response) => {
                    // It lives, but cannot reach the others: perhaps another one can.
                    if response.status() == StatusCode::SERVICE_UNAVAILABLE {
                        self.turn_from(address).await;
                    }
                    return Ok(response);
                }
                Err(error) => last = error.to_string(),
            }
            self.turn_from(address).await;
        }
        Err(Refusal::unavailable(format!("ask a manager ({path}): {last}")))
    }

    /// Asks another manager next time, unless that is so already.
    async fn turn_from(&self, address: SocketAddr) {
        let mut standing = self.inner.connection.lock().await;
        if standing.address == Some(address) {
            standing.sender = None;
        }
    }

    /// The standing connection, or a new one to the first manager that answers.
    async fn sender(&self) -> Result<(SocketAddr, SendRequest<Body>), String> {
        let mut standing = self.inner.connection.lock().await;
        if let (Some(address), Some(sender)) = (standing.address, &standing.sender)
            && !sender.is_closed()
        {
            return Ok((address, sender.clone()));
        }
        standing.sender = None;
        let mut tried = Vec::new();
        for manager in in_turn(self.managers(), standing.address) {
            let address = manager.address;
            match connect(&self.inner.tls, address).await {
                Ok(sender) => {
                    *standing = Standing { address: Some(address), sender: Some(sender.clone()) };
                    return Ok((address, sender));
                }
                Err(error) => tried.push(format!("{address}: {error}")),
            }
        }
        Err(format!("no manager answers ({})", tried.join("; ")))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<ManagerAddress>> {
        self.inner.managers.lock().expect("no holder of the lock panics")
    }
}

/// The managers in the order in which they are tried: those after the one that just failed, and that one last.
fn in_turn(mut managers: Vec<ManagerAddress>, failed: Option<SocketAddr>) -> Vec<ManagerAddress> {
    if let Some(at) = managers.iter().position(|manager| Some(manager.address) == failed) {
        managers.rotate_left(at + 1);
    }
    managers
}

/// An HTTP/2 connection to one manager, driven until it closes.
async fn connect(tls: &Tls, address: SocketAddr) -> std::io::Result<SendRequest<Body>> {
    let stream = tls.connect(address, ANY_MANAGER, ALPN_H2).await?;
    handshake(stream).await
}

/// HTTP/2 on a stream that is connected already.
///
/// # Errors
/// When the other end does not speak HTTP/2.
pub(crate) async fn handshake<S>(stream: S) -> std::io::Result<SendRequest<Body>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(hyper_util::rt::TokioTimer::new())
        .keep_alive_interval(Some(Duration::from_secs(1)))
        .keep_alive_timeout(Duration::from_secs(3))
        .keep_alive_while_idle(true)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(std::io::Error::other)?;
    // Ends by itself: when the last sender is dropped, or when a keep-alive goes unanswered.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to a manager ended");
        }
    });
    Ok(sender)
}

/// Asks one manager one thing as somebody without a certificate; with an authority to check it against, it must
/// prove to be a manager.
///
/// # Errors
/// What the manager answered, or that it cannot be reached.
pub(crate) async fn ask_once<Q: Serialize, A: DeserializeOwned>(
    manager: SocketAddr,
    authority: Option<&str>,
    (method, path): (Method, &str),
    query: &Q,
) -> Result<A, Refusal> {
    let unreachable = |error: &dyn std::fmt::Display| {
        Refusal::unavailable(format!(
            "no manager answers at {manager}: {error}; is the address right, and is port {MANAGER_PORT}/tcp open there?"
        ))
    };
    let ask = async {
        let stream = connect_anonymous(manager, ANY_MANAGER, authority)
            .await
            .map_err(|e| unreachable(&e))?;
        let mut sender = handshake(stream).await.map_err(|e| unreachable(&e))?;
        let body = serde_json::to_vec(query).expect("plain data becomes JSON");
        let request = Request::builder()
            .method(method)
            .uri(format!("https://{ANY_MANAGER}{path}"))
            .body(full(body))
            .map_err(|e| Refusal::internal(&e))?;
        let response = sender.send_request(request).await.map_err(|e| unreachable(&e))?;
        let (parts, body) = response.into_parts();
        if parts.status.is_success() {
            return read_json(body).await;
        }
        Err(read_json::<Refusal, _>(body).await.unwrap_or_else(|_| {
            Refusal::new(parts.status, format!("{manager} answered {}", parts.status))
        }))
    };
    let late = |_| unreachable(&"no answer in time");
    tokio::time::timeout(ANSWER_TIMEOUT, ask).await.map_err(late)?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Role;
    use crate::identity::authority::{Authority, Subject};
    use crate::identity::certificate::{Credentials, Request as CertificateRequest};
    use std::net::Ipv4Addr;
    use tokio_util::sync::CancellationToken;

    #[test]
    fn whoever_failed_is_asked_last() {
        let manager = |n: u8| ManagerAddress {
            name: n.to_string(),
            member: n.into(),
            address: SocketAddr::from(([192, 0, 2, n], 2377)),
        };
        let order = |failed: Option<u8>| -> Vec<u64> {
            let failed = failed.map(|n| manager(n).address);
            let managers = [1, 2, 3].map(manager).to_vec();
            in_turn(managers, failed).iter().map(|m| m.member).collect()
        };
        assert_eq!(order(None), [1, 2, 3]);
        assert_eq!(order(Some(1)), [2, 3, 1]);
        assert_eq!(order(Some(2)), [3, 1, 2]);
        assert_eq!(order(Some(9)), [1, 2, 3], "a manager no more");
    }

    /// A server that says to everybody that he was removed, with a certificate of this role by this authority.
    async fn says_removed(
        authority: &Authority,
        role: Role,
        stop: CancellationToken,
    ) -> SocketAddr {
        let tls = Tls::new(credentials(authority, authority, role)).unwrap();
        let listener = crate::listen::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let address = listener.local_addr().unwrap();
        let serve = |stream, _| {
            crate::listen::http(stream, |_| async { Refusal::removed("gone").into_response() })
        };
        tokio::spawn(crate::listen::tls(listener, tls, &[ALPN_H2], stop, serve));
        address
    }

    /// A node's credentials, signed by one authority, believing another.
    fn credentials(signer: &Authority, believed: &Authority, role: Role) -> Credentials {
        let request = CertificateRequest::create().unwrap();
        let address = "127.0.0.1".parse().unwrap();
        let subject = Subject::Node {
            name: "n",
            member: 1,
            role,
            address,
            service: Ipv4Addr::new(10, 96, 0, 1),
            cluster: "c",
        };
        Credentials {
            certificate_pem: signer.sign(&request.request_pem, &subject).unwrap(),
            key_pem: request.key_pem,
            authority_pem: believed.certificate_pem.clone(),
        }
    }

    #[tokio::test]
    async fn only_a_manager_of_the_cluster_can_say_that_a_node_was_removed() {
        let (own, other) = (Authority::create("c").unwrap(), Authority::create("c").unwrap());
        let node = Tls::new(credentials(&own, &own, Role::Worker)).unwrap();
        for (authority, role, counts) in [
            (&own, Role::Manager, true),
            (&own, Role::Worker, false),
            (&other, Role::Manager, false),
        ] {
            let stop = CancellationToken::new();
            let address = says_removed(authority, role, stop.clone()).await;
            let manager = ManagerAddress { name: "n".to_owned(), member: 1, address };
            let client = ManagerClient::new(node.clone(), vec![manager]);
            let said = client.call::<_, ()>(Method::GET, "/v1/managers", &()).await.unwrap_err();
            assert_eq!(said.is_removed(), counts, "{role}: {said}");
            // The same without a certificate of one's own.
            let pem = own.certificate_pem.as_str();
            let asked = ask_once::<_, ()>(address, Some(pem), (Method::GET, "/v1/revive"), &());
            assert_eq!(asked.await.unwrap_err().is_removed(), counts, "{role}");
            stop.cancel();
        }
    }
}
