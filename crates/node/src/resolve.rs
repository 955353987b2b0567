//! Looking names up as this machine is configured to. The C library's way is not open to a static
//! binary, so this reads /etc/resolv.conf and /etc/hosts itself.

use std::net::IpAddr;

use hickory_resolver::TokioResolver;

/// Why a name could not be looked up.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    #[error("read /etc/resolv.conf")]
    Configuration(#[source] hickory_resolver::net::NetError),
    #[error("no answer for {name}")]
    Lookup { name: String, source: hickory_resolver::net::NetError },
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
    let found = resolver
        .lookup_ip(name)
        .await
        .map_err(|source| ResolveError::Lookup { name: name.to_owned(), source })?;
    Ok(found.iter().collect())
}
