//! The Gateway API beside Services: Gateways, and routes of TCP and UDP that attach to them.
//!
//! Each Gateway of ours gets a *carrier*, a Service of type LoadBalancer that `lb-kube` makes and
//! that has the Gateway's ports. Everything else follows from it as from any other Service: it gets
//! addresses of the pools, the directors serve it, and kube-proxy takes its packets on each node,
//! which nothing else would make it do. Endpoints of the carrier are those of the Services that
//! routes name, which the leader copies into EndpointSlices of its own.
//!
//! - `resources`: the kinds of the API; `watch`: how they become known, if they are installed
//! - `attach`: which route has which listener; pure. `backends`: Services of a route; pure
//! - `carrier`: the carrier of a Gateway and its slices; pure. `infrastructure`: labels and
//!   annotations that both bear; pure
//! - `conditions`: conditions in a status; pure. `status`: what Gateways and routes are told; pure
//! - `decisions`: what is to be written to the cluster; pure. `writer`: it is written

mod attach;
mod backends;
mod carrier;
mod conditions;
pub(crate) mod decisions;
pub(crate) mod infrastructure;
pub(crate) mod resources;
mod status;
pub(crate) mod watch;
pub(crate) mod writer;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Namespace;
use kube::api::Object;
use kube::runtime::watcher::Event;

pub(crate) use self::carrier::name_of;
use self::resources::{self as api, Kind};
use crate::cluster::{Name, POOL, Read, SCHEDULER, Store, read};
use crate::config::Config;

/// Of an object what matters here.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Known<P, U> {
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub version: String,
    pub generation: i64,
    /// In seconds since 1970.
    pub created_s: i64,
    pub is_deleted: bool,
    pub finalizers: Vec<String>,
    /// Annotations of Gateways, which their carriers get.
    pub pool: Option<String>,
    pub scheduler: Option<String>,
    pub spec: P,
    pub status: U,
}

type Class = Known<api::ClassSpec, api::ClassStatus>;
type Gateway = Known<api::GatewaySpec, api::GatewayStatus>;
type Route = Known<api::RouteSpec, api::RouteStatus>;
type Grant = Known<api::GrantSpec, api::NoStatus>;

/// The labels of a namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Labels(BTreeMap<String, String>);

impl<P, U> Read<Object<P, U>> for Known<P, U>
where
    P: Clone + PartialEq,
    U: Clone + PartialEq + Default,
{
    fn read(object: Object<P, U>) -> (Name, Option<Self>) {
        let Object { types: _, metadata, spec, status } = object;
        let known = Self {
            uid: metadata.uid.clone().unwrap_or_default(),
            version: metadata.resource_version.clone().unwrap_or_default(),
            generation: metadata.generation.unwrap_or_default(),
            created_s: metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second()),
            is_deleted: metadata.deletion_timestamp.is_some(),
            finalizers: metadata.finalizers.clone().unwrap_or_default(),
            pool: read::annotation(&metadata, POOL),
            scheduler: read::annotation(&metadata, SCHEDULER),
            spec,
            status: status.unwrap_or_default(),
        };
        (read::name(&metadata), Some(known))
    }
}

impl Read<Namespace> for Labels {
    fn read(object: Namespace) -> (Name, Option<Self>) {
        let Namespace { metadata, .. } = object;
        (read::name(&metadata), Some(Self(metadata.labels.unwrap_or_default())))
    }
}

/// What watches tell.
pub(crate) enum News {
    Class(Box<Event<api::GatewayClass>>),
    Gateway(Box<Event<api::Gateway>>),
    TcpRoute(Box<Event<api::Route>>),
    UdpRoute(Box<Event<api::Route>>),
    Grant(Box<Event<api::ReferenceGrant>>),
    Namespace(Box<Event<Namespace>>),
    /// In which version the API server has the kind; `None`: it does not know it.
    Installed(Kind, Option<&'static str>),
}

/// Everything that is known of the Gateway API.
#[derive(Debug, Default)]
pub(crate) struct Gateways {
    classes: Store<Class>,
    gateways: Store<Gateway>,
    tcp_routes: Store<Route>,
    udp_routes: Store<Route>,
    grants: Store<Grant>,
    namespaces: Store<Labels>,
    /// Versions of the kinds that are installed, and what is not.
    versions: BTreeMap<Kind, Option<&'static str>>,
}

impl Gateways {
    /// Returns whether something is other than before.
    pub(crate) fn take(&mut self, news: News) -> bool {
        match news {
            News::Class(event) => self.classes.take(*event),
            News::Gateway(event) => self.gateways.take(*event),
            News::TcpRoute(event) => self.tcp_routes.take(*event),
            News::UdpRoute(event) => self.udp_routes.take(*event),
            News::Grant(event) => self.grants.take(*event),
            News::Namespace(event) => self.namespaces.take(*event),
            News::Installed(kind, version) => self.versions.insert(kind, version) != Some(version),
        }
    }

    /// Whether all is known that there is. Without Gateways there is nothing to do, and without one
    /// of the other kinds there are none of it.
    pub(crate) fn is_complete(&self) -> bool {
        let lacks = |kind: Kind| self.versions.get(&kind) == Some(&None);
        self.classes.is_complete()
            && self.gateways.is_complete()
            && (self.tcp_routes.is_complete() || lacks(Kind::TcpRoute))
            && (self.udp_routes.is_complete() || lacks(Kind::UdpRoute))
            && (self.grants.is_complete() || lacks(Kind::ReferenceGrant))
            && self.namespaces.is_complete()
    }

    fn version(&self, kind: Kind) -> Option<&'static str> {
        self.versions.get(&kind).copied().flatten()
    }

    /// Those whose class names us, by its controller.
    fn ours<'a>(&'a self, config: &'a Config) -> impl Iterator<Item = (&'a Name, &'a Gateway)> {
        self.gateways.all().iter().filter(move |(_, gateway)| {
            let name = gateway.spec.gateway_class_name.clone();
            let class = self.classes.all().get(&Name { namespace: String::new(), name });
            !gateway.is_deleted && class.is_some_and(|class| class.spec.is_ours(config))
        })
    }

    /// Whether its class may get new Gateways: one that is given parameters later keeps those that
    /// it has.
    fn takes_new(&self, gateway: &Gateway, config: &Config) -> bool {
        let name = gateway.spec.gateway_class_name.clone();
        let class = self.classes.all().get(&Name { namespace: String::new(), name });
        class.is_some_and(|class| class.spec.is_accepted(config))
    }

    /// All routes, of both kinds.
    fn routes(&self) -> impl Iterator<Item = (Kind, &Name, &Route)> {
        let tcp = self.tcp_routes.all().iter().map(|(name, route)| (Kind::TcpRoute, name, route));
        let udp = self.udp_routes.all().iter().map(|(name, route)| (Kind::UdpRoute, name, route));
        tcp.chain(udp)
    }
}

impl api::ClassSpec {
    fn is_ours(&self, config: &Config) -> bool {
        self.controller_name == config.class
    }

    /// Parameters would want something that nobody here knows.
    fn is_accepted(&self, config: &Config) -> bool {
        self.is_ours(config) && self.parameters_ref.is_none()
    }
}

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;
