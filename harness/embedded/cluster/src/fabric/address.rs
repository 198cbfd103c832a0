//! Ranges of virtual IPv4 addresses and handing addresses out of them.

use std::collections::BTreeSet;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// A range of IPv4 addresses such as `10.10.0.0/16`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cidr {
    base: u32,
    prefix: u8,
}

/// Why a text is no range of addresses, or why ranges do not fit together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// The text is not `a.b.c.d/n`.
    #[error("`{0}` is not an IPv4 range; write it as address/prefix, for example `10.10.0.0/16`")]
    NotARange(String),
    /// Bits are set behind the prefix.
    #[error("`{text}` has bits behind its prefix; did you mean `{meant}`?")]
    HostBits {
        /// What was given.
        text: String,
        /// The range that contains it.
        meant: Cidr,
    },
    /// Two ranges of the fabric share addresses.
    #[error("{first} and {second} overlap; every cluster needs addresses of its own")]
    Overlap {
        /// One of them, with its owner.
        first: String,
        /// The other one.
        second: String,
    },
    /// A cluster of this name is on the fabric already.
    #[error("the fabric already has a cluster `{0}`")]
    NameTaken(String),
}

impl Cidr {
    /// The range of `prefix` bits that contains `address`; a prefix above 32 counts as 32.
    #[must_use]
    pub fn containing(address: Ipv4Addr, prefix: u8) -> Self {
        let prefix = prefix.min(32);
        Self {
            base: u32::from(address) & mask(prefix),
            prefix,
        }
    }

    /// The first address.
    #[must_use]
    pub fn base(self) -> Ipv4Addr {
        self.base.into()
    }

    /// The number of leading bits that all addresses share.
    #[must_use]
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// Whether `address` lies in the range.
    #[must_use]
    pub fn contains(self, address: Ipv4Addr) -> bool {
        u32::from(address) & mask(self.prefix) == self.base
    }

    /// Whether the ranges share an address.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        let shorter = self.prefix.min(other.prefix);
        self.base & mask(shorter) == other.base & mask(shorter)
    }

    /// The `n`-th address, from 0, if the range is that large.
    #[must_use]
    pub fn nth(self, n: u32) -> Option<Ipv4Addr> {
        (u64::from(n) < self.len()).then(|| Ipv4Addr::from(self.base + n))
    }

    /// Number of addresses, network and broadcast address included.
    #[expect(clippy::len_without_is_empty, reason = "a range has at least one address")]
    #[must_use]
    pub fn len(self) -> u64 {
        1 << (32 - u32::from(self.prefix))
    }
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or_default()
}

impl FromStr for Cidr {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let wrong = || AddressError::NotARange(text.to_owned());
        let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let address: Ipv4Addr = address.parse().map_err(|_| wrong())?;
        let prefix: u8 = prefix.parse().map_err(|_| wrong())?;
        if prefix > 32 {
            return Err(wrong());
        }
        let meant = Self::containing(address, prefix);
        if meant.base == u32::from(address) {
            Ok(meant)
        } else {
            Err(AddressError::HostBits {
                text: text.to_owned(),
                meant,
            })
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.base), self.prefix)
    }
}

impl fmt::Debug for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Hands out the addresses of a range in turn, so that a freed one is not used again at once: a late packet to a pod
/// that is gone must not reach its successor (the `host-local` plugin of real clusters does the same).
#[derive(Debug)]
pub struct AddressPool {
    cidr: Cidr,
    reserved: u32,
    next: u32,
    taken: BTreeSet<Ipv4Addr>,
}

impl AddressPool {
    /// A pool over `cidr` that never hands out the first `reserved` addresses (network, gateway) nor the last one.
    #[must_use]
    pub fn new(cidr: Cidr, reserved: u32) -> Self {
        Self {
            cidr,
            reserved,
            next: reserved,
            taken: BTreeSet::new(),
        }
    }

    /// The next free address; `None` when all are taken.
    pub fn allocate(&mut self) -> Option<Ipv4Addr> {
        let end = u32::try_from(self.cidr.len() - 1).unwrap_or(u32::MAX);
        let tries = end.saturating_sub(self.reserved);
        for _ in 0..tries {
            if self.next >= end {
                self.next = self.reserved;
            }
            let candidate = self.cidr.nth(self.next)?;
            self.next += 1;
            if self.taken.insert(candidate) {
                return Some(candidate);
            }
        }
        None
    }

    /// Gives an address back. Unknown ones are ignored.
    pub fn release(&mut self, address: Ipv4Addr) {
        self.taken.remove(&address);
    }
}

#[cfg(test)]
mod tests {
    use super::{AddressError, AddressPool, Cidr};
    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};
    use std::net::Ipv4Addr;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn a_range_contains_its_own_addresses_only() {
        let pods = cidr("10.10.0.0/16");
        assert!(pods.contains(Ipv4Addr::new(10, 10, 255, 255)));
        assert!(!pods.contains(Ipv4Addr::new(10, 11, 0, 0)));
        assert_eq!(pods.nth(10), Some(Ipv4Addr::new(10, 10, 0, 10)));
        assert_eq!(pods.nth(65_536), None);
        assert!(cidr("0.0.0.0/0").contains(Ipv4Addr::BROADCAST));
    }

    #[test]
    fn texts_that_are_no_range_say_why() {
        for text in ["10.0.0.0", "10.0.0/8", "10.0.0.0/33", "10.0.0.0/x", "", "::/0"] {
            assert_eq!(text.parse::<Cidr>(), Err(AddressError::NotARange(text.to_owned())));
        }
        let error = "10.10.3.1/16".parse::<Cidr>().unwrap_err();
        assert!(error.to_string().contains("did you mean `10.10.0.0/16`"), "{error}");
    }

    #[test]
    fn a_pool_runs_dry_and_takes_addresses_back() {
        let mut pool = AddressPool::new(cidr("10.0.0.0/29"), 2);
        let all: Vec<_> = std::iter::from_fn(|| pool.allocate()).collect();
        let last_bytes: Vec<_> = all.iter().map(|a| a.octets()[3]).collect();
        assert_eq!(last_bytes, [2, 3, 4, 5, 6]);
        pool.release(all[1]);
        pool.release(all[3]);
        assert_eq!(pool.allocate(), Some(all[1]), "the search starts over at the front");
        pool.release(all[1]);
        assert_eq!(
            pool.allocate(),
            Some(all[3]),
            "an address that was just freed waits its turn"
        );
    }

    proptest! {
        #[test]
        fn ranges_overlap_exactly_when_one_contains_the_others_base(a: u32, b: u32, p in 0u8..=32, q in 0u8..=32) {
            let (first, second) = (Cidr::containing(a.into(), p), Cidr::containing(b.into(), q));
            let (f0, s0) = (first.nth(0).unwrap(), second.nth(0).unwrap());
            prop_assert_eq!(first.overlaps(second), first.contains(s0) || second.contains(f0));
            prop_assert_eq!(first.to_string().parse::<Cidr>().unwrap(), first);
            prop_assert!(first.contains(a.into()));
        }
    }
}
