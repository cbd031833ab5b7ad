//! What changes the table: -A, -E, -D, -C, -a, -e and -d are changes of the overlay, -Z has
//! listings count from 0. With ipvsadm's words for what is there already, or is not.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Result;
use lb_api::client;
use lb_api::status::{ServerStatus, ServiceStatus, Status};
use lb_api::wire::{Request, ServerRequest};
use lb_model::overlay::{self, CLI, Change, NewPersistence, ServerSettings};
use lb_model::{Health, Ports, Scheduler};

use super::options::{self, Address, Command, Listing, Refusal};
use crate::cli::output::Director;
use crate::cli::servers;

/// ipvsadm returns -1 where the kernel refuses.
const REFUSED: u8 = 255;

pub(super) fn run(director: &Director, command: Command, listing: &Listing) -> Result<ExitCode> {
    let status = match &listing.service {
        // Scripts call it thousands of times.
        Some(Address { protocol, address, port }) => {
            client::request_status_of(&director.socket, protocol.name(), *address, *port)?
        }
        None => client::request_status(&director.socket)?,
    };
    let found = listing.service.as_ref().and_then(|wanted| find(&status, wanted));
    let made = match (command, found, &listing.service) {
        (Command::AddService, known, Some(address)) => {
            options::check_port(listing).and_then(|()| added(address, &listing.settings, known.is_some()))
        }
        (Command::EditService, Some(service), _) => {
            options::check_port(listing).and_then(|()| edited(service, &listing.settings))
        }
        (Command::DeleteService, Some(service), _) => {
            Ok(Change::RemoveService { service: service.name.clone() })
        }
        (Command::EditService | Command::DeleteService, None, _) => no("No such service"),
        (Command::EditServer, Some(service), _) => match known(service, listing) {
            Some(server) => return edit(director, service, server, &listing.server),
            None => no("No such destination"),
        },
        (_, Some(service), _) => of_server(command, service, listing),
        (_, None, _) => no("Service not defined"),
    };
    match made {
        // Says nothing, as ipvsadm.
        Ok(change) => client::request_change(&director.socket, CLI, change).map(|_| ExitCode::SUCCESS),
        Err(refusal) => Ok(refused(&refusal)),
    }
}

/// As what the kernel refuses.
pub(super) fn no<T>(text: &str) -> Result<T, Refusal> {
    Err(Refusal { code: REFUSED, text: text.to_owned() })
}

fn refused(Refusal { code, text }: &Refusal) -> ExitCode {
    eprintln!("{text}");
    ExitCode::from(*code)
}

/// The service that takes new connections.
pub(super) fn find<'s>(status: &'s Status, wanted: &Address) -> Option<&'s ServiceStatus> {
    status.services.iter().filter(|one| !one.draining).find(|one| is(one, wanted))
}

fn is(service: &ServiceStatus, wanted: &Address) -> bool {
    let Address { protocol, address, port } = wanted;
    (service.protocol.as_str(), service.vip, service.port) == (protocol.name(), *address, *port)
}

/// A new service. While it has no servers, and when none of them is usable, its clients are
/// refused, as IPVS refuses them.
pub(super) fn added(
    address: &Address,
    settings: &options::Settings,
    is_there: bool,
) -> Result<Change, Refusal> {
    if is_there {
        return no("Service already exists");
    }
    let Address { protocol, address, port } = *address;
    let service = overlay::NewService {
        vip: Ports::of_key(port).after(address),
        protocol: Some(protocol.name().to_owned()),
        settings: self::settings(settings)?,
        fallback: Some("refuse".to_owned()),
        ..overlay::NewService::default()
    };
    Ok(Change::AddService { service })
}

/// What is not given goes back to ipvsadm's default, as it does with IPVS.
fn edited(service: &ServiceStatus, settings: &options::Settings) -> Result<Change, Refusal> {
    Ok(Change::EditService { service: service.name.clone(), settings: self::settings(settings)? })
}

fn settings(given: &options::Settings) -> Result<overlay::Settings, Refusal> {
    let options::Settings { scheduler, persistence, prefix, ops, hash_port, hash_fallback } = given;
    let scheduler = scheduler.as_deref().unwrap_or(Scheduler::Wlc.name());
    if ["lblc", "lblcr"].contains(&scheduler) {
        let text = format!(
            "lb has no {scheduler}, which is for caches that see the addresses of all sites: use wlc, or mh for caches \
             behind one VIP"
        );
        return Err(Refusal { code: super::MISUSED, text });
    }
    if !Scheduler::ALL.iter().any(|known| known.name() == scheduler) {
        return no("Scheduler or persistence engine not found");
    }
    Ok(overlay::Settings {
        scheduler: Some(scheduler.to_owned()),
        hash_port: *hash_port,
        hash_fallback: *hash_fallback,
        ops: *ops,
        persistence: persistence.map(|timeout_s| NewPersistence { timeout_s, prefix: *prefix }),
    })
}

