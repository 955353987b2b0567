//! Looking names up as this machine is configured to. The C library's way is not open to a static
//! binary, so this reads /etc/resolv.conf and /etc/hosts itself.

use std::net::{IpAddr, SocketAddr};

use hickory_resolver::TokioResolver;

use crate::config::{MANAGER_PORT, parse_address};
use crate::rpc::{Refusal, chain};

/// Why a name could not be looked up.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    #[error("read /etc/resolv.conf")]
    Configuration(#[source] hickory_resolver::net::NetError),
    #[error("there is no address of that name")]
    NoSuchName,
    #[error("no name server answers")]
    Lookup(#[source] hickory_resolver::net::NetError),
}

/// Where a manager is reached that is written as an address or a name, with or without a port.
///
/// # Errors
/// When the name has no address, or the port is none.
pub(crate) async fn manager(text: &str) -> Result<SocketAddr, Refusal> {
    if let Some(address) = parse_address(text, MANAGER_PORT) {
        return Ok(address);
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => {
            let port = port.parse();
            let wrong = |_| Refusal::bad_request(format!("join: {text:?} names no port after ':'"));
            (host, port.map_err(wrong)?)
        }
        None => (text, MANAGER_PORT),
    };
    let advice = "give the manager's address instead";
    let found = addresses(host).await.map_err(|e| {
        Refusal::unavailable(format!("join: look up the manager {host}: {}; {advice}", chain(&e)))
    })?;
    let first = found.first().ok_or_else(|| {
        Refusal::unavailable(format!("join: the manager's name {host} has no address; {advice}"))
    })?;
    Ok(SocketAddr::new(*first, port))
}

/// The addresses of a name, in the order of the answer.
///
/// # Errors
/// When the name does not exist or no name server answers.
pub async fn addresses(name: &str) -> Result<Vec<IpAddr>, ResolveError> {
    let mut builder = TokioResolver::builder_tokio().map_err(ResolveError::Configuration)?;
    // One short-lived question: nothing to keep, and a service's answers must be seen as they are.
    builder.options_mut().cache_size = 0;
    builder.options_mut().attempts = 3;
    builder.options_mut().timeout = std::time::Duration::from_secs(1);
    let resolver = builder.build().map_err(ResolveError::Configuration)?;
    let found =
        resolver.lookup_ip(name).await.map_err(|error| match error.is_no_records_found() {
            true => ResolveError::NoSuchName,
            false => ResolveError::Lookup(error),
        })?;
    Ok(found.iter().collect())
}
