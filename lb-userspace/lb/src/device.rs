//! What the interface of the VIPs is, and what that means for a director: bonds, VLAN devices,
//! bridges, and network cards that take VLAN tags off.

use std::collections::BTreeSet;
use std::time::Duration;

use lb_api::events::{Level, Record};
use lb_api::findings::{Finding, Findings, Kind};
use lb_datapath::device::far_end::FarEnd;
use lb_model::{Config, Vlan};
use lb_net::ethtool::VlanOffloads;
use lb_net::links::{self, Bond, Link, Links, Master};
use lb_net::xdp_features;
use lb_system::worker::Worker;
use tokio::sync::watch;

/// From one look to the next.
const EVERY: Duration = Duration::from_secs(2);

/// What is looked at.
#[derive(Debug, Clone, Default)]
struct Wanted {
    config: Option<Config>,
    /// Indices of other devices that packets leave by.
    exits: BTreeSet<u32>,
}

/// Looks at the interface now and then, on a thread of its own: the kernel answers under a lock
/// that others may hold for long. Dropping it ends that.
#[derive(Debug)]
pub(crate) struct Device {
    wanted: watch::Sender<Wanted>,
    _worker: Worker,
}

impl Device {
    pub(crate) fn start(findings: Findings) -> std::io::Result<Self> {
        let worker = Worker::start("lb-interface")?;
        let (wanted, told) = watch::channel(Wanted::default());
        worker.handle().spawn(follow(told, findings));
        Ok(Self { wanted, _worker: worker })
    }

    /// Looks now, and from now on for this configuration.
    pub(crate) fn follow_configuration(&self, config: &Config) {
        self.wanted.send_modify(|wanted| wanted.config = Some(config.clone()));
    }

    /// Packets leave by these devices from a program in native mode on another one.
    pub(crate) fn follow_exits(&self, exits: BTreeSet<u32>) {
        self.wanted.send_if_modified(|wanted| {
            let changed = wanted.exits != exits;
            wanted.exits = exits;
            changed
        });
    }
}

async fn follow(mut wanted: watch::Receiver<Wanted>, findings: Findings) {
    let mut changed = wanted.changed().await;
    while changed.is_ok() {
        let Wanted { config, exits } = wanted.borrow_and_update().clone();
        if let (Some(config), Ok(links)) = (config, Links::look().await) {
            keep_tags(&config, &links, &findings);
            let mut found = self::findings(&config, &links, offloads);
            let exits = exits.iter().filter_map(|index| links.get(*index));
            found.extend(exits.filter_map(|link| loses(link, takes(link.index))));
            for kind in [Kind::VlanTagsStripped, Kind::InterfaceUnsuited, Kind::RedirectsLost] {
                let of_kind = found.iter().filter(|finding| finding.kind == kind);
                findings.set(kind, of_kind.cloned().collect());
            }
        }
        // Without a change it looks again all the same.
        changed = tokio::time::timeout(EVERY, wanted.changed()).await.unwrap_or(Ok(()));
    }
}

/// What becomes of frames that native mode redirects to an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Takes {
    /// As far as anybody can tell.
    All,
    NotTheDriver,
    NotTheFarEnd,
}

fn takes(index: u32) -> Takes {
    match (xdp_features::takes_redirected(index), FarEnd::of(index)) {
        (_, FarEnd::WithoutProgram) => Takes::NotTheFarEnd,
        (Ok(false), FarEnd::NotAVeth) => Takes::NotTheDriver,
        _ => Takes::All,
    }
}

fn loses(link: &Link, takes: Takes) -> Option<Finding> {
    let name = &link.name;
    let (text, mend) = match takes {
        Takes::All => return None,
        Takes::NotTheDriver => (
            format!(
                "the driver of {name} takes no frames that native XDP redirects to it: whoever is behind it gets none"
            ),
            format!(
                "attach an XDP program to {name} that passes everything, with which many drivers do; or set `xdp_mode: generic`"
            ),
        ),
        Takes::NotTheFarEnd => (
            format!(
                "the far end of the veth {name} has no XDP program, so whoever is behind it gets nothing that native XDP redirects"
            ),
            format!(
                "attach an XDP program to the far end of {name} that passes everything; or set `xdp_mode: generic`"
            ),
        ),
    };
    Some(Finding { kind: Kind::RedirectsLost, subject: name.clone(), text, mend })
}

