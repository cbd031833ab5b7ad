//! Addresses and ports of ours that stand in the place of clients (`source_nat`). The program takes
//! them; a thread here gives them back when their connections are over: then the connection table
//! has no entry of theirs any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use aya::maps::{HashMap, Map, MapData};
use lb_common::addr::Address as _;
use lb_common::forward::nat::source::{Client, Reply};
use lb_common::packet::frame::Flow;
use lb_common::server::ServerEntry;
use lb_common::table::connection::{Entry, Key};
use lb_common::table::{self, Place};

use super::mapped::Mapped;
use super::table::{Pages, Table};

/// From one look to the next.
const PERIOD: Duration = Duration::from_secs(2);
/// A look takes at most this part of a core.
const SHARE_OF_CORE: u32 = 20;

/// A [`Client`], an endpoint and a [`Reply`] as words, which aya can copy.
type ClientWords = [u64; 3];
type EndpointWords = [u64; 3];
type ReplyWords = [u64; 5];

/// The maps `SOURCES` and `REPLIES`.
pub struct Maps {
    sources: HashMap<MapData, ClientWords, EndpointWords>,
    replies: HashMap<MapData, ReplyWords, ClientWords>,
}

impl Maps {
    pub(super) fn new(sources: Map, replies: Map) -> Result<Self> {
        let sources = sources.try_into().context("map SOURCES is not of the expected kind")?;
        let replies = replies.try_into().context("map REPLIES is not of the expected kind")?;
        Ok(Self { sources, replies })
    }
}

/// What stands in the place of clients, and what tells whether their connections are over.
pub struct Sources {
    pub maps: Maps,
    pub table: Arc<Table>,
    /// Of the connection table; they never change while its maps are there.
    pub hash_keys: [u64; 2],
    /// Of IPv4 and IPv6.
    pub page_masks: [u32; 2],
    pub servers: Arc<Mapped<ServerEntry>>,
}

impl Sources {
    /// Gives back what belongs to no connection. Returns how many ports are in use afterwards, and
    /// how many were given back.
    pub fn sweep(&mut self) -> Result<(usize, usize)> {
        let mut over = Vec::new();
        let mut used = 0;
        for found in self.maps.replies.iter() {
            let (reply, client) = found.context("cannot list the ports of `source_nat`")?;
            match self.is_connected(zerocopy::transmute!(client)) {
                true => used += 1,
                false => over.push((reply, client)),
            }
        }
        let mut given_back = 0;
        for (reply, client) in over {
            match self.give_back(reply, client) {
                true => given_back += 1,
                false => used += 1,
            }
        }
        Ok((used, given_back))
    }

    /// Returns whether the port is free again.
    fn give_back(&mut self, reply: ReplyWords, client: ClientWords) -> bool {
        /// BPF_NOEXIST.
        const ONLY_NEW: u64 = 1;
        let Reply { address, port, .. } = zerocopy::transmute!(reply);
        let [high, low] = address.0;
        let endpoint = [high, low, zerocopy::transmute!([port, 0, 0, 0])];
        // Another port may stand in the client's place now.
        if self.maps.sources.get(&client, 0).is_ok_and(|known| known == endpoint) {
            // From here on the client gets another port, unless its connection began a moment ago.
            let _ = self.maps.sources.remove(&client);
            if self.is_connected(zerocopy::transmute!(client))
                && self.maps.sources.insert(client, endpoint, ONLY_NEW).is_ok()
            {
                return false;
            }
        }
        self.maps.replies.remove(&reply).is_ok()
    }

    fn is_connected(&self, client: Client) -> bool {
        let [v4, v6] = self.page_masks;
        let found = match client.address.is_mapped() {
            true => self.entry(&self.table.v4, v4, &client),
            false => self.entry(&self.table.v6, v6, &client),
        };
        found.is_some()
    }

    /// The connection's entry in one family's pages.
    fn entry<K: Key>(&self, pages: &Pages<K>, page_mask: u32, client: &Client) -> Option<Entry> {
        let index = usize::from(client.server);
        let service = (index < self.servers.elements()).then(|| self.servers.read(index).service)?;
        let source = K::Address::of_mapped(client.address)?;
        let key = source.key(client.port, service.port_of(client.service_port));
        let place = Place::of(&Flow::of_connection(key, &service)?, self.hash_keys, page_mask);
        let own = |entry: Entry| (entry.server().0 == client.server).then_some(());
        table::find(&pages.page(place.page as usize), &place, key, own).map(|(seen, ())| seen.entry)
    }
}

/// The thread that gives ports back.
pub struct Keeper {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    pub fn start(mut sources: Sources) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let run = move || {
            while !stopped.load(Ordering::Relaxed) {
                let begun = Instant::now();
                if let Err(error) = sources.sweep() {
                    tracing::warn!("{error:#}");
                }
                std::thread::park_timeout(PERIOD.max(begun.elapsed() * SHARE_OF_CORE));
            }
        };
        let thread = std::thread::Builder::new().name("lb-sources".to_owned()).spawn(run)?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A panic has been reported by the thread; there is nothing to add.
            let _ = thread.join();
        }
    }
}
