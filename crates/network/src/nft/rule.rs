//! A rule's expressions: small instructions that load registers, compare them and decide.

use super::element::Data;
use crate::netlink::Message;
use ipnet::Ipv4Net;
use std::net::SocketAddrV4;

/// `NFTA_LIST_ELEM`, and an expression's name and data.
const ITEM: u16 = 1;
const NAME: u16 = 1;
const DATA: u16 = 2;
/// `NFTA_DATA_VALUE` and `NFTA_DATA_VERDICT`; a verdict's code and chain.
const VALUE: u16 = 1;
const VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const VERDICT_CHAIN: u16 = 2;

/// The result of a rule goes here.
const VERDICT_REGISTER: u32 = 0;

const NETWORK: u32 = libc::NFT_PAYLOAD_NETWORK_HEADER as u32;
const TRANSPORT: u32 = libc::NFT_PAYLOAD_TRANSPORT_HEADER as u32;

/// The bit of a packet that shall be masqueraded when it leaves; the one that Kubernetes uses, too.
const MASQUERADE_BIT: u32 = 0x4000;
/// `NF_CT_STATE_BIT(IP_CT_NEW)`.
const STATE_NEW: u32 = 8;
const RTN_LOCAL: u32 = libc::RTN_LOCAL as u32;
/// The loopback device's index in every namespace.
const LOOPBACK: u32 = 1;
/// Source ports at random, so that two hosts' connections hardly ever meet.
const RANDOM_FULLY: u32 = 16;

/// A four-byte register by its number, 0 to 15; longer values fill those that follow.
#[derive(Debug, Clone, Copy)]
pub(super) struct Register(u32);

impl Register {
    pub(super) const fn new(number: u32) -> Self {
        Self(libc::NFT_REG32_00 as u32 + number)
    }

    const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Where keys are put together.
pub(super) const KEY: Register = Register::new(0);
/// Where a backend's address and port are.
pub(super) const TARGET: Register = Register::new(4);

/// A set or map that a rule looks things up in.
#[derive(Debug, Clone, Copy)]
pub(super) enum SetRef<'a> {
    Named(&'a str),
    /// Lives and dies with its rule; the number is unique in its transaction.
    Anonymous(u32),
}

/// The name under which the kernel numbers anonymous sets itself.
pub(super) const ANONYMOUS: &str = "__set%d";

/// Which end of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Source,
    Destination,
}

/// What a rule does with a packet.
#[derive(Debug, Clone, Copy)]
pub(super) enum Verdict<'a> {
    Accept,
    Drop,
    Jump(&'a str),
    Goto(&'a str),
}

/// Writes a rule's expressions, in order.
pub(super) struct Rule<'m>(&'m mut Message);

impl<'m> Rule<'m> {
    pub(super) fn new(message: &'m mut Message) -> Self {
        Self(message)
    }

    fn expression(&mut self, name: &str, write: impl FnOnce(&mut Message)) -> &mut Self {
        self.0.nest(ITEM, |item| {
            item.put_text(NAME, name).nest(DATA, write);
        });
        self
    }

    fn payload(&mut self, base: u32, offset: u32, length: u32, to: Register) -> &mut Self {
        self.expression("payload", |m| {
            m.put_be32(1, to.0).put_be32(2, base).put_be32(3, offset).put_be32(4, length);
        })
    }

    pub(super) fn address(&mut self, end: End, to: Register) -> &mut Self {
        let offset = if end == End::Source { 12 } else { 16 };
        self.payload(NETWORK, offset, 4, to)
    }

    /// source . destination
    pub(super) fn address_pair(&mut self, to: Register) -> &mut Self {
        self.address(End::Source, to).address(End::Destination, to.next())
    }

    /// address . protocol . port of the destination.
    pub(super) fn destination(&mut self, to: Register) -> &mut Self {
        self.address(End::Destination, to).local(to.next())
    }

