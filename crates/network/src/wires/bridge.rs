//! The bridge: made once, then changed into what is asked.

use super::{Wires, check_mtu, check_name};
use crate::rtnl::{address, link};
use crate::sysctl::Setting;
use crate::{Bridge, LinkKind, NetworkError, Result, mac};

impl Wires {
    pub(crate) fn ensure_bridge(&self, bridge: &Bridge) -> Result<()> {
        check_name(&bridge.name)?;
        check_mtu(bridge.mtu)?;
        // Without one of its own a bridge takes the lowest MAC of its ports, and changes it with them.
        let mac = mac::of(bridge.address.addr());
        let mut socket = self.socket();
        match link::find(&mut socket, &bridge.name)? {
            None => link::add_bridge(&mut socket, &bridge.name, mac, bridge.mtu)?,
            Some(found) if found.link.kind != LinkKind::Bridge => {
                let problem = format!("{:?} is there and is no bridge", bridge.name);
                return Err(NetworkError::Invalid { field: "bridge", problem });
            }
            Some(found) if found.link.mac == Some(mac) && found.link.mtu == bridge.mtu => {}
            Some(found) => link::set_mac_and_mtu(&mut socket, found.link.index, mac, bridge.mtu)?,
        }
        let index = link::index(&mut socket, &bridge.name)?;
        link::set_alias(&mut socket, index, &self.alias(""))?;
        link::set_up(&mut socket, index, true)?;
        address::set(&mut socket, index, bridge.address)?;
        drop(socket);
        self.tune(&bridge.name, "1")
    }

    /// The switches of a link of ours: no redirects, its reverse path filter (1: a packet's source must be behind
    /// this link, so pods cannot lie about theirs towards other nodes; 2: anywhere), no IPv6 of its own.
    pub(super) fn tune(&self, name: &str, reverse_path_filter: &'static str) -> Result<()> {
        self.inside(|| {
            Setting::new(format!("ipv4/conf/{name}/send_redirects"), "0").prefer();
            Setting::new(format!("ipv4/conf/{name}/rp_filter"), reverse_path_filter).prefer();
            Setting::new(format!("ipv6/conf/{name}/disable_ipv6"), "1").prefer();
        })
    }
}
