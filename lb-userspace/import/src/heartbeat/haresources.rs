//! haresources: a group of VIPs for each line, and what runs where they are.

use std::net::IpAddr;

use super::ha_cf::HaCf;
use crate::ledger::Ledger;
use crate::parts::Parts;
use crate::report::At;
use crate::tree::{Item, Map, Value};
use crate::{Find, ldirectord};

const LDIRECTORD: &str = "ldirectord";

/// A logical line: its words, and the lines that it stands on.
struct Line {
    words: Vec<String>,
    from: Vec<At>,
}

fn lines(file: usize, ledger: &mut Ledger) -> Vec<Line> {
    let mut all = Vec::new();
    let mut open: Option<Line> = None;
    for (at, text) in ledger.lines(file) {
        let body = match text.split_once('#') {
            Some((body, comment)) => {
                ledger.comment(at, comment);
                body.to_owned()
            }
            None => text,
        };
        let (body, goes_on) = match body.trim_end().strip_suffix('\\') {
            Some(body) => (body.to_owned(), true),
            None => (body, false),
        };
        let line = open.get_or_insert_with(|| Line { words: Vec::new(), from: Vec::new() });
        if !body.trim().is_empty() {
            line.from.push(at);
        } else if goes_on {
            ledger.needless(at, "an empty line");
        }
        line.words.extend(body.split_whitespace().map(str::to_owned));
        if !goes_on {
            all.extend(open.take());
        }
    }
    all.extend(open);
    all.retain(|line| !line.words.is_empty());
    all
}

/// An address on an interface, as IPaddr takes it.
#[derive(Debug, PartialEq, Eq)]
struct Vip {
    address: IpAddr,
    prefix: Option<String>,
    interface: Option<String>,
    label: Option<String>,
}

/// `ADDR[/LEN[/IF[:LABEL]][/BCAST]]`
fn vip(text: &str, parts: &Parts<'_>) -> Option<Vip> {
    let mut pieces = text.split('/');
    let address = parts.hosts.address(pieces.next()?)?;
    let mut vip = Vip { address, prefix: None, interface: None, label: None };
    for piece in pieces {
        if vip.prefix.is_none() && piece.chars().all(|char| char.is_ascii_digit()) && !piece.is_empty() {
            vip.prefix = Some(piece.to_owned());
        } else if piece.parse::<IpAddr>().is_ok() || piece.is_empty() {
            // The broadcast address, which a /32 does not have.
        } else {
            let interface = piece.split(':').next().unwrap_or_default();
            vip.interface = Some(interface.to_owned());
            vip.label = piece.contains(':').then(|| piece.to_owned());
        }
    }
    Some(vip)
}

pub(super) fn read(
    file: usize,
    cluster: &mut HaCf,
    given: &[usize],
    ledger: &mut Ledger,
    parts: &mut Parts<'_>,
    find: &mut Find<'_>,
) {
    for line in lines(file, ledger) {
        group(&line, cluster, given, ledger, parts, find);
    }
}

fn group(
    line: &Line,
    cluster: &mut HaCf,
    given: &[usize],
    ledger: &mut Ledger,
    parts: &mut Parts<'_>,
    find: &mut Find<'_>,
) {
    let (Some((node, resources)), Some(at)) = (line.words.split_first(), line.from.first().copied()) else {
        return;
    };
    if !cluster.nodes.iter().any(|(name, _)| name == node) && !cluster.nodes.is_empty() {
        line.from.iter().for_each(|at| ledger.lost(*at, format!("no `node` of ha.cf is called {node:?}")));
        return;
    }
    let (mut vips, mut labels) = (Vec::new(), Vec::new());
    for resource in resources {
        let mut arguments = resource.split("::");
        let name = arguments.next().unwrap_or_default();
        let first = arguments.next();
        let place = match name {
            "IPaddr" | "IPaddr2" | "IPv6addr" | "IPsrcaddr" => first.unwrap_or_default(),
            bare => bare,
        };
        if name != "IPsrcaddr"
            && let Some(vip) = vip(place, parts)
        {
            let text = match &vip.prefix {
                Some(prefix) => format!("{}/{prefix}", vip.address),
                None => vip.address.to_string(),
            };
            vips.push((text, at));
            if let Some(interface) = &vip.interface {
                parts.interface(interface, at);
            }
            labels.extend(vip.label.clone());
            continue;
        }
        other(name, first, resource, (at, given), ledger, parts, find);
    }
    if vips.is_empty() {
        line.from
            .iter()
            .for_each(|at| ledger.lost(*at, "a line without an address: a group of `lb` is one of VIPs"));
        return;
    }
    let mut map = Map::default();
    map.set("vips", Value::texts(vips), &line.from);
    if let [label] = labels.as_slice() {
        map.set("label", label.as_str(), &[at]);
    }
    let mut nodes = vec![node.clone()];
    nodes.extend(cluster.nodes.iter().map(|(name, _)| name.clone()).filter(|name| name != node));
    map.set("nodes", Value::Words(nodes), &line.from);
    let (auto, failback) = cluster.failback.map_or((true, Vec::new()), |(auto, at)| (auto, vec![at]));
    map.set("failback", if auto { "auto" } else { "manual" }, &failback);
    parts.groups.push(Item::new(map, &line.from));
    line.from
        .iter()
        .for_each(|at| ledger.kept(*at, format!("a group, of which {node} is the preferred node")));
}

/// A resource that is no address.
fn other(
    name: &str,
    argument: Option<&str>,
    resource: &str,
    (at, given): (At, &[usize]),
    ledger: &mut Ledger,
    parts: &mut Parts<'_>,
    find: &mut Find<'_>,
) {
    let slip = name != LDIRECTORD && strsim::damerau_levenshtein(name, LDIRECTORD) <= 2;
    if name == LDIRECTORD || slip {
        if slip {
            ledger.changed(at, format!("{name:?} is taken for {LDIRECTORD}"));
        }
        if !given.is_empty() {
            ledger.kept(at, "its services are imported from the file given");
            return;
        }
        let wanted = argument.unwrap_or("ldirectord.cf");
        let here = ledger.name(at.file).to_owned();
        match find(wanted, &here) {
            Ok(files) => {
                ledger.kept(at, format!("its services are imported from {wanted}"));
                let numbers: Vec<usize> = files.iter().map(|file| ledger.add(file)).collect();
                numbers.into_iter().for_each(|file| ldirectord::read(file, ledger, parts, find));
            }
            Err(why) => {
                ledger.lost(at, format!("its services are in {wanted}, which was not imported: {why}"));
            }
        }
    } else if name == "LVSSyncDaemonSwap" {
        ledger.needless(at, "directors tell each other about connections anyway (`sync`)");
    } else if name == "IPsrcaddr" {
        ledger.lost(at, format!("{resource}: `lb` sets no source address of the host's own packets"));
    } else {
        let what = format!(
            "{resource}: `lb` moves VIPs and runs no resources; a hook of the cluster (`hooks: {{ active: \
             [/etc/ha.d/resource.d/{name}, start] }}`, standby with stop) can"
        );
        ledger.lost(at, what);
    }
}
