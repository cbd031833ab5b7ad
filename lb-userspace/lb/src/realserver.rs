//! What a real server needs beside its own service: the VIPs where nobody asks for them, silence in
//! ARP, and the end of tunnels.
//!
//! - `condition`: one thing that must be so: how it is, how to make it so, how to undo that
//! - `record`: what was done, for `lb realserver undo`
//! - `unit`: the systemd unit that does it again at the next boot

mod condition;
mod record;
mod unit;

use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

pub(crate) use self::condition::{Condition, State};
use self::record::Record;
pub(crate) use self::unit::Unit;

/// A way in which a director's packets come, other than as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Tunnel {
    Ipip,
    Gue,
    Gre,
}

impl Tunnel {
    /// As `--tunnel` has it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ipip => "ipip",
            Self::Gue => "gue",
            Self::Gre => "gre",
        }
    }
}

/// What the machine is to be a real server for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Wanted {
    pub vips: Vec<IpAddr>,
    pub tunnels: Vec<Tunnel>,
    pub gue_port: u16,
}

impl Wanted {
    /// All that must be so, in the order in which it is to be made so: silence before the address
    /// that nobody may hear of.
    pub(crate) fn conditions(&self) -> Vec<Condition> {
        let has = |v4| self.vips.iter().any(|vip| vip.is_ipv4() == v4);
        let mut conditions = Vec::new();
        if has(true) {
            conditions.push(Condition::at_least("net.ipv4.conf.all.arp_ignore", 1));
            conditions.push(Condition::at_least("net.ipv4.conf.all.arp_announce", 2));
        }
        if has(false) {
            conditions.push(Condition::exactly("net.ipv6.conf.lo.disable_ipv6", 0));
        }
        for tunnel in &self.tunnels {
            self.end_of(*tunnel, has, &mut conditions);
        }
        conditions.extend(self.vips.iter().map(|vip| Condition::Address(*vip)));
        conditions
    }

    fn end_of(&self, tunnel: Tunnel, has: impl Fn(bool) -> bool, conditions: &mut Vec<Condition>) {
        let mut device = |module: &'static str, device: &'static str| {
            conditions.push(Condition::Device { module, device });
            conditions.push(Condition::Loose { device });
        };
        match tunnel {
            Tunnel::Gre => device("ip_gre", "gre0"),
            Tunnel::Ipip | Tunnel::Gue => {
                if has(true) {
                    device("ipip", "tunl0");
                }
                if has(false) {
                    device("sit", "sit0");
                }
            }
        }
        if tunnel == Tunnel::Gue {
            conditions.push(Condition::Gue { port: self.gue_port });
        }
    }
}

/// Makes the machine a real server, and tells of each step. What was done before stays recorded.
pub(crate) fn setup(wanted: &Wanted, file: &Path, mut tell: impl FnMut(&str)) -> Result<()> {
    let mut record = Record::read(file)?.unwrap_or_default();
    record.add(wanted);
    for condition in wanted.conditions() {
        if condition.state()?.is_met() {
            continue;
        }
        tell(&condition.mend());
        // In the record first: an interrupted setup can be undone.
        if let Some(undo) = condition.undo()? {
            record.steps.push(undo);
            record.write(file)?;
        }
        condition.make().with_context(|| format!("`{}` failed", condition.mend()))?;
    }
    record.write(file)
}

/// What the machine was made a real server for; `None`: it was not.
pub(crate) fn recorded(file: &Path) -> Result<Option<Wanted>> {
    Ok(Record::read(file)?.and_then(|record| record.wanted))
}

/// What somebody has made the machine a real server for by other means: addresses of its own on the
/// loopback interface, and ends of tunnels. `None`: there are no such addresses.
pub(crate) fn by_hand() -> Result<Option<Wanted>> {
    Ok(found(condition::addresses_of_loopback()?, condition::is_up, condition::port_of_gue()))
}

