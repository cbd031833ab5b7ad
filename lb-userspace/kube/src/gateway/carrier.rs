//! Carriers: pure. What the Service of a Gateway is to be, and the slices of its endpoints.

use std::collections::{BTreeMap, BTreeSet};

use super::attach::{Judged, judge};
use super::backends::Backend;
use super::infrastructure::{self, Extras};
use super::resources::Protocol;
use super::{Gateway, api};
use crate::address::Family;
use crate::cluster::{Name, Owner, Port, Service, Slice};
use crate::config::Config;
use crate::words;

/// The longest name of a Service.
const LONGEST: usize = 63;
/// What names of carriers begin with.
const PREFIX: &str = "lb-kube-";
/// Shares are told apart as finely as that.
const FINENESS: u64 = 100;

/// The carrier of a Gateway as it is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Carrier {
    pub name: Name,
    pub owner: Owner,
    pub class: String,
    pub ports: Vec<Port>,
    pub asks_for: Vec<String>,
    /// Those of the addresses that it asks for; empty: the cluster's default.
    pub families: Vec<Family>,
    pub pool: Option<String>,
    pub scheduler: Option<String>,
    pub extras: Extras,
}

/// The name of a Gateway's carrier: a label of DNS, where Gateways may have longer names with dots.
pub(crate) fn name_of(gateway: &Name) -> Name {
    let whole = format!("{PREFIX}{}", gateway.name);
    let name = if whole.len() <= LONGEST && !whole.contains('.') {
        whole
    } else {
        let tail = format!("-{}", words::hash(&whole));
        let head: String = whole.chars().take(LONGEST - tail.len()).collect();
        head.replace('.', "-") + &tail
    };
    Name { namespace: gateway.namespace.clone(), name }
}

/// What a port of a carrier is called: it is a label of DNS, which names of listeners need not be.
pub(crate) fn port_name((protocol, port): (Protocol, u16)) -> String {
    format!("{}-{port}", protocol.name().to_lowercase())
}

/// `None`: the Gateway has no listener that can be served, or asks for what nobody here has.
pub(crate) fn carrier(name: &Name, gateway: &Gateway, config: &Config) -> Option<Carrier> {
    let judged = judge(gateway);
    let places: Vec<(Protocol, u16)> = judged.iter().filter_map(|judged| judged.place).collect();
    let asks_for = asked(gateway).ok().filter(|_| !places.is_empty())?;
    let ports = places.into_iter().map(|place| {
        let (protocol, port) = place;
        Port { name: port_name(place), protocol: protocol.name().to_owned(), port }
    });
    let mut families = Vec::new();
    for family in asks_for.iter().filter_map(|address| address.parse().ok()).map(Family::of) {
        if !families.contains(&family) {
            families.push(family);
        }
    }
    Some(Carrier {
        name: name_of(name),
        owner: Owner { name: name.name.clone(), uid: gateway.uid.clone() },
        class: config.class.clone(),
        ports: ports.collect(),
        asks_for,
        families,
        pool: infrastructure::pool(gateway),
        scheduler: infrastructure::scheduler(gateway),
        extras: Extras::wanted(gateway),
    })
}

/// The addresses that a Gateway asks for. `Err`: it asks for something else, which is told.
pub(crate) fn asked(gateway: &Gateway) -> Result<Vec<String>, String> {
    let mut asked = Vec::new();
    for api::Address { type_, value } in &gateway.spec.addresses {
        match (type_.as_deref().unwrap_or("IPAddress"), value) {
            ("IPAddress", Some(value)) if !value.is_empty() => asked.push(value.clone()),
            ("IPAddress", _) => {}
            (other, _) => return Err(format!("it asks for an address of type {other}, expected IPAddress")),
        }
    }
    Ok(asked)
}

impl Carrier {
    /// Whether that Service is the carrier, or one of an earlier Gateway of the name, and not
    /// somebody else's.
    pub(crate) fn is(&self, service: &Service) -> bool {
        service.gateway.as_ref().is_some_and(|gateway| gateway.name == self.owner.name)
    }

    /// Whether it has to be made anew: what differs cannot be changed.
    pub(crate) fn is_fixed_otherwise(&self, service: &Service) -> bool {
        let is_other_family = match (self.families.first(), service.families.first()) {
            (Some(wanted), Some(found)) => wanted != found,
            _ => false,
        };
        service.gateway.as_ref() != Some(&self.owner)
            || service.class.as_ref() != Some(&self.class)
            || is_other_family
    }

