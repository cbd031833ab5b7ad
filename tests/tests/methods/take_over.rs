//! The active director is killed, and then its machine is gone: the other one knows to which server
//! each connection, each flow and each client belongs.

use std::array;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use lb_api::status::{ServerStatus, ServiceStatus, Status};
use lb_lab::cluster::pair::{Pair, Settings};
use lb_lab::lab::director::wait_for;
use lb_lab::lab::{Link, echo};

use crate::bed::{Bed, CHECK, Case, Datagrams, ECHO, NAMES, make_room_for_connections};

/// Of each case: 200 by each method.
const CONNECTIONS: usize = 100;
const FLOWS: usize = 10;
/// From a connection's word to the next one's.
const PACE: Duration = Duration::from_millis(5);

/// A process that stands still for half a second on a busy machine is not dead.
const SETTINGS: Settings =
    Settings { interval: Duration::from_millis(50), dead: Duration::from_secs(1), serial: false };

/// Open connections, of which one after the other speaks until [`Self::finish`].
struct Speakers {
    stop: Arc<AtomicBool>,
    threads: Vec<(Case, JoinHandle<()>)>,
}

impl Speakers {
    fn start(bed: &Bed) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let start = |case| {
            let connections = (0..CONNECTIONS).map(|_| bed.connect(case, ECHO)).collect();
            let stop = Arc::clone(&stop);
            (case, thread::spawn(move || speak(connections, &stop)))
        };
        let threads = Case::all().into_iter().map(start).collect();
        Self { stop, threads }
    }

    /// Each connection speaks once more; returns the cases in which one has failed.
    fn finish(mut self) -> Vec<Case> {
        self.stop.store(true, Ordering::Relaxed);
        let ended =
            self.threads.drain(..).filter_map(|(case, thread)| thread.join().is_err().then_some(case));
        ended.collect()
    }
}

/// What fails before leaves nobody behind.
impl Drop for Speakers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn speak(mut connections: Vec<TcpStream>, stop: &AtomicBool) {
    for round in 0.. {
        let is_last = stop.load(Ordering::Relaxed);
        for (number, connection) in connections.iter_mut().enumerate() {
            let sent: [u8; 64] = array::from_fn(|byte| (number * 31 + round * 7 + byte) as u8);
            let mut got = [0; 64];
            let exchanged = connection.write_all(&sent).and_then(|()| connection.read_exact(&mut got));
            exchanged.unwrap_or_else(|error| panic!("{connection:?}, round {round}: {error}"));
            assert_eq!(got, sent, "{connection:?}, round {round}");
            thread::sleep(PACE);
        }
        if is_last {
            return;
        }
    }
}

/// The page that this client gets of the case's site, by a connection of its own.
fn page(bed: &Bed, case: Case, client: IpAddr) -> String {
    bed.curl(client, &[&format!("http://{}/index.html", SocketAddr::new(case.vip(), 80))])
}

/// Whether the director knows all that has begun.
fn knows_all(status: &Status) -> bool {
    let known = |service: &ServiceStatus| {
        let sum = |count: fn(&ServerStatus) -> u32| service.servers.iter().map(count).sum::<u32>() as usize;
        match service.port {
            ECHO => sum(|server| server.active) >= CONNECTIONS,
            NAMES => sum(|server| server.inactive) >= FLOWS,
            _ => service.persistence.as_ref().is_some_and(|persistence| persistence.bound == 2),
        }
    };
    status.services.iter().all(known)
}

pub(crate) fn play() {
    make_room_for_connections();
    let bed = Bed::new("methodsgone");
    for server in bed.servers() {
        echo::serve(server, ECHO).expect("it starts");
    }
    let _responders = bed.answer_names();
    let configuration = bed.configuration(|case| {
        let services = [
            case.service(&bed, &ECHO.to_string(), "tcp", CHECK),
            case.service(&bed, &NAMES.to_string(), "udp", CHECK),
            case.service(&bed, "80", "tcp", &format!("{CHECK}    persistence: {{ timeout: 5m }}\n")),
        ];
        services.concat()
    });
    let pair = Pair::start_with(&bed.talk, SETTINGS, &configuration);
    let pair = pair.unwrap_or_else(|error| panic!("{error:#}"));

    let speakers = Speakers::start(&bed);
    let begin = |case| {
        let flows: Vec<Datagrams> = (0..FLOWS).map(|_| bed.datagrams(case, NAMES)).collect();
        // A flow of one or two datagrams is one that anybody may have made up, and not told.
        (0..3).for_each(|_| flows.iter().for_each(|flow| drop(flow.name())));
        let mut flows: Vec<(String, Datagrams)> = flows.into_iter().map(|flow| (flow.name(), flow)).collect();
        // One server's come first, or round robin would be right by chance.
        flows.sort_by(|(one, _), (other, _)| one.cmp(other));
        assert_ne!(flows[0].0, flows[FLOWS - 1].0, "{case:?}: flows are spread");
        let pages = case.clients().map(|client| page(&bed, case, client));
        assert_ne!(pages[0], pages[1], "{case:?}: two clients, two servers");
        (case, flows, pages)
    };
    let begun: Vec<_> = Case::all().into_iter().map(begin).collect();
    wait_for(&pair.ha2, "ha2 knows all", knows_all);

    pair.ha1.kill().expect("lb is killed");
    pair.wait_for_take_over().unwrap_or_else(|error| panic!("{error:#}\n{}", pair.shown()));
    // Its program has served on until now.
    bed.talk.ha1.set_carrier("eth0", Link::Down).expect("the cable is out");
    for (place, (case, flows, pages)) in begun.iter().enumerate() {
        for (name, flow) in flows {
            assert_eq!(flow.name(), *name, "{case:?}: a flow");
        }
        // In either order, for the same reason.
        let order = if place % 2 == 0 { [0, 1] } else { [1, 0] };
        for client in order {
            assert_eq!(page(&bed, *case, case.clients()[client]), pages[client], "{case:?}: bindings");
        }
    }
    let failed = speakers.finish();
    assert!(failed.is_empty(), "connections were lost: {failed:?}\n{}", pair.shown());
}
