//! The interfaces that packets come in by.

use std::collections::BTreeSet;

use lb_model::{Config, MAX_INTERFACES};

use super::{Unique, Validator, Value, values};
use crate::source_map::SourceSpan;
use crate::yaml;

impl Validator {
    /// The main interface, and the others.
    pub(super) fn interfaces(&mut self, file: &yaml::File, root: SourceSpan<'_>) -> (String, Vec<String>) {
        let one = Value::of(&file.interface, "interface", root);
        let Some(given) = &file.interfaces else {
            const EXPECTED: &str = "the network interface of the VIPs, such as eth0";
            return (self.needed(one, EXPECTED, values::interface).unwrap_or_default(), Vec::new());
        };
        let list = root.key("interfaces");
        if one.text.is_some() {
            let message = "`interfaces` and `interface` are both given, expected one of them";
            self.mistake(list.key_at(), message);
        }
        if given.is_empty() {
            let message = "`interfaces` is empty, expected the network interfaces that clients come in by, such as eth0";
            self.mistake(list.key_at(), message);
        }
        self.at_most(MAX_INTERFACES, given.len(), "interfaces", list);
        let mut taken = Unique::default();
        let names = self.items(given, "interfaces", list, |text, at| {
            let name = values::interface(text)?;
            let taken = taken.insert(name.clone(), at);
            taken.map_err(|line| format!("line {line} already has this interface"))?;
            Ok(name)
        });
        let mut names = names.into_iter();
        (names.next().unwrap_or_default(), names.collect())
    }

    /// What servers send that are reached by address translation comes in by the interfaces that
    /// they are behind, too.
    pub(super) fn ingresses_are_few(&mut self, config: &Config, services: SourceSpan<'_>) {
        let mut known: BTreeSet<&str> = config.interfaces().collect();
        for (index, service) in config.services.iter().enumerate() {
            for (number, server) in service.servers.iter().enumerate().filter(|(_, server)| server.masq) {
                let Some(interface) = server.interface.as_deref() else { continue };
                if known.insert(interface) && known.len() == MAX_INTERFACES + 1 {
                    let span = services.item(index).key("servers").item(number).key("interface");
                    let wrong = format!(
                        "expected one of {MAX_INTERFACES}: packets come in by those of `interfaces` and by those that servers \
                         of `forward: masq` are behind, and there are at most so many"
                    );
                    self.wrong_at(span.at(), "interface", interface, &wrong);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn clients_of_masq_come_in_by_any_interface_and_in_a_vlan() {
        let text = "
interfaces: [eth0, eth1]
groups:
  - { name: here, vips: [192.0.2.10/24] }
  - { name: there, vips: [203.0.113.10/24], interface: eth1 }
services:
  - { vip: '192.0.2.10:80', forward: masq, vlan: 7, servers: [{ address: 198.51.100.21, vlan: 120 }] }
  - { vip: '203.0.113.10:80', forward: masq, servers: [{ address: 198.51.100.21 }] }
";
        let config = crate::parse(text, "test.yaml").unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(config.services[0].vlan, Some(lb_model::Vlan::single(7)));
        assert!(config.services.iter().all(|service| service.servers[0].masq));
    }

    #[test]
    fn packets_come_in_where_servers_of_masq_are_said_to_be() {
        let text = "
interfaces: [eth0, eth1]
services:
  - vip: 192.0.2.10:80
    forward: masq
    servers:
      - { address: 10.20.0.21, interface: eth1 }
      - { address: 10.20.0.22, interface: eth0 }
      - { address: 10.30.0.21, interface: eth2 }
      - { address: 10.30.0.22, interface: eth2 }
      - { address: 10.40.0.21 }
      - { address: 10.50.0.21, interface: eth3, forward: direct }
";
        let config = crate::parse(text, "test.yaml").unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(config.ingresses(), ["eth0", "eth1", "eth2"]);
        assert_eq!(Vec::from_iter(config.interfaces()), ["eth0", "eth1"], "where VIPs may be");
    }
}
