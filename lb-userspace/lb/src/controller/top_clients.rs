//! `lb top-clients`: which clients have and open most connections, and whose packets are refused
//! most, told by a thread of its own. The controller gives it the names that services have now, and
//! is done with it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use lb_api::top::TopClient;
use lb_common::addr::{Address as _, V6};
use lb_common::server::ServerEntry;
use lb_common::service::admission::{Admission, ClientKey};
use lb_common::table::connection::Key;
use lb_datapath::executor::clients::{ClientAccounts, Done, client_prefix};
use lb_datapath::mapped::Mapped;
use lb_datapath::table::{Pages, Table};
use lb_model::ClientPrefix;
use tokio::sync::oneshot;

use super::Controller;
use super::table_walk::walk;
use super::tracer::names::Names;

/// From one reading of what clients have done to the next: what is done meanwhile makes the rates.
const MEANWHILE: Duration = Duration::from_secs(1);
/// Clients whose connections are counted at a time; of more, those that have most stay.
const MOST_COUNTED: usize = 1 << 17;
/// Clients of a reply.
const MOST_TOLD: usize = 1000;

type Answer = oneshot::Sender<Result<Vec<TopClient>, String>>;

impl Controller {
    pub(super) fn top_clients(&self, reply: Answer) {
        let under_way = match self.viewers.listings.begin() {
            Ok(under_way) => under_way,
            Err(none) => return drop(reply.send(Err(none.to_string()))),
        };
        let names = Names::of(&self.config, &self.runtime.draining, &self.program.forwarder);
        let services = self.program.forwarder.admissions().map(|(key, id, admission)| {
            let name = names.service(key).map_or_else(|| key.to_string(), str::to_owned);
            (u64::from(id.0), Service { name, admission })
        });
        let services = services.collect();
        let (table, servers) = self.program.forwarder.entries();
        let look = Look { services, table, servers, accounts: self.program.forwarder.client_accounts() };
        let started = thread::Builder::new().name("lb-top-clients".to_owned()).spawn(move || {
            // Whoever asked may have gone; that is no concern of ours.
            let _ = reply.send(look.run());
            drop(under_way);
        });
        if let Err(error) = started {
            // The answer went with the thread: whoever asked is told that the request was dropped.
            tracing::warn!("cannot start the thread that looks at clients: {error}");
        }
    }
}

struct Service {
    name: String,
    admission: Admission,
}

/// By number.
type Services = HashMap<u64, Service>;

/// What there is to look at.
struct Look {
    services: Services,
    table: Arc<Table>,
    servers: Arc<Mapped<ServerEntry>>,
    accounts: ClientAccounts,
}

impl Look {
    fn run(&self) -> Result<Vec<TopClient>, String> {
        let read = || self.accounts.read().map_err(|error| format!("{error:#}"));
        let (before, begun) = (read()?, Instant::now());
        let mut counts = Counts::default();
        self.count(&self.table.v4, &mut counts);
        self.count(&self.table.v6, &mut counts);
        thread::sleep(MEANWHILE.saturating_sub(begun.elapsed()));
        let (after, time) = (read()?, begun.elapsed());
        Ok(listing(&self.services, &counts.0, [&before, &after], time))
    }

    fn count<K: Key>(&self, pages: &Pages<K>, counts: &mut Counts) {
        let _: ControlFlow<()> = walk(pages, 0, |_, key, entry| {
            let service = self.servers.read(usize::from(entry.server().0)).service.id.0;
            if let (Some(_), Some(known)) = (entry.state(), self.services.get(&u64::from(service))) {
                counts.add(known.admission.client(service.into(), key.client().mapped()));
            }
            ControlFlow::Continue(())
        });
    }
}

/// First those with the largest sum of their connections and of what they opened and were refused
/// between the two readings. Those with equal sums stand in the order of their keys.
fn listing(
    services: &Services,
    counts: &HashMap<ClientKey, u64>,
    readings: [&BTreeMap<ClientKey, Done>; 2],
    time: Duration,
) -> Vec<TopClient> {
    let keys: BTreeSet<&ClientKey> = counts.keys().chain(readings[1].keys()).collect();
    let mut found: Vec<(u64, TopClient)> = keys
        .into_iter()
        .filter_map(|key| {
            let service = services.get(&key.service)?;
            let done = readings.map(|reading| reading.get(key).copied().unwrap_or_default());
            let connections = counts.get(key).copied().unwrap_or_default();
            Some(top_client(key.address, service, connections, done, time))
        })
        .collect();
    found.sort_by_key(|(sum, _)| Reverse(*sum));
    found.truncate(MOST_TOLD);
    found.into_iter().map(|(_, client)| client).collect()
}

/// A client, and the sum that it is sorted by, see [`listing`].
fn top_client(
    address: V6,
    Service { name, admission }: &Service,
    connections: u64,
    [was, is]: [Done; 2],
    time: Duration,
) -> (u64, TopClient) {
    // An account that was forgotten meanwhile has begun anew.
    let done = |was: u64, is: u64| if is < was { is } else { is - was };
    let rate = |done: u64| (done as f64 / time.as_secs_f64() * 10.0).round() / 10.0;
    let (opened, packets) = (done(was.opened, is.opened), done(was.packets, is.packets));
    let refused = done(was.limited, is.limited) + done(was.denied, is.denied);
    // Of clients without limits of their own the program keeps no accounts.
    let counts_new = admission.limits_clients();
    let counts_packets = counts_new && admission.limits_packets();
    let client = TopClient {
        client: shown(client_prefix(address, admission)),
        service: name.clone(),
        connections,
        new_per_second: counts_new.then(|| rate(opened)),
        packets_per_second: counts_packets.then(|| rate(packets)),
        refused_per_second: rate(refused),
        limited: is.limited,
        denied: is.denied,
    };
    (connections + opened + refused, client)
}

