//! What is known of the cluster: of each object what matters here, and no more, because a cluster
//! has many.
//!
//! - `read`: from the API's types

pub(crate) mod read;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::watcher::Event;

use crate::address::Family;
use crate::config::Config;
use crate::gateway::infrastructure::Extras;

/// That `lb-kube` has to do with a Service. It is no name that other controllers use, too, so it
/// also says that what stands in the status is `lb-kube`'s own.
pub(crate) const FINALIZER: &str = "lb-kube/cleanup";

/// Annotations of Services.
pub(crate) const ADDRESSES: &str = "lb-kube/addresses";
pub(crate) const POOL: &str = "lb-kube/pool";
pub(crate) const SCHEDULER: &str = "lb-kube/scheduler";

/// Annotation of the slices of carriers: what one endpoint counts for.
pub(crate) const WEIGHT: &str = "lb-kube/weight";

/// Labels that say who has made a Service, and a slice.
pub(crate) const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
pub(crate) const SLICE_MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// and what `lb-kube` is called there.
pub(crate) const MANAGER: &str = "lb-kube";

/// The label of a slice that names its Service.
pub(crate) const OF_SERVICE: &str = "kubernetes.io/service-name";

/// Namespace and name; of nodes the namespace is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name {
    pub namespace: String,
    pub name: String,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A Service, of whatever type.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Service {
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub version: String,
    /// In seconds since 1970.
    pub created_s: i64,
    pub is_deleted: bool,
    pub is_load_balancer: bool,
    pub class: Option<String>,
    /// Addresses that it asks for, as it has them.
    pub asks_for: Vec<String>,
    pub pool: Option<String>,
    pub scheduler: Option<String>,
    /// IP families, the first one first.
    pub families: Vec<Family>,
    /// Whether one of them will do.
    pub prefers_both: bool,
    /// `externalTrafficPolicy: Local`.
    pub is_local: bool,
    pub health_port: Option<u16>,
    /// `sessionAffinity: ClientIP`, in seconds.
    pub affinity_s: Option<u64>,
    pub ports: Vec<Port>,
    /// What its status says.
    pub addresses: Vec<IpAddr>,
    pub conditions: Vec<Condition>,
    pub finalizers: Vec<String>,
    /// The Gateway that it is the carrier of.
    pub gateway: Option<Owner>,
    /// Whether its label says that `lb-kube` has made it.
    pub has_label: bool,
    /// Of a carrier.
    pub extras: Extras,
}

/// A Gateway, as a carrier names it; both are in one namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Owner {
    pub name: String,
    pub uid: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Port {
    /// Empty if it has none.
    pub name: String,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    pub port: u16,
}

/// An `EndpointSlice`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slice {
    /// Name of the Service.
    pub service: String,
    pub family: Family,
    /// By names and protocols the ports of the endpoints; 0: nobody says which.
    pub ports: BTreeMap<(String, String), u16>,
    pub endpoints: Vec<Endpoint>,
    /// What one endpoint counts for, beside those of other slices.
    pub weight: u16,
    /// `lb-kube` has made it, for a carrier.
    pub is_ours: bool,
    /// Of one that `lb-kube` has made.
    pub extras: Extras,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub address: String,
    pub node: String,
    pub is_ready: bool,
    /// It ends, and goes on serving until then.
    pub is_leaving: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Node {
    pub is_ready: bool,
    /// It has the label `node.kubernetes.io/exclude-from-external-load-balancers`.
    pub is_excluded: bool,
    /// The internal ones first.
    pub addresses: Vec<IpAddr>,
}

impl Service {
    /// Whether its class is ours, and it is to be served.
    pub(crate) fn is_ours(&self, config: &Config) -> bool {
        let is_of_class = match &self.class {
            Some(class) => *class == config.class,
            None => config.default_class,
        };
        self.is_load_balancer && !self.is_deleted && is_of_class
    }

    pub(crate) fn has_finalizer(&self) -> bool {
        self.finalizers.iter().any(|finalizer| finalizer == FINALIZER)
    }
}

impl Node {
    /// Of this family if it has one.
    pub(crate) fn address(&self, family: Family) -> Option<IpAddr> {
        let of_family = self.addresses.iter().find(|address| Family::of(**address) == family);
        of_family.or_else(|| self.addresses.first()).copied()
    }
}

/// What is made of an object of the API.
pub(crate) trait Read<K>: Sized + PartialEq {
    /// `None`: it is nothing that matters here.
    fn read(object: K) -> (Name, Option<Self>);
}

/// All objects of a kind.
#[derive(Debug)]
pub(crate) struct Store<T> {
    known: BTreeMap<Name, T>,
    /// Those of a list that has not come to its end.
    coming: BTreeMap<Name, T>,
    is_complete: bool,
}

impl<T> Default for Store<T> {
    fn default() -> Self {
        Self { known: BTreeMap::new(), coming: BTreeMap::new(), is_complete: false }
    }
}

impl<T> Store<T> {
    pub(crate) const fn all(&self) -> &BTreeMap<Name, T> {
        &self.known
    }

