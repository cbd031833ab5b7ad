//! Addresses and ports of ours that stand in the place of clients (`source_nat`). The program takes
//! them, and those of connections that another director has told of are entered; a thread here
//! gives them back when their connections are over: then the connection table has no entry of
//! theirs any more.

use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use aya::maps::{HashMap, IterableMap as _, Map, MapData};
use lb_common::addr::Address as _;
use lb_common::forward::nat::Translation;
use lb_common::forward::nat::source::{Client, Endpoint, Reply};
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

/// BPF_NOEXIST.
const ONLY_NEW: u64 = 1;

/// The maps `SOURCES` and `REPLIES`.
pub struct Maps {
    sources: HashMap<MapData, ClientWords, EndpointWords>,
    replies: HashMap<MapData, ReplyWords, ClientWords>,
    /// Two threads change both maps, one after the other.
    turn: Arc<Mutex<()>>,
}

impl Maps {
    pub(super) fn new(sources: Map, replies: Map) -> Result<Self> {
        let sources = sources.try_into().context("map SOURCES is not of the expected kind")?;
        let replies = replies.try_into().context("map REPLIES is not of the expected kind")?;
        Ok(Self { sources, replies, turn: Arc::default() })
    }

    /// Another hold on the same maps, for another thread.
    pub(super) fn try_clone(&self) -> Result<Self> {
        let again = |map: &MapData| -> Result<Map> {
            let descriptor = map.fd().as_fd().try_clone_to_owned();
            let descriptor = descriptor.context("no descriptor for a map of `source_nat`")?;
            Ok(Map::HashMap(MapData::from_fd(descriptor).context("a map of `source_nat`")?))
        };
        let clone = Self::new(again(self.sources.map())?, again(self.replies.map())?)?;
        Ok(Self { turn: Arc::clone(&self.turn), ..clone })
    }

    /// The port that stands in the client's place is free again.
    fn free(&mut self, client: &ClientWords, reply: &ReplyWords) {
        if self.replies.get(reply, 0).is_ok_and(|known| known == *client) {
            // Nobody else removes it meanwhile.
            let _ = self.replies.remove(reply);
        }
    }
}

const fn words(endpoint: &Endpoint) -> EndpointWords {
    zerocopy::transmute!(*endpoint)
}

/// What stands in the place of clients, for the synchronisation with other directors.
pub struct Ports {
    pub(super) maps: Maps,
    pub(super) translations: Arc<Mapped<Translation>>,
}

impl Ports {
    /// What stands in the client's place.
    pub fn of(&self, client: &Client) -> Option<Endpoint> {
        let client: ClientWords = zerocopy::transmute!(*client);
        let known = self.maps.sources.get(&client, 0).ok()?;
        Some(zerocopy::transmute!(known))
    }

    /// From now on this stands in the client's place. Comes after the connection's entry: without
    /// one the port is given back. If another client has the port, `gives_way` says whether that
    /// one loses it. Returns who has.
    ///
    /// # Errors
    /// The server has no pool, the port stays another client's, or there is no room. Nothing has
    /// changed then.
    pub fn enter(
        &mut self,
        client: &Client,
        endpoint: &Endpoint,
        gives_way: impl FnOnce(&Client) -> bool,
    ) -> Result<Option<Client>> {
        let index = usize::from(client.server);
        ensure!(index < self.translations.elements(), "there is no such server");
        let translation = self.translations.read(index);
        ensure!(translation.is_set() && translation.has_pool(), "the server has no pool");
        let port = translation.port_of(client.service_port);
        let reply_to = |endpoint: &Endpoint| -> ReplyWords {
            let reply = Reply::new(&translation, port, endpoint);
            zerocopy::transmute!(reply)
        };
        let reply = reply_to(endpoint);
        let wanted: ClientWords = zerocopy::transmute!(*client);
        let turn = Arc::clone(&self.maps.turn);
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.maps.replies.get(&reply, 0).ok();
        let holder = known.filter(|known| *known != wanted);
        let ousted: Option<Client> = holder.map(|holder| zerocopy::transmute!(holder));
        if let Some(other) = &ousted {
            ensure!(gives_way(other), "the port is another client's");
        }
        if known != Some(wanted) {
            // The program may take a free port at the same moment.
            let flags = if known.is_none() { ONLY_NEW } else { 0 };
            self.maps.replies.insert(reply, wanted, flags).context("no room for a port of `source_nat`")?;
        }
        let before = self.maps.sources.get(&wanted, 0).ok();
        if before != Some(words(endpoint))
            && let Err(error) = self.maps.sources.insert(wanted, words(endpoint), 0)
        {
            match holder {
                Some(holder) => drop(self.maps.replies.insert(reply, holder, 0)),
                None => self.maps.free(&wanted, &reply),
            }
            return Err(error).context("no room for a client of `source_nat`");
        }
        if let Some(before) = before.filter(|before| *before != words(endpoint)) {
            let before: Endpoint = zerocopy::transmute!(before);
            self.maps.free(&wanted, &reply_to(&before));
        }
        if let Some(holder) = holder
            && self.maps.sources.get(&holder, 0).is_ok_and(|known| known == words(endpoint))
        {
            let _ = self.maps.sources.remove(&holder);
        }
        Ok(ousted)
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
        let turn = Arc::clone(&self.maps.turn);
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        // Another director may have said meanwhile that it is another client's.
        if self.maps.replies.get(&reply, 0).is_ok_and(|known| known != client) {
            return false;
        }
        let Reply { address, port, .. } = zerocopy::transmute!(reply);
        let endpoint = words(&Endpoint { address, port, reserved: [0; 3] });
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
