//! What Gateways, their listeners and routes are told: pure.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;

use super::attach::{ACCEPTED, Attachments, Judged, Parent, judge};
use super::backends::RESOLVED_REFS;
use super::carrier::{asked, name_of};
use super::conditions::{Wanted, conditions};
use super::infrastructure::has_parameters;
use super::resources::GROUP;
use super::{Class, Gateway, Route, api};
use crate::cluster::{Name, Owner, Service};
use crate::config::Config;
use crate::decisions::SERVED;

/// The type of the condition that packets are taken.
const PROGRAMMED: &str = "Programmed";

pub(crate) fn of_class(class: &Class, now: &Timestamp) -> api::ClassStatus {
    let accepted = match &class.spec.parameters_ref {
        None => Wanted::well(ACCEPTED, ACCEPTED),
        Some(_) => Wanted::ill(ACCEPTED, "InvalidParameters", "lb-kube takes no parameters"),
    };
    api::ClassStatus { conditions: conditions(&class.status.conditions, &[accepted], class.generation, now) }
}

/// `services`: of the cluster, the carrier among them.
pub(crate) fn of_gateway(
    name: &Name,
    gateway: &Gateway,
    services: &BTreeMap<Name, Service>,
    attachments: &Attachments<'_>,
    now: &Timestamp,
) -> api::GatewayStatus {
    let judged = judge(gateway);
    let accepted = accepted(gateway, &judged);
    let carrier = services.get(&name_of(name));
    let owner = Owner { name: name.name.clone(), uid: gateway.uid.clone() };
    let is_taken = carrier.is_some_and(|service| service.gateway.is_none());
    let carrier = carrier.filter(|service| service.gateway.as_ref() == Some(&owner));
    let programmed = match (accepted.is_true, is_taken) {
        (false, _) => Wanted::ill(PROGRAMMED, "Invalid", "the Gateway is not accepted"),
        (true, true) => {
            let message = format!("there is a Service {} that lb-kube has not made", name_of(name));
            Wanted::ill(PROGRAMMED, "Invalid", message)
        }
        (true, false) => programmed(gateway, carrier),
    };
    let addresses = carrier.iter().flat_map(|carrier| &carrier.addresses).map(|address| api::Address {
        type_: Some("IPAddress".to_owned()),
        value: Some(address.to_string()),
    });
    let listeners = judged.iter().map(|judged| {
        let listener = &judged.listener.name;
        let known = gateway.status.listeners.iter().find(|known| known.name == *listener);
        let known = known.map(|known| known.conditions.as_slice()).unwrap_or_default();
        let supported = judged
            .kinds
            .iter()
            .map(|kind| api::RouteKind { group: Some(GROUP.to_owned()), kind: kind.name().to_owned() });
        let wanted = of_listener(judged, programmed.is_true);
        api::ListenerStatus {
            name: listener.clone(),
            supported_kinds: supported.collect(),
            attached_routes: i32::from(attachments.holders.contains_key(&(name, listener.as_str()))),
            conditions: conditions(known, &wanted, gateway.generation, now),
        }
    });
    api::GatewayStatus {
        addresses: addresses.collect(),
        listeners: listeners.collect(),
        conditions: conditions(
            &gateway.status.conditions,
            &[accepted, programmed.clone()],
            gateway.generation,
            now,
        ),
    }
}

fn accepted(gateway: &Gateway, judged: &[Judged<'_>]) -> Wanted {
    if let Err(why) = asked(gateway) {
        return Wanted::ill(ACCEPTED, "UnsupportedAddress", why);
    }
    if has_parameters(gateway) {
        let message = "lb-kube takes no parameters: take infrastructure.parametersRef away";
        return Wanted::ill(ACCEPTED, "InvalidParameters", message);
    }
    let bad = judged.iter().filter(|judged| judged.place.is_none());
    let bad: Vec<String> =
        bad.map(|judged| format!("{}: {}", judged.listener.name, judged.accepted.message)).collect();
    match (bad.is_empty(), bad.len() < judged.len()) {
        (true, _) => Wanted::well(ACCEPTED, ACCEPTED),
        // The others are served.
        (false, true) => Wanted { message: bad.join("; "), ..Wanted::well(ACCEPTED, "ListenersNotValid") },
        (false, false) => Wanted::ill(ACCEPTED, "ListenersNotValid", bad.join("; ")),
    }
}

/// As the carrier's own condition says.
fn programmed(gateway: &Gateway, carrier: Option<&Service>) -> Wanted {
    let told = carrier.map(|carrier| carrier.conditions.iter().find(|condition| condition.type_ == SERVED));
    let Some(Some(told)) = told else {
        return Wanted::ill(PROGRAMMED, "Pending", "the directors do not serve it yet");
    };
    if told.status == "True" {
        return Wanted { message: told.message.clone(), ..Wanted::well(PROGRAMMED, PROGRAMMED) };
    }
    let has_asked = !gateway.spec.addresses.is_empty();
    let reason = match told.reason.as_str() {
        "RefusedByDirector" | "ProtocolNotSupported" => "Invalid",
        "PoolsExhausted" | "NoSuchPool" => "AddressNotAssigned",
        _ if has_asked => "AddressNotUsable",
        _ => "AddressNotAssigned",
    };
    Wanted::ill(PROGRAMMED, reason, told.message.clone())
}

fn of_listener(judged: &Judged<'_>, is_programmed: bool) -> [Wanted; 4] {
    let programmed = match (judged.place, is_programmed) {
        (None, _) => Wanted::ill(PROGRAMMED, "Invalid", "the listener is not accepted"),
        (Some(_), true) => Wanted::well(PROGRAMMED, PROGRAMMED),
        (Some(_), false) => Wanted::ill(PROGRAMMED, "Pending", "the Gateway is not programmed"),
    };
    let unknown = judged.unknown_kinds.join(", ");
    let resolved = match unknown.is_empty() {
        true => Wanted::well(RESOLVED_REFS, RESOLVED_REFS),
        false => {
            let protocol = &judged.listener.protocol;
            let message = format!("no listener of {protocol} takes routes of the kind {unknown}");
            Wanted::ill(RESOLVED_REFS, "InvalidRouteKinds", message)
        }
    };
    let conflicted = Wanted::ill("Conflicted", "NoConflicts", "");
    [judged.accepted.clone(), programmed, resolved, conflicted]
}

/// What stands there of other controllers stays, and each where it stands: where two controllers
/// had different orders, each would write its own for ever.
pub(crate) fn of_route(
    route: &Route,
    parents: &[Parent<'_>],
    resolved: &Wanted,
    config: &Config,
    now: &Timestamp,
) -> api::RouteStatus {
    let is_ours = |known: &&api::ParentStatus| known.controller_name == config.class;
    let ours = |Parent { reference, accepted }: &Parent<'_>, known: &[Condition]| {
        let wanted = [accepted.clone(), resolved.clone()];
        api::ParentStatus {
            parent_ref: (*reference).clone(),
            controller_name: config.class.clone(),
            conditions: conditions(known, &wanted, route.generation, now),
        }
    };
    let mut left: Vec<&Parent<'_>> = parents.iter().collect();
    let known = route.status.parents.iter().filter_map(|known| {
        if !is_ours(&known) {
            return Some(known.clone());
        }
        let place = left.iter().position(|parent| *parent.reference == known.parent_ref)?;
        Some(ours(left.remove(place), &known.conditions))
    });
    let mut all: Vec<api::ParentStatus> = known.collect();
    all.extend(left.into_iter().map(|parent| ours(parent, &[])));
    api::RouteStatus { parents: all }
}
