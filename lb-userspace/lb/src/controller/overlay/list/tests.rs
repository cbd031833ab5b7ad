use lb_model::overlay::{NewPersistence, NewServer, Settings};
use lb_model::{Protocol, Service, ServiceKey};

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

fn weigh(service: &str, server: &str, weight: u16) -> Change {
    let settings = ServerSettings { weight: Some(weight), ..ServerSettings::default() };
    Change::EditServer { service: service.into(), server: server.into(), settings }
}

fn limit(service: &str, server: &str, upper: u32) -> Change {
    let settings = ServerSettings { upper_threshold: Some(upper), ..ServerSettings::default() };
    Change::EditServer { service: service.into(), server: server.into(), settings }
}

fn remove(service: &str) -> Change {
    Change::RemoveService { service: service.into() }
}

/// What is left of these changes, one after the other, as operators see it.
fn left(services: &[Service], changes: &[Change]) -> Vec<String> {
    let at_once = join(&[], changes, services).changes;
    let one_by_one = changes
        .iter()
        .fold(Vec::new(), |earlier, change| join(&earlier, std::slice::from_ref(change), services).changes);
    assert_eq!(at_once, one_by_one);
    at_once.iter().map(Change::to_string).collect()
}

fn join(earlier: &[Change], more: &[Change], services: &[Service]) -> Joined {
    joined(earlier.to_vec(), more.to_vec(), &ServiceNames::of(services))
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
    assert_eq!(left(&services, &changes), ["+ service 192.0.2.10:80".to_owned(), format!("- service {WEB}")]);
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
    let of_udp = join(&of_tcp, &[remove(UDP)], &services).changes;
    assert_eq!(of_udp.len(), 3, "{of_udp:?}");
    let Joined { changes, new } = join(&of_udp, &[remove(short)], &services);
    assert_eq!((changes, new), (vec![remove(UDP), remove(WEB)], vec![1]));
}

#[test]
fn an_edit_takes_the_place_of_the_last_one() {
    let services = [service(WEB, Protocol::Tcp)];
    let before = [remove_server(WEB, "192.0.2.22"), edit(WEB, 60)];
    let Joined { changes, new } = join(&before, &[edit("192.0.2.10:80", 90)], &services);
    assert_eq!((changes, new), (vec![remove_server(WEB, "192.0.2.22"), edit(WEB, 90)], vec![1]));
    let Joined { changes, new } = join(&[add_service(None)], &[edit(WEB, 90)], &services);
    let [Change::AddService { service }] = changes.as_slice() else { panic!("{changes:?}") };
    assert_eq!(service.settings.persistence.map(|own| own.timeout_s), Some(90));
    assert_eq!(new, [0]);
}

#[test]
fn an_edit_of_a_server_goes_on_from_the_last_one() {
    let services = [service(WEB, Protocol::Tcp)];
    let short = "192.0.2.10:80";
    let before = [weigh(WEB, "192.0.2.21", 3), weigh(WEB, "192.0.2.29", 3)];
    let Joined { changes, new } = join(&before, &[limit(short, "192.0.2.21:80", 9)], &services);
    let settings = ServerSettings { weight: Some(3), upper_threshold: Some(9), ..ServerSettings::default() };
    let both = Change::EditServer { service: WEB.into(), server: "192.0.2.21".into(), settings };
    assert_eq!((changes, new), (vec![weigh(WEB, "192.0.2.29", 3), both], vec![1]));
    // A server that the list has added is another one from the beginning.
    let added = [remove_server(WEB, "192.0.2.22"), add_server(WEB, "192.0.2.22")];
    let Joined { changes, new } = join(&added, &[weigh(WEB, "192.0.2.22:80", 7)], &services);
    let server = NewServer { address: "192.0.2.22".into(), weight: Some(7), ..NewServer::default() };
    let heavy = Change::AddServer { service: WEB.into(), server: server.clone() };
    assert_eq!((changes, new), (vec![added[0].clone(), heavy], vec![1]));
    let Joined { changes, new } =
        join(&[add_service(None)], &[add_server(WEB, "192.0.2.22"), weigh(short, "192.0.2.22", 7)], &[]);
    let [Change::AddService { service }] = changes.as_slice() else { panic!("{changes:?}") };
    assert_eq!((service.servers.as_slice(), new), ([server].as_slice(), vec![0]));
    // What goes needs no edit.
    for changes in [
        vec![weigh(WEB, "192.0.2.21", 3), remove_server(WEB, "192.0.2.21:80")],
        vec![weigh(WEB, "192.0.2.29", 3), weigh(WEB, "192.0.2.21", 3), remove(WEB)],
    ] {
        assert_eq!(left(&services, &changes).len(), 1, "{changes:?}");
    }
    assert_eq!(left(&services, &[add_server(WEB, "192.0.2.22"), weigh(WEB, "192.0.2.22", 2)]).len(), 1);
    let nothing =
        [add_server(WEB, "192.0.2.22"), weigh(WEB, "192.0.2.22", 2), remove_server(WEB, "192.0.2.22")];
    assert_eq!(left(&services, &nothing), [""; 0]);
}

#[test]
fn a_service_of_the_source_has_what_was_changed_in_it() {
    const SHORT: &str = "192.0.2.10:80";
    let with = |addresses: &[&str]| {
        let server = |address: &&str| NewServer { address: (*address).to_owned(), ..NewServer::default() };
        let servers = addresses.iter().map(server).collect();
        Change::AddService { service: NewService { vip: SHORT.into(), servers, ..NewService::default() } }
    };
    let more = [
        add_server(SHORT, "192.0.2.21"),
        add_server(WEB, "192.0.2.22"),
        remove_server(WEB, "192.0.2.21:80"),
        add_server(WEB, "192.0.2.23"),
    ];
    let whole = with(&["192.0.2.22", "192.0.2.23"]);
    // Whether it runs already or comes with them.
    for services in [vec![service(WEB, Protocol::Tcp)], Vec::new()] {
        let joined = join(&[with(&[])], &more, &services);
        assert_eq!(joined, Joined { changes: vec![whole.clone()], new: vec![0] });
        let joined = join(&[], &[&[with(&[])], more.as_slice()].concat(), &services);
        assert_eq!(joined, Joined { changes: vec![whole.clone()], new: vec![0] });
        // What an lb of before has kept one by one says nothing new.
        let kept = [&[with(&[])], more.as_slice()].concat();
        let joined = join(&kept, &[remove("other")], &services);
        assert_eq!(joined, Joined { changes: vec![whole.clone(), remove("other")], new: vec![1] });
    }
    // What makes no sense stays by itself, and is refused for what it is.
    let wrong = [add_server(WEB, "192.0.2.22:80"), remove_server(WEB, "192.0.2.24")];
    let joined = join(std::slice::from_ref(&whole), &wrong, &[service(WEB, Protocol::Tcp)]);
    assert_eq!(joined, Joined { changes: [&[whole], wrong.as_slice()].concat(), new: vec![1, 2] });
    // The file's services have servers that no list has.
    let of_file = [remove(WEB), with(&["192.0.2.22"]), add_server(WEB, "192.0.2.23")];
    let joined = join(&of_file[..2], &of_file[2..], &[service(WEB, Protocol::Tcp)]);
    let both = with(&["192.0.2.22", "192.0.2.23"]);
    assert_eq!(joined, Joined { changes: vec![remove(WEB), both], new: vec![1] });
}
