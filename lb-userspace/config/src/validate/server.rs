//! The real servers of a service.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use lb_model::{Check, Server, Service};

use super::tunnel::Defaults;
use super::{Unique, Validator, Value};
use crate::source_map::SourceSpan;
use crate::{values, yaml};

/// Limit of the data path's map for one service.
const MOST_SERVERS_OF_ONE: usize = 4096;

/// Placeholder for a missing or wrong address.
const NO_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// What a service says of its servers.
pub(super) struct Around<'a> {
    /// The service's port, 0 if it is unknown.
    pub port: u16,
    pub checks: &'a Arc<[Check]>,
    pub forwarding: Defaults<'a>,
}

impl Validator {
    pub(super) fn servers(
        &mut self,
        servers: &[yaml::Server],
        span: SourceSpan<'_>,
        around: &Around<'_>,
    ) -> Vec<Server> {
        self.at_most(MOST_SERVERS_OF_ONE, servers.len(), "servers of one service", span);
        let each = servers.iter().enumerate();
        let checked: Vec<_> =
            each.map(|(index, server)| self.server(server, span.item(index), around)).collect();
        self.distinct_servers(servers, &checked, span);
        checked
    }

    fn server(&mut self, server: &yaml::Server, span: SourceSpan<'_>, around: &Around<'_>) -> Server {
        let Around { port, checks, ref forwarding } = *around;
        let address = Value::of(&server.address, "address", span);
        let read = self.needed(address, values::SERVER, values::server_address);
        let (ip, own_port) = read.unwrap_or((NO_ADDRESS, None));
        if let Some(own_port) = own_port.filter(|own_port| port != 0 && *own_port != port) {
            let wrong = format!(
                "expected the service's port {port} or none: direct routing rewrites MAC addresses only, \
                 so packets cannot change to port {own_port}"
            );
            self.wrong(address, &wrong);
        }
        let name = self.optional(Value::of(&server.name, "name", span), values::name);
        let weight =
            self.optional(Value::of(&server.weight, "weight", span), |text| values::whole(text, 0..=65535));
        Server {
            name: name.unwrap_or_else(|| ip.to_string()),
            address: ip,
            port,
            tunnel: self.tunnel(server, span, ip, forwarding),
            interface: self.optional(Value::of(&server.interface, "interface", span), values::interface),
            vlan: self.optional(Value::of(&server.vlan, "vlan", span), values::vlan),
            weight: weight.unwrap_or(1),
            checks: match &server.check {
                None => Arc::clone(checks),
                own => self.checks(own.as_ref(), span.key("check")),
            },
        }
    }

    /// A server is behind one interface, whatever services it has.
    pub(super) fn servers_have_one_interface(&mut self, services: &[Service], span: SourceSpan<'_>) {
        let mut known: BTreeMap<IpAddr, (Option<&str>, usize)> = BTreeMap::new();
        for (index, service) in services.iter().enumerate() {
            let span = span.item(index).key("servers");
            for (index, server) in
                service.servers.iter().enumerate().filter(|(_, one)| one.address != NO_ADDRESS)
            {
                let span = span.item(index);
                let line = span.key("address").at().line;
                let here = (server.interface.as_deref(), line);
                let (there, line) = *known.entry(server.address).or_insert(here);
                if there != here.0 {
                    let named =
                        |name: Option<&str>| name.map_or("none".to_owned(), |name| format!("{name:?}"));
                    let message = format!(
                        "`interface` of {}: found {}, and {} in line {line}, expected the same",
                        server.address,
                        named(here.0),
                        named(there)
                    );
                    self.mistake(span.key("interface").key_at(), message);
                }
            }
        }
    }

    fn distinct_servers(&mut self, given: &[yaml::Server], servers: &[Server], span: SourceSpan<'_>) {
        let mut addresses = Unique::default();
        let mut names = Unique::default();
        for (index, (given, server)) in given.iter().zip(servers).enumerate() {
            let span = span.item(index);
            let address = Value::of(&given.address, "address", span);
            let known = server.address != NO_ADDRESS;
            if known && let Err(line) = addresses.insert(server.address, address.span().at()) {
                self.wrong(address, &format!("the server in line {line} already has this address"));
            } else if known || given.name.0.is_some() {
                self.distinct_name(&mut names, &server.name, Value::of(&given.name, "name", span));
            }
        }
    }
}
