//! Netlink: requests, dumps and batches over one socket, answers read at once, errors in clear words.

mod attribute;
mod message;
mod socket;

pub(crate) use attribute::{Attribute, attributes, be_u16, be_u64, ipv4, ne_u32, text};
pub(crate) use message::Message;
pub(crate) use socket::{Answer, Family, Socket};