fn found(on_loopback: Vec<IpAddr>, is_up: impl Fn(&str) -> bool, gue: Option<u16>) -> Option<Wanted> {
    let is_vip = |address: &IpAddr| match address {
        IpAddr::V4(address) => !address.is_loopback() && !address.is_link_local(),
        IpAddr::V6(address) => !address.is_loopback() && !address.is_unicast_link_local(),
    };
    let vips: Vec<IpAddr> = on_loopback.into_iter().filter(is_vip).collect();
    if vips.is_empty() {
        return None;
    }
    let ends: [(Tunnel, &[&str]); 2] = [(Tunnel::Ipip, &["tunl0", "sit0"]), (Tunnel::Gre, &["gre0"])];
    let ends = ends.into_iter().filter(|(_, devices)| devices.iter().any(|device| is_up(device)));
    let tunnels = match gue {
        // What comes out of GUE goes through the same devices.
        Some(_) => vec![Tunnel::Gue],
        None => ends.map(|(tunnel, _)| tunnel).collect(),
    };
    Some(Wanted { vips, tunnels, gue_port: gue.unwrap_or(lb_common::forward::tunnel::GUE_PORT) })
}

/// Takes back what [`setup`] has done, last things first. Returns whether there was anything.
pub(crate) fn undo(file: &Path, mut tell: impl FnMut(&str)) -> Result<bool> {
    let Some(mut record) = Record::read(file)? else { return Ok(false) };
    while let Some(step) = record.steps.last() {
        match step.undo().with_context(|| format!("cannot undo: {step}"))? {
            Some(done) => tell(&done),
            None => tell(&format!("left alone, for it is not as setup made it: {step}")),
        }
        record.steps.pop();
        record.write(file)?;
    }
    Record::remove(file)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mends(vips: &[&str], tunnels: &[Tunnel]) -> Vec<String> {
        let vips = vips.iter().map(|vip| vip.parse().expect("an address")).collect();
        let wanted = Wanted { vips, tunnels: tunnels.to_vec(), gue_port: 6080 };
        wanted.conditions().iter().map(Condition::mend).collect()
    }

    #[test]
    fn arp_is_silent_before_the_address_is_there() {
        assert_eq!(
            mends(&["192.0.2.10"], &[]),
            [
                "sysctl -w net.ipv4.conf.all.arp_ignore=1",
                "sysctl -w net.ipv4.conf.all.arp_announce=2",
                "ip address add 192.0.2.10/32 dev lo",
            ]
        );
    }

    #[test]
    fn ipv6_has_no_arp() {
        let of_v6 = ["sysctl -w net.ipv6.conf.lo.disable_ipv6=0", "ip address add 2001:db8::10/128 dev lo"];
        assert_eq!(mends(&["2001:db8::10"], &[]), of_v6);
    }

    #[test]
    fn what_somebody_has_set_up_by_hand_is_found() {
        let addresses = |texts: &[&str]| -> Vec<IpAddr> {
            texts.iter().map(|text| text.parse().expect("an address")).collect()
        };
        let own = ["127.0.0.1", "::1", "127.0.0.53", "169.254.20.10", "fe80::1"];
        assert_eq!(found(addresses(&own), |_| true, Some(6080)), None, "none of them is a VIP");
        let vips = ["192.0.2.10", "2001:db8::10"];
        let all = addresses(&[&own[..], &vips].concat());
        let of = |tunnels: &[Tunnel], gue_port: u16| {
            Some(Wanted { vips: addresses(&vips), tunnels: tunnels.to_vec(), gue_port })
        };
        assert_eq!(found(all.clone(), |_| false, None), of(&[], lb_common::forward::tunnel::GUE_PORT));
        let both = of(&[Tunnel::Ipip, Tunnel::Gre], lb_common::forward::tunnel::GUE_PORT);
        assert_eq!(found(all.clone(), |device| ["sit0", "gre0"].contains(&device), None), both);
        assert_eq!(found(all, |device| device == "tunl0", Some(7000)), of(&[Tunnel::Gue], 7000));
    }

    #[test]
    fn tunnels_end_in_the_device_of_what_is_in_them() {
        let found = mends(&["192.0.2.10", "2001:db8::10"], &[Tunnel::Gue]);
        assert_eq!(
            found[3..8],
            [
                "modprobe ipip; ip link set tunl0 up",
                "sysctl -w net.ipv4.conf.tunl0.rp_filter=2",
                "modprobe sit; ip link set sit0 up",
                "sysctl -w net.ipv4.conf.sit0.rp_filter=2",
                "modprobe fou; ip fou add port 6080 gue",
            ]
        );
        assert!(
            mends(&["192.0.2.10"], &[Tunnel::Gre]).contains(&"modprobe ip_gre; ip link set gre0 up".into())
        );
    }
}
