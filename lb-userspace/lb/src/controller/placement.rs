//! Whether each VIP is on the interface whose network it belongs to, where clients' packets come in
//! by several.

use std::collections::HashSet;
use std::net::IpAddr;

use lb_api::findings::{Finding, Kind};
use lb_model::Config;

use super::sources::{Own, addresses};

/// What is to be told, one by one.
pub(crate) fn findings(config: &Config) -> Vec<Finding> {
    if config.other_interfaces.is_empty() {
        return Vec::new();
    }
    let vips: HashSet<IpAddr> = config.grouped_vips().into_keys().collect();
    let own = |name: &str| {
        let all = addresses(|other| other == name).unwrap_or_default();
        Vec::from_iter(all.into_iter().filter(|own| !vips.contains(&own.address)))
    };
    let networks: Vec<(&str, Vec<Own>)> = config.interfaces().map(|name| (name, own(name))).collect();
    judge(config, &networks)
}

/// `networks` are the interfaces with their own addresses, in the order of `Config::interfaces`.
fn judge(config: &Config, networks: &[(&str, Vec<Own>)]) -> Vec<Finding> {
    let has = |(_, own): &(&str, Vec<Own>), vip: IpAddr| own.iter().any(|own| own.is_beside(vip));
    let mut found = Vec::new();
    for group in &config.groups {
        let Some(here) = networks.get(config.segment_of(group)) else { continue };
        for vip in group.vips.iter().map(|vip| vip.address).filter(|vip| !has(here, *vip)) {
            let Some((there, _)) = networks.iter().find(|other| has(other, vip)) else { continue };
            found.push(Finding {
                kind: Kind::VipMisplaced,
                subject: vip.to_string(),
                text: format!(
                    "VIP {vip} is on {}, and its network is that of {there}: nobody there finds it",
                    here.0
                ),
                mend: format!("put it into a group with `interface: {there}`"),
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vip_of_another_interfaces_network_is_told() {
        let told = |there: &str| {
            let text = format!(
                "
interfaces: [eth0, eth1]
groups:
  - vips: [192.0.2.10/24, 198.51.100.10/24]
  - {{ vips: [203.0.113.10/24], interface: {there} }}
services: [{{ vip: '192.0.2.10:80', servers: [{{ address: 192.0.2.21 }}] }}]
"
            );
            let config = lb_config::parse(&text, "test.yaml").expect("a configuration");
            let own = |address: &str| Own { address: address.parse().expect("an address"), prefix: 24 };
            let networks = [("eth0", vec![own("192.0.2.2")]), ("eth1", vec![own("203.0.113.2")])];
            let found = judge(&config, &networks);
            found.into_iter().map(|finding| (finding.subject, finding.mend)).collect::<Vec<_>>()
        };
        assert_eq!(told("eth1"), [], "of a network that no interface has nothing is known");
        let mend = "put it into a group with `interface: eth1`";
        assert_eq!(told("eth0"), [("203.0.113.10".to_owned(), mend.to_owned())]);
    }
}
