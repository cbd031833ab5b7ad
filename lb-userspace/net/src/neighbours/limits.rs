//! The limits of the kernel's neighbour table, and a warning if they are too small.

use std::fmt;

use anyhow::{Result, bail};
use futures::{StreamExt as _, pin_mut};
use rtnetlink::Handle;
use rtnetlink::packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::neighbour_table::{NeighbourTableAttribute, NeighbourTableMessage};

/// Limits for IPv4, shared by all network namespaces of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Limits {
    /// `gc_thresh2`: above it the kernel removes entries that have not changed for five seconds.
    kept: u32,
    /// `gc_thresh3`: the kernel creates no more entries than this.
    made: u32,
}

/// More neighbours than the limits permit. `Display` includes the remedy.
#[derive(Debug, PartialEq, Eq)]
struct TooMany {
    needed: usize,
    limits: Limits,
}

impl Limits {
    /// Whether the kernel keeps `needed` neighbours.
    fn permit(self, needed: usize) -> Result<(), TooMany> {
        match u32::try_from(needed) {
            Ok(count) if count <= self.kept.min(self.made) => Ok(()),
            _ => Err(TooMany { needed, limits: self }),
        }
    }
}

impl fmt::Display for TooMany {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { needed, limits: Limits { kept, made } } = self;
        // Twice as many leave room for other hosts, and for future servers.
        let room = (2 * needed).next_power_of_two();
        write!(
            f,
            "{needed} servers and directors exceed the kernel's neighbour table (gc_thresh2 {kept}, \
             gc_thresh3 {made}): it will \
             drop MACs, and their servers will be down; raise the limits: sysctl -w \
             net.ipv4.neigh.default.gc_thresh3={room} net.ipv4.neigh.default.gc_thresh2={room}"
        )
    }
}

/// Logs a warning if the kernel does not keep `needed` neighbours.
pub(super) async fn warn(handle: &mut Handle, needed: usize) {
    match super::answered(read(handle)).await {
        Ok(limits) => {
            if let Err(too_many) = limits.permit(needed) {
                tracing::warn!("{too_many}");
            }
        }
        Err(error) => tracing::debug!("cannot read the limits of the neighbour table: {error:#}"),
    }
}

/// Reads the limits by netlink: `/proc/sys` has them only in the machine's first network namespace.
async fn read(handle: &mut Handle) -> Result<Limits> {
    let mut table = NeighbourTableMessage::default();
    table.header.family = AddressFamily::Inet;
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetNeighbourTable(table));
    request.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let answers = handle.request(request)?;
    pin_mut!(answers);
    while let Some(answer) = answers.next().await {
        if let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNeighbourTable(table)) = answer.payload
            && let Some(limits) = limits(&table)
        {
            return Ok(limits);
        }
    }
    bail!("the kernel did not report them")
}

/// The limits in a message about the table itself; messages about interfaces have none.
fn limits(table: &NeighbourTableMessage) -> Option<Limits> {
    let is_arp = table.attributes.contains(&NeighbourTableAttribute::Name("arp_cache".into()));
    let find = |wanted: fn(&NeighbourTableAttribute) -> Option<u32>| table.attributes.iter().find_map(wanted);
    let kept = find(|attribute| match attribute {
        NeighbourTableAttribute::Threshold2(limit) => Some(*limit),
        _ => None,
    });
    let made = find(|attribute| match attribute {
        NeighbourTableAttribute::Threshold3(limit) => Some(*limit),
        _ => None,
    });
    is_arp.then_some(Limits { kept: kept?, made: made? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { kept: 512, made: 1024 };

    #[test]
    fn warns_of_more_than_the_kernel_keeps_and_says_what_to_set() {
        assert_eq!(LIMITS.permit(512), Ok(()));
        let text = LIMITS.permit(5000).unwrap_err().to_string();
        assert!(text.contains("gc_thresh3=16384") && text.contains("gc_thresh2 512"), "{text}");
        assert!(Limits { kept: 2048, made: 1024 }.permit(1025).is_err(), "the smaller one counts");
    }

    #[tokio::test]
    async fn the_kernel_tells_its_limits() {
        let (connection, mut handle, _) = rtnetlink::new_connection().expect("a netlink socket");
        tokio::spawn(connection);
        let limits = read(&mut handle).await.expect("limits");
        assert!(limits.kept > 0 && limits.made > 0, "{limits:?}");
    }
}
