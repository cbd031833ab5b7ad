//! `lb connections`: the connection table, told by a thread of its own. The controller gives it the
//! names that servers have now, and is done with it.

use std::net::{IpAddr, SocketAddr};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use lb_api::connections::{Bounds, Connection, End, Family, Filter};
use lb_api::wire::Reply;
use lb_common::addr::{Address as _, V6};
use lb_common::server::{ServerEntry, ServerId};
use lb_common::service::{Protocol, ServiceInfo};
use lb_common::table::connection::{Entry, Key, State, TICK_SHIFT, Tick};
use lb_datapath::mapped::Mapped;
use lb_datapath::table::{Pages, Table};
use lb_model::{ServiceKey, canonical};
use lb_system::clock::now_ns;
use lb_web::NoListing;
use tokio::sync::mpsc;

use super::Controller;
use super::prefix::prefix;
use super::table_walk::walk;
use super::tracer::names::{Named, Names};

/// Listings at a time: each reads the whole table, perhaps hundreds of megabytes.
const MOST: usize = 4;
/// Connections in a reply.
const AT_ONCE: usize = 500;
/// Replies that may wait for a slow reader.
const WAITING: usize = 4;

/// Those under way hold a clone.
#[derive(Debug, Default)]
pub(super) struct Listings(Arc<()>);

impl Listings {
    /// Another one, which is under way as long as the answer is held; or why there are no more.
    pub(super) fn begin(&self) -> Result<Arc<()>, NoListing> {
        let under_way = Arc::clone(&self.0);
        match Arc::strong_count(&under_way) > MOST + 1 {
            true => Err(NoListing::Busy(format!(
                "{MOST} listings of connections are under way, and there are no more at a time: wait for one to end"
            ))),
            false => Ok(under_way),
        }
    }
}

impl Controller {
    /// The answer is where replies will come, each a line of JSON, or why none do.
    pub(super) fn list_connections(
        &self,
        filter: &Filter,
        bounds: Bounds,
    ) -> Result<mpsc::Receiver<Vec<u8>>, NoListing> {
        let under_way = self.viewers.listings.begin()?;
        let names = Names::of(&self.config, &self.runtime.draining, &self.program.forwarder);
        let wanted = Wanted::new(filter, &names).map_err(NoListing::Wrong)?;
        let (table, servers) = self.program.forwarder.entries();
        let (replies, listing) = mpsc::channel(WAITING);
        let walk = Walk { table, servers, names, wanted, replies, part: Vec::new(), listed: 0, bounds };
        let started = thread::Builder::new().name("lb-connections".to_owned()).spawn(move || {
            walk.run();
            drop(under_way);
        });
        started.map_err(|error| NoListing::Busy(format!("cannot start the listing's thread: {error}")))?;
        Ok(listing)
    }
}

/// A filter whose names are known.
struct Wanted {
    client: Option<[V6; 2]>,
    /// By number, if not all servers are wanted: also those without a name.
    servers: Option<Vec<bool>>,
    states: Vec<String>,
    family: Option<Family>,
    protocol: Option<Protocol>,
}

impl Wanted {
    fn new(filter: &Filter, names: &Names) -> Result<Self, String> {
        let Filter { client, service, server, states, family, protocol, method } = filter;
        let client = client.as_deref().map(prefix).transpose()?.map(|words| words.map(V6));
        let all = [Protocol::Tcp, Protocol::Udp];
        let known = |name: &String| {
            let found = all.into_iter().find(|protocol| protocol.name() == name);
            found.ok_or_else(|| format!("the protocol is tcp or udp, not {name:?}"))
        };
        let protocol = protocol.as_ref().map(known).transpose()?;
        if let Some(state) = states.iter().find(|state| !is_state(state)) {
            return Err(format!("there is no state {state:?}"));
        }
        let narrow = service.is_some() || server.is_some() || method.is_some();
        let mut numbers = vec![false; usize::from(u16::MAX) + 1];
        let [mut service_there, mut server_there] = [service.is_none(), server.is_none()];
        for (number, named) in names.servers().filter(|_| narrow) {
            let of_service = service.as_ref().is_none_or(|name| is_service(name, names, &named.service));
            let is_server = server.as_ref().is_none_or(|name| named.server.is_called(name));
            service_there |= of_service;
            server_there |= is_server;
            let by_method = method.is_none_or(|method| named.method == method);
            numbers[usize::from(number)] = of_service && is_server && by_method;
        }
        if !service_there {
            let name = service.as_deref().unwrap_or_default();
            return Err(format!("there is no service {name:?}; `lb status --brief` lists those there are"));
        }
        if !server_there {
            let name = server.as_deref().unwrap_or_default();
            return Err(format!("there is no server {name:?}; `lb status` lists those there are"));
        }
        let servers = narrow.then_some(numbers);
        Ok(Self { client, servers, states: states.clone(), family: *family, protocol })
    }

    fn is_server(&self, server: ServerId) -> bool {
        self.servers.as_ref().is_none_or(|servers| servers[usize::from(server.0)])
    }

    fn is_client(&self, client: V6) -> bool {
        self.client.is_none_or(|[address, mask]| {
            (0..2).all(|word| (client.0[word] ^ address.0[word]) & mask.0[word] == 0)
        })
    }
}

fn is_state(name: &str) -> bool {
    (0..=u8::MAX).filter_map(State::from_bits).any(|state| state.name() == name)
}