    /// protocol . port of the destination.
    pub(super) fn local(&mut self, to: Register) -> &mut Self {
        self.meta(libc::NFT_META_L4PROTO as u32, to).payload(TRANSPORT, 2, 2, to.next())
    }

    fn meta(&mut self, key: u32, to: Register) -> &mut Self {
        self.expression("meta", |m| {
            m.put_be32(1, to.0).put_be32(2, key);
        })
    }

    /// Goes on only with datagrams to this port.
    pub(super) fn if_udp_to(&mut self, port: u16) -> &mut Self {
        self.meta(libc::NFT_META_L4PROTO as u32, KEY)
            .compare(KEY, true, &[libc::IPPROTO_UDP as u8])
            .payload(TRANSPORT, 2, 2, KEY)
            .compare(KEY, true, &port.to_be_bytes())
    }

    fn set_mark(&mut self, from: Register) -> &mut Self {
        self.expression("meta", |m| {
            m.put_be32(2, libc::NFT_META_MARK as u32).put_be32(3, from.0);
        })
    }

    fn compare(&mut self, from: Register, equal: bool, value: &[u8]) -> &mut Self {
        let operator = if equal { libc::NFT_CMP_EQ } else { libc::NFT_CMP_NEQ };
        self.expression("cmp", |m| {
            m.put_be32(1, from.0).put_be32(2, operator as u32).nest(3, |data| {
                data.put(VALUE, value);
            });
        })
    }

    /// register = (register & mask) ^ toggle
    fn bits(&mut self, register: Register, mask: [u8; 4], toggle: [u8; 4]) -> &mut Self {
        self.expression("bitwise", |m| {
            m.put_be32(1, register.0).put_be32(2, register.0).put_be32(3, 4);
            m.nest(4, |data| {
                data.put(VALUE, &mask);
            });
            m.nest(5, |data| {
                data.put(VALUE, &toggle);
            });
        })
    }

    /// Goes on only if one end of the packet is in the subnet, or is not.
    pub(super) fn if_in(&mut self, end: End, subnet: Ipv4Net, inside: bool) -> &mut Self {
        self.address(end, KEY).bits(KEY, subnet.netmask().octets(), [0; 4]).compare(
            KEY,
            inside,
            &subnet.network().octets(),
        )
    }

    /// Goes on only if that end is an address of this machine.
    pub(super) fn if_own(&mut self, end: End) -> &mut Self {
        let flag = if end == End::Source { 1 } else { 2 };
        self.expression("fib", |m| {
            // NFT_FIB_RESULT_ADDRTYPE
            m.put_be32(1, KEY.0).put_be32(2, 3).put_be32(3, flag);
        })
        .compare(KEY, true, &RTN_LOCAL.to_ne_bytes())
    }

    /// Goes on only with a connection's first packet.
    pub(super) fn if_new(&mut self) -> &mut Self {
        self.expression("ct", |m| {
            m.put_be32(1, KEY.0).put_be32(2, libc::NFT_CT_STATE as u32);
        })
        .bits(KEY, STATE_NEW.to_ne_bytes(), [0; 4])
        .compare(KEY, false, &[0; 4])
    }

    /// Goes on only if the packet leaves by the loopback device.
    pub(super) fn if_by_loopback(&mut self) -> &mut Self {
        self.meta(libc::NFT_META_OIF as u32, KEY).compare(KEY, true, &LOOPBACK.to_ne_bytes())
    }

    /// Goes on only if a frame carries IPv4.
    pub(super) fn if_ipv4(&mut self) -> &mut Self {
        let number = (libc::ETH_P_IP as u16).to_be_bytes();
        self.meta(libc::NFT_META_PROTOCOL as u32, KEY).compare(KEY, true, &number)
    }

