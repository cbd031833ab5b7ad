//! The host's own firewall, which the packets that XDP forwards never meet: rules about VIPs are
//! looked for, and reported as findings.
//!
//! - `nftables`, `iptables`: which rules are about a service: pure

mod iptables;
mod nftables;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use lb_api::findings::{Finding, Findings, Kind};
use lb_common::service::Protocol;
use lb_model::{Command, Config};
use lb_system::command::{self, Failure};
use lb_system::worker::Worker;
use tokio::sync::watch;

/// From one look to the next.
const EVERY: Duration = Duration::from_secs(180);
/// How long a program that lists rules may take.
const TIME_LIMIT: Duration = Duration::from_secs(10);
/// More than this of a listing is not read, bytes.
const LONGEST: usize = 64 << 20;
/// The old iptables of each family, and the file that names a table if they are in use.
const OLD_TABLES: [(&str, &str); 2] = [
    ("iptables", "/proc/thread-self/net/ip_tables_names"),
    ("ip6tables", "/proc/thread-self/net/ip6_tables_names"),
];

/// Where clients' packets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Service {
    vip: IpAddr,
    protocol: Protocol,
    port: u16,
}

/// The number that an address of a family of so many bits is, and the bits.
const fn number(address: IpAddr) -> (u128, u32) {
    match address {
        IpAddr::V4(address) => (address.to_bits() as u128, 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    }
}

/// Whether both are of one family and of one network of this prefix length.
fn is_beside(address: IpAddr, length: u32, other: IpAddr) -> bool {
    let ((address, bits), (other, of)) = (number(address), number(other));
    bits == of && (address ^ other).checked_shr(bits.saturating_sub(length)).unwrap_or(0) == 0
}

/// A rule that is about a VIP, and that packets for its services never meet.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    vip: IpAddr,
    /// Where the operator finds it.
    place: String,
}

/// Looks at the firewall now and then, on a thread of its own. Dropping it ends that.
#[derive(Debug)]
pub(crate) struct Firewall {
    services: watch::Sender<Vec<Service>>,
    _worker: Worker,
}

impl Firewall {
    pub(crate) fn start(findings: Findings) -> std::io::Result<Self> {
        let worker = Worker::start("lb-firewall")?;
        let (services, wanted) = watch::channel(Vec::new());
        worker.handle().spawn(follow(wanted, findings));
        Ok(Self { services, _worker: worker })
    }

    /// Looks now, and from now on for these services.
    pub(crate) fn follow_configuration(&self, config: &Config) {
        self.services.send_replace(services_of(config));
    }
}

/// All that is to be told of the host's rules now.
pub(crate) async fn look(config: &Config) -> Vec<Finding> {
    findings_of(&rules(&services_of(config)).await)
}

fn services_of(config: &Config) -> Vec<Service> {
    // Of a range its ends stand for all of it.
    let services = config.services.iter().flat_map(|service| {
        let lb_model::ServiceKey { vip, protocol, port } = service.key;
        let ends = service.ports.ranges().iter().flat_map(|range| [range.first, range.last]);
        let ports: BTreeSet<u16> = ends.chain([port]).collect();
        ports.into_iter().map(move |port| Service { vip, protocol, port })
    });
    services.collect()
}

async fn follow(mut services: watch::Receiver<Vec<Service>>, findings: Findings) {
    // Nothing is looked for before there is something to look for.
    let mut changed = services.changed().await;
    while changed.is_ok() {
        let wanted = services.borrow_and_update().clone();
        findings.set(Kind::FirewallBypassed, findings_of(&rules(&wanted).await));
        // Without a change it looks again all the same.
        changed = tokio::time::timeout(EVERY, services.changed()).await.unwrap_or(Ok(()));
    }
}

/// All that is found. What cannot be listed has no rules, as far as anybody can tell.
async fn rules(services: &[Service]) -> Vec<Rule> {
    let mut rules = Vec::new();
    if services.is_empty() {
        return rules;
    }
    if let Some(listing) = listing(&["nft", "--json", "list", "ruleset"]).await {
        match nftables::about(&listing, services) {
            Ok(found) => rules.extend(found),
            Err(error) => tracing::debug!("the listing of nft cannot be read: {error}"),
        }
    }
    for (name, tables) in OLD_TABLES {
        if std::fs::read_to_string(tables).is_ok_and(|tables| !tables.trim().is_empty()) {
            let listing = match listing(&[&format!("{name}-legacy-save")]).await {
                None => listing(&[&format!("{name}-save")]).await,
                listing => listing,
            };
            let text = listing.unwrap_or_default();
            rules.extend(iptables::about(name, &String::from_utf8_lossy(&text), services));
        }
    }
    rules
}

/// What a program says; `None`: it is not there, or does not say it.
async fn listing(words: &[&str]) -> Option<Vec<u8>> {
    let words = words.iter().map(|word| (*word).to_owned()).collect();
    let command = Command { words, timeout: TIME_LIMIT };
    match command::capture(&command, LONGEST).await {
        Ok(listing) => Some(listing),
        Err(Failure::Start { error, .. }) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(failure) => {
            tracing::debug!(
                "the firewall's rules cannot be listed by {}: {failure}",
                command.words.join(" ")
            );
            None
        }
    }
}

/// One finding for each VIP.
fn findings_of(rules: &[Rule]) -> Vec<Finding> {
    let mut places: BTreeMap<IpAddr, Vec<&str>> = BTreeMap::new();
    for Rule { vip, place } in rules {
        let places = places.entry(*vip).or_default();
        if !places.contains(&&**place) {
            places.push(place);
        }
    }
    let findings = places.into_iter().map(|(vip, places)| {
        let (rules, more) = match places.as_slice() {
            [only] => ("a rule", (*only).to_owned()),
            [first, rest @ ..] => ("rules", format!("{first}, and {} more", rest.len())),
            [] => ("rules", String::new()),
        };
        Finding {
            kind: Kind::FirewallBypassed,
            subject: vip.to_string(),
            text: format!(
                "the host's firewall has {rules} about VIP {vip}, which packets for its services never meet: {more}"
            ),
            mend: "XDP forwards packets before the host's firewall sees them: filter on the real servers, or in front of \
                   the director"
                .to_owned(),
        }
    });
    findings.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 10));

    #[test]
    fn a_vip_has_one_finding_for_all_its_rules() {
        let rule = |last, place: &str| Rule { vip: [192, 0, 2, last].into(), place: place.to_owned() };
        let findings = findings_of(&[rule(10, "a"), rule(11, "b"), rule(10, "c"), rule(10, "a")]);
        let texts: Vec<_> = findings.iter().map(|finding| (&*finding.subject, &*finding.text)).collect();
        assert_eq!(
            texts,
            [
                (
                    "192.0.2.10",
                    "the host's firewall has rules about VIP 192.0.2.10, which packets for its services never meet: a, \
                     and 1 more"
                ),
                (
                    "192.0.2.11",
                    "the host's firewall has a rule about VIP 192.0.2.11, which packets for its services never meet: b"
                ),
            ]
        );
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_or_fails_says_nothing() {
        assert_eq!(listing(&["no-such-firewall"]).await, None);
        assert_eq!(listing(&["false"]).await, None);
        assert_eq!(listing(&["echo", "rules"]).await.as_deref(), Some(&b"rules\n"[..]));
        assert!(rules(&[Service { vip: VIP, protocol: Protocol::Tcp, port: 80 }]).await.is_empty());
    }
}