/// By its name, its VIP, or its VIP and port.
fn is_service(name: &str, names: &Names, key: &ServiceKey) -> bool {
    names.service(key) == Some(name)
        || canonical(name).parse::<IpAddr>().is_ok_and(|vip| vip == key.vip)
        || name.parse::<SocketAddr>().is_ok_and(|address| address == key.address())
}

/// A listing under way.
struct Walk {
    table: Arc<Table>,
    servers: Arc<Mapped<ServerEntry>>,
    names: Names,
    wanted: Wanted,
    replies: mpsc::Sender<Vec<u8>>,
    /// What has been found since the last reply.
    part: Vec<Connection>,
    listed: u64,
    bounds: Bounds,
}

/// Nobody reads any more.
struct Gone;

impl Walk {
    fn run(mut self) {
        let table = Arc::clone(&self.table);
        // Slots are numbered from those of IPv4 on.
        let border = table.v4.slots();
        let next = match self.pages(&table.v4, Family::Ipv4, 0) {
            Ok(None) => self.pages(&table.v6, Family::Ipv6, border),
            ended => ended,
        };
        let Ok(next) = next else { return };
        let end = End { next, listed: self.listed };
        let _ = self.flush().and_then(|()| self.send(&Reply::ListingEnded(end)));
    }

    /// Returns where the next part begins, if this one ends here. `zero` is the number of the first
    /// slot.
    fn pages<K: Key>(&mut self, pages: &Pages<K>, family: Family, zero: u64) -> Result<Option<u64>, Gone> {
        let skipped = self.bounds.from.saturating_sub(zero);
        if self.wanted.family.is_some_and(|wanted| wanted != family) || skipped >= pages.slots() {
            return Ok(None);
        }
        let ended = walk(pages, skipped, |slot, key, entry| match self.meet(key, entry) {
            Ok(true) => ControlFlow::Continue(()),
            Ok(false) => ControlFlow::Break(Ok(zero + slot)),
            Err(gone) => ControlFlow::Break(Err(gone)),
        });
        match ended {
            ControlFlow::Continue(()) => Ok(None),
            ControlFlow::Break(next) => next.map(Some),
        }
    }

    /// `false`: there is no room for it in this part.
    fn meet<K: Key>(&mut self, key: K, entry: Entry) -> Result<bool, Gone> {
        if self.replies.is_closed() {
            return Err(Gone);
        }
        let Some(connection) = self.connection(key, entry) else { return Ok(true) };
        if self.bounds.limit.is_some_and(|limit| self.listed >= limit) {
            return Ok(false);
        }
        self.listed += 1;
        self.part.push(connection);
        if self.part.len() == AT_ONCE {
            self.flush()?;
        }
        Ok(true)
    }

    /// `None`: it is not asked for, or has expired.
    fn connection<K: Key>(&self, key: K, entry: Entry) -> Option<Connection> {
        let (state, server) = (entry.state()?, entry.server());
        let (client, wanted) = (key.client().mapped(), &self.wanted);
        if !wanted.is_server(server)
            || !wanted.is_client(client)
            || !wanted.states.is_empty() && !wanted.states.iter().any(|wanted| wanted == state.name())
        {
            return None;
        }
        let now = Tick::from_ns(now_ns());
        if entry.expires().is_past(now) {
            return None;
        }
        let service = self.servers.read(usize::from(server.0)).service;
        let protocol = Protocol::from_number((service.port_and_protocol >> 16) as u8)?;
        if wanted.protocol.is_some_and(|wanted| wanted != protocol) {
            return None;
        }
        let named: Option<&Named> = self.names.of_number(server.0);
        let [client_port, port] = key.ports().map(u16::from_be);
        let ticks = u64::from(entry.expires().ticks_after(now));
        Some(Connection {
            protocol: protocol.name().to_owned(),
            client: client.into(),
            client_port,
            vip: service.address.into(),
            port,
            server_address: named.map(|named| named.server.address),
            // Packets of direct routing and tunnels keep their port, and those of several ports.
            server_port: named.map(|named| {
                match named.server.masq && !service.has(ServiceInfo::MANY_PORTS) {
                    true => named.server.port,
                    false => port,
                }
            }),
            service: named.and_then(|named| self.names.service(&named.service)).map(str::to_owned),
            server: named.map_or_else(|| format!("number {}", server.0), |named| named.server.name.clone()),
            method: named.map(|named| named.method),
            state: state.name().to_owned(),
            expires_in_s: Duration::from_nanos(ticks << TICK_SHIFT).as_secs(),
        })
    }

    fn flush(&mut self) -> Result<(), Gone> {
        match std::mem::take(&mut self.part) {
            part if part.is_empty() => Ok(()),
            part => self.send(&Reply::Connections(part)),
        }
    }

    fn send(&self, reply: &Reply) -> Result<(), Gone> {
        let mut line = serde_json::to_vec(reply).map_err(|_| Gone)?;
        line.push(b'\n');
        self.replies.blocking_send(line).map_err(|_| Gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_listing_too_many_may_be_had_later() {
        let listings = Listings::default();
        let mut under_way: Vec<_> = (0..MOST).map(|_| listings.begin().expect("there is room")).collect();
        assert!(matches!(listings.begin(), Err(NoListing::Busy(why)) if why.contains("4 listings")));
        under_way.pop();
        listings.begin().expect("one has ended");
    }
}
