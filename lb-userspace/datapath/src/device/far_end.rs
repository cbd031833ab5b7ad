//! The other end of a veth, asked of the kernel, also where that is in another network namespace.
//!
//! veth hands frames of XDP_TX to the other end's receive ring. That end empties its ring only
//! while it has an XDP program in native mode itself: without one the frames are thrown away, or,
//! with GRO switched on there, lie in the ring until other traffic wakes it (drivers/net/veth.c:
//! `veth_xdp_xmit`, `veth_xdp_flush`).

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rtnetlink::packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage, LinkXdp};
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{Socket, SocketAddr};
use socket2::SockRef;

/// The kernel answers at once.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// More than any description of one interface takes.
const LONGEST_ANSWER: usize = 1 << 16;

/// What is at the other end of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FarEnd {
    /// The interface is no veth: what it does with frames is its driver's affair.
    NotAVeth,
    /// The far end takes what native mode sends.
    WithProgram,
    /// The far end takes nothing that native mode sends.
    WithoutProgram,
    /// The far end is in a network namespace that this process may not look into.
    Unseen,
}

impl FarEnd {
    /// Of the interface with this index.
    pub fn of(interface: u32) -> Self {
        let near = match link(interface, None) {
            Ok(near) => near,
            Err(error) => {
                tracing::debug!("the interface cannot be looked at: {error:#}");
                return Self::NotAVeth;
            }
        };
        let Some((index, namespace)) = other_end(&near) else { return Self::NotAVeth };
        // An answer about another interface would be one about nothing.
        match link(index, namespace) {
            Ok(far) if has_native_program(&far) => Self::WithProgram,
            Ok(_) => Self::WithoutProgram,
            Err(error) => {
                tracing::debug!("the far end of the veth cannot be looked at: {error:#}");
                Self::Unseen
            }
        }
    }
}

/// Index of a veth's other end, and the kernel's number here for the namespace that it is in.
/// `None`: no veth.
fn other_end(link: &LinkMessage) -> Option<(u32, Option<i32>)> {
    let is_veth = link.attributes.iter().any(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => infos.contains(&LinkInfo::Kind(InfoKind::Veth)),
        _ => false,
    });
    let find = |pick: fn(&LinkAttribute) -> Option<i64>| link.attributes.iter().find_map(pick);
    let index = find(|attribute| match attribute {
        LinkAttribute::Link(index) => Some(i64::from(*index)),
        _ => None,
    })?;
    let namespace = find(|attribute| match attribute {
        LinkAttribute::LinkNetNsId(number) => Some(i64::from(*number)),
        _ => None,
    });
    is_veth.then_some((u32::try_from(index).ok()?, namespace.and_then(|number| i32::try_from(number).ok())))
}

fn has_native_program(link: &LinkMessage) -> bool {
    link.attributes.iter().any(|attribute| match attribute {
        LinkAttribute::Xdp(about) => {
            about.iter().any(|one| matches!(one, LinkXdp::DrvProgId(program) if *program != 0))
        }
        _ => false,
    })
}

/// What the kernel says of an interface; `namespace` is its number for another namespace than this
/// one.
fn link(interface: u32, namespace: Option<i32>) -> Result<LinkMessage> {
    let mut question = LinkMessage::default();
    question.header.index = interface;
    question.attributes.extend(namespace.map(LinkAttribute::IfNetnsId));
    let payload = NetlinkPayload::from(RouteNetlinkMessage::GetLink(question));
    let mut request = NetlinkMessage::new(NetlinkHeader::default(), payload);
    request.header.flags = NLM_F_REQUEST;
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);

    let socket = Socket::new(NETLINK_ROUTE).context("cannot open a netlink socket")?;
    SockRef::from(&socket).set_read_timeout(Some(ANSWER_WITHIN))?;
    socket.send_to(&bytes, &SocketAddr::new(0, 0), 0).context("cannot ask the kernel")?;
    let mut answer = Vec::with_capacity(LONGEST_ANSWER);
    socket.recv(&mut answer, 0).context("no answer from the kernel")?;
    match NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer)?.payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => Ok(link),
        NetlinkPayload::Error(refused) => Err(refused.to_io().into()),
        other => bail!("an answer of another kind: {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn veth(attributes: impl IntoIterator<Item = LinkAttribute>) -> LinkMessage {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Veth)]));
        message.attributes.extend(attributes);
        message
    }

    #[test]
    fn a_veth_tells_where_its_other_end_is() {
        let here = veth([LinkAttribute::Link(7)]);
        assert_eq!(other_end(&here), Some((7, None)));
        let elsewhere = veth([LinkAttribute::Link(7), LinkAttribute::LinkNetNsId(3)]);
        assert_eq!(other_end(&elsewhere), Some((7, Some(3))));
        let mut vlan = LinkMessage::default();
        vlan.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Vlan)]));
        vlan.attributes.push(LinkAttribute::Link(7));
        assert_eq!(other_end(&vlan), None, "a VLAN has a link too");
    }

    #[test]
    fn only_a_program_in_the_driver_counts() {
        let with = |about| veth([LinkAttribute::Xdp(about)]);
        assert!(has_native_program(&with(vec![LinkXdp::ProgId(5), LinkXdp::DrvProgId(5)])));
        assert!(!has_native_program(&with(vec![LinkXdp::ProgId(5), LinkXdp::SkbProgId(5)])));
        assert!(!has_native_program(&veth([])));
    }

    #[test]
    fn the_kernel_is_asked_for_this_machines_own_interfaces() {
        let loopback = nix::net::if_::if_nametoindex("lo").expect("lo");
        assert_eq!(FarEnd::of(loopback), FarEnd::NotAVeth);
        let error = link(u32::MAX / 2, None).expect_err("there is no such interface");
        assert!(error.to_string().contains("No such device"), "{error:#}");
    }
}