    /// Whether a list has come to its end: before that nobody knows what is missing.
    pub(crate) const fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Takes what a watch tells. Returns whether something is other than before.
    pub(crate) fn take<K>(&mut self, event: Event<K>) -> bool
    where
        T: Read<K>,
    {
        match event {
            Event::Init => {
                self.coming.clear();
                false
            }
            Event::InitApply(object) => {
                let (name, new) = T::read(object);
                self.coming.extend(new.map(|new| (name, new)));
                false
            }
            Event::InitDone => {
                let coming = std::mem::take(&mut self.coming);
                let is_other = !self.is_complete || coming != self.known;
                self.known = coming;
                self.is_complete = true;
                is_other
            }
            Event::Apply(object) => match T::read(object) {
                (name, Some(new)) => {
                    let is_other = self.known.get(&name) != Some(&new);
                    self.known.insert(name, new);
                    is_other
                }
                (name, None) => self.known.remove(&name).is_some(),
            },
            Event::Delete(object) => self.known.remove(&T::read(object).0).is_some(),
        }
    }
}

/// Everything that the services of the director follow from.
#[derive(Debug, Default)]
pub(crate) struct Cluster {
    pub services: Store<Service>,
    pub slices: Store<Slice>,
    pub nodes: Store<Node>,
}

impl Cluster {
    pub(crate) const fn is_complete(&self) -> bool {
        self.services.is_complete() && self.slices.is_complete() && self.nodes.is_complete()
    }
}

#[cfg(test)]
pub(crate) mod samples {
    use super::*;

    pub(crate) fn name(name: &str) -> Name {
        Name { namespace: "shop".into(), name: name.into() }
    }

    pub(crate) fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    pub(crate) fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().copied().map(address).collect()
    }

    /// A Service of port 80 that has these addresses.
    pub(crate) fn service(has: &[&str]) -> Service {
        Service {
            uid: "1".into(),
            version: "1".into(),
            is_load_balancer: true,
            class: Some(crate::config::CLASS.into()),
            families: vec![Family::Ipv4],
            ports: vec![Port { protocol: "TCP".into(), port: 80, ..Port::default() }],
            addresses: addresses(has),
            finalizers: vec![FINALIZER.into()],
            ..Service::default()
        }
    }

    /// Of the Service `web`: endpoints of its port that has no name.
    pub(crate) fn slice(endpoints: Vec<Endpoint>) -> Slice {
        Slice {
            service: "web".into(),
            family: Family::Ipv4,
            ports: BTreeMap::from([((String::new(), "TCP".to_owned()), 8080)]),
            endpoints,
            weight: 1,
            is_ours: false,
            extras: Extras::default(),
        }
    }

    pub(crate) fn ready(node: &str, address: &str) -> Endpoint {
        Endpoint { address: address.into(), node: node.into(), is_ready: true, is_leaving: false }
    }

    pub(crate) fn node(has: &[&str]) -> Node {
        Node { is_ready: true, is_excluded: false, addresses: addresses(has) }
    }

    pub(crate) fn store<T>(all: impl IntoIterator<Item = (Name, T)>) -> Store<T> {
        Store { known: all.into_iter().collect(), coming: BTreeMap::new(), is_complete: true }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever is not 0.
    impl Read<(&'static str, u8)> for u8 {
        fn read((name, value): (&'static str, u8)) -> (Name, Option<Self>) {
            (samples::name(name), (value != 0).then_some(value))
        }
    }

    fn known(store: &Store<u8>) -> Vec<(&str, u8)> {
        store.all().iter().map(|(name, value)| (name.name.as_str(), *value)).collect()
    }

    #[test]
    fn a_store_has_what_a_watch_tells() {
        let mut store = Store::<u8>::default();
        assert!(!store.take(Event::Init));
        assert!(!store.take(Event::InitApply(("a", 1))));
        assert!(!store.take(Event::InitApply(("c", 0))));
        assert!(!store.is_complete() && known(&store).is_empty());
        assert!(store.take(Event::InitDone), "the first list is news even if it is empty");
        assert!(store.is_complete());
        assert!(!store.take(Event::Apply(("a", 1))));
        assert!(store.take(Event::Apply(("b", 2))));
        assert!(store.take(Event::Apply(("a", 3))));
        assert_eq!(known(&store), [("a", 3), ("b", 2)]);
        assert!(store.take(Event::Delete(("b", 2))));
        assert!(!store.take(Event::Delete(("b", 2))));
        assert!(store.take(Event::Apply(("a", 0))), "it does not matter any more");
        assert!(known(&store).is_empty());
    }

    #[test]
    fn a_new_list_takes_the_place_of_all_when_it_is_complete() {
        let mut store = store_of(&[("a", 1), ("b", 2)]);
        store.take(Event::Init);
        store.take(Event::InitApply(("b", 2)));
        assert_eq!(known(&store), [("a", 1), ("b", 2)], "services do not vanish meanwhile");
        assert!(store.take(Event::InitDone));
        assert_eq!(known(&store), [("b", 2)]);
        store.take(Event::Init);
        store.take(Event::InitApply(("b", 2)));
        assert!(!store.take(Event::InitDone), "nothing has changed");
    }

    fn store_of(all: &[(&str, u8)]) -> Store<u8> {
        samples::store(all.iter().map(|(name, value)| (samples::name(name), *value)))
    }
}