/// As the configuration has it: an address where it is one.
fn shown(prefix: ClientPrefix) -> String {
    let longest = if prefix.address.is_ipv4() { 32 } else { 128 };
    if prefix.length == longest { prefix.address.to_string() } else { prefix.to_string() }
}

/// Connections of each client, of so many clients that the memory is bounded: where there is no
/// room for another one, all lose one (J. Misra, D. Gries, "Finding repeated elements", 1982).
/// Whoever has more than one in [`MOST_COUNTED`] of all is certain to stay.
#[derive(Default)]
struct Counts(HashMap<ClientKey, u64>);

impl Counts {
    fn add(&mut self, key: ClientKey) {
        if let Some(count) = self.0.get_mut(&key) {
            *count += 1;
        } else if self.0.len() < MOST_COUNTED {
            self.0.insert(key, 1);
        } else {
            self.0.retain(|_, count| {
                *count -= 1;
                *count > 0
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use lb_common::service::admission::Rate;
    use lb_common::service::binding::mask;

    use super::*;

    fn service(admission: Admission) -> Service {
        Service { name: "web".to_owned(), admission: Admission { mask: mask(true, 24).0, ..admission } }
    }

    fn address(text: &str) -> V6 {
        text.parse::<std::net::IpAddr>().expect("an address").into()
    }

    #[test]
    fn rates_are_those_of_the_time_between_two_readings() {
        let rate = Rate::per_second(1, 1);
        let limits = Admission { client_new: rate, client_packets: rate, ..Admission::default() };
        let was = Done { opened: 10, packets: 100, limited: 5, denied: 0 };
        let is = Done { opened: 30, packets: 500, limited: 25, denied: 2 };
        let (sum, client) =
            top_client(address("192.0.2.0"), &service(limits), 7, [was, is], Duration::from_secs(2));
        assert_eq!(sum, 7 + 20 + 22);
        let wanted = TopClient {
            client: "192.0.2.0/24".to_owned(),
            service: "web".to_owned(),
            connections: 7,
            new_per_second: Some(10.0),
            packets_per_second: Some(200.0),
            refused_per_second: 11.0,
            limited: 25,
            denied: 2,
        };
        assert_eq!(client, wanted);
        let anew = Done { opened: 3, ..Done::default() };
        let second = Duration::from_secs(1);
        let (_, client) = top_client(address("192.0.2.0"), &service(limits), 7, [is, anew], second);
        assert_eq!((client.new_per_second, client.limited), (Some(3.0), 0), "it was forgotten meanwhile");
    }

    #[test]
    fn what_nobody_counts_is_not_told() {
        let rate = Rate::per_second(1, 1);
        let none = Admission::default();
        let told = |admission| {
            let done = [Done::default(); 2];
            let (_, client) = top_client(address("192.0.2.0"), &service(admission), 7, done, MEANWHILE);
            (client.new_per_second, client.packets_per_second)
        };
        assert_eq!(told(none), (None, None));
        let of_all = Admission { service_new: rate, service_packets: rate, ..none };
        assert_eq!(told(of_all), (None, None), "limits of all clients together alone");
        assert_eq!(told(Admission { client_new: rate, ..none }), (Some(0.0), None));
        assert_eq!(told(Admission { client_new: rate, ..of_all }), (Some(0.0), Some(0.0)));
    }

    /// Packets do not count, for they are known of some services only.
    #[test]
    fn those_come_first_who_have_open_and_are_refused_most() {
        let rate = Rate::per_second(1, 1);
        let limits = Admission { client_packets: rate, ..Admission::default() };
        let services = HashMap::from([(1, service(limits)), (2, service(Admission::default()))]);
        let key = |text: &str, service| ClientKey { address: address(text), service };
        let (busy, refused) = (key("192.0.2.0", 1), key("198.51.100.0", 1));
        let (few, many) = (key("203.0.113.0", 2), key("203.0.114.0", 2));
        let counts = HashMap::from([(busy, 1), (few, 2), (many, 500)]);
        let before = BTreeMap::new();
        let after = BTreeMap::from([
            (busy, Done { packets: 9000, ..Done::default() }),
            (refused, Done { packets: 300, limited: 100, denied: 20, ..Done::default() }),
        ]);
        let listed = listing(&services, &counts, [&before, &after], MEANWHILE);
        let listed: Vec<&str> = listed.iter().map(|client| &*client.client).collect();
        assert_eq!(listed, ["203.0.114.0/24", "198.51.100.0/24", "203.0.113.0/24", "192.0.2.0/24"]);
    }

    #[test]
    fn whoever_has_many_stays_where_there_is_no_room_for_all() {
        let key = |number: u64| ClientKey { address: V6([0, number]), service: 1 };
        let mut counts = Counts::default();
        for number in 0..MOST_COUNTED as u64 * 3 {
            counts.add(key(number + 1));
            if number % 1000 == 0 {
                counts.add(key(0));
            }
        }
        assert!(counts.0.len() <= MOST_COUNTED);
        let most = counts.0.iter().max_by_key(|(_, count)| **count).map(|(key, _)| *key);
        assert_eq!(most, Some(key(0)));
    }
}