    /// Remembers that the packet shall be masqueraded when it leaves.
    pub(super) fn mark(&mut self) -> &mut Self {
        let bit = MASQUERADE_BIT.to_ne_bytes();
        self.meta(libc::NFT_META_MARK as u32, KEY)
            .bits(KEY, (!MASQUERADE_BIT).to_ne_bytes(), bit)
            .set_mark(KEY)
    }

    /// Goes on only if it was marked, and takes the mark off: a tunnel would carry it to the outer packet.
    pub(super) fn if_marked(&mut self) -> &mut Self {
        let bit = MASQUERADE_BIT.to_ne_bytes();
        self.meta(libc::NFT_META_MARK as u32, KEY)
            .bits(KEY, bit, [0; 4])
            .compare(KEY, true, &bit)
            .meta(libc::NFT_META_MARK as u32, KEY)
            .bits(KEY, (!MASQUERADE_BIT).to_ne_bytes(), [0; 4])
            .set_mark(KEY)
    }

    fn lookup_to(
        &mut self,
        set: SetRef<'_>,
        key: Register,
        to: Option<u32>,
        flags: u32,
    ) -> &mut Self {
        self.expression("lookup", |m| {
            match set {
                SetRef::Named(name) => m.put_text(1, name),
                SetRef::Anonymous(id) => m.put_text(1, ANONYMOUS).put_be32(4, id),
            };
            m.put_be32(2, key.0);
            if let Some(to) = to {
                m.put_be32(3, to);
            }
            if flags != 0 {
                m.put_be32(5, flags);
            }
        })
    }

    /// Goes on only if the key is not in the set.
    pub(super) fn if_no_member(&mut self, set: SetRef<'_>, key: Register) -> &mut Self {
        const INVERTED: u32 = 1;
        self.lookup_to(set, key, None, INVERTED)
    }

    /// Goes on only if the key is in the set.
    pub(super) fn if_member(&mut self, set: SetRef<'_>, key: Register) -> &mut Self {
        self.lookup_to(set, key, None, 0)
    }

    /// Loads what the key stands for; without the key the rule ends.
    pub(super) fn lookup(&mut self, set: SetRef<'_>, key: Register, to: Register) -> &mut Self {
        self.lookup_to(set, key, Some(to.0), 0)
    }

    /// Goes where the map says.
    pub(super) fn dispatch(&mut self, set: SetRef<'_>, key: Register) -> &mut Self {
        self.lookup_to(set, key, Some(VERDICT_REGISTER), 0)
    }

    /// Loads 0, 1, … `count` - 1, 0, … : the next number for each packet that comes by.
    pub(super) fn next_turn(&mut self, count: u32, to: Register) -> &mut Self {
        self.expression("numgen", |m| {
            m.put_be32(1, to.0).put_be32(2, count);
            m.put_be32(3, libc::NFT_NG_INCREMENTAL as u32).put_be32(4, 0);
        })
    }

    /// Loads a backend's address and port: each by itself, or `nft list` cannot read it.
    pub(super) fn load_target(&mut self, target: SocketAddrV4) -> &mut Self {
        self.load(&target.ip().octets(), TARGET).load(&target.port().to_be_bytes(), TARGET.next())
    }

    fn load(&mut self, value: &[u8], to: Register) -> &mut Self {
        self.expression("immediate", |m| {
            m.put_be32(1, to.0).nest(2, |data| {
                data.put(VALUE, value);
            });
        })
    }

    pub(super) fn verdict(&mut self, verdict: Verdict<'_>) -> &mut Self {
        self.expression("immediate", |m| {
            m.put_be32(1, VERDICT_REGISTER).nest(2, |data| write_verdict(data, verdict));
        })
    }

    /// Sends the connection to the address and port in the register and the next.
    pub(super) fn send_to(&mut self, from: Register) -> &mut Self {
        self.expression("nat", |m| {
            m.put_be32(1, libc::NFT_NAT_DNAT as u32).put_be32(2, libc::NFPROTO_IPV4 as u32);
            m.put_be32(3, from.0).put_be32(5, from.next().0);
        })
    }

