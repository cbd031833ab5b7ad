//! Netlink requests about the interface's addresses and routes.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context as _, Result};
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope, CacheInfo,
};
use rtnetlink::packet_route::route::{RouteMessage, RouteProtocol, RouteScope};
use rtnetlink::{Handle, RouteMessageBuilder, new_connection};

use super::vips::{Network, VipAddress};

/// A request to the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// List all addresses of the interface.
    List,
    /// `hidden`: an IPv4 address of scope host, which the kernel never picks as a source.
    Add {
        vip: VipAddress,
        hidden: bool,
    },
    Delete(Form),
    /// Add a route to the network through the interface, with the lowest priority.
    AddRoute(Network),
    DeleteRoute(Network),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Done,
    /// The address or route existed already, or did not exist.
    AsItWas,
    Listed(Vec<Form>),
    Failed(String),
}

/// An address of the interface, as the kernel reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Form {
    pub address: IpAddr,
    pub prefix: u8,
    /// IPv4: a secondary address of its network.
    pub is_secondary: bool,
    message: AddressMessage,
}

impl Form {
    /// `None`: the message has no address.
    pub fn of(message: AddressMessage) -> Option<Self> {
        let address = address_of(&message)?;
        Some(Self {
            address,
            prefix: message.header.prefix_len,
            is_secondary: message.header.flags.contains(AddressHeaderFlags::Secondary),
            message,
        })
    }

    /// An address without a kernel message, for tests.
    pub fn with(address: IpAddr, prefix: u8, is_secondary: bool) -> Self {
        Self { address, prefix, is_secondary, message: AddressMessage::default() }
    }
}

/// The protocol number of our routes, which `ip route` shows. `lb` never changes other routes.
const PROTOCOL: RouteProtocol = RouteProtocol::Other(108);

/// The metric of our routes: any other route takes precedence.
const METRIC: u32 = u32::MAX;

/// Addresses and routes of one interface.
#[derive(Debug)]
pub struct Kernel {
    interface: u32,
    handle: Handle,
}

impl Kernel {
    /// Must run within a tokio runtime. `interface` is the interface's index.
    pub fn of(interface: u32) -> Result<Self> {
        let (connection, handle, _) =
            new_connection().context("cannot open a netlink socket for addresses")?;
        tokio::spawn(connection);
        Ok(Self { interface, handle })
    }

    /// The kernel executes requests in the order of these calls, whether or not the caller awaits
    /// the answers.
    pub fn ask(&self, request: &Request) -> BoxFuture<'static, Answer> {
        const NEW: u16 = NLM_F_CREATE | NLM_F_EXCL;
        match request {
            Request::List => self.list(),
            Request::Add { vip, hidden } => {
                let message = self.new_address(vip, *hidden);
                let hint = if vip.address.is_ipv6() { OFF } else { "" };
                let what = format!("cannot add {}/{}", vip.address, vip.prefix);
                self.send(RouteNetlinkMessage::NewAddress(message), NEW, what, hint)
            }
            Request::Delete(form) => {
                let message = RouteNetlinkMessage::DelAddress(form.message.clone());
                self.send(message, 0, format!("cannot delete {}", form.address), "")
            }
            Request::AddRoute(network) => {
                let message = RouteNetlinkMessage::NewRoute(self.route(*network));
                self.send(message, NEW, format!("cannot make {}", route_text(*network)), "")
            }
            Request::DeleteRoute(network) => {
                let message = RouteNetlinkMessage::DelRoute(self.route(*network));
                self.send(message, 0, format!("cannot remove {}", route_text(*network)), "")
            }
        }
    }

    fn list(&self) -> BoxFuture<'static, Answer> {
        let interface = self.interface;
        let request = self.handle.address().get().set_link_index_filter(interface).execute();
        let forms = request.try_filter_map(|message| std::future::ready(Ok(Form::of(message)))).try_collect();
        let answer = |listed: Result<Vec<Form>, rtnetlink::Error>| match listed {
            Ok(forms) => Answer::Listed(forms),
            Err(error) => Answer::Failed(format!("cannot list the interface's addresses: {error}")),
        };
        forms.map(answer).boxed()
    }

    /// `off` is appended to the error that the address family is disabled.
    fn send(
        &self,
        message: RouteNetlinkMessage,
        flags: u16,
        what: String,
        off: &'static str,
    ) -> BoxFuture<'static, Answer> {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        let sent = self.handle.clone().request(NetlinkMessage::new(header, NetlinkPayload::from(message)));
        async move {
            let mut answers = match sent {
                Ok(answers) => answers,
                Err(error) => return Answer::Failed(format!("{what}: {error}")),
            };
            while let Some(answer) = answers.next().await {
                if let NetlinkPayload::Error(refusal) = answer.payload
                    && refusal.code.is_some()
                {
                    return match -refusal.raw_code() {
                        libc::EEXIST => Answer::AsItWas,
                        libc::EADDRNOTAVAIL | libc::ESRCH if flags == 0 => Answer::AsItWas,
                        libc::EACCES if !off.is_empty() => Answer::Failed(what + off),
                        _ => Answer::Failed(format!("{what}: {}", refusal.to_io())),
                    };
                }
            }
            Answer::Done
        }
        .boxed()
    }

    fn new_address(&self, vip: &VipAddress, hidden: bool) -> AddressMessage {
        let mut request = self.handle.address().add(self.interface, vip.address, vip.prefix);
        let message = request.message_mut();
        message.attributes.extend(vip.label.clone().map(AddressAttribute::Label));
        match vip.address {
            IpAddr::V4(_) if hidden => message.header.scope = AddressScope::Host,
            IpAddr::V4(_) => {}
            IpAddr::V6(_) => {
                // No duplicate address detection: the other node may still hold the address for a
                // moment.
                message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
                message.attributes.push(AddressAttribute::CacheInfo(deprecated()));
            }
        }
        message.clone()
    }

    fn route(&self, network: Network) -> RouteMessage {
        RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(network.address(), network.prefix())
            .output_interface(self.interface)
            .scope(RouteScope::Link)
            .protocol(PROTOCOL)
            .priority(METRIC)
            .build()
    }
}

const OFF: &str = ": IPv6 is off on the interface, see its sysctl disable_ipv6";

fn route_text(network: Network) -> String {
    format!("the route to {}/{}", network.address(), network.prefix())
}

/// Lifetimes of a deprecated address: the host serves it, but does not use it as a source (RFC
/// 4862, section 5.5.4).
fn deprecated() -> CacheInfo {
    let mut lifetimes = CacheInfo::default();
    lifetimes.ifa_valid = u32::MAX;
    lifetimes
}

/// IFA_LOCAL if present (IPv4), else IFA_ADDRESS.
pub fn address_of(message: &AddressMessage) -> Option<IpAddr> {
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
