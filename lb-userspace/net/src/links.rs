//! This host's interfaces as the kernel describes them: what they are, what stands on what, and how
//! frames leave by them.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::TryStreamExt as _;
use lb_common::forward::egress::TPID;
use lb_common::mac::Mac;
use lb_common::packet::vlan::Vlan;
use rtnetlink::packet_route::link::{
    BondMode, BondXmitHashPolicy, InfoBond, InfoData, InfoKind, InfoPortKind, InfoVlan, LinkAttribute,
    LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
};
use rtnetlink::{Handle, new_connection};

/// Time limit of netlink requests.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    pub kind: Kind,
    /// `None`: it is no Ethernet interface.
    pub mac: Option<Mac>,
    pub mtu: u32,
    /// Set up by the operator.
    pub up: bool,
    /// Somebody is at the other end.
    pub carrier: bool,
    /// The interface that it stands on.
    pub below: Option<u32>,
    /// The bond, bridge or VRF that it belongs to.
    pub master: Option<(u32, Master)>,
    /// It takes frames of every station and VLAN, because somebody asked for them.
    pub promiscuous: bool,
}

/// What an interface is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A network card, as far as anybody can tell.
    Device,
    Vlan {
        number: u16,
        tpid: u16,
    },
    Bond(Bond),
    Bridge,
    /// Whatever else stands on another interface's MAC: macvlan, macvtap, ipvlan.
    Macvlan,
    Veth,
    /// The kernel's word.
    Other(String),
}

/// How a bond spreads frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bond {
    /// balance-rr, active-backup, balance-xor, 802.3ad: XDP can be native.
    Native(&'static str),
    /// XDP is generic, because of this mode or policy.
    Generic(&'static str),
}

/// What an interface belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Master {
    Bond,
    Bridge,
    Other,
}

/// How frames leave by an interface: by which device, and with which tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// Index of the interface, by which neighbours are asked for their MACs.
    pub interface: u32,
    /// Index of the device below its VLANs.
    pub device: u32,
    pub mac: Mac,
    /// `None`: it is no VLAN device.
    pub vlan: Option<Vlan>,
    /// Of the outer tag.
    pub tpid: u16,
    pub mtu: u32,
}

/// All interfaces of this network namespace, by index.
#[derive(Debug, Clone, Default)]
pub struct Links(BTreeMap<u32, Link>);

impl Links {
    /// Must run within a tokio runtime.
    pub async fn look() -> Result<Self> {
        let (connection, handle, _) = new_connection().context("cannot open a netlink socket")?;
        let task = tokio::spawn(connection);
        let found = Self::read(&handle).await;
        task.abort();
        found
    }

    pub(crate) async fn read(handle: &Handle) -> Result<Self> {
        let messages = handle.link().get().execute().try_collect::<Vec<_>>();
        let messages =
            tokio::time::timeout(ANSWER_WITHIN, messages).await.context("the kernel's answer was lost")??;
        Ok(messages.iter().filter_map(link).collect())
    }

    pub fn get(&self, index: u32) -> Option<&Link> {
        self.0.get(&index)
    }

    pub fn named(&self, name: &str) -> Option<&Link> {
        self.0.values().find(|link| link.name == name)
    }

    /// The VLAN devices that stand on an interface, and on those.
    pub fn vlans_on(&self, index: u32) -> Vec<&Link> {
        let is_vlan = |link: &&Link| matches!(link.kind, Kind::Vlan { .. }) && link.below == Some(index);
        let here = self.0.values().filter(is_vlan);
        here.flat_map(|link| [vec![link], self.vlans_on(link.index)].concat()).collect()
    }

    /// How frames leave by the interface of this index, or why they do not. `main` has the XDP
    /// program: what that stands on is nobody's concern.
    pub fn exit(&self, index: u32, main: u32) -> Result<Exit, String> {
        let link = self.get(index).ok_or_else(|| format!("interface {index} is gone"))?;
        if !link.up {
            return Err(format!("{} is down", link.name));
        }
        if !link.carrier {
            return Err(format!("{} has no link", link.name));
        }
        self.exit_of(link, main)
    }

    /// The same of `main` itself, also while it is down: that is told otherwise.
    pub fn exit_of_main(&self, main: u32) -> Result<Exit, String> {
        self.exit_even_down(main, main)
    }

    /// As [`Self::exit`], also while it is down.
    pub fn exit_even_down(&self, index: u32, main: u32) -> Result<Exit, String> {
        let link = self.get(index).ok_or_else(|| format!("interface {index} is gone"))?;
        self.exit_of(link, main)
    }