/// Has the network card leave tags in frames before the first one is forwarded, where frames with
/// tags may come: one without its tag would leave its VLAN.
pub(crate) async fn prepare(config: &Config, findings: &Findings) {
    if let Ok(links) = Links::look().await {
        keep_tags(config, &links, findings);
    }
}

fn keep_tags(config: &Config, links: &Links, findings: &Findings) {
    config.ingresses().iter().for_each(|interface| keep_tags_on(interface, config, links, findings));
}

fn keep_tags_on(interface: &str, config: &Config, links: &Links, findings: &Findings) {
    let Some(link) = links.named(interface) else { return };
    let tags_come = has_vlans(config, link, links) || lets_tags_in(link, links, offloads);
    if !tags_come || strips(link, links, offloads).as_deref() != Some(interface) {
        return;
    }
    match VlanOffloads::keep_tags(interface) {
        Ok(()) => findings.note(Record::new(
            Level::Warning,
            "vlan_offload_off",
            format!("{interface} took VLAN tags off received frames; lb has switched that off (ethtool -K {interface} rxvlan off)"),
        )),
        Err(error) => tracing::debug!("{interface} goes on taking tags off: {error}"),
    }
}

/// What is to be told of the interface. Nothing if it is not there, as on a machine on which a
/// configuration is merely checked.
pub(crate) fn findings(
    config: &Config,
    links: &Links,
    offloads: impl Fn(&str) -> VlanOffloads,
) -> Vec<Finding> {
    let mut found = Vec::new();
    let ingresses = config.ingresses();
    for link in ingresses.iter().filter_map(|name| links.named(name)) {
        let mut tell = |kind, (text, mend)| {
            found.push(Finding { kind, subject: link.name.clone(), text, mend });
        };
        match strips(link, links, &offloads) {
            Some(by) if has_vlans(config, link, links) => {
                tell(Kind::VlanTagsStripped, stripped(&link.name, &by));
            }
            Some(by) if lets_tags_in(link, links, &offloads) => {
                tell(Kind::InterfaceUnsuited, may_strip(&link.name, &by));
            }
            _ => {}
        }
        let below = link.below.and_then(|below| links.get(below)).map(|below| below.name.as_str());
        if let (links::Kind::Vlan { .. }, Some(below)) = (&link.kind, below)
            && ingresses.contains(&below)
        {
            // What servers of `forward: masq` send is known by its tag there.
            if config.interfaces().any(|name| name == link.name) {
                tell(Kind::InterfaceUnsuited, seen_below(&link.name, below));
            }
            continue;
        }
        // What servers of `forward: masq` send comes out of their VLAN nowhere else.
        let names_it = |server: &lb_model::Server| {
            server.masq && server.interface.as_deref() == Some(link.name.as_str())
        };
        let mut servers = config.services.iter().flat_map(|service| &service.servers);
        let is_their_vlan = matches!(link.kind, links::Kind::Vlan { .. })
            && link.name != config.interface
            && servers.any(names_it);
        if !is_their_vlan && let Some(told) = unsuited(link, links) {
            tell(Kind::InterfaceUnsuited, told);
        }
    }
    found
}

/// The program on `below` takes what is for the VLAN device `name` on it.
fn seen_below(name: &str, below: &str) -> (String, String) {
    (
        format!(
            "packets come in by {below}, too, on which {name} stands: the program there sees them first, with their \
             tag, and forwards none of them"
        ),
        format!("have clients and servers on VLAN devices of {below}, and name {below} nowhere"),
    )
}

/// As the driver says; what cannot be asked has none.
pub(crate) fn offloads(interface: &str) -> VlanOffloads {
    VlanOffloads::of(interface).unwrap_or_default()
}

/// Whether frames with tags may come by the interface.
fn has_vlans(config: &Config, link: &Link, links: &Links) -> bool {
    let named = |vlan: Option<Vlan>| vlan.is_some_and(|vlan| vlan != Vlan::UNTAGGED);
    let of_services = config
        .services
        .iter()
        .any(|service| named(service.vlan) || service.servers.iter().any(|server| server.vlan.is_some()));
    of_services || !links.vlans_on(link.index).is_empty()
}

