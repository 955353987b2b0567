//! Which pod has which address of the node's range: one bit an address, rebuilt from the living pods after a restart.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use thiserror::Error;

/// The largest range that is managed, as a prefix length: 65,536 addresses.
const LARGEST_PREFIX: u8 = 16;

/// Why a pod got no address.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum IpamError {
    #[error("all {0} addresses of the node's pod range {1} are in use")]
    Exhausted(usize, Ipv4Net),
    #[error("the node's pod range {0} has no room for pods: it must be from /16 to /29")]
    BadRange(Ipv4Net),
}

/// The addresses of one range. The first is the bridge's; the range's own and the broadcast address are nobody's.
#[derive(Debug)]
pub(crate) struct Ipam {
    range: Ipv4Net,
    used: Vec<u64>,
    owners: BTreeMap<String, Ipv4Addr>,
    /// Where the search goes on, so that an address rests before it is given again.
    next: u32,
}

impl Ipam {
    pub(crate) fn new(range: Ipv4Net) -> Result<Self, IpamError> {
        let range = range.trunc();
        if !(LARGEST_PREFIX..=29).contains(&range.prefix_len()) {
            return Err(IpamError::BadRange(range));
        }
        let size = 1_usize << (32 - range.prefix_len());
        let used = vec![0; size.div_ceil(64)];
        let mut ipam = Self { range, used, owners: BTreeMap::new(), next: 2 };
        let last = ipam.size() - 1;
        for reserved in [0, 1, last] {
            ipam.mark(reserved, true);
        }
        Ok(ipam)
    }

    /// The bridge's address.
    pub(crate) fn gateway(&self) -> Ipv4Addr {
        self.at(1)
    }

    pub(crate) fn range(&self) -> Ipv4Net {
        self.range
    }

    /// The address of `owner`: the one it has, or a free one.
    pub(crate) fn allocate(&mut self, owner: &str) -> Result<Ipv4Addr, IpamError> {
        if let Some(address) = self.owners.get(owner) {
            return Ok(*address);
        }
        let size = self.size();
        let free = (0..size).map(|step| (self.next + step) % size).find(|&n| !self.is_used(n));
        let Some(number) = free else {
            return Err(IpamError::Exhausted(self.owners.len(), self.range));
        };
        self.next = (number + 1) % size;
        self.mark(number, true);
        let address = self.at(number);
        self.owners.insert(owner.to_owned(), address);
        Ok(address)
    }

    /// Notes that `owner` has `address` since before; false if it cannot be: outside of the range, or somebody else's.
    pub(crate) fn adopt(&mut self, owner: &str, address: Ipv4Addr) -> bool {
        if self.owners.get(owner) == Some(&address) {
            return true;
        }
        let Some(number) = self.number(address) else { return false };
        if self.is_used(number) {
            return false;
        }
        self.mark(number, true);
        self.owners.insert(owner.to_owned(), address);
        true
    }

    /// Takes back the address of `owner`, if it has one.
    pub(crate) fn release(&mut self, owner: &str) {
        if let Some(address) = self.owners.remove(owner)
            && let Some(number) = self.number(address)
        {
            self.mark(number, false);
        }
    }

    fn size(&self) -> u32 {
        1 << (32 - u32::from(self.range.prefix_len()))
    }

    fn at(&self, number: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.range.network()) + number)
    }

    fn number(&self, address: Ipv4Addr) -> Option<u32> {
        let contained = self.range.contains(&address);
        contained.then(|| u32::from(address) - u32::from(self.range.network()))
    }

    fn is_used(&self, number: u32) -> bool {
        let (word, bit) = place(number);
        self.used[word] & bit != 0
    }

    fn mark(&mut self, number: u32, used: bool) {
        let (word, bit) = place(number);
        if used {
            self.used[word] |= bit;
        } else {
            self.used[word] &= !bit;
        }
    }
}

fn place(number: u32) -> (usize, u64) {
    (usize::try_from(number / 64).unwrap_or(usize::MAX), 1 << (number % 64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::proptest;
    use std::collections::BTreeSet;

    fn range(text: &str) -> Ipam {
        Ipam::new(text.parse().unwrap()).unwrap()
    }

    #[test]
    fn all_but_three_addresses_are_given_once() {
        let mut ipam = range("10.244.1.0/29");
        let given: BTreeSet<_> = (0..5).map(|n| ipam.allocate(&n.to_string()).unwrap()).collect();
        assert_eq!(given.first(), Some(&Ipv4Addr::new(10, 244, 1, 2)));
        assert_eq!((given.len(), given.last()), (5, Some(&Ipv4Addr::new(10, 244, 1, 6))));
        assert!(matches!(ipam.allocate("x"), Err(IpamError::Exhausted(5, _))));
        ipam.release("3");
        assert_eq!(ipam.allocate("x"), Ok(Ipv4Addr::new(10, 244, 1, 5)));
        assert_eq!(ipam.allocate("x"), Ok(Ipv4Addr::new(10, 244, 1, 5)), "the same owner");
    }

    #[test]
    fn an_address_rests_after_use() {
        let mut ipam = range("10.244.1.0/24");
        let first = ipam.allocate("a").unwrap();
        ipam.release("a");
        assert_ne!(ipam.allocate("b").unwrap(), first);
    }

    #[test]
    fn living_pods_keep_theirs() {
        let mut ipam = range("10.244.1.0/24");
        let address = Ipv4Addr::new(10, 244, 1, 2);
        assert!(ipam.adopt("a", address) && ipam.adopt("a", address));
        assert!(!ipam.adopt("b", address), "taken");
        assert!(!ipam.adopt("b", Ipv4Addr::new(10, 244, 1, 1)), "the bridge's");
        assert!(!ipam.adopt("b", Ipv4Addr::new(10, 244, 2, 2)), "outside");
        assert_eq!(ipam.allocate("b"), Ok(Ipv4Addr::new(10, 244, 1, 3)));
    }

    #[test]
    fn ranges_that_cannot_be() {
        for text in ["10.0.0.0/8", "10.244.1.0/30"] {
            assert!(Ipam::new(text.parse().unwrap()).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_address_is_given_twice(steps in proptest::collection::vec((0_u8..12, proptest::bool::ANY), 0..200)) {
            let mut ipam = range("10.0.0.0/28");
            for (owner, take) in steps {
                let owner = owner.to_string();
                if take { drop(ipam.allocate(&owner)) } else { ipam.release(&owner) }
                let distinct: BTreeSet<_> = ipam.owners.values().collect();
                assert_eq!(distinct.len(), ipam.owners.len());
                assert!(!distinct.contains(&ipam.gateway()));
            }
        }
    }
}
