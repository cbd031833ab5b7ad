//! How many neighbours the kernel keeps, and a warning where that is too few.

use std::fmt;

use anyhow::{Result, bail};
use futures::{StreamExt as _, pin_mut};
use rtnetlink::Handle;
use rtnetlink::packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::neighbour_table::{NeighbourTableAttribute, NeighbourTableMessage};

/// Of IPv4, for all network namespaces of the machine together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Limits {
    /// `gc_thresh2`: with more than these, entries that have not changed for five seconds are thrown out.
    kept: u32,
    /// `gc_thresh3`: more than these are not made.
    made: u32,
}

/// Neighbours that do not fit, and what to do about it.
#[derive(Debug, PartialEq, Eq)]
struct TooMany {
    wanted: usize,
    limits: Limits,
}

impl Limits {
    /// Whether the kernel keeps `wanted` neighbours of ours.
    fn permit(self, wanted: usize) -> Result<(), TooMany> {
        match u32::try_from(wanted) {
            Ok(count) if count <= self.kept.min(self.made) => Ok(()),
            _ => Err(TooMany { wanted, limits: self }),
        }
    }
}

impl fmt::Display for TooMany {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { wanted, limits: Limits { kept, made } } = self;
        // Twice as many leaves room for others, and for servers to come.
        let room = (2 * wanted).next_power_of_two();
        write!(
            f,
            "{wanted} servers and directors are more neighbours than the kernel keeps (gc_thresh2 {kept}, gc_thresh3 {made}): \
             it will lose MACs, and servers with them; sysctl -w net.ipv4.neigh.default.gc_thresh3={room} \
             net.ipv4.neigh.default.gc_thresh2={room}"
        )
    }
}

/// Says so in the log if the kernel does not keep `wanted` neighbours.
pub(super) async fn warn(handle: &mut Handle, wanted: usize) {
    match super::answered(read(handle)).await {
        Ok(limits) => {
            if let Err(too_many) = limits.permit(wanted) {
                tracing::warn!("{too_many}");
            }
        }
        Err(error) => tracing::debug!("the limits of the neighbour table are not known: {error:#}"),
    }
}

/// By netlink: `/proc/sys` shows them in the machine's first network namespace only.
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
    bail!("the kernel does not tell them")
}

/// The message about the table itself has them; those about interfaces have not.
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