    /// Whether the rest is as it should be.
    pub(crate) fn is_like(&self, service: &Service) -> bool {
        let has_families = self.families.is_empty() || self.families == service.families;
        service.is_load_balancer
            && service.has_label
            && service.is_local
            && has_families
            && service.ports == self.ports
            && service.asks_for == self.asks_for
            && service.pool == self.pool
            && service.scheduler == self.scheduler
            && service.extras == self.extras
    }
}

/// Endpoints of all Services, by the Services' names.
pub(crate) type Sources<'a> = BTreeMap<(&'a str, &'a str), Vec<(&'a Name, &'a Slice)>>;

/// All but those of carriers.
pub(crate) fn sources(slices: &BTreeMap<Name, Slice>) -> Sources<'_> {
    let mut sources = Sources::new();
    for (name, slice) in slices.iter().filter(|(_, slice)| !slice.is_ours) {
        let of = (name.namespace.as_str(), slice.service.as_str());
        sources.entry(of).or_default().push((name, slice));
    }
    sources
}

/// The slices of one port of a carrier: for each of its backends a copy of the backend's slices.
pub(crate) fn slices(
    carrier: &Carrier,
    judged: &Judged<'_>,
    backends: &[Backend],
    sources: &Sources<'_>,
) -> BTreeMap<Name, Slice> {
    let Some(place) = judged.place else { return BTreeMap::new() };
    let mut copies = BTreeMap::new();
    for family in [Family::Ipv4, Family::Ipv6] {
        let found: Vec<Found<'_>> = backends
            .iter()
            .filter(|backend| backend.weight > 0)
            .map(|backend| Found::of(backend, family, sources))
            .collect();
        for (found, weight) in found.iter().zip(weights(&found)) {
            for (source, slice, port) in &found.slices {
                let whole = format!("{} {source} {port}", port_name(place));
                let name = format!("{}-{}", carrier.name.name, words::hash(&whole));
                let key = (port_name(place), place.0.name().to_owned());
                let copy = Slice {
                    service: carrier.name.name.clone(),
                    family,
                    ports: BTreeMap::from([(key, *port)]),
                    endpoints: slice.endpoints.clone(),
                    weight,
                    is_ours: true,
                    extras: carrier.extras.clone(),
                };
                copies.insert(Name { namespace: carrier.name.namespace.clone(), name }, copy);
            }
        }
    }
    copies
}

/// What there is of a backend in one family.
struct Found<'a> {
    weight: u16,
    /// With their names, and the ports of the endpoints.
    slices: Vec<(&'a Name, &'a Slice, u16)>,
    /// How many endpoints are ready.
    ready: u64,
}

impl<'a> Found<'a> {
    fn of(backend: &'a Backend, family: Family, sources: &'a Sources<'a>) -> Self {
        let key = (backend.port.clone(), backend.protocol.name().to_owned());
        let of = (backend.service.namespace.as_str(), backend.service.name.as_str());
        let all = sources.get(&of).into_iter().flatten().copied();
        let slices = all.filter_map(|(name, slice)| {
            let port = slice.ports.get(&key).copied().filter(|port| *port != 0)?;
            (slice.family == family).then_some((name, slice, port))
        });
        let slices: Vec<(&Name, &Slice, u16)> = slices.collect();
        let endpoints = slices.iter().flat_map(|(_, slice, _)| &slice.endpoints);
        let ready = endpoints.filter(|endpoint| endpoint.is_ready);
        // One may stand in two slices for a while.
        let ready = ready.map(|endpoint| endpoint.address.as_str()).collect::<BTreeSet<_>>().len();
        Self { weight: backend.weight, ready: ready as u64, slices }
    }
}

/// What one endpoint of each backend counts for. Those of a backend share its weight, so that its
/// part of the clients does not grow with their number.
fn weights(found: &[Found<'_>]) -> Vec<u16> {
    const FRACTION: u64 = 1_000_000;
    let shares: Vec<u64> =
        found.iter().map(|found| u64::from(found.weight) * FRACTION / found.ready.max(1)).collect();
    // Where none is ready nobody is sent.
    let of_ready = shares.iter().zip(found).filter(|(_, found)| found.ready > 0).map(|(share, _)| *share);
    let largest = of_ready.max().unwrap_or(FRACTION).max(1);
    let fine = shares.iter().map(|share| ((share * FINENESS + largest / 2) / largest).clamp(1, FINENESS));
    let fine: Vec<u64> = fine.collect();
    let common = fine.iter().copied().fold(0, greatest_common_divisor).max(1);
    fine.iter().map(|share| u16::try_from(share / common).unwrap_or(u16::MAX)).collect()
}

const fn greatest_common_divisor(one: u64, other: u64) -> u64 {
    if other == 0 { one } else { greatest_common_divisor(other, one % other) }
}
