//! Objects for tests.

use super::resources::{Address, BackendRef, GrantFrom, GrantSpec, GrantTo, Listener, ParentRef, Rule};
use super::*;
use crate::cluster::samples::{name, store};

/// The Gateway `shop/edge` of the class `lb`, with these listeners of TCP.
pub(crate) fn gateway(listeners: &[(&str, i32)]) -> Gateway {
    let listeners = listeners.iter().map(|(name, port)| Listener {
        name: (*name).to_owned(),
        port: *port,
        protocol: "TCP".into(),
        ..Listener::default()
    });
    let listeners = listeners.collect();
    Known {
        uid: "g".into(),
        version: "1".into(),
        generation: 1,
        spec: api::GatewaySpec { gateway_class_name: "lb".into(), listeners, ..Default::default() },
        ..Known::default()
    }
}

/// That asks for these addresses.
pub(crate) fn asking(gateway: Gateway, addresses: &[&str]) -> Gateway {
    let addresses = addresses
        .iter()
        .map(|address| Address { type_: Some("IPAddress".into()), value: Some((*address).to_owned()) });
    let addresses = addresses.collect();
    Known { spec: api::GatewaySpec { addresses, ..gateway.spec.clone() }, ..gateway }
}

/// With this `spec.infrastructure`.
pub(crate) fn wanting(gateway: Gateway, infrastructure: serde_json::Value) -> Gateway {
    let infrastructure = Some(serde_json::from_value(infrastructure).expect("what the API has there"));
    Known { spec: api::GatewaySpec { infrastructure, ..gateway.spec.clone() }, ..gateway }
}

/// To the port 80 of a Service.
pub(crate) fn backend(called: &str, weight: i32) -> BackendRef {
    BackendRef { name: called.into(), port: Some(80), weight: Some(weight), ..BackendRef::default() }
}

/// A route for `shop/edge`.
pub(crate) fn route(created_s: i64, backend_refs: Vec<BackendRef>) -> Route {
    let parent = ParentRef { namespace: Some("shop".into()), name: "edge".into(), ..ParentRef::default() };
    Known {
        uid: "r".into(),
        version: "1".into(),
        generation: 1,
        created_s,
        spec: api::RouteSpec { parent_refs: vec![parent], rules: vec![Rule { backend_refs }] },
        ..Known::default()
    }
}

/// Lets TCPRoutes of `blog` name Services of `shop`.
pub(crate) fn grant() -> Grant {
    let from = GrantFrom { group: api::GROUP.into(), kind: "TCPRoute".into(), namespace: "blog".into() };
    let to = GrantTo { kind: "Service".into(), ..GrantTo::default() };
    Known { spec: GrantSpec { from: vec![from], to: vec![to] }, ..Known::default() }
}

/// All that there is of the Gateway API: one class of ours, the Gateway, and routes of TCP.
pub(crate) fn gateways(gateway: Gateway, routes: impl IntoIterator<Item = (Name, Route)>) -> Gateways {
    let class: Class = Known {
        version: "1".into(),
        generation: 1,
        spec: api::ClassSpec { controller_name: crate::config::CLASS.into(), parameters_ref: None },
        ..Known::default()
    };
    let of_cluster = |called: &str| Name { namespace: String::new(), name: called.into() };
    let labels = Labels(BTreeMap::from([("team".to_owned(), "web".to_owned())]));
    let versions = [
        (Kind::GatewayClass, Some("v1")),
        (Kind::Gateway, Some("v1")),
        (Kind::TcpRoute, Some("v1alpha2")),
        (Kind::UdpRoute, None),
        (Kind::ReferenceGrant, None),
    ];
    Gateways {
        classes: store([(of_cluster("lb"), class)]),
        gateways: store([(name("edge"), gateway)]),
        tcp_routes: store(routes),
        namespaces: store([(of_cluster("shop"), Labels::default()), (of_cluster("blog"), labels)]),
        versions: BTreeMap::from(versions),
        ..Gateways::default()
    }
}
