//! A transaction on one table: the kernel does all of it or nothing, and packets see before or after.

use super::element::{Data, Field, type_length, type_number};
use super::rule::{ANONYMOUS, Rule, write_data};
use crate::netlink::Message;

const SUBSYSTEM: u16 = libc::NFNL_SUBSYS_NFTABLES as u16;
const CREATE: u16 = libc::NLM_F_CREATE as u16;
const APPEND: u16 = libc::NLM_F_APPEND as u16;

/// The table's name is attribute 1 of every message.
const TABLE: u16 = 1;
/// A message about elements stays below this; an attribute ends at 64 KiB.
const ELEMENTS_BYTES: usize = 32 << 10;
/// More than an element's attributes take beside its key, value and chain.
const ELEMENT_OVERHEAD: usize = 64;

const SET_ANONYMOUS: u32 = 1;
const SET_CONSTANT: u32 = 2;
const SET_MAP: u32 = 8;
const SET_TIMEOUT: u32 = 0x10;
const SET_DYNAMIC: u32 = 0x20;
/// The type of a verdict map's values.
const VERDICT_TYPE: u32 = 0xffff_ff00;
/// "Keys are in the machine's byte order", which only `nft list` reads.
const HOST_ENDIAN_KEYS: [u8; 6] = [0, 4, 1, 0, 0, 0];

/// Which packets a table sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Ipv4 = 2,
    Bridge = 7,
}

/// A chain that the kernel calls.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hook {
    pub(super) chain: &'static str,
    /// `nat` or `filter`.
    pub(super) kind: &'static str,
    pub(super) number: i32,
    /// Lower runs earlier.
    pub(super) priority: i32,
}

/// What a map's values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Values {
    /// It is a set.
    None,
    Verdicts,
    /// address . port
    Targets,
}

/// A set or map to be.
#[derive(Debug, Clone, Copy)]
pub(super) struct SetSpec<'a> {
    pub(super) name: &'a str,
    pub(super) key: &'a [Field],
    pub(super) values: Values,
    /// For a set that rules write: an entry is gone after so many seconds.
    pub(super) timeout: Option<u32>,
}

/// Messages for one table, in order.
#[derive(Debug)]
pub(super) struct Batch {
    family: Family,
    table: String,
    messages: Vec<Message>,
    sets: u32,
}

impl Batch {
    pub(super) fn new(family: Family, table: &str) -> Self {
        Self { family, table: table.to_owned(), messages: Vec::new(), sets: 0 }
    }

    pub(super) fn into_messages(self) -> Vec<Message> {
        self.messages
    }

    fn push(&mut self, kind: i32, flags: u16, what: String, write: impl FnOnce(&mut Message)) {
        let kind = SUBSYSTEM << 8 | kind as u16;
        let mut message = Message::new(kind, flags, &[self.family as u8, 0, 0, 0], what);
        message.put_text(TABLE, &self.table);
        write(&mut message);
        self.messages.push(message);
    }

    fn named(&mut self, kind: i32, flags: u16, what: String, name: (u16, &str)) {
        self.push(kind, flags, what, |m| {
            m.put_text(name.0, name.1);
        });
    }

    /// Makes the table, empty, whatever was there.
    pub(super) fn replace_table(&mut self) {
        self.add_table();
        self.delete_table();
        self.add_table();
    }

    pub(super) fn add_table(&mut self) {
        let what = format!("add the nftables table {}", self.table);
        self.push(libc::NFT_MSG_NEWTABLE, CREATE, what, |_| ());
    }

    pub(super) fn delete_table(&mut self) {
        let what = format!("remove the nftables table {}", self.table);
        self.push(libc::NFT_MSG_DELTABLE, 0, what, |_| ());
    }

    pub(super) fn add_hook(&mut self, hook: Hook) {
        let what = format!("add the {} chain {}", hook.kind, hook.chain);
        self.push(libc::NFT_MSG_NEWCHAIN, CREATE, what, |m| {
            m.put_text(3, hook.chain).nest(4, |h| {
                h.put_be32(1, hook.number as u32).put(2, &hook.priority.to_be_bytes());
            });
            m.put_text(7, hook.kind);
        });
    }

    pub(super) fn add_chain(&mut self, chain: &str) {
        self.named(libc::NFT_MSG_NEWCHAIN, CREATE, format!("add the chain {chain}"), (3, chain));
    }

    pub(super) fn delete_chain(&mut self, chain: &str) {
        self.named(libc::NFT_MSG_DELCHAIN, 0, format!("remove the chain {chain}"), (3, chain));
    }

    /// Removes all rules of a chain.
    pub(super) fn flush_chain(&mut self, chain: &str) {
        self.named(libc::NFT_MSG_DELRULE, 0, format!("empty the chain {chain}"), (2, chain));
    }

