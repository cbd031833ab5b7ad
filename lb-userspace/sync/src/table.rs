//! What is needed of the connection table and of the leases.

use std::time::Duration;

use lb_common::addr::V6;
use lb_common::forward::nat::source::{Client, Endpoint};
use lb_common::server::ServerId;
use lb_common::service::ServiceInfo;
use lb_common::service::binding;
use lb_common::table::Page;
use lb_common::table::connection::{Entry, Generation, Key, KeyV4, KeyV6, Tick};
use lb_model::ids::GroupNumber;

/// The pages of connections of one family. Packets change them at the same time.
pub trait Pages<K: Key> {
    type Page<'a>: Page<Key = K>
    where
        Self: 'a;

    fn count(&self) -> usize;
    fn page(&self, index: usize) -> Self::Page<'_>;
    /// Hands over the pages of which the program says that a connection was established or has
    /// ended there since the last call.
    fn take_changed(&self, changed: &mut Vec<usize>);
}

/// The connection table of this director. Pages of IPv4 and of IPv6 are alike.
pub trait Table: Send + Sync + 'static {
    type V4: Pages<KeyV4>;
    type V6: Pages<KeyV6>;

    fn v4(&self) -> &Self::V4;
    fn v6(&self) -> &Self::V6;
    /// Secret keys of the hash that says where a connection stands.
    fn hash_keys(&self) -> [u64; 2];
    /// What the program knows of the server's service.
    fn service(&self, server: ServerId) -> ServiceInfo;
    /// Notes an entry in its server's counts, in the place of the one before. An entry without a
    /// state counts nothing.
    fn count(&self, entry: Entry, before: Entry);
    /// Whether this director balances the group's packets now.
    fn balances(&self, group: GroupNumber) -> bool;
    /// Whether it holds the group. One that has given it up balances on what still comes, for as
    /// long as it is on standby, and learns what the holder tells all the same.
    fn holds(&self, group: GroupNumber) -> bool;
    /// What entries bear that are written now. Changes when the group is taken, and when it is
    /// given up.
    fn generation(&self, group: GroupNumber) -> Generation;
    fn now(&self) -> Tick;

    /// What stands in the client's place at its server, which has a pool.
    fn source(&self, client: &Client) -> Option<Endpoint>;
    /// From now on this stands in the client's place. Comes after the connection's entry: without
    /// one the port is given back. `gives_way` says whether another client loses the port, if it
    /// has it.
    fn enter_source(
        &self,
        client: &Client,
        endpoint: &Endpoint,
        gives_way: &dyn Fn(&Client) -> bool,
    ) -> Entered;

    /// The clients that are bound to servers now.
    fn bindings(&self) -> Vec<(binding::Key, Bound)>;
    /// Binds a client, or prolongs its binding; times are of CLOCK_MONOTONIC.
    fn bind(&self, key: binding::Key, server: V6, until: Duration);
}

/// What has come of an address and port in a client's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entered {
    /// It was nobody's, or this client's already.
    WasFree,
    /// This client has lost it.
    InPlaceOf(Client),
    /// It stays another client's, or there is no room.
    Refused,
}

/// The server that a client is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    pub server: V6,
    /// CLOCK_MONOTONIC.
    pub until: Duration,
    /// How long it lasts after each use.
    pub timeout: Duration,
}
