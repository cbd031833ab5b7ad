//! What can be wrong with address translation: servers where clients are, or where nothing comes
//! in, addresses of `source_nat` that nobody holds, or that have too few ports.

use std::collections::BTreeSet;
use std::net::IpAddr;

use lb_api::findings::{Finding, Kind};
use lb_common::forward::nat::source::{FIRST_PORT, LAST_PORT};
use lb_common::forward::nat::{Route, mask};
use lb_model::{Config, GroupVip, Server, Service};

use super::sources::{Own, addresses};

/// What is wrong as far as the configuration and this host's addresses tell.
pub(crate) fn findings(config: &Config) -> Vec<Finding> {
    let own = addresses(|_| true);
    let own = own.map(|own| own.into_iter().map(|own| own.address).collect());
    near_vips(config).chain(missing(config, own.as_ref())).collect()
}

/// Servers that clients of the VIP's subnet are not served by.
fn near_vips(config: &Config) -> impl Iterator<Item = Finding> {
    let vips: Vec<&GroupVip> = config.groups.iter().flat_map(|group| &group.vips).collect();
    let translated = config.services.iter().filter(|service| service.source_nat.is_empty());
    translated.filter_map(move |service| {
        let vip = vips.iter().find(|vip| vip.address == service.key.vip)?;
        let server = service.servers.iter().find(|server| server.masq && is_beside(vip, server.address))?;
        Some(Finding {
            kind: Kind::MasqNearVip,
            subject: service.name.clone(),
            text: format!(
                "the server {} of {} is in the VIP's own subnet {}/{}: clients there will be refused, because the server \
                 would answer them directly",
                server.name, service.name, vip.address, vip.prefix
            ),
            mend: "set `source_nat`, or move the server into a network of its own".to_owned(),
        })
    })
}

fn is_beside(vip: &GroupVip, address: IpAddr) -> bool {
    let mask = mask(vip.address, vip.prefix);
    let route = Route { prefix: vip.address.into(), mask, ..Route::UNSET };
    vip.address.is_ipv4() == address.is_ipv4() && route.leads_to(address.into())
}

/// Servers behind interfaces that nothing comes in by, as far as this host's addresses tell; a
/// running director finds out by its routes. Nothing on a machine on which a configuration is
/// merely checked.
pub(crate) fn astray(config: &Config) -> Vec<Finding> {
    if addresses(|name| name == config.interface).is_none() {
        return Vec::new();
    }
    let ingresses = config.ingresses();
    let own = |comes_in| addresses(|name| ingresses.contains(&name) == comes_in).unwrap_or_default();
    behind(config, &own(true), &own(false))
}

/// One server for each network. `here` are the addresses of interfaces that packets come in by,
/// `there` those of the others.
fn behind(config: &Config, here: &[Own], there: &[Own]) -> Vec<Finding> {
    let servers = config.services.iter().flat_map(|service| &service.servers);
    let mut told = BTreeSet::new();
    let by_its_route = |server: &&Server| server.masq && server.interface.is_none() && server.vlan.is_none();
    let found = servers.filter(by_its_route).filter_map(|server| {
        let beside = |own: &[Own]| own.iter().copied().find(|own| own.is_beside(server.address));
        let own = beside(there).filter(|_| beside(here).is_none())?.address;
        told.insert(own).then(|| Finding {
            kind: Kind::TunnelUnusable,
            subject: server.address.to_string(),
            text: format!(
                "the server {} of `forward: masq` seems to be in the network of another interface, the one with {own}, and what \
                 comes in there is not translated back",
                server.name
            ),
            mend: "name that interface as `interface` of the server, or in `interfaces`; of a VLAN device of the main interface \
                   its `vlan` is enough"
                .to_owned(),
        })
    });
    found.collect()
}