    /// Appends a rule.
    pub(super) fn add_rule(&mut self, chain: &str, write: impl FnOnce(&mut Rule<'_>)) {
        let what = format!("add a rule to the chain {chain}");
        self.push(libc::NFT_MSG_NEWRULE, CREATE | APPEND, what, |m| {
            m.put_text(2, chain).nest(4, |m| write(&mut Rule::new(m)));
        });
    }

    pub(super) fn add_set(&mut self, spec: SetSpec<'_>) {
        let what = format!("add the set {}", spec.name);
        self.sets += 1;
        let id = self.sets;
        self.push(libc::NFT_MSG_NEWSET, CREATE, what, |m| {
            let mut flags = 0;
            if spec.values != Values::None {
                flags |= SET_MAP;
            }
            if spec.timeout.is_some() {
                flags |= SET_TIMEOUT | SET_DYNAMIC;
            }
            write_set(m, spec, flags, id);
            if let Some(seconds) = spec.timeout {
                m.put_be64(11, u64::from(seconds) * 1000);
            }
        });
    }

    pub(super) fn delete_set(&mut self, name: &str) {
        self.named(libc::NFT_MSG_DELSET, 0, format!("remove the set {name}"), (2, name));
    }

    /// A set for one rule of this batch, which must follow; answers its number.
    pub(super) fn add_anonymous(
        &mut self,
        key: &[Field],
        values: Values,
        elements: &[(Vec<u8>, Data)],
    ) -> u32 {
        self.sets += 1;
        let id = self.sets;
        let what = format!("add a set of {} backends", elements.len());
        self.push(libc::NFT_MSG_NEWSET, CREATE, what, |m| {
            let map = if values == Values::None { 0 } else { SET_MAP };
            let spec = SetSpec { name: ANONYMOUS, key, values, timeout: None };
            write_set(m, spec, SET_ANONYMOUS | SET_CONSTANT | map, id);
            m.nest(9, |description| {
                description.put_be32(1, elements.len() as u32);
            });
            if key == [Field::Integer] {
                m.put(13, &HOST_ENDIAN_KEYS);
            }
        });
        self.elements(libc::NFT_MSG_NEWSETELEM, (ANONYMOUS, Some(id)), elements);
        id
    }

    pub(super) fn add_elements(&mut self, set: &str, elements: &[(Vec<u8>, Data)]) {
        self.elements(libc::NFT_MSG_NEWSETELEM, (set, None), elements);
    }

    /// Removes elements by their keys.
    pub(super) fn delete_elements(&mut self, set: &str, keys: Vec<Vec<u8>>) {
        let elements: Vec<_> = keys.into_iter().map(|key| (key, Data::Member)).collect();
        self.elements(libc::NFT_MSG_DELSETELEM, (set, None), &elements);
    }

    /// In as many messages as they need.
    fn elements(
        &mut self,
        kind: i32,
        (set, id): (&str, Option<u32>),
        elements: &[(Vec<u8>, Data)],
    ) {
        let (verb, flags) =
            if kind == libc::NFT_MSG_NEWSETELEM { ("add", CREATE) } else { ("remove", 0) };
        let mut rest = elements;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(fitting(rest));
            rest = later;
            let what = format!("{verb} {} elements of the set {set}", now.len());
            self.push(kind, flags, what, |m| {
                m.put_text(2, set);
                if let Some(id) = id {
                    m.put_be32(4, id);
                }
                m.nest(3, |list| now.iter().for_each(|element| write_element(list, element)));
            });
        }
    }
}

/// How many of the elements fit in one message; at least one.
fn fitting(elements: &[(Vec<u8>, Data)]) -> usize {
    let mut bytes = 0;
    let full = elements.iter().position(|(key, data)| {
        let data = match data {
            Data::Member => 0,
            Data::Value(value) => value.len(),
            Data::Goto(chain) => chain.len(),
        };
        bytes += ELEMENT_OVERHEAD + key.len() + data;
        bytes > ELEMENTS_BYTES
    });
    full.unwrap_or(elements.len()).max(1)
}

fn write_element(list: &mut Message, (key, data): &(Vec<u8>, Data)) {
    list.nest(1, |element| {
        element.nest(1, |m| {
            m.put(1, key);
        });
        write_data(element, 2, data);
    });
}

fn write_set(message: &mut Message, spec: SetSpec<'_>, flags: u32, id: u32) {
    message.put_text(2, spec.name).put_be32(3, flags);
    message.put_be32(4, type_number(spec.key)).put_be32(5, type_length(spec.key));
    match spec.values {
        Values::None => {}
        Values::Verdicts => {
            message.put_be32(6, VERDICT_TYPE);
        }
        Values::Targets => {
            let target = [Field::Address, Field::Port];
            message.put_be32(6, type_number(&target)).put_be32(7, type_length(&target));
        }
    }
    message.put_be32(10, id);
}
