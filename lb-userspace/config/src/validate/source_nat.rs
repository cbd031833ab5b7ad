//! `source_nat`: own addresses that clients' packets come from at servers behind address
//! translation.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use lb_model::{Config, MOST_SOURCE_LISTS, MOST_SOURCES, Service};

use super::Validator;
use crate::source_map::SourceSpan;
use crate::{values, yaml};

impl Validator {
    /// `vip` is the service's.
    pub(super) fn source_nat(
        &mut self,
        service: &yaml::Service,
        span: SourceSpan<'_>,
        vip: IpAddr,
    ) -> Vec<IpAddr> {
        let Some(given) = &service.source_nat else { return Vec::new() };
        let list = span.key("source_nat");
        if given.is_empty() {
            let message = "`source_nat` is empty, expected a list of own addresses, such as [192.0.2.20], or no such key";
            self.mistake(list.key_at(), message);
        }
        self.at_most(MOST_SOURCES, given.len(), "addresses of `source_nat`", list);
        let mut seen = BTreeSet::new();
        self.items(given, "source_nat", list, |text, _| {
            let address = values::source_address(text)?;
            if !vip.is_unspecified() && address.is_ipv4() != vip.is_ipv4() {
                let family = if vip.is_ipv4() { "IPv4" } else { "IPv6" };
                return Err(format!("expected an {family} address, because the VIP {vip} is one"));
            }
            match seen.insert(address) {
                true => Ok(address),
                false => Err("expected each address once".to_owned()),
            }
        })
    }

    /// What servers send must find the director that has sent the clients' packets.
    pub(super) fn sources_are_held(
        &mut self,
        given: &[yaml::Service],
        config: &Config,
        span: SourceSpan<'_>,
    ) {
        let groups = config.grouped_vips();
        let served: HashMap<IpAddr, &Service> =
            config.services.iter().map(|service| (service.key.vip, service)).collect();
        let servers: BTreeSet<IpAddr> = config
            .services
            .iter()
            .flat_map(|service| &service.servers)
            .map(|server| server.address)
            .filter(|address| !address.is_unspecified())
            .collect();
        for (index, (given, service)) in given.iter().zip(&config.services).enumerate() {
            let list = span.item(index).key("source_nat");
            let anycast = config.groups.iter().filter(|group| group.anycast().is_some());
            let mut vips = anycast.flat_map(|group| &group.vips);
            if given.source_nat.is_some() && vips.any(|vip| vip.address == service.key.vip) {
                let message = "`source_nat` is nothing for a VIP of a group of `kind: anycast`: another director that \
                               gets the connection would give its client another port";
                self.mistake(list.key_at(), message);
            }
            if !service.source_nat.is_empty() && !service.servers.iter().any(|server| server.masq) {
                let message = "`source_nat` belongs to `forward: masq`, which no server of this service has: remove the key, \
                               or set `forward`";
                self.mistake(list.key_at(), message);
            }
            let own = groups.get(&service.key.vip);
            let given = given.source_nat.iter().flatten().enumerate();
            let read = given.filter_map(|(place, item)| {
                let text = item.text(|| list.item(place))?;
                Some((place, values::source_address(text).ok()?))
            });
            for (place, address) in read.filter(|(_, address)| service.source_nat.contains(address)) {
                let address = &address;
                let group = groups.get(address);
                let wrong = if served.contains_key(address) {
                    "expected an address without a service: packets to its ports would be taken for clients'"
                } else if servers.contains(address) {
                    "expected an address of the directors, and this one is a server's"
                } else if config.cluster.is_some() && (group.is_none() || group != own) {
                    "expected a VIP of the group of the service's own VIP, so that what servers send gets to the director \
                     that is active: add it to the `vips` of that group"
                } else {
                    continue;
                };
                self.wrong_at(list.item(place).at(), "source_nat", &address.to_string(), wrong);
            }
        }
        let lists: BTreeSet<&[IpAddr]> = config
            .services
            .iter()
            .map(|service| &service.source_nat[..])
            .filter(|list| !list.is_empty())
            .collect();
        self.at_most(MOST_SOURCE_LISTS, lists.len(), "different lists of `source_nat`", span);
    }
}
