//! The ports of a service: one, several, ranges of them, or all.

use std::fmt;
use std::net::IpAddr;

use lb_common::service::BLOCK;

/// Ports from `first` to `last`, host byte order; of a single port both are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortRange {
    pub first: u16,
    pub last: u16,
}

impl PortRange {
    pub const fn one(port: u16) -> Self {
        Self { first: port, last: port }
    }

    pub const fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }

    pub const fn is_one(self) -> bool {
        self.first == self.last
    }

    /// A range is its whole blocks, and the ports before and behind them.
    pub fn keys(self) -> impl Iterator<Item = PortKey> {
        let (mut next, end) = (u32::from(self.first), u32::from(self.last) + 1);
        std::iter::from_fn(move || {
            let port = u16::try_from(next).ok().filter(|_| next < end)?;
            let block = next % u32::from(BLOCK) == 0 && next + u32::from(BLOCK) <= end;
            next += if block { u32::from(BLOCK) } else { 1 };
            Some(if block { PortKey::Block(port) } else { PortKey::One(port) })
        })
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_one() {
            true => self.first.fmt(f),
            false => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

/// Single ports and ranges in the order of the file, or all ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ports {
    ranges: [PortRange; Self::MOST],
    /// 0: all ports.
    count: u8,
}

impl Ports {
    /// Single ports and ranges of one service at most.
    pub const MOST: usize = 16;

    pub const ALL: Self = Self { ranges: [PortRange::one(0); Self::MOST], count: 0 };

    /// The ports of a service with this [`ServiceKey::port`](crate::ServiceKey::port) and no
    /// others: 0 is all.
    pub const fn of_key(port: u16) -> Self {
        let mut ports = Self::ALL;
        if port != 0 {
            ports.ranges[0] = PortRange::one(port);
            ports.count = 1;
        }
        ports
    }

    /// `None`: there are none, or more than [`Self::MOST`].
    pub fn of(ranges: &[PortRange]) -> Option<Self> {
        let mut ports = Self::ALL;
        ports.ranges.get_mut(..ranges.len())?.copy_from_slice(ranges);
        ports.count = u8::try_from(ranges.len()).ok().filter(|count| *count > 0)?;
        Some(ports)
    }

    /// Empty: all ports.
    pub fn ranges(&self) -> &[PortRange] {
        &self.ranges[..usize::from(self.count)]
    }

    pub const fn is_all(&self) -> bool {
        self.count == 0
    }

    pub const fn is_one(&self) -> bool {
        self.count == 1 && self.ranges[0].is_one()
    }

    /// Each of them, unless there is a range.
    pub fn listed(&self) -> Option<impl Iterator<Item = u16> + '_> {
        let listed = !self.is_all() && self.ranges().iter().all(|range| range.is_one());
        listed.then(|| self.ranges().iter().map(|range| range.first))
    }

    pub fn contains(&self, port: u16) -> bool {
        self.is_all() || self.ranges().iter().any(|range| range.contains(port))
    }

    /// A VIP with these ports, as in the configuration.
    pub fn after(&self, vip: IpAddr) -> String {
        match vip {
            IpAddr::V4(vip) => format!("{vip}:{self}"),
            IpAddr::V6(vip) => format!("[{vip}]:{self}"),
        }
    }

    /// Keys under which the data path's table of services has them: see
    /// [`lb_common::service::ServiceAddress`].
    pub fn places(&self) -> usize {
        self.keys().count()
    }

    /// These keys: each port by itself, or a block of them, or all.
    pub fn keys(&self) -> impl Iterator<Item = PortKey> + '_ {
        let all = self.is_all().then_some(PortKey::All);
        all.into_iter().chain(self.ranges().iter().flat_map(|range| range.keys()))
    }

    /// What a service is known by beside its VIP: the first port, 0 of all ports.
    pub const fn key(&self) -> u16 {
        self.ranges[0].first
    }
}

/// What the data path's table of services has of a service's ports in one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortKey {
    One(u16),
    /// A whole block of [`BLOCK`] ports that begins with this one.
    Block(u16),
    All,
}

/// As in the configuration.
impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_all() {
            return f.write_str("*");
        }
        for (index, range) in self.ranges().iter().enumerate() {
            write!(f, "{}{range}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_written_as_they_are_read() {
        let range = |first, last| PortRange { first, last };
        let some = Ports::of(&[PortRange::one(80), range(8000, 8999)]).unwrap();
        assert_eq!((some.to_string().as_str(), some.key()), ("80,8000-8999", 80));
        assert_eq!(
            [79, 80, 81, 8000, 8500, 8999, 9000].map(|port| some.contains(port)),
            [false, true, false, true, true, true, false]
        );
        assert!(some.listed().is_none() && !some.is_one() && !some.is_all());
        assert_eq!((Ports::ALL.to_string().as_str(), Ports::ALL.key()), ("*", 0));
        assert!(Ports::ALL.contains(1) && Ports::ALL.listed().is_none());
        assert_eq!(Ports::of_key(443).listed().unwrap().collect::<Vec<_>>(), [443]);
        assert!(Ports::of_key(443).is_one() && Ports::of_key(0).is_all());
        assert_eq!(Ports::of(&[]), None);
    }

    #[test]
    fn a_range_is_cut_into_blocks_and_ports_without_a_gap() {
        for (first, last, places) in
            [(1, 65535, 255 + 255), (8000, 8999, 192 + 3 + 40), (7, 7, 1), (255, 256, 2), (256, 511, 1)]
        {
            let ports = Ports::of(&[PortRange { first, last }]).unwrap();
            assert_eq!(ports.places(), places, "{ports}");
            let mut next = u32::from(first);
            for key in ports.keys() {
                let (port, count) = match key {
                    PortKey::One(port) => (port, 1),
                    PortKey::Block(port) => (port, u32::from(BLOCK)),
                    PortKey::All => panic!("not all"),
                };
                assert_eq!(u32::from(port), next);
                next += count;
            }
            assert_eq!(next, u32::from(last) + 1);
        }
        assert_eq!(Ports::ALL.keys().collect::<Vec<_>>(), [PortKey::All]);
    }

    #[test]
    fn there_is_some_port_and_not_too_many() {
        assert_eq!(Ports::of(&[]), None);
        assert_eq!(Ports::of(&[PortRange::one(1); Ports::MOST + 1]), None);
    }
}