/// Addresses of `source_nat` that move with no group, and are not this host's. `own`: its
/// addresses; `None` where it has no such interface.
fn missing(config: &Config, own: Option<&BTreeSet<IpAddr>>) -> Option<Finding> {
    let held = config.grouped_vips();
    let used = config.services.iter().flat_map(|service| &service.source_nat);
    let address =
        own.and_then(|own| used.into_iter().find(|one| !held.contains_key(one) && !own.contains(one)))?;
    Some(Finding {
        kind: Kind::SourceNatMissing,
        subject: address.to_string(),
        text: format!(
            "`source_nat` has {address}, which is no address of this host: what servers send there is lost"
        ),
        mend: "add it to the `vips` of a group, or to an interface".to_owned(),
    })
}

pub(super) fn ports_exhausted(config: &Config) -> Finding {
    let sources = |service: &&Service| !service.source_nat.is_empty();
    let first = config.services.iter().find(sources).map(|service| service.name.as_str());
    let ports = u32::from(LAST_PORT - FIRST_PORT) + 1;
    Finding {
        kind: Kind::SourcePortsExhausted,
        subject: config.interface.clone(),
        text: format!(
            "connections are dropped because `source_nat` (of {}) has no free port: each address has {ports} for a server \
             and protocol",
            first.unwrap_or("a service")
        ),
        mend: "add addresses to `source_nat`, or servers".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(rest: &str) -> Config {
        let text = format!(
            "
interface: eth0
groups: [{{ vips: [192.0.2.10/24, 192.0.2.20/24, 10.20.0.1/24] }}]
services:
  - {{ name: web, vip: '192.0.2.10:80', forward: masq{rest} }}
"
        );
        lb_config::parse(&text, "test.yaml").expect("a configuration")
    }

    #[test]
    fn a_server_in_the_vips_subnet_is_warned_of_without_source_nat() {
        let found: Vec<Finding> = near_vips(&config(", servers: [{ address: 192.0.2.21 }]")).collect();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].kind, &*found[0].subject), (Kind::MasqNearVip, "web"));
        assert!(found[0].text.contains("subnet 192.0.2.10/24"), "{}", found[0].text);
        for rest in [
            ", servers: [{ address: 10.20.0.21 }]",
            ", servers: [{ address: 192.0.2.21 }], source_nat: [192.0.2.20]",
            ", servers: [{ address: 192.0.2.21, forward: direct }, { address: 10.20.0.21 }]",
        ] {
            assert_eq!(near_vips(&config(rest)).count(), 0, "{rest}");
        }
    }

    #[test]
    fn a_server_behind_an_interface_that_nothing_comes_in_by_is_told() {
        let own = |address: [u8; 4]| [Own { address: address.into(), prefix: 24 }];
        let told = |servers: &str, here, there| {
            let config = config(&format!(", servers: [{servers}]"));
            let found = behind(&config, &own(here), &own(there));
            found.into_iter().map(|finding| finding.subject).collect::<Vec<_>>()
        };
        let (front, back) = ([192, 0, 2, 5], [10, 20, 0, 5]);
        let two = "{ address: 10.20.0.21 }, { address: 10.20.0.22 }";
        assert_eq!(told(two, front, back), ["10.20.0.21"], "once for each network");
        assert_eq!(told(two, back, front), [""; 0]);
        assert_eq!(told("{ address: 10.30.0.21 }", front, back), [""; 0], "behind a router, it seems");
        assert_eq!(told("{ address: 10.20.0.21, interface: eth1 }", front, back), [""; 0]);
        assert_eq!(told("{ address: 10.20.0.21, forward: direct }", front, back), [""; 0]);
    }

    #[test]
    fn an_address_that_nobody_holds_is_told() {
        let of = |address: &str| {
            config(&format!(", servers: [{{ address: 192.0.2.21 }}], source_nat: [{address}]"))
        };
        let own = BTreeSet::from([IpAddr::from([192, 0, 2, 5])]);
        assert_eq!(missing(&of("192.0.2.20"), Some(&own)), None, "a VIP of a group");
        assert_eq!(missing(&of("192.0.2.5"), Some(&own)), None, "this host's");
        assert_eq!(missing(&of("192.0.2.6"), None), None, "nobody knows");
        let found = missing(&of("192.0.2.6"), Some(&own)).expect("a finding");
        assert_eq!((found.kind, &*found.subject), (Kind::SourceNatMissing, "192.0.2.6"));
    }
}
