//! The cluster's names: a zone built from objects, the answers it gives, and the server on each node. The zone is replaced
//! whole whenever an object changes; a question costs one look-up in it. The server's sockets ([`DnsServer`]) serve
//! whoever can answer ([`Respond`]).

mod answer;
mod question;
mod records;
pub mod request;
mod resolver;
mod server;
mod upstream;
mod zone;

pub use answer::{Outcome, Rotation, answer};
pub use resolver::Resolver;
pub use server::{DnsServer, Respond, Response, ServeError, Transport};
pub use upstream::{ForwardError, Upstream};
pub use zone::{Zone, ZoneSource};

/// How long an answer or a denial may be kept, in seconds: after a change names must be right at once, and the
/// server that would be spared is on the same machine.
pub const TTL_SECONDS: u32 = 1;
