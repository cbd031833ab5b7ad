//! Address translation beside what else a service may have: strays by hash, persistence,
//! thresholds.

use lb_common::reason::Reason;
use lb_common::service::limits::Thresholds;
use lb_datapath::plan::{Persistence, Server, Service, Target, nat};
use lb_model::{Scheduler, Stray};
use lb_tests::harness::*;

use super::{SERVER, Segment, assert_becomes, assert_passes, masq, only, with};

/// What a client sends in mid-connection, of which nobody knows, begins an entry where strays go by
/// hash: without it the server's answers would not be told from what it sends by itself.
#[test]
fn a_stray_begins_an_entry() {
    for sourced in [false, true] {
        let mut service = Service { scheduler: Scheduler::Mh, ..only(SERVER.into()) };
        service.settings.stray = Stray::Hash;
        service.settings.source_nat = if sourced { nat::pool(&[[10, 1, 200, 1].into()]) } else { None };
        let director = with(vec![(WEB, service)]);
        let segment = Segment::new((4, TCP), ACK);
        assert_passes(&director, "an answer to nobody", &segment.by_server());
        assert_eq!(director.send_bytes(&segment.to_vip()).verdict, Verdict::Tx);
        assert_eq!(director.entries(), 1);
        let counts = director.data_path.table.counts(director.id_of(WEB, Target::Real(SERVER.into())));
        assert_eq!((counts.active(), counts.inactive()), (1, 0), "it is established");
        if !sourced {
            assert_becomes(&director, "its answer", &segment.by_server(), &segment.to_client());
        }
        director.assert_counts_are_true();
    }
    // One that ends a connection begins none that lasts.
    let mut service = only(SERVER.into());
    service.settings.stray = Stray::Hash;
    let director = with(vec![(WEB, service)]);
    assert_eq!(director.send_bytes(&Segment::new((4, TCP), RST).to_vip()).verdict, Verdict::Tx);
    director.sweep_after(std::time::Duration::from_secs(20));
    assert_eq!(director.entries(), 0);
    // Direct routing learns nothing of strays.
    let mut direct = rr([1]);
    direct.settings.stray = Stray::Hash;
    let director = with(vec![(WEB, direct)]);
    assert_eq!(director.send_bytes(&Segment::new((4, TCP), ACK).to_vip()).verdict, Verdict::Tx);
    assert_eq!(director.entries(), 0);
}

/// Two servers by address translation.
fn two() -> Service {
    let second = Server { mac: server(2, 1).mac, ..masq([10, 1, 0, 2].into()) };
    Service { servers: vec![masq(SERVER.into()), second], ..rr([]) }
}

fn of_port(port: u16) -> Vec<u8> {
    let mut packet = Packet::syn(client(1));
    packet.from.set_port(port);
    packet.bytes()
}

/// The last byte of the address that a frame goes to.
fn host(outcome: &Outcome) -> u8 {
    assert_eq!(outcome.verdict, Verdict::Tx);
    outcome.frame[33]
}

#[test]
fn bound_clients_stay_with_their_server() {
    let mut service = two();
    let persistence = Persistence { group: 7, prefix: 32, timeout: std::time::Duration::from_secs(300) };
    service.settings.persistence = Some(persistence);
    let director = with(vec![(WEB, service)]);
    let first = host(&director.send_bytes(&of_port(1)));
    for port in 2..6 {
        assert_eq!(host(&director.send_bytes(&of_port(port))), first);
    }
}

#[test]
fn a_full_server_gets_no_more() {
    let mut service = two();
    for server in &mut service.servers {
        server.thresholds = Thresholds::new(2, 0);
    }
    let director = with(vec![(WEB, service)]);
    let mut hosts: Vec<u8> = (1..=4).map(|port| host(&director.send_bytes(&of_port(port)))).collect();
    hosts.sort_unstable();
    assert_eq!(hosts, [1, 1, 2, 2]);
    assert_eq!(director.explain(&of_port(5)).1, [Reason::NoServer]);
}
