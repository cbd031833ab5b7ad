//! As many services, and servers of one service, as a configuration may have.

use std::net::Ipv4Addr;

use lb_datapath::object::Sizes;
use lb_datapath::plan::Service;
use lb_model::{Scheduler, ServiceKey};
use lb_tests::harness::*;

/// The service of this number: a VIP for every thousand of them.
fn key(number: u16) -> ServiceKey {
    tcp(vip(number), 1 + number % 1000)
}

fn vip(number: u16) -> Ipv4Addr {
    Ipv4Addr::new(211, 58, 251, (number / 1000) as u8)
}

fn only(number: u16, scheduler: Scheduler) -> Service {
    Service { servers: vec![server(number, 1)], ..service(scheduler, &[]) }
}

#[test]
fn sixty_five_thousand_services() {
    let sizes = Sizes { servers: 65_535, ..SMALL }.with_services(65_000, 0);
    let services = (1..=65_000).map(|number| (key(number), only(number, Scheduler::Rr)));
    let director = Director::with_sizes(sizes, services);
    for number in (1..=65_000).step_by(997).chain([65_000]) {
        let packet = Packet::syn(client(u32::from(number))).to(vip(number), 1 + number % 1000);
        assert_eq!(director.send(&packet).server(), number);
    }
    assert_eq!(director.send(&Packet::syn(client(1)).to(vip(1), 2001)).verdict, Verdict::Pass, "nobody's");
}

#[test]
fn four_thousand_servers_of_one_service_by_every_scheduler() {
    let weights = vec![1; 4096];
    let sizes = Sizes { servers: 8192, schedule_words: 1 << 17, ..SMALL };
    for scheduler in Scheduler::ALL {
        let director = Director::with_sizes(sizes, [(WEB, service(scheduler, &weights))]);
        let used: std::collections::BTreeSet<u16> =
            (0..300).map(|number| director.open(client(number))).collect();
        let expected = match scheduler {
            Scheduler::Fo | Scheduler::Dh => 1..=1,
            Scheduler::Sh | Scheduler::Mh | Scheduler::Twos => 270..=300,
            _ => 300..=300,
        };
        assert!(expected.contains(&used.len()), "{scheduler:?} used {}", used.len());
    }
}
