//! VIPs as addresses of the interface.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Context as _, Result, anyhow};
use futures::TryStreamExt as _;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, CacheInfo};
use rtnetlink::{Handle, new_connection};

/// A VIP as it stands on the interface.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct VipAddress {
    pub address: IpAddr,
    pub prefix: u8,
    /// Such as `eth0:0`, IPv4 only: what ifconfig(8) shows it as.
    pub label: Option<String>,
}

/// The addresses of one interface.
#[derive(Debug)]
pub struct Addresses {
    interface: u32,
    handle: Handle,
}

impl Addresses {
    /// Needs a tokio runtime around it. `interface` is the interface's index.
    pub fn of(interface: u32) -> Result<Self> {
        let (connection, handle, _) =
            new_connection().context("cannot open a netlink socket for addresses")?;
        tokio::spawn(connection);
        Ok(Self { interface, handle })
    }

    /// Adds the VIP. One that is there already, with whatever prefix, is left as it is.
    pub async fn add(&self, vip: &VipAddress) -> Result<()> {
        if self.present().await?.contains(&vip.address) {
            return Ok(());
        }
        let mut request = self.handle.address().add(self.interface, vip.address, vip.prefix);
        let attributes = &mut request.message_mut().attributes;
        attributes.extend(vip.label.clone().map(AddressAttribute::Label));
        if vip.address.is_ipv6() {
            // The other node may still hold it for a moment: duplicate address detection would refuse it.
            attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
            attributes.push(AddressAttribute::CacheInfo(deprecated()));
        }
        request.execute().await.map_err(|error| {
            let off = vip.address.is_ipv6() && is(&error, libc::EACCES);
            let hint = if off { ": IPv6 is off on the interface, see its sysctl disable_ipv6" } else { "" };
            anyhow!(error).context(format!("cannot add {}/{}{hint}", vip.address, vip.prefix))
        })
    }

    /// Deletes the VIPs in every form they have on the interface; returns those that were there.
    pub async fn delete(&self, vips: BTreeSet<IpAddr>) -> Result<BTreeSet<IpAddr>> {
        let (mut deleted, mut failed) = (BTreeSet::new(), Ok(()));
        if vips.is_empty() {
            return Ok(deleted);
        }
        for message in self.messages().await? {
            let Some(vip) = address_of(&message).filter(|address| vips.contains(address)) else { continue };
            match self.handle.address().del(message).execute().await {
                Ok(()) => {}
                // The kernel has removed it together with the first address of its subnet.
                Err(error) if is(&error, libc::EADDRNOTAVAIL) => {}
                Err(error) => {
                    failed = Err(error).with_context(|| format!("cannot delete {vip}"));
                    continue;
                }
            }
            deleted.insert(vip);
        }
        failed.map(|()| deleted)
    }

    /// What the interface holds.
    pub async fn present(&self) -> Result<BTreeSet<IpAddr>> {
        Ok(self.messages().await?.iter().filter_map(address_of).collect())
    }

    async fn messages(&self) -> Result<Vec<AddressMessage>> {
        let request = self.handle.address().get().set_link_index_filter(self.interface);
        request.execute().try_collect().await.context("cannot list the interface's addresses")
    }
}

fn is(error: &rtnetlink::Error, errno: i32) -> bool {
    matches!(error, rtnetlink::Error::NetlinkError(refusal) if refusal.raw_code() == -errno)
}

/// Lifetimes of an address that is served and that no connection of the host's own begins with, as an IPv4 address is that
/// comes second to another one of its network (RFC 4862, section 5.5.4).
fn deprecated() -> CacheInfo {
    let mut lifetimes = CacheInfo::default();
    lifetimes.ifa_valid = u32::MAX;
    lifetimes
}

/// IFA_LOCAL where there is one (IPv4), else IFA_ADDRESS.
fn address_of(message: &AddressMessage) -> Option<IpAddr> {
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    local.or_else(|| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    })
}
