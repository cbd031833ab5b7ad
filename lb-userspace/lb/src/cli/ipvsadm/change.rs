//! -a, -d and -D: the overlay's changes, with ipvsadm's words for what is there already, or is not.

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Result;
use lb_api::client;
use lb_api::status::ServiceStatus;
use lb_model::Health;
use lb_model::overlay::{CLI, Change, NewServer};

use super::options::{Address, Command, Listing};
use crate::cli::output::Director;

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
        (Command::DeleteServer, None) => refused("No such destination"),
        (Command::DeleteServer, Some(known)) => {
            change(director, Change::RemoveServer { service: name, server: known.address.to_string() })
        }
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

fn refused(text: &str) -> Result<ExitCode> {
    eprintln!("{text}");
    Ok(ExitCode::from(REFUSED))
}

/// Says nothing, as ipvsadm.
fn change(director: &Director, change: Change) -> Result<ExitCode> {
    client::request_change(&director.socket, CLI, change).map(|_| ExitCode::SUCCESS)
}