/// Whether frames with tags may come although nobody has named a VLAN: the other end may send some,
/// and nothing keeps them out.
fn lets_tags_in(link: &Link, links: &Links, offloads: impl Fn(&str) -> VlanOffloads) -> bool {
    match link.kind {
        links::Kind::Veth => {
            let Some(far) = link.below.and_then(|far| links.get(far)) else { return false };
            matches!(far.master, Some((_, Master::Bridge))) || !links.vlans_on(far.index).is_empty()
        }
        _ => link.promiscuous || !offloads(&link.name).filter,
    }
}

/// The interface that takes tags off frames before the program sees them.
fn strips(link: &Link, links: &Links, offloads: impl Fn(&str) -> VlanOffloads) -> Option<String> {
    match link.kind {
        // The far end of a veth puts no tags in; one in another network namespace is not seen.
        links::Kind::Veth => {
            let far = links.get(link.below?)?;
            offloads(&far.name).send.then(|| far.name.clone())
        }
        _ => offloads(&link.name).receive.then(|| link.name.clone()),
    }
}

fn stripped(interface: &str, by: &str) -> (String, String) {
    let (who, offload) = match interface == by {
        true => (interface.to_owned(), "rxvlan"),
        false => (format!("{by}, the far end of {interface},"), "txvlan"),
    };
    (
        format!(
            "{who} takes VLAN tags off before XDP sees the frames: packets leave without them, into another VLAN"
        ),
        format!("ethtool -K {by} {offload} off"),
    )
}

/// The same where nobody has named a VLAN, and what comes with a tag is a mistake of the network.
fn may_strip(interface: &str, by: &str) -> (String, String) {
    let (text, mend) = stripped(interface, by);
    let text = text.replace("packets leave", "should frames of a VLAN come, packets would leave");
    (text, format!("{mend}; or have no VLAN's frames sent to {interface}"))
}

