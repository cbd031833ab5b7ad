use lb_model::overlay::{NewPersistence, NewServer, Settings};
use lb_model::{Protocol, Server, ServiceKey};

use super::*;

const WEB: &str = "tcp/192.0.2.10:80";

fn service(name: &str, protocol: Protocol) -> Service {
    let key = ServiceKey { vip: [192, 0, 2, 10].into(), port: 80, protocol };
    let servers = vec![Server::new([192, 0, 2, 21].into(), 80)];
    Service { servers, ..Service::new(name.to_owned(), key) }
}

fn add_server(service: &str, address: &str) -> Change {
    let server = NewServer { address: address.into(), ..NewServer::default() };
    Change::AddServer { service: service.into(), server }
}

fn remove_server(service: &str, server: &str) -> Change {
    Change::RemoveServer { service: service.into(), server: server.into() }
}

fn add_service(protocol: Option<&str>) -> Change {
    let protocol = protocol.map(str::to_owned);
    Change::AddService {
        service: NewService { vip: "192.0.2.10:80".into(), protocol, ..NewService::default() },
    }
}

fn edit(service: &str, timeout_s: u64) -> Change {
    let persistence = Some(NewPersistence { timeout_s, prefix: None });
    Change::EditService { service: service.into(), settings: Settings { persistence, ..Settings::default() } }
}

fn remove(service: &str) -> Change {
    Change::RemoveService { service: service.into() }
}

/// What is left of these changes, one after the other, as operators see it.
fn left(services: &[Service], changes: &[Change]) -> Vec<String> {
    let mut all = Vec::new();
    changes.iter().for_each(|change| add(&mut all, change.clone(), services));
    all.iter().map(|(change, _)| change.to_string()).collect()
}

#[test]
fn a_change_that_undoes_another_takes_it_back() {
    let services = [service(WEB, Protocol::Tcp)];
    let short = "192.0.2.10:80";
    for changes in [
        vec![add_server(WEB, "192.0.2.21"), remove_server(WEB, "192.0.2.21")],
        vec![add_server(WEB, "192.0.2.21"), remove_server(short, "192.0.2.21:80")],
        vec![add_service(None), remove(WEB)],
        vec![add_service(None), remove(short)],
        vec![add_service(None), add_server(WEB, "192.0.2.22"), edit(short, 60), remove(WEB)],
    ] {
        assert_eq!(left(&services, &changes), [""; 0], "{changes:?}");
    }
    // A batch may take back what the director has not seen yet.
    assert_eq!(left(&[], &[add_service(Some("udp")), remove("udp/192.0.2.10:80")]), [""; 0]);
    // As often as somebody likes.
    let back_and_gone = [add_service(None), add_server(WEB, "192.0.2.22"), remove(WEB)];
    let changes = [&[remove(WEB)], back_and_gone.as_slice(), &back_and_gone].concat();
    assert_eq!(left(&services, &changes), ["- service tcp/192.0.2.10:80"]);
}

#[test]
fn others_are_left_alone() {
    let services = [service(WEB, Protocol::Tcp), service("udp/192.0.2.10:80", Protocol::Udp)];
    let changes = [add_service(Some("udp")), add_server("udp/192.0.2.10:80", "192.0.2.22"), remove(WEB)];
    assert_eq!(left(&services, &changes).len(), 3);
    let changes = [add_server(WEB, "192.0.2.21"), remove_server(WEB, "192.0.2.22")];
    assert_eq!(left(&services, &changes).len(), 2);
}

#[test]
fn a_name_of_two_services_means_the_first() {
    const UDP: &str = "udp/192.0.2.10:80";
    let (services, short) = ([service(WEB, Protocol::Tcp), service(UDP, Protocol::Udp)], "192.0.2.10:80");
    let of_tcp = [add_server(short, "192.0.2.22"), edit(short, 60)];
    assert_eq!(left(&services, &of_tcp), [format!("+ server {WEB}/192.0.2.22"), format!("~ service {WEB}")]);
    let changes = [of_tcp.as_slice(), &[edit(UDP, 60), remove(UDP)]].concat();
    assert_eq!(left(&services, &changes).len(), 3, "the other one's stay");
    // What was kept before, under the name of both.
    let mut all = of_tcp.map(|change| (change, false)).to_vec();
    add(&mut all, remove(UDP), &services);
    assert_eq!(all.len(), 3, "{all:?}");
    add(&mut all, remove(short), &services);
    assert_eq!(all, [(remove(UDP), true), (remove(WEB), true)]);
}

#[test]
fn an_edit_takes_the_place_of_the_last_one() {
    let services = [service(WEB, Protocol::Tcp)];
    let mut all = Vec::new();
    for change in [remove_server(WEB, "192.0.2.22"), edit(WEB, 60), edit("192.0.2.10:80", 90)] {
        add(&mut all, change, &services);
    }
    assert!(all.len() == 2 && all[1] == (edit(WEB, 90), true), "{all:?}");
    let mut all = vec![(add_service(None), false)];
    add(&mut all, edit(WEB, 90), &services);
    let [(Change::AddService { service }, true)] = all.as_slice() else { panic!("{all:?}") };
    assert_eq!(service.settings.persistence.map(|own| own.timeout_s), Some(90));
}
