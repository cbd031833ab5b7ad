//! Which route has which listener: pure. A listener of a port has one route, the oldest of those
//! that want it and may have it.

use std::collections::{BTreeMap, BTreeSet};

use kube::core::labels::{Selector, SelectorExt as _};

use super::conditions::Wanted;
use super::resources::{GROUP, Kind, Listener, ParentRef, Protocol, RouteKind};
use super::{Gateway, Gateways, Route};
use crate::cluster::{Name, read};
use crate::config::Config;

/// The type of the condition that an object, or a part of it, makes sense.
pub(crate) const ACCEPTED: &str = "Accepted";

/// A listener, and what is to be said of it.
#[derive(Debug)]
pub(crate) struct Judged<'a> {
    pub listener: &'a Listener,
    /// Protocol and port; `None`: it is not served, as `accepted` tells.
    pub place: Option<(Protocol, u16)>,
    pub accepted: Wanted,
    /// Kinds of routes that may attach.
    pub kinds: Vec<Kind>,
    /// Kinds that the listener names and that nobody here knows.
    pub unknown_kinds: Vec<String>,
}

/// All listeners of a Gateway.
pub(crate) fn judge(gateway: &Gateway) -> Vec<Judged<'_>> {
    let mut taken = BTreeSet::new();
    let judged = gateway.spec.listeners.iter().map(|listener| {
        let protocol = Protocol::called(&listener.protocol);
        let place = protocol.zip(read::port(listener.port));
        let place = place.filter(|place| taken.insert(*place));
        let accepted = match (protocol, place) {
            (None, _) => {
                let message = format!("it is of {}, and lb balances TCP and UDP", listener.protocol);
                Wanted::ill(ACCEPTED, "UnsupportedProtocol", message)
            }
            (Some(_), None) => {
                let message = format!("another listener has port {} of {}", listener.port, listener.protocol);
                Wanted::ill(ACCEPTED, "PortUnavailable", message)
            }
            (Some(_), Some(_)) => Wanted::well(ACCEPTED, ACCEPTED),
        };
        let (kinds, unknown_kinds) = kinds(listener, protocol);
        Judged { listener, place, accepted, kinds, unknown_kinds }
    });
    judged.collect()
}

/// Kinds of routes that the listener takes, and those that it names in vain.
fn kinds(listener: &Listener, protocol: Option<Protocol>) -> (Vec<Kind>, Vec<String>) {
    let own: Vec<Kind> = protocol.map(Protocol::route).into_iter().collect();
    let named = &listener.allowed_routes.kinds;
    if named.is_empty() {
        return (own, Vec::new());
    }
    let is = |named: &RouteKind, kind: &Kind| {
        named.group.as_deref().unwrap_or(GROUP) == GROUP && named.kind == kind.name()
    };
    let unknown = named.iter().filter(|named| !own.iter().any(|kind| is(named, kind)));
    let unknown = unknown.map(|named| named.kind.clone()).collect();
    let known = own.iter().copied().filter(|kind| named.iter().any(|named| is(named, kind)));
    (known.collect(), unknown)
}

/// What becomes of a reference of a route to a Gateway of ours.
#[derive(Debug)]
pub(crate) struct Parent<'a> {
    pub reference: &'a ParentRef,
    pub accepted: Wanted,
}

/// Kind and name.
pub(crate) type RouteId<'a> = (Kind, &'a Name);

#[derive(Debug, Default)]
pub(crate) struct Attachments<'a> {
    /// Who has the listener of a Gateway, by its name.
    pub holders: BTreeMap<(&'a Name, &'a str), (Kind, &'a Name, &'a Route)>,
    pub parents: BTreeMap<RouteId<'a>, Vec<Parent<'a>>>,
}