/// What is worth telling of the interface's kind, and what to do about it.
fn unsuited(link: &Link, links: &Links) -> Option<(String, String)> {
    let name = &link.name;
    let below = link.below.and_then(|below| links.get(below)).map(|link| &*link.name);
    let generic = "which costs several times as much per packet";
    if let Some((index, master)) = link.master {
        let master_name =
            links.get(index).map_or_else(|| format!("interface {index}"), |link| link.name.clone());
        let told = match master {
            Master::Bond => Some((
                format!(
                    "{name} is a port of the bond {master_name}: packets that come by its other ports are not balanced"
                ),
                format!("set `interface: {master_name}`"),
            )),
            Master::Bridge => Some((
                format!(
                    "{name} is a port of the bridge {master_name}, which has the addresses: packets to the bridge's own MAC, \
                     and those that come by its other ports, are not balanced"
                ),
                format!(
                    "give {name} addresses of its own outside of the bridge, or set `interface: {master_name}`, {generic}"
                ),
            )),
            Master::Other => None,
        };
        if told.is_some() {
            return told;
        }
    }
    match &link.kind {
        links::Kind::Vlan { number, .. } => {
            let (below, vlan) = (below.unwrap_or("the interface below it"), number);
            Some((
                format!("{name} is a VLAN device: XDP is in generic mode there, {generic}"),
                format!("set `interface: {below}`, and `vlan: {vlan}` in the services, whose packets keep that tag"),
            ))
        }
        links::Kind::Bond(Bond::Generic(why)) => Some((
            format!("{name} is a bond with {why}: XDP is in generic mode there, {generic}"),
            "use mode 802.3ad, active-backup, balance-xor or balance-rr, with an xmit_hash_policy other than vlan+srcmac"
                .to_owned(),
        )),
        links::Kind::Bridge => Some((
            format!("{name} is a bridge: XDP is in generic mode there, {generic}"),
            "set `interface` to a network card that belongs to no bridge".to_owned(),
        )),
        links::Kind::Macvlan => Some((
            format!("{name} shares the network card {}: XDP is in generic mode there, {generic}", below.unwrap_or("of another interface")),
            "set `interface` to the network card itself, or give the director one of its own".to_owned(),
        )),
        links::Kind::Bond(Bond::Native(_)) | links::Kind::Device | links::Kind::Veth | links::Kind::Other(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use lb_common::mac::Mac;

    use super::*;

    fn link(index: u32, name: &str, kind: links::Kind) -> Link {
        let mac = Some(Mac::new([2, 0, 0, 0, 0, 5]));
        let name = name.to_owned();
        let (below, master, promiscuous) = (None, None, false);
        Link { index, name, kind, mac, mtu: 1500, up: true, carrier: true, below, master, promiscuous }
    }

    fn config(interface: &str, vlans: &str) -> Config {
        let text = format!(
            "interface: {interface}\nservices: [{{ vip: '192.0.2.10:80', servers: [{{ address: 192.0.2.21{vlans} }}] }}]\n"
        );
        lb_config::parse(&text, "test.yaml").unwrap_or_else(|error| panic!("{error}"))
    }

    fn told(found: &[Finding]) -> Vec<(Kind, &str)> {
        found.iter().map(|finding| (finding.kind, &*finding.mend)).collect()
    }

    const VLAN: links::Kind = links::Kind::Vlan { number: 120, tpid: 0x8100 };
    const BOTH: VlanOffloads = VlanOffloads { receive: true, filter: true, send: true };

    #[test]
    fn a_card_that_takes_tags_off_matters_where_there_are_vlans() {
        let eth0 = || link(2, "eth0", links::Kind::Device);
        let plain: Links = [eth0()].into_iter().collect();
        let on = |_: &str| BOTH;
        assert_eq!(findings(&config("eth0", ""), &plain, on), []);
        let mend = [(Kind::VlanTagsStripped, "ethtool -K eth0 rxvlan off")];
        assert_eq!(told(&findings(&config("eth0", ", vlan: 120"), &plain, on)), mend);
        let vlan = Link { below: Some(2), ..link(3, "eth0.120", VLAN) };
        let with_vlan: Links = [eth0(), vlan].into_iter().collect();
        assert_eq!(told(&findings(&config("eth0", ""), &with_vlan, on)), mend);
        let off = |_: &str| VlanOffloads { receive: false, ..BOTH };
        assert_eq!(findings(&config("eth0", ""), &with_vlan, off), []);
        // It is the far end of a veth that hands tags over beside the frames.
        let veth = Link { below: Some(7), ..link(2, "eth0", links::Kind::Veth) };
        let far = link(7, "port", links::Kind::Veth);
        let found = findings(&config("eth0", ", vlan: 120"), &[veth.clone(), far].into_iter().collect(), on);
        assert_eq!(told(&found), [(Kind::VlanTagsStripped, "ethtool -K port txvlan off")]);
        assert_eq!(findings(&config("eth0", ", vlan: 120"), &[veth].into_iter().collect(), on), []);
    }

    /// The file names no VLAN, no device is in one, and yet the other end may send frames of one.
    #[test]
    fn a_card_that_takes_tags_off_is_told_wherever_frames_with_tags_may_come() {
        let eth0 = || link(2, "eth0", links::Kind::Device);
        let told_of = |link: Link, others: Vec<Link>, offloads: VlanOffloads| {
            let links: Links = others.into_iter().chain([link]).collect();
            let found = findings(&config("eth0", ""), &links, |_| offloads);
            found.into_iter().map(|finding| (finding.kind, finding.text, finding.mend)).collect::<Vec<_>>()
        };
        let unfiltered = VlanOffloads { filter: false, ..BOTH };
        let found = told_of(eth0(), vec![], unfiltered);
        let [(kind, text, mend)] = &found[..] else { panic!("{found:?}") };
        assert_eq!(*kind, Kind::InterfaceUnsuited);
        assert!(text.contains("should frames of a VLAN come, packets would leave without them"), "{text}");
        assert!(mend.starts_with("ethtool -K eth0 rxvlan off; or"), "{mend}");
        let promiscuous = Link { promiscuous: true, ..eth0() };
        assert_eq!(told_of(promiscuous, vec![], BOTH).len(), 1, "it takes frames of every VLAN");
        assert_eq!(told_of(eth0(), vec![], BOTH), [], "the card keeps them out");
        assert_eq!(told_of(eth0(), vec![], VlanOffloads { receive: false, ..unfiltered }), [], "tags stay");
        // The far end of a veth puts tags beside the frames if it has any.
        let veth = || Link { below: Some(7), ..link(2, "eth0", links::Kind::Veth) };
        let far = || link(7, "port", links::Kind::Veth);
        assert_eq!(told_of(veth(), vec![far()], unfiltered), []);
        let in_vlan = Link { below: Some(7), ..link(8, "port.5", VLAN) };
        let of_bridge = Link { master: Some((9, Master::Bridge)), ..far() };
        for others in [vec![far(), in_vlan], vec![of_bridge]] {
            let found = told_of(veth(), others, unfiltered);
            let [(_, _, mend)] = &found[..] else { panic!("{found:?}") };
            assert!(mend.starts_with("ethtool -K port txvlan off; or"), "{mend}");
        }
    }

    /// There is no better one: their packets would keep the tag.
    #[test]
    fn a_vlan_device_with_servers_of_address_translation_is_suited() {
        let eth1 = link(3, "eth1", links::Kind::Device);
        let vlan = Link { below: Some(3), ..link(4, "eth1.120", VLAN) };
        let links: Links = [link(2, "eth0", links::Kind::Device), eth1, vlan].into_iter().collect();
        let off = |_: &str| VlanOffloads::default();
        assert_eq!(findings(&config("eth0", ", forward: masq, interface: eth1.120"), &links, off), []);
        assert_eq!(findings(&config("eth1.120", ""), &links, off).len(), 1);
    }

    /// The program on the device below sees all its packets first, and leaves them in their VLAN.
    #[test]
    fn a_vlan_device_over_an_interface_that_packets_come_in_by_is_told() {
        let vlan = Link { below: Some(2), ..link(3, "eth0.10", VLAN) };
        let links: Links = [link(2, "eth0", links::Kind::Device), vlan].into_iter().collect();
        let off = |_: &str| VlanOffloads::default();
        let found = findings(&config("eth0.10", ", forward: masq, interface: eth0"), &links, off);
        let [found] = &found[..] else { panic!("{found:?}") };
        assert_eq!((found.kind, found.subject.as_str()), (Kind::InterfaceUnsuited, "eth0.10"));
        assert!(found.text.contains("forwards none of them"), "{}", found.text);
        // What servers send is known there by its tag.
        assert_eq!(findings(&config("eth0", ", forward: masq, interface: eth0.10"), &links, off), []);
    }

    #[test]
    fn what_an_interface_is_is_told_with_the_mend() {
        let with_master = |kind| Link { master: Some((9, kind)), ..link(2, "eth0", links::Kind::Device) };
        for (link, text, mend) in [
            (link(2, "eth0", links::Kind::Device), None, ""),
            (link(2, "bond0", links::Kind::Bond(Bond::Native("802.3ad"))), None, ""),
            (
                link(2, "bond0", links::Kind::Bond(Bond::Generic("mode balance-alb"))),
                Some("bond0 is a bond with mode balance-alb: XDP is in generic mode"),
                "use mode 802.3ad",
            ),
            (
                Link { below: Some(8), ..link(2, "eth8.120", VLAN) },
                Some("eth8.120 is a VLAN device: XDP is in generic mode"),
                "set `interface: eth8`, and `vlan: 120`",
            ),
            (
                with_master(Master::Bond),
                Some("eth0 is a port of the bond master0"),
                "set `interface: master0`",
            ),
            (
                with_master(Master::Bridge),
                Some("eth0 is a port of the bridge master0"),
                "give eth0 addresses",
            ),
            (with_master(Master::Other), None, ""),
            (link(2, "br0", links::Kind::Bridge), Some("br0 is a bridge"), "set `interface`"),
        ] {
            let config = config(&link.name, "");
            let others =
                [self::link(8, "eth8", links::Kind::Device), self::link(9, "master0", links::Kind::Bridge)];
            let links: Links = others.into_iter().chain([link]).collect();
            let found = findings(&config, &links, |_| VlanOffloads::default());
            match (text, &found[..]) {
                (None, []) => {}
                (Some(text), [one]) => {
                    assert!(one.text.starts_with(text) && one.mend.starts_with(mend), "{one:?}");
                }
                (text, found) => panic!("{text:?}: {found:?}"),
            }
        }
    }
}
