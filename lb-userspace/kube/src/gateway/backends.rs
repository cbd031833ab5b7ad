//! The Services that a route names: pure.

use std::collections::BTreeMap;

use super::conditions::Wanted;
use super::resources::{BackendRef, Kind, Protocol};
use super::{Gateways, Route, api};
use crate::cluster::{Name, Port, Service, read};

/// The type of the condition that whatever an object names is there.
pub(crate) const RESOLVED_REFS: &str = "ResolvedRefs";

/// A port of a Service that a route names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Backend {
    pub service: Name,
    /// Name of the port, as slices of endpoints have it.
    pub port: String,
    pub protocol: Protocol,
    pub weight: u16,
}

/// What a route names, and the condition that tells whether that is all there.
pub(crate) fn resolve(
    (kind, name, route): (Kind, &Name, &Route),
    services: &BTreeMap<Name, Service>,
    gateways: &Gateways,
) -> (Vec<Backend>, Wanted) {
    let mut backends = Vec::new();
    let mut trouble = None;
    for reference in route.spec.rules.first().into_iter().flat_map(|rule| &rule.backend_refs) {
        match one((kind, name), reference, services, gateways) {
            Ok(backend) => add(&mut backends, backend),
            // The first one is told.
            Err(wanted) => {
                trouble.get_or_insert(wanted);
            }
        }
    }
    (backends, trouble.unwrap_or_else(|| Wanted::well(RESOLVED_REFS, RESOLVED_REFS)))
}

/// One that is named twice has both weights.
fn add(backends: &mut Vec<Backend>, new: Backend) {
    let is_same = |known: &&mut Backend| known.service == new.service && known.port == new.port;
    match backends.iter_mut().find(is_same) {
        Some(known) => known.weight = known.weight.saturating_add(new.weight),
        None => backends.push(new),
    }
}

fn one(
    (kind, route): (Kind, &Name),
    reference: &BackendRef,
    services: &BTreeMap<Name, Service>,
    gateways: &Gateways,
) -> Result<Backend, Wanted> {
    let ill = |reason, message: String| Err(Wanted::ill(RESOLVED_REFS, reason, message));
    let (group, called) = (reference.group.as_deref().unwrap_or(""), reference.kind.as_deref());
    if !group.is_empty() || called.is_some_and(|called| called != "Service") {
        let called = called.unwrap_or("Service");
        return ill("InvalidKind", format!("{} is a {called}, expected a Service", reference.name));
    }
    let namespace = reference.namespace.as_ref().unwrap_or(&route.namespace).clone();
    let name = Name { namespace, name: reference.name.clone() };
    if name.namespace != route.namespace && !is_granted(kind, route, &name, gateways) {
        let message = format!("no ReferenceGrant of its namespace lets this route name the Service {name}");
        return ill("RefNotPermitted", message);
    }
    let Some(service) = services.get(&name) else {
        return ill("BackendNotFound", format!("there is no Service {name}"));
    };
    let Some(port) = reference.port.and_then(read::port) else {
        return ill("UnsupportedValue", format!("no port of the Service {name} is named"));
    };
    let protocol = Protocol::of_route(kind);
    let of_number: Vec<&Port> = service.ports.iter().filter(|one| one.port == port).collect();
    if of_number.is_empty() {
        return ill("BackendNotFound", format!("the Service {name} has no port {port}"));
    }
    let Some(found) = of_number.iter().find(|one| one.protocol == protocol.name()) else {
        let message = format!("port {port} of the Service {name} is not of {}", protocol.name());
        return ill("UnsupportedProtocol", message);
    };
    let weight = reference.weight.unwrap_or(1).clamp(0, i32::from(u16::MAX));
    let weight = u16::try_from(weight).unwrap_or(u16::MAX);
    Ok(Backend { service: name, port: found.name.clone(), protocol, weight })
}

/// Whether somebody in the Service's namespace lets routes of that kind and namespace name it.
fn is_granted(kind: Kind, route: &Name, service: &Name, gateways: &Gateways) -> bool {
    let is_from = |from: &api::GrantFrom| {
        from.group == api::GROUP && from.kind == kind.name() && from.namespace == route.namespace
    };
    let is_to = |to: &api::GrantTo| {
        to.group.is_empty()
            && to.kind == "Service"
            && to.name.as_ref().is_none_or(|name| name.is_empty() || *name == service.name)
    };
    gateways.grants.all().iter().any(|(name, grant)| {
        name.namespace == service.namespace
            && grant.spec.from.iter().any(is_from)
            && grant.spec.to.iter().any(is_to)
    })
}
