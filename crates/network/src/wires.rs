//! The links of one namespace, by calls that block: what [`crate::Network`] does, without the runtime.

mod attach;
mod bridge;
mod inventory;
mod overlay;

use crate::netlink::{Family, Socket};
use crate::rtnl::link;
use crate::sysctl::Setting;
use crate::{Netns, NetworkError, Result};
use ipnet::Ipv4Net;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Begins the alias of every link of ours; the owner follows.
const MARK: &str = "pontoon:";
/// The kernel's limit is 15 bytes and a NUL.
const LINK_NAME: usize = 15;
/// The kernel's limit for an alias is 255.
const TAG: usize = 200;
/// The smallest MTU that IPv4 allows, and the largest packet there is.
const MTU: std::ops::RangeInclusive<u32> = 68..=65_535;

/// The wires of one namespace.
#[derive(Debug)]
pub(crate) struct Wires {
    netns: Netns,
    owner: String,
    socket: Mutex<Socket>,
}

impl Wires {
    pub(crate) fn new(owner: &str) -> Result<Self> {
        let good = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        if owner.is_empty() || owner.len() > 40 || !owner.bytes().all(good) {
            return Err(NetworkError::BadName(owner.to_owned(), "an owner of network interfaces"));
        }
        Ok(Self {
            netns: Netns::current()?,
            owner: owner.to_owned(),
            socket: Mutex::new(Socket::open(Family::Route)?),
        })
    }

    /// A conversation that broke off leaves nothing that the next one would read: its answers have old numbers.
    fn socket(&self) -> MutexGuard<'_, Socket> {
        self.socket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `f` where /proc/sys shows this namespace.
    fn inside<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Result<T> {
        if self.netns.is_current()? { Ok(f()) } else { self.netns.run(f) }
    }

    fn alias(&self, tag: &str) -> String {
        format!("{MARK}{}:{tag}", self.owner)
    }

    /// The tag of a link's alias, if it is this owner's.
    fn tag<'a>(&self, alias: &'a str) -> Option<&'a str> {
        alias.strip_prefix(MARK)?.strip_prefix(&self.owner)?.strip_prefix(':')
    }

    pub(crate) fn ensure_forwarding(&self) -> Result<()> {
        self.inside(|| {
            // The kernel sends a redirect where either this or the link's own switch is on; pods would follow it
            // past the node's address translation. Other links keep their own switch.
            Setting::new("ipv4/conf/all/send_redirects", "0").prefer();
            Setting::new("ipv4/ip_forward", "1").require()
        })?
    }

    pub(crate) fn ensure_route(&self, destination: Ipv4Net, name: &str) -> Result<()> {
        let mut socket = self.socket();
        let index = link::index(&mut socket, name)?;
        crate::rtnl::route::add(&mut socket, destination, index, None)
    }

    pub(crate) fn detach(&self, name: &str) -> Result<bool> {
        let mut socket = self.socket();
        let Some(found) = link::find(&mut socket, name)? else { return Ok(false) };
        match link::delete(&mut socket, found.link.index, name) {
            Ok(()) => Ok(true),
            // Its namespace was torn down meanwhile, and it with that.
            Err(error) if error.is_missing() => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn set_up(&self, name: &str, up: bool) -> Result<()> {
        let mut socket = self.socket();
        let index = link::index(&mut socket, name)?;
        link::set_up(&mut socket, index, up)
    }
}

fn check_name(name: &str) -> Result<()> {
    let good = |b: u8| b.is_ascii_graphic() && b != b'/' && b != b':';
    if name.is_empty() || name.len() > LINK_NAME || name.starts_with('.') || !name.bytes().all(good)
    {
        return Err(NetworkError::BadName(name.to_owned(), "a network interface"));
    }
    Ok(())
}

fn check_mtu(mtu: u32) -> Result<()> {
    if MTU.contains(&mtu) {
        return Ok(());
    }
    Err(NetworkError::Invalid { field: "mtu", problem: format!("{mtu} is not in 68 to 65535") })
}
