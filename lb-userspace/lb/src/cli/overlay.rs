//! `lb add`, `lb remove`, `lb overlay`, `lb save`: the configuration changed at run time, and what
//! becomes of that.

use std::fs;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use lb_api::difference::Difference;
use lb_api::status::{StandingOrder, Status};
use lb_api::wire::{Overlay, Saving};
use lb_api::{client, schema, words};
use lb_model::overlay::{CLI, Change, ChangedFile, NewServer, NewService, Settings, is_kept_elsewhere};
use lb_system::whole_file;

use super::output::{Director, json_line, print};

#[derive(Debug, Args)]
pub(super) struct AddOptions {
    #[command(subcommand)]
    what: Add,
    #[command(flatten)]
    director: Director,
}

#[derive(Debug, Subcommand)]
enum Add {
    /// Add a real server to a service
    Server(AddServer),
    /// Add a service with its servers
    Service(AddService),
}

#[derive(Debug, Args)]
struct AddServer {
    /// Name of the service, or its VIP:PORT
    service: String,
    /// Address of the server, with a port where that is not the service's
    #[arg(value_name = "ADDRESS[:PORT]")]
    address: String,
    /// Its name; by default its address
    #[arg(long)]
    name: Option<String>,
    #[arg(long)]
    weight: Option<u16>,
    /// How packets get there: direct, masq, ipip, gue or gre; by default as the service says
    #[arg(long, value_name = "METHOD")]
    forward: Option<String>,
    /// With so many connections it is full
    #[arg(long, value_name = "N")]
    upper_threshold: Option<u32>,
    /// Below so many it has room again
    #[arg(long, value_name = "N")]
    lower_threshold: Option<u32>,
}

