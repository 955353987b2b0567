//! rtnetlink's four nouns: links, addresses, routes, neighbours. Each is listed, made and removed by plain
//! functions over a socket, in whatever namespace the socket is of.

pub(crate) mod address;
pub(crate) mod link;
pub(crate) mod neighbour;
pub(crate) mod route;

use libc::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE};

/// Make it, and fail where it exists.
const NEW: u16 = (NLM_F_CREATE | NLM_F_EXCL) as u16;
/// Make it, or change the one that exists.
const REPLACE: u16 = (NLM_F_CREATE | NLM_F_REPLACE) as u16;
/// List them all.
const DUMP: u16 = NLM_F_DUMP as u16;
/// The address families as these messages' one byte.
const INET: u8 = libc::AF_INET as u8;
const BRIDGE: u8 = libc::AF_BRIDGE as u8;
