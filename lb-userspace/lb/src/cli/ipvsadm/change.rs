//! -a, -d and -D: the overlay's changes; -e: the order `lb weight`. With ipvsadm's words for what
//! is there already, or is not.

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Result;
use lb_api::client;
use lb_api::status::{ServerStatus, ServiceStatus};
use lb_api::wire::{Request, ServerRequest};
use lb_model::overlay::{CLI, Change, NewServer};
use lb_model::{Forwarding, Health};

use super::options::{self, Address, Command, Listing};
use crate::cli::output::Director;
use crate::cli::servers;

/// ipvsadm returns -1 where the kernel refuses.
const REFUSED: u8 = 255;

pub(super) fn run(director: &Director, command: Command, listing: &Listing) -> Result<ExitCode> {
    let status = client::request_status(&director.socket)?;
    let found = listing.service.as_ref().and_then(|wanted| {
        let is_it = |one: &&ServiceStatus| {
            let Address { protocol, address, port } = wanted;
            (one.protocol.as_str(), one.vip, one.port) == (protocol.name(), *address, *port)
        };
        status.services.iter().filter(|one| !one.draining).find(is_it)
    });
    let Some(service) = found else {
        let text = if command == Command::DeleteService { "No such service" } else { "Service not defined" };
        return refused(text);
    };
    let name = service.name.clone();
    let Some((address, port)) = listing.server.address else {
        return change(director, Change::RemoveService { service: name });
    };
    // With direct routing and tunnels ipvsadm takes the service's port, whatever is said.
    let port = port.filter(|_| listing.server.method == Some("masq")).unwrap_or(service.port);
    let known = service.servers.iter().find(|server| {
        let same_port = listing.server.method != Some("masq") || server.port == port;
        server.address == address && same_port && server.health != Health::Draining
    });
    match (command, known) {
        (Command::DeleteServer | Command::EditServer, None) => refused("No such destination"),
        (Command::DeleteServer, Some(known)) => {
            change(director, Change::RemoveServer { service: name, server: known.address.to_string() })
        }
        (Command::EditServer, Some(known)) => edit(director, &name, known, &listing.server),
        (_, Some(_)) => refused("Destination already exists"),
        (_, None) => {
            let with_port = SocketAddr::new(address, port).to_string();
            let server = NewServer {
                address: if port == service.port { address.to_string() } else { with_port },
                name: None,
                weight: listing.server.weight,
                forward: listing.server.method.map(str::to_owned),
                upper_threshold: listing.server.upper,
                lower_threshold: listing.server.lower,
            };
            change(director, Change::AddServer { service: name, server })
        }
    }
}

/// The weight, which is 1 where none is given. What else a server has stands in the file.
fn edit(
    director: &Director,
    service: &str,
    known: &ServerStatus,
    new: &options::NewServer,
) -> Result<ExitCode> {
    let method = match known.method {
        Forwarding::Tunnel => known.tunnel.as_deref().unwrap_or("ipip"),
        Forwarding::Masq => "masq",
        // A local one is reached by direct routing, which ends here.
        Forwarding::Direct | Forwarding::Local => "direct",
    };
    let same_method = new.method.is_none_or(|new| new == method);
    if !same_method || new.upper.is_some() || new.lower.is_some() {
        return refused(
            "only weights are changed here: methods and thresholds stand in the configuration file, and `lb reload` \
             takes what is new there",
        );
    }
    let about = ServerRequest {
        server: known.address.to_string(),
        service: Some(service.to_owned()),
        reason: Some("ipvsadm -e".to_owned()),
        by: servers::user(),
    };
    let order = Request::Weight { about, weight: Some(new.weight.unwrap_or(1)) };
    client::request_server_order(&director.socket, &order).map(|_| ExitCode::SUCCESS)
}

fn refused(text: &str) -> Result<ExitCode> {
    eprintln!("{text}");
    Ok(ExitCode::from(REFUSED))
}

/// Says nothing, as ipvsadm.
fn change(director: &Director, change: Change) -> Result<ExitCode> {
    client::request_change(&director.socket, CLI, change).map(|_| ExitCode::SUCCESS)
}
