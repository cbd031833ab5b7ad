//! Addresses of both families, and ranges of them.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::Deserialize;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Family {
    Ipv4,
    Ipv6,
}

impl Family {
    pub(crate) const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::Ipv4,
            IpAddr::V6(_) => Self::Ipv6,
        }
    }

    /// As Kubernetes calls it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ipv4 => "IPv4",
            Self::Ipv6 => "IPv6",
        }
    }

    pub(crate) fn called(name: &str) -> Option<Self> {
        [Self::Ipv4, Self::Ipv6].into_iter().find(|family| family.name() == name)
    }

    const fn bits(self) -> u32 {
        match self {
            Self::Ipv4 => 32,
            Self::Ipv6 => 128,
        }
    }

    /// `number` has no more bits than an address of the family.
    fn address(self, number: u128) -> IpAddr {
        match self {
            Self::Ipv4 => Ipv4Addr::from_bits(u32::try_from(number).unwrap_or(u32::MAX)).into(),
            Self::Ipv6 => Ipv6Addr::from_bits(number).into(),
        }
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// All addresses from one to another: `192.0.2.10`, `192.0.2.10-192.0.2.20`, `192.0.2.32/28`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Range {
    family: Family,
    first: u128,
    last: u128,
}

impl Range {
    pub(crate) const fn family(&self) -> Family {
        self.family
    }

    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        Family::of(address) == self.family && (self.first..=self.last).contains(&number(address))
    }

    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        self.family == other.family && self.first <= other.last && other.first <= self.last
    }

    /// The first address that is not taken.
    pub(crate) fn first_free(&self, taken: &BTreeSet<IpAddr>) -> Option<IpAddr> {
        let mut all = (self.first..=self.last).map(|number| self.family.address(number));
        all.find(|address| !taken.contains(address))
    }
}

impl FromStr for Range {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "found {text:?}, expected an address, two of one family with - between them, or a network \
                 such as 192.0.2.32/28"
            )
        };
        let address = |text: &str| text.trim().parse::<IpAddr>().map_err(|_| wrong());
        if let Some((network, length)) = text.split_once('/') {
            let network = address(network)?;
            let (family, first) = (Family::of(network), number(network));
            let length: u32 = length.parse().map_err(|_| wrong())?;
            let free = family.bits().checked_sub(length).ok_or_else(wrong)?;
            let rest = 1_u128.checked_shl(free).map_or(u128::MAX, |size| size - 1);
            if first & rest != 0 {
                let first = family.address(first & !rest);
                return Err(format!(
                    "found {text:?}, whose network begins at {first}: expected {first}/{length}"
                ));
            }
            return Ok(Self { family, first, last: first | rest });
        }
        let (first, last) = match text.split_once('-') {
            Some((first, last)) => (address(first)?, address(last)?),
            None => (address(text)?, address(text)?),
        };
        let range = Self { family: Family::of(first), first: number(first), last: number(last) };
        match Family::of(last) == range.family && range.first <= range.last {
            true => Ok(range),
            false => Err(wrong()),
        }
    }
}

impl TryFrom<String> for Range {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, last] = [self.first, self.last].map(|number| self.family.address(number));
        match first == last {
            true => write!(f, "{first}"),
            false => write!(f, "{first}-{last}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> Range {
        text.parse().unwrap_or_else(|why| panic!("{why}"))
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn ranges_are_read() {
        for (text, shown) in [
            ("192.0.2.10", "192.0.2.10"),
            ("192.0.2.10-192.0.2.20", "192.0.2.10-192.0.2.20"),
            ("192.0.2.32/28", "192.0.2.32-192.0.2.47"),
            ("0.0.0.0/0", "0.0.0.0-255.255.255.255"),
            ("2001:db8::/126", "2001:db8::-2001:db8::3"),
            ("::/0", "::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ] {
            assert_eq!(range(text).to_string(), shown);
        }
        for text in ["", "192.0.2.20-192.0.2.10", "192.0.2.1-::1", "192.0.2.0/33", "10.0.0.1/8", "a-b"] {
            assert!(text.parse::<Range>().is_err(), "{text:?}");
        }
        let why = "10.0.0.1/8".parse::<Range>().expect_err("no network");
        assert!(why.ends_with("expected 10.0.0.0/8"), "{why}");
    }

    #[test]
    fn the_first_free_one_is_found() {
        let range = range("192.0.2.10-192.0.2.12");
        let mut taken = BTreeSet::from([address("192.0.2.10")]);
        assert_eq!(range.first_free(&taken), Some(address("192.0.2.11")));
        taken.extend([address("192.0.2.11"), address("192.0.2.12")]);
        assert_eq!(range.first_free(&taken), None);
        assert!(range.contains(address("192.0.2.12")));
        assert!(!range.contains(address("192.0.2.13")));
        assert!(!range.contains(address("::c000:20c")));
    }
}