    pub(super) fn masquerade(&mut self) -> &mut Self {
        self.expression("masq", |m| {
            m.put_be32(1, RANDOM_FULLY);
        })
    }

    /// Answers "port unreachable", which a connecting client hears as "refused".
    pub(super) fn reject(&mut self) -> &mut Self {
        const PORT_UNREACHABLE: u8 = 3;
        self.expression("reject", |m| {
            m.put_be32(1, libc::NFT_REJECT_ICMP_UNREACH as u32).put_u8(2, PORT_UNREACHABLE);
        })
    }

    /// Puts the key into a set, or starts its time anew: it is gone after so many seconds without.
    pub(super) fn remember(&mut self, set: &str, seconds: u32) -> &mut Self {
        const UPDATE: u32 = 1;
        self.expression("dynset", |m| {
            m.put_text(1, set).put_be32(3, UPDATE).put_be32(4, KEY.0);
            m.put_be64(6, u64::from(seconds) * 1000);
        })
    }
}

fn write_verdict(data: &mut Message, verdict: Verdict<'_>) {
    let (code, chain) = match verdict {
        Verdict::Accept => (libc::NF_ACCEPT, None),
        Verdict::Drop => (libc::NF_DROP, None),
        Verdict::Jump(chain) => (libc::NFT_JUMP, Some(chain)),
        Verdict::Goto(chain) => (libc::NFT_GOTO, Some(chain)),
    };
    data.nest(VERDICT, |m| {
        m.put(VERDICT_CODE, &code.to_be_bytes());
        if let Some(chain) = chain {
            m.put_text(VERDICT_CHAIN, chain);
        }
    });
}

/// Writes an element's data as a set wants it.
pub(super) fn write_data(message: &mut Message, kind: u16, data: &Data) {
    match data {
        Data::Member => {}
        Data::Value(value) => {
            message.nest(kind, |m| {
                m.put(VALUE, value);
            });
        }
        Data::Goto(chain) => {
            message.nest(kind, |m| write_verdict(m, Verdict::Goto(chain)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{KEY, Rule, SetRef, Verdict};
    use crate::netlink::Message;

    /// The bytes after `nlmsghdr`.
    fn bytes(write: impl FnOnce(&mut Rule<'_>)) -> Vec<u8> {
        let mut message = Message::new(0, 0, &[], "test");
        write(&mut Rule::new(&mut message));
        message.bytes()[16..].to_vec()
    }

    #[test]
    fn a_lookup_for_a_verdict_is_what_nft_sends() {
        let found = bytes(|rule| {
            rule.dispatch(SetRef::Named("m"), KEY);
        });
        let expected: &[u8] = &[
            44, 0, 1, 0x80, // an expression
            11, 0, 1, 0, b'l', b'o', b'o', b'k', b'u', b'p', 0, 0, // its name
            28, 0, 2, 0x80, // its data:
            6, 0, 1, 0, b'm', 0, 0, 0, // the map,
            8, 0, 2, 0, 0, 0, 0, 8, // from register 8,
            8, 0, 3, 0, 0, 0, 0, 0, // to the verdict
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_verdict_names_its_chain() {
        let found = bytes(|rule| {
            rule.verdict(Verdict::Goto("c"));
        });
        let expected: &[u8] = &[
            56, 0, 1, 0x80, // an expression
            14, 0, 1, 0, b'i', b'm', b'm', b'e', b'd', b'i', b'a', b't', b'e', 0, 0,
            0, // its name
            36, 0, 2, 0x80, // its data:
            8, 0, 1, 0, 0, 0, 0, 0, // to the verdict
            24, 0, 2, 0x80, 20, 0, 2, 0x80, // a verdict:
            8, 0, 1, 0, 0xff, 0xff, 0xff, 0xfc, // goto
            6, 0, 2, 0, b'c', 0, 0, 0,
        ];
        assert_eq!(found, expected);
    }
}