pub(crate) fn attach<'a>(gateways: &'a Gateways, config: &'a Config) -> Attachments<'a> {
    let ours = gateways.ours(config).map(|(name, gateway)| (name, judge(gateway)));
    let ours: BTreeMap<&Name, Vec<Judged<'_>>> = ours.collect();
    let mut routes: Vec<(Kind, &Name, &Route)> =
        gateways.routes().filter(|(_, _, route)| !route.is_deleted).collect();
    routes.sort_by_key(|(kind, name, route)| (route.created_s, *name, *kind));
    let mut attachments = Attachments::default();
    for (kind, name, route) in routes {
        for reference in &route.spec.parent_refs {
            let Some((gateway, listeners)) = target(&ours, name, reference) else { continue };
            let meant = listeners.iter().filter(|judged| is_meant(reference, judged.listener));
            let meant: Vec<&Judged<'_>> = meant.collect();
            let allowed = meant.iter().copied().filter(|judged| {
                let is_kind = judged.place.is_some() && judged.kinds.contains(&kind);
                is_kind && allows(judged.listener, gateway, name, gateways)
            });
            let allowed: Vec<&Judged<'_>> = allowed.collect();
            let accepted = match (meant.is_empty(), allowed.is_empty(), route.spec.rules.len() > 1) {
                (true, _, _) => Wanted::ill(ACCEPTED, "NoMatchingParent", "the Gateway has no such listener"),
                (_, _, true) => {
                    Wanted::ill(ACCEPTED, "UnsupportedValue", "it has several rules, expected one")
                }
                (_, true, _) => not_allowed(kind, &meant),
                (_, false, false) => attachments.take(kind, name, route, gateway, &allowed),
            };
            attachments.parents.entry((kind, name)).or_default().push(Parent { reference, accepted });
        }
    }
    attachments
}

impl<'a> Attachments<'a> {
    /// The route gets what nobody has who came before.
    fn take(
        &mut self,
        kind: Kind,
        name: &'a Name,
        route: &'a Route,
        gateway: &'a Name,
        allowed: &[&Judged<'a>],
    ) -> Wanted {
        let mut has_one = false;
        let mut lost: Option<String> = None;
        for judged in allowed {
            let key = (gateway, judged.listener.name.as_str());
            let (holder_kind, holder, _) = *self.holders.entry(key).or_insert((kind, name, route));
            if (holder_kind, holder) == (kind, name) {
                has_one = true;
            } else {
                let listener = &judged.listener.name;
                let words = format!("the {} {holder} has the listener {listener}", holder_kind.name());
                lost.get_or_insert(words);
            }
        }
        match (has_one, lost) {
            (false, Some(words)) => {
                let message = format!("{words} and is older: a listener has one route");
                Wanted::ill(ACCEPTED, "MultipleRoutesOnListener", message)
            }
            (true, Some(words)) => {
                let message = format!("it has others, but {words} and is older");
                Wanted { message, ..Wanted::well(ACCEPTED, ACCEPTED) }
            }
            (_, None) => Wanted::well(ACCEPTED, ACCEPTED),
        }
    }
}

/// The Gateway of ours that a route refers to.
fn target<'a, 'b>(
    ours: &'b BTreeMap<&'a Name, Vec<Judged<'a>>>,
    route: &Name,
    reference: &ParentRef,
) -> Option<(&'a Name, &'b [Judged<'a>])> {
    let is_gateway = reference.group.as_deref().unwrap_or(GROUP) == GROUP
        && reference.kind.as_deref().unwrap_or("Gateway") == "Gateway";
    let namespace = reference.namespace.as_ref().unwrap_or(&route.namespace).clone();
    let name = Name { namespace, name: reference.name.clone() };
    let (gateway, listeners) = ours.get_key_value(&name).filter(|_| is_gateway)?;
    Some((*gateway, listeners.as_slice()))
}

fn is_meant(reference: &ParentRef, listener: &Listener) -> bool {
    reference.section_name.as_ref().is_none_or(|section| *section == listener.name)
        && reference.port.is_none_or(|port| port == listener.port)
}

/// Whether routes of this namespace may attach.
fn allows(listener: &Listener, gateway: &Name, route: &Name, gateways: &Gateways) -> bool {
    let namespaces = &listener.allowed_routes.namespaces;
    match namespaces.from.as_deref() {
        None | Some("Same") => gateway.namespace == route.namespace,
        Some("All") => true,
        Some("Selector") => {
            let name = Name { namespace: String::new(), name: route.namespace.clone() };
            let labels = gateways.namespaces.all().get(&name);
            // One that makes no sense selects nothing.
            let selector = namespaces.selector.clone().and_then(|given| Selector::try_from(given).ok());
            labels.zip(selector).is_some_and(|(labels, selector)| selector.matches(&labels.0))
        }
        Some(_) => false,
    }
}

fn not_allowed(kind: Kind, meant: &[&Judged<'_>]) -> Wanted {
    let takes_kind = meant.iter().any(|judged| judged.place.is_some() && judged.kinds.contains(&kind));
    let message = match takes_kind {
        true => "the listener takes no routes of this namespace".to_owned(),
        false => format!("the listener takes no {}", kind.all()),
    };
    Wanted::ill(ACCEPTED, "NotAllowedByListeners", message)
}