/// With direct routing and tunnels ipvsadm takes the service's port, whatever is said.
fn own_port(server: &options::NewServer) -> Option<u16> {
    let (_, port) = server.address?;
    port.filter(|_| server.method == Some("masq"))
}

fn known<'s>(service: &'s ServiceStatus, listing: &Listing) -> Option<&'s ServerStatus> {
    let (address, _) = listing.server.address?;
    let own_port = own_port(&listing.server);
    service.servers.iter().find(|server| {
        let same_port = own_port.is_none_or(|port| server.port == port);
        server.address == address && same_port && server.health != Health::Draining
    })
}

/// -a and -d.
pub(super) fn of_server(
    command: Command,
    service: &ServiceStatus,
    listing: &Listing,
) -> Result<Change, Refusal> {
    let name = service.name.clone();
    match (command, known(service, listing)) {
        (Command::DeleteServer, Some(known)) => {
            Ok(Change::RemoveServer { service: name, server: called(service, known) })
        }
        (Command::DeleteServer, None) => no("No such destination"),
        (_, Some(_)) => no("Destination already exists"),
        (_, None) => match new_server(&listing.server, service.port) {
            Some(server) => Ok(Change::AddServer { service: name, server }),
            None => no("Service not defined"),
        },
    }
}

/// A server in a change of its service.
fn called(service: &ServiceStatus, known: &ServerStatus) -> String {
    match known.port == service.port {
        true => known.address.to_string(),
        false => SocketAddr::new(known.address, known.port).to_string(),
    }
}

/// `port` is the service's. `None`: no server was given.
pub(super) fn new_server(given: &options::NewServer, port: u16) -> Option<overlay::NewServer> {
    let options::NewServer { address, weight, method, upper, lower, gue_port } = given;
    let (address, _) = (*address)?;
    let address = match own_port(given).filter(|own| *own != port && *own != 0) {
        Some(own) => SocketAddr::new(address, own).to_string(),
        None => address.to_string(),
    };
    Some(overlay::NewServer {
        address,
        name: None,
        weight: *weight,
        forward: method.map(str::to_owned),
        upper_threshold: *upper,
        lower_threshold: *lower,
        gue_port: *gue_port,
    })
}