    fn exit_of(&self, link: &Link, main: u32) -> Result<Exit, String> {
        let no_ethernet = || format!("{} is no Ethernet interface", link.name);
        let mac = link.mac.ok_or_else(no_ethernet)?;
        let (mut device, mut tags, mut outer_tpid) = (link, Vec::new(), TPID);
        while let (Kind::Vlan { number, tpid }, Some(below)) = (&device.kind, device.below)
            && device.index != main
        {
            tags.push(*number);
            outer_tpid = *tpid;
            device = self.get(below).ok_or_else(|| format!("what {} stands on is gone", device.name))?;
        }
        let vlan = match tags[..] {
            [] => None,
            [number] => Some(Vlan::single(number)),
            [inner, outer] => Some(Vlan::double(outer, inner)),
            _ => return Err(format!("{} stands on more than two VLANs", link.name)),
        };
        Ok(Exit { interface: link.index, device: device.index, mac, vlan, tpid: outer_tpid, mtu: link.mtu })
    }
}

impl FromIterator<Link> for Links {
    fn from_iter<T: IntoIterator<Item = Link>>(links: T) -> Self {
        Self(links.into_iter().map(|link| (link.index, link)).collect())
    }
}

/// `None`: the kernel does not tell its name.
fn link(message: &LinkMessage) -> Option<Link> {
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        kind: Kind::Device,
        mac: None,
        mtu: 0,
        up: message.header.flags.contains(LinkFlags::Up),
        carrier: message.header.flags.contains(LinkFlags::LowerUp),
        below: None,
        master: None,
        promiscuous: false,
    };
    let mut master = Master::Other;
    let mut controller = None;
    // Of a veth that is in another namespace's number range.
    let mut elsewhere = false;
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Address(bytes) if message.header.link_layer_type == LinkLayerType::Ether => {
                link.mac = <[u8; 6]>::try_from(&bytes[..]).ok().map(Mac::new);
            }
            LinkAttribute::Promiscuity(users) => link.promiscuous = *users > 0,
            LinkAttribute::Link(below) => link.below = Some(*below),
            LinkAttribute::LinkNetNsId(_) => elsewhere = true,
            LinkAttribute::Controller(index) => controller = Some(*index),
            LinkAttribute::LinkInfo(infos) => {
                link.kind = kind(infos);
                master = self::master(infos);
            }
            _ => {}
        }
    }
    if elsewhere {
        link.below = None;
    }
    link.master = controller.filter(|index| *index != 0).map(|index| (index, master));
    (!link.name.is_empty()).then_some(link)
}

fn kind(infos: &[LinkInfo]) -> Kind {
    let found = infos.iter().find_map(|info| match info {
        LinkInfo::Kind(kind) => Some(kind),
        _ => None,
    });
    let data = infos.iter().find_map(|info| match info {
        LinkInfo::Data(data) => Some(data),
        _ => None,
    });
    match (found, data) {
        (None, _) => Kind::Device,
        (Some(InfoKind::Vlan), Some(InfoData::Vlan(about))) => {
            let number = about.iter().find_map(|one| match one {
                InfoVlan::Id(number) => Some(*number),
                _ => None,
            });
            let tpid = about.iter().find_map(|one| match one {
                InfoVlan::Protocol(protocol) => Some(u16::from(*protocol)),
                _ => None,
            });
            Kind::Vlan { number: number.unwrap_or_default(), tpid: tpid.unwrap_or(TPID) }
        }
        (Some(InfoKind::Bond), Some(InfoData::Bond(about))) => Kind::Bond(bond(about)),
        (Some(InfoKind::Bridge), _) => Kind::Bridge,
        (Some(InfoKind::MacVlan | InfoKind::MacVtap | InfoKind::IpVlan), _) => Kind::Macvlan,
        (Some(InfoKind::Veth), _) => Kind::Veth,
        (Some(other), _) => Kind::Other(other.to_string()),
    }
}

/// As drivers/net/bonding/bond_main.c has it, `bond_xdp_check`.
fn bond(about: &[InfoBond]) -> Bond {
    let hashes_vlan = about.contains(&InfoBond::XmitHashPolicy(BondXmitHashPolicy::VlanSrcMac));
    let mode = about.iter().find_map(|one| match one {
        InfoBond::Mode(mode) => Some(*mode),
        _ => None,
    });
    match mode.unwrap_or_default() {
        BondMode::BalanceRr => Bond::Native("balance-rr"),
        BondMode::ActiveBackup => Bond::Native("active-backup"),
        BondMode::BalanceXor | BondMode::Ieee8023Ad if hashes_vlan => {
            Bond::Generic("xmit_hash_policy vlan+srcmac")
        }
        BondMode::BalanceXor => Bond::Native("balance-xor"),
        BondMode::Ieee8023Ad => Bond::Native("802.3ad"),
        BondMode::Broadcast => Bond::Generic("mode broadcast"),
        BondMode::BalanceTlb => Bond::Generic("mode balance-tlb"),
        BondMode::BalanceAlb => Bond::Generic("mode balance-alb"),
        _ => Bond::Generic("its mode"),
    }
}

fn master(infos: &[LinkInfo]) -> Master {
    let port = infos.iter().find_map(|info| match info {
        LinkInfo::PortKind(kind) => Some(kind),
        _ => None,
    });
    match port {
        Some(InfoPortKind::Bond | InfoPortKind::Team) => Master::Bond,
        Some(InfoPortKind::Bridge) => Master::Bridge,
        _ => Master::Other,
    }
}

#[cfg(test)]
mod tests;