#[derive(Debug, Args)]
struct AddService {
    #[arg(value_name = "VIP:PORT")]
    vip: String,
    /// Addresses of its servers
    #[arg(value_name = "SERVER[:PORT]", required = true)]
    servers: Vec<String>,
    /// Its name; by default PROTOCOL/VIP:PORT
    #[arg(long)]
    name: Option<String>,
    #[arg(long, value_parser = ["tcp", "udp"])]
    protocol: Option<String>,
    #[arg(long)]
    scheduler: Option<String>,
    /// Who serves when no server is usable
    #[arg(long)]
    fallback: Option<String>,
    /// How servers are checked: the type of a check with defaults, such as tcp or http
    #[arg(long, value_name = "TYPE")]
    check: Option<String>,
    /// How packets get to the servers: direct, masq, ipip, gue or gre
    #[arg(long, value_name = "METHOD")]
    forward: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct RemoveOptions {
    #[command(subcommand)]
    what: Remove,
    #[command(flatten)]
    director: Director,
}

#[derive(Debug, Subcommand)]
enum Remove {
    /// Remove a real server from a service; it keeps the connections it has for the service's
    /// `drain`
    Server {
        /// Name of the service, or its VIP:PORT
        service: String,
        /// Name or address of the server
        server: String,
    },
    /// Remove a service
    Service {
        /// Name of the service, or its VIP:PORT
        service: String,
    },
}

#[derive(Debug, Args)]
pub(super) struct OverlayOptions {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    director: Director,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Show what was changed at run time
    Show {
        /// Print it as a JSON object, for programs
        #[arg(long)]
        json: bool,
    },
    /// Undo what was changed at run time: the file is what runs
    Clear {
        /// Only what this source has changed, such as cli; by default all
        #[arg(long)]
        source: Option<String>,
    },
}

pub(super) fn add(AddOptions { what, director }: AddOptions) -> Result<()> {
    match what {
        Add::Server(options) => {
            let AddServer { service, address, name, weight, forward, upper_threshold, lower_threshold } =
                options;
            let server = NewServer {
                address,
                name,
                weight,
                forward,
                upper_threshold,
                lower_threshold,
                ..NewServer::default()
            };
            change(&director, Change::AddServer { service, server })
        }
        Add::Service(options) => {
            let AddService { vip, servers, name, protocol, scheduler, fallback, check, forward } = options;
            let server = |address| NewServer { address, forward: forward.clone(), ..NewServer::default() };
            let servers = servers.into_iter().map(server).collect();
            let settings = Settings { scheduler, ..Settings::default() };
            let service = NewService {
                vip,
                name,
                protocol,
                settings,
                fallback,
                check,
                servers,
                ..NewService::default()
            };
            change(&director, Change::AddService { service })
        }
    }
}

pub(super) fn remove(RemoveOptions { what, director }: RemoveOptions) -> Result<()> {
    match what {
        Remove::Server { service, server } => change(&director, Change::RemoveServer { service, server }),
        Remove::Service { service } => change(&director, Change::RemoveService { service }),
    }
}

pub(super) fn change(director: &Director, change: Change) -> Result<()> {
    told(&client::request_change(&director.socket, CLI, change)?)
}

fn told(differences: &[Difference]) -> Result<()> {
    let lines: Vec<String> = differences.iter().map(|difference| format!("{difference}\n")).collect();
    print(&if lines.is_empty() { "nothing has changed\n".to_owned() } else { lines.concat() })
}

pub(super) fn overlay(OverlayOptions { what, director }: OverlayOptions) -> Result<()> {
    match what {
        What::Show { json } => {
            let overlay = client::request_overlay(&director.socket, false)?;
            if json {
                return print(&json_line(schema::OVERLAY, &overlay)?);
            }
            let lines = overlay.sources.iter().flat_map(|(source, changes)| {
                changes.iter().map(move |change| format!("{source}: {change}\n"))
            });
            print(&lines.collect::<String>())
        }
        What::Clear { source } => told(&client::request_clear_overlay(&director.socket, source, None)?),
    }
}

/// Writes what was changed at run time into the files that have the services, but for what others
/// keep. They stay as they are otherwise.
pub(super) fn save(director: &Director) -> Result<()> {
    let Overlay { sources, saving, config: _ } = client::request_overlay(&director.socket, true)?;
    let own = sources.iter().filter(|(source, _)| !is_kept_elsewhere(source));
    let changes: Vec<&Change> = own.flat_map(|(_, changes)| changes).collect();
    let weights = weights(&client::request_status(&director.socket)?);
    if changes.is_empty() {
        return print(&format!("nothing was changed at run time\n{weights}"));
    }
    let Some(Saving { files, unused, lacks }) = saving else {
        bail!(
            "this lb is of another version than the director, which does not say what to write: restart it"
        );
    };
    if let Some(lacks) = lacks {
        bail!("{lacks}: the file stays as it was, and what was changed at run time stays in force");
    }
    if unused.len() == changes.len() {
        bail!("no change has any effect any more; `lb overlay clear` forgets them");
    }
    // All of them before the first is written.
    files.iter().try_for_each(is_as_it_was_read)?;
    for ChangedFile { path, after, before: _ } in &files {
        whole_file::replace(path, after.as_bytes()).context("it stays as it was")?;
    }
    client::request_clear_overlay(&director.socket, None, Some(sources.clone()))?;
    let names = files.iter().map(|file| file.path.display().to_string()).collect::<Vec<_>>();
    let has = if names.len() == 1 { "has" } else { "have" };
    let mut told = format!("{} {has} what was changed at run time\n", names.join(", "));
    for (index, why) in unused {
        if let Some(change) = changes.get(index) {
            told += &format!("without effect: {change}: {why}\n");
        }
    }
    print(&(told + &weights))
}

/// Whoever expects weights in the file shall know why they are not there; empty, if there are none.
fn weights(status: &Status) -> String {
    let servers = status.services.iter().flat_map(|service| {
        let ordered = service.servers.iter().filter(|server| server.orders.iter().any(is_weight));
        ordered.map(move |server| format!("{} of {}", server.name, service.name))
    });
    let servers: Vec<String> = servers.collect();
    if servers.is_empty() {
        return String::new();
    }
    let names = words::list(servers.iter().map(String::as_str));
    format!("not in the file: weights by `lb weight`, which hold on all directors until undone: {names}\n")
}

fn is_weight(order: &StandingOrder) -> bool {
    order.order == "weight"
}

/// What somebody has written since the director read the file must not be lost.
fn is_as_it_was_read(ChangedFile { path, before, after: _ }: &ChangedFile) -> Result<()> {
    let shown = path.display();
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
    // The director reads a file without an editor's byte order mark.
    if text.strip_prefix('\u{feff}').unwrap_or(&text) != before {
        bail!("{shown} has changed since the director read it: `lb reload` first, then save again");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use lb_api::samples;

    use super::*;

    #[test]
    fn weights_that_are_not_saved_are_told() {
        let mut status = samples::cluster();
        assert_eq!(weights(&status), "");
        let order = |order: &str| StandingOrder {
            order: order.into(),
            weight: None,
            by: "kim on ha1".into(),
            reason: None,
            since: 0,
        };
        status.services[0].servers[0].orders = vec![order("drain")];
        assert_eq!(weights(&status), "");
        status.services[0].servers[1].orders = vec![order("drain"), order("weight")];
        assert!(weights(&status).ends_with(" until undone: www2 of web\n"), "{}", weights(&status));
    }
}