/// -e. An order `lb weight` would outweigh what is said now: it is taken back.
fn edit(
    director: &Director,
    service: &ServiceStatus,
    known: &ServerStatus,
    new: &options::NewServer,
) -> Result<ExitCode> {
    client::request_change(&director.socket, CLI, edited_server(service, known, new))?;
    if known.orders.iter().any(|standing| standing.order == "weight") {
        let about = ServerRequest {
            server: known.address.to_string(),
            service: Some(service.name.clone()),
            reason: Some("ipvsadm -e".to_owned()),
            by: servers::user(),
        };
        let order = Request::Weight { about, weight: None };
        client::request_server_order(&director.socket, &order)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What is not given goes back to ipvsadm's default, as it does with IPVS; but the method stays, by
/// which packets get there at all.
fn edited_server(service: &ServiceStatus, known: &ServerStatus, new: &options::NewServer) -> Change {
    let settings = ServerSettings {
        weight: Some(new.weight.unwrap_or(1)),
        forward: new.method.map(str::to_owned),
        upper_threshold: Some(new.upper.unwrap_or(0)),
        lower_threshold: Some(new.lower.unwrap_or(0)),
        gue_port: new.gue_port,
    };
    Change::EditServer { service: service.name.clone(), server: called(service, known), settings }
}

/// -C. Says, unlike ipvsadm, what an operator must know who did not mean it.
pub(super) fn clear(name: &str, director: &Director) -> Result<ExitCode> {
    let (changes, told) = cleared(&client::request_status(&director.socket)?);
    if !changes.is_empty() {
        client::request_changes(&director.socket, CLI, changes)?;
    }
    told.iter().for_each(|line| eprintln!("{name}: {line}"));
    Ok(ExitCode::SUCCESS)
}

/// The changes that -C stands for, and what it says.
fn cleared(status: &Status) -> (Vec<Change>, Vec<String>) {
    // Changes of later sources are made after those of this one: their services stay.
    let is_later = |service: &&ServiceStatus| service.source.as_deref().is_some_and(|source| source > CLI);
    let there = status.services.iter().filter(|service| !service.draining);
    let (later, own): (Vec<&ServiceStatus>, Vec<&ServiceStatus>) = there.partition(is_later);
    let mut told = Vec::new();
    if !own.is_empty() {
        let services = if own.len() == 1 { "service is" } else { "services are" };
        let back = match own.iter().any(|service| service.source.is_none()) {
            false => "the configuration file has none of them",
            true => "the configuration file is as it was, and `lb overlay clear` brings back what it has",
        };
        told.push(format!("{} {services} removed at run time; {back}", own.len()));
    }
    if !later.is_empty() {
        let sources: BTreeSet<&str> = later.iter().filter_map(|service| service.source.as_deref()).collect();
        let sources = Vec::from_iter(sources).join(", ");
        told.push(format!("services of other sources ({sources}), which stay: {}", later.len()));
    }
    let removed = own.iter().map(|service| Change::RemoveService { service: service.name.clone() });
    (removed.collect(), told)
}

/// -Z, of one service or of all.
pub(super) fn zero(director: &Director, listing: &Listing) -> Result<ExitCode> {
    let service = match &listing.service {
        None => None,
        Some(wanted) => {
            let status = client::request_status(&director.socket)?;
            // One that has been deleted is gone for ipvsadm, even while its connections end.
            match find(&status, wanted) {
                Some(service) => Some(service.name.clone()),
                None => return Ok(refused(&Refusal { code: REFUSED, text: "No such service".to_owned() })),
            }
        }
    };
    let order = Request::Zero { service };
    client::request_server_order(&director.socket, &order).map(|_| ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use lb_api::samples;
    use lb_model::Protocol;
    use lb_model::overlay::KUBERNETES;

    use super::*;

    fn status(sources: &[Option<&str>]) -> Status {
        let mut status = samples::cluster();
        let one = status.services[0].clone();
        let service = |(number, source): (usize, &Option<&str>)| ServiceStatus {
            name: format!("s{number}"),
            source: source.map(str::to_owned),
            ..one.clone()
        };
        status.services = sources.iter().enumerate().map(service).collect();
        status
    }

    #[test]
    fn a_service_that_was_deleted_is_not_there_while_its_connections_end() {
        let mut status = status(&[None, None]);
        let [old, new] = &mut status.services[..] else { panic!("two services") };
        old.draining = true;
        let wanted = Address { protocol: Protocol::Tcp, address: new.vip, port: new.port };
        assert_eq!(find(&status, &wanted).map(|found| found.name.as_str()), Some("s1"), "its successor");
        status.services.truncate(1);
        assert!(find(&status, &wanted).is_none());
    }

    #[test]
    fn what_comes_from_elsewhere_later_is_not_cleared() {
        let named = |status: &Status| {
            let (changes, told) = cleared(status);
            let names = changes.iter().map(|change| change.service().map(str::to_owned));
            (names.collect::<Option<Vec<String>>>().expect("removals"), told)
        };
        let (names, told) = named(&status(&[None, Some(CLI), Some("acme"), Some(KUBERNETES)]));
        assert_eq!(names, ["s0", "s1", "s2"]);
        let [first, second] = &told[..] else { panic!("{told:?}") };
        assert!(first.starts_with("3 services are removed at run time; "), "{first}");
        assert!(second.ends_with("(kubernetes), which stay: 1"), "{second}");
        let (names, told) = named(&status(&[Some(KUBERNETES), Some("later"), Some(KUBERNETES)]));
        assert_eq!(names, Vec::<String>::new());
        assert_eq!(told, ["services of other sources (kubernetes, later), which stay: 3"]);
        let (names, told) = named(&status(&[Some(CLI)]));
        assert_eq!((names.len(), told.len()), (1, 1));
        assert!(told[0].ends_with("the configuration file has none of them"), "{told:?}");
        assert_eq!(named(&status(&[])), (Vec::new(), Vec::new()));
    }

    #[test]
    fn what_an_edit_of_a_server_does_not_say_goes_back_but_for_its_method() {
        let status = samples::cluster();
        let service = &status.services[0];
        let known = &service.servers[0];
        let settings = |new: &options::NewServer| match edited_server(service, known, new) {
            Change::EditServer { service: name, server, settings } => {
                assert_eq!((name, server), (service.name.clone(), called(service, known)));
                settings
            }
            other => panic!("{other:?}"),
        };
        let none = ServerSettings {
            weight: Some(1),
            upper_threshold: Some(0),
            lower_threshold: Some(0),
            ..ServerSettings::default()
        };
        assert_eq!(settings(&options::NewServer::default()), none);
        let given = options::NewServer {
            weight: Some(0),
            method: Some("gue"),
            gue_port: Some(6081),
            upper: Some(9),
            lower: Some(2),
            ..options::NewServer::default()
        };
        let wanted = ServerSettings {
            weight: Some(0),
            forward: Some("gue".to_owned()),
            gue_port: Some(6081),
            upper_threshold: Some(9),
            lower_threshold: Some(2),
        };
        assert_eq!(settings(&given), wanted);
    }
}
