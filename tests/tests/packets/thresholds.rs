//! Thresholds: servers that are full.

use lb_common::reason::Reason;
use lb_common::service::limits::Thresholds;
use lb_datapath::plan::{Server, Service};
use lb_model::Scheduler;
use lb_tests::harness::*;

/// Servers 1, 2, … of these weights and thresholds.
fn limited(scheduler: Scheduler, servers: &[(u16, u32, u32)]) -> Service {
    let numbered = servers.iter().zip(1..);
    let servers = numbered.map(|((weight, upper, lower), number)| Server {
        thresholds: Thresholds::new(*upper, *lower),
        ..server(number, *weight)
    });
    Service { servers: servers.collect(), ..service(scheduler, &[]) }
}

fn is_full(director: &Director, number: u16) -> bool {
    let id = director.id(WEB, number);
    director.data_path.executor.maps().limits.read(id.0.into()).full.get() != 0
}

/// The server of a new connection; `None`: nobody.
fn open(director: &Director, number: u32) -> Option<u16> {
    let (outcome, reasons) = director.explain(&Packet::syn(client(number)).bytes());
    match outcome.sent_to() {
        None => assert_eq!(reasons, [Reason::NoServer], "client {number}"),
        Some(server) => assert_eq!(director.send(&Packet::ack(client(number))).server(), server),
    }
    outcome.sent_to()
}

#[test]
fn nobody_gets_more_than_its_upper_threshold_by_any_scheduler() {
    for scheduler in Scheduler::ALL {
        // Of ovf the weight is how many it may have.
        let servers = [(100, 5, 0), (90, 3, 1), (80, 0, 0)];
        let director = Director::new([(WEB, limited(scheduler, &servers))]);
        let picks: Vec<Option<u16>> = (0..30).map(|number| open(&director, number)).collect();
        assert!(picks.iter().all(Option::is_some), "{scheduler:?}: {picks:?}");
        let [first, second] = [1, 2].map(|number| {
            let (active, inactive) = director.counts(WEB, number);
            (active + inactive, is_full(&director, number))
        });
        assert!(first.0 <= 5 && second.0 <= 3, "{scheduler:?}: {first:?} {second:?}");
        assert_eq!((first.1, second.1), (first.0 == 5, second.0 == 3), "{scheduler:?}");
        let hashes = scheduler.hashes();
        assert!(hashes || first.0 == 5 && second.0 == 3, "{scheduler:?} fills them: {first:?} {second:?}");
        director.assert_counts_are_true();
        assert_eq!(
            director.data_path.executor.maps().tournaments.mend(),
            0,
            "{scheduler:?}: nothing is stale"
        );
    }
}

#[test]
fn a_full_server_gets_new_connections_again_below_the_lower_threshold() {
    for scheduler in [Scheduler::Rr, Scheduler::Wlc, Scheduler::Fo] {
        let director = Director::new([(WEB, limited(scheduler, &[(2, 4, 2)]))]);
        for number in 0..4 {
            assert_eq!(open(&director, number), Some(1));
        }
        assert_eq!((open(&director, 4), is_full(&director, 1)), (None, true), "{scheduler:?}");
        // Connections that end are inactive and count until they are forgotten.
        let week = std::time::Duration::from_secs(7 * 86_400);
        director.send(&Packet::rst(client(0)));
        assert_eq!(open(&director, 5), None);
        director.sweep_after(std::time::Duration::from_secs(60));
        director.data_path.executor.maps().tournaments.mend();
        assert_eq!((open(&director, 6), is_full(&director, 1)), (None, true), "three are not below two");
        director.send(&Packet::rst(client(1)));
        director.send(&Packet::rst(client(2)));
        director.sweep_after(std::time::Duration::from_secs(60));
        assert!(!is_full(&director, 1), "one is");
        for number in 10..13 {
            assert_eq!(open(&director, number), Some(1), "{scheduler:?}");
        }
        assert_eq!(open(&director, 13), None);
        director.sweep_after(week);
        assert_eq!(open(&director, 14), Some(1));
    }
}

#[test]
fn fo_goes_on_to_the_next_weight_and_rr_to_the_idlest() {
    let director = Director::new([(WEB, limited(Scheduler::Fo, &[(1, 0, 0), (5, 0, 0), (9, 2, 0)]))]);
    let picks: Vec<_> = (0..5).map(|number| open(&director, number)).collect();
    assert_eq!(picks, [Some(3), Some(3), Some(2), Some(2), Some(2)]);
    let director = Director::new([(WEB, limited(Scheduler::Rr, &[(1, 1, 0), (1, 0, 0), (1, 0, 0)]))]);
    let picks: Vec<_> = (0..7).map(|number| open(&director, number)).collect();
    assert_eq!(picks, [1, 2, 3, 2, 2, 3, 3].map(Some), "the turns of server 1 go where the fewest are");
}

#[test]
fn thresholds_come_and_go_with_a_reload() {
    let mut director = Director::new([(WEB, service(Scheduler::Rr, &[1, 1]))]);
    assert!((0..10).all(|number| open(&director, number).is_some()));
    let set = |director: &mut Director, upper| {
        director.change_service(WEB, |service| service.servers[0].thresholds = Thresholds::new(upper, 0));
    };
    set(&mut director, 5);
    assert!(is_full(&director, 1), "it has five");
    assert!((10..20).all(|number| open(&director, number) == Some(2)));
    set(&mut director, 0);
    assert!(!is_full(&director, 1));
    assert!((20..40).any(|number| open(&director, number) == Some(1)));
    director.assert_counts_are_true();
}

/// As IPVS has it.
#[test]
fn bound_clients_go_on_to_a_full_server() {
    let mut service = limited(Scheduler::Rr, &[(1, 2, 0), (1, 0, 0)]);
    let timeout = std::time::Duration::from_secs(300);
    service.settings.persistence = Some(lb_datapath::plan::Persistence { group: 9, prefix: 24, timeout });
    let director = Director::new([(WEB, service)]);
    assert_eq!((0..6).map(|number| open(&director, number)).collect::<Vec<_>>(), [Some(1); 6]);
    assert!(is_full(&director, 1));
    assert_eq!(open(&director, 1 << 10), Some(2), "a client of another network");
}
