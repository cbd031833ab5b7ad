//! One-packet scheduling (`ops: on`): each datagram by itself.

use lb_datapath::plan::Service;
use lb_model::Scheduler;
use lb_tests::harness::*;

fn each_datagram(mut service: Service) -> Service {
    service.settings.each_datagram = true;
    service
}

#[test]
fn c8_each_datagram_is_scheduled_and_none_is_remembered() {
    let director = Director::new([(WEB_UDP, each_datagram(service(Scheduler::Wrr, &[2, 1])))]);
    let picks: Vec<u16> = (0..9).map(|_| director.send(&Packet::udp(client(1))).server()).collect();
    assert_eq!(picks, [1, 2, 1, 1, 2, 1, 1, 2, 1], "one client, one port");
    assert_eq!((director.entries(), director.counts(WEB_UDP, 1)), (0, (0, 0)));
    let stats = director.stats(WEB_UDP, 1);
    assert_eq!((stats.packets, stats.connections), (6, 6), "each is a connection, as IPVS counts");
}

/// A server that is added to a running service gets its share at once, from clients that keep their
/// port for ever.
#[test]
fn c8_a_server_that_is_added_gets_its_share() {
    let mut director = Director::new([(WEB_UDP, rr([1]))]);
    for _ in 0..3 {
        assert_eq!(director.send(&Packet::udp(client(1))).server(), 1);
    }
    director.change_service(WEB_UDP, |service| service.servers.push(server(2, 1)));
    assert_eq!(director.send(&Packet::udp(client(1))).server(), 1, "without ops it stays");
    director.change_service(WEB_UDP, |service| service.settings.each_datagram = true);
    let picks: Vec<u16> = (0..20).map(|_| director.send(&Packet::udp(client(1))).server()).collect();
    assert_eq!(picks.iter().filter(|server| **server == 2).count(), 10, "{picks:?}");
    director.change_service(WEB_UDP, |service| service.settings.each_datagram = false);
    let picks: Vec<u16> = (0..20).map(|_| director.send(&Packet::udp(client(1))).server()).collect();
    assert!(picks.iter().all(|server| *server == picks[0]), "without ops it stays again: {picks:?}");
    director.assert_counts_are_true();
}
