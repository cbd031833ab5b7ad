//! Standing orders: `lb drain`, `lb enable`, `lb weight`. They hold on all directors of the
//! cluster, over reloads, restarts and take-overs, until they are undone.
//!
//! The book is in a file before an order counts. What other directors have ordered is written when
//! it comes; if that fails it holds all the same, and is written later.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use lb_api::events::{Level, Record};
use lb_api::findings::Findings;
use lb_api::status::StandingOrder;
use lb_api::wire::ServerRequest;
use lb_api::words::list;
use lb_cluster::standing::{Aspect, BY, Book, Order, REASON, Subject, Wish};
use lb_model::ids::NodeId;
use lb_model::{Config, Server, Service, canonical};
use lb_system::whole_file;

use super::maintenance::{all, plain, servers, shown};
use crate::observe::requests::ServerOrder;

/// The orders that this director knows, and where it gives its own.
#[derive(Debug)]
pub(super) struct Standing {
    file: PathBuf,
    node: NodeId,
    name: String,
    book: Book,
    /// The file lacks something.
    unwritten: bool,
    /// That has been told.
    told: bool,
}

impl Standing {
    /// Reads the file. What is wrong with it is noted, and the book is empty then: other directors
    /// know what was in it.
    pub(super) fn open(config: &Config, findings: &Findings) -> Self {
        let file = config.orders_file();
        let (node, name) = match &config.cluster {
            Some(cluster) => (cluster.me, cluster.nodes.get(cluster.me.index())),
            None => (NodeId(0), None),
        };
        let name = name.map_or_else(host_name, |node| node.name.clone());
        let book = read(&file).unwrap_or_else(|error| {
            let text = format!("orders for servers are lost, unless another director knows them: {error}");
            findings.note(Record::new(Level::Error, "orders_unreadable", text));
            Book::default()
        });
        Self { file, node, name, book, unwritten: false, told: false }
    }

    pub(super) fn orders(&self) -> Vec<Order> {
        self.book.orders().cloned().collect()
    }

    /// The order that keeps the server from getting new connections.
    pub(super) fn drain(&self, service: &Service, server: &Server) -> Option<&Order> {
        self.in_force(Aspect::Drain, service, server)
    }

    /// The weight that it has in place of the configured one.
    pub(super) fn weight(&self, service: &Service, server: &Server) -> Option<u16> {
        match self.in_force(Aspect::Weight, service, server)?.wish {
            Wish::Weight(weight) => Some(weight),
            Wish::Drain | Wish::Serve | Wish::ConfiguredWeight => None,
        }
    }

    fn in_force(&self, aspect: Aspect, service: &Service, server: &Server) -> Option<&Order> {
        if self.book.is_empty() {
            return None;
        }
        self.book.in_force(aspect, &service_text(service), &addresses(server))
    }

    /// For the listing.
    pub(super) fn status(&self, service: &Service, server: &Server) -> Vec<StandingOrder> {
        let orders = [Aspect::Drain, Aspect::Weight].map(|aspect| self.in_force(aspect, service, server));
        orders.into_iter().flatten().map(status).collect()
    }

    /// Other directors have told these orders. True if there is something new in them.
    pub(super) fn learn(&mut self, orders: Vec<Order>, findings: &Findings) -> bool {
        let news = orders.into_iter().filter(|order| self.book.merge(order.clone())).count() > 0;
        if news {
            self.unwritten = true;
            self.write_later(findings);
        }
        news
    }

    /// Writes what could not be written when it came.
    pub(super) fn write_later(&mut self, findings: &Findings) {
        if !self.unwritten {
            return;
        }
        match write(&self.file, &self.book) {
            Ok(()) => (self.unwritten, self.told) = (false, false),
            Err(_) if self.told => {}
            Err(error) => {
                self.told = true;
                let text = format!("orders of other directors do not outlive a restart of this one: {error}");
                findings.note(Record::new(Level::Error, "orders_unwritten", text));
            }
        }
    }

    /// Carries an operator's order out. Returns what there is to say of it, and what other
    /// directors shall hear; or why it is refused. `enabled`: a file kept the server out until now.
    pub(super) fn give(
        &mut self,
        order: &ServerOrder,
        enabled: bool,
        config: &Config,
    ) -> Result<(String, Vec<Order>), String> {
        let ServerOrder { about, wish } = order;
        let meant = meant(config, about)?;
        let subjects = match meant.is_empty() {
            true => self.departed(config, order)?,
            false => subjects(config, about, &meant),
        };
        let servers: BTreeSet<String> = meant.iter().copied().map(shown).collect();
        let servers = if servers.is_empty() { about.server.clone() } else { all(&servers) };
        let in_force = meant.is_empty()
            || meant.iter().any(|(service, server)| self.in_force(wish.aspect(), service, server).is_some());
        if wish.undoes() && !in_force {
            return Ok((undone(*wish, enabled, &servers), Vec::new()));
        }
        let orders = self.write_down(subjects, order)?;
        let everywhere = if config.cluster.is_some() { " on all directors" } else { "" };
        let told = match wish {
            Wish::Drain => {
                format!("drained{everywhere} until `lb enable{}`: {servers}", undo(about, ""))
            }
            Wish::Weight(weight) => format!(
                "weight {weight}{everywhere} until `lb weight{}`: {servers}",
                undo(about, " configured")
            ),
            Wish::Serve | Wish::ConfiguredWeight => undone(*wish, true, &servers),
        };
        Ok((told, orders))
    }

    /// The subjects of orders about a server that the configuration does not have any more.
    fn departed(&self, config: &Config, order: &ServerOrder) -> Result<Vec<Subject>, String> {
        let ServerOrder { about, wish } = order;
        let known = self.book.orders().filter(|known| {
            let same = known.subject.server == canonical(&about.server);
            same && known.wish.aspect() == wish.aspect() && !known.wish.undoes()
        });
        let subjects: Vec<Subject> = known.map(|order| order.subject.clone()).collect();
        if wish.undoes() && !subjects.is_empty() {
            return Ok(subjects);
        }
        let known: BTreeSet<&str> = servers(config).map(|(_, server)| &*server.name).collect();
        let place = about.service.as_ref().map_or_else(String::new, |service| format!(" in {service}"));
        Err(format!("there is no server {:?}{place}, there are {}", about.server, list(known.into_iter())))
    }

    fn write_down(&mut self, subjects: Vec<Subject>, order: &ServerOrder) -> Result<Vec<Order>, String> {
        let ServerOrder { about, wish } = order;
        let by = about.by.as_deref().map(plain).filter(|by| !by.is_empty());
        let by = by.map_or_else(|| format!("on {}", self.name), |by| format!("{by} on {}", self.name));
        let reason = about.reason.as_deref().map(plain).unwrap_or_default();
        let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut book = self.book.clone();
        let version = book.next_version(self.node, u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        let given = subjects.into_iter().map(|subject| Order {
            version,
            subject,
            wish: *wish,
            by: shortened(&by, BY),
            reason: shortened(&reason, REASON),
        });
        let given: Vec<Order> = given.collect();
        for order in &given {
            if !wish.undoes() && !book.has_room() {
                return Err("there are too many orders for servers: undo some first".to_owned());
            }
            if !book.merge(order.clone()) {
                let fault = order.fault().unwrap_or("another order is newer");
                return Err(format!("the order cannot be kept: {fault}"));
            }
        }
        write(&self.file, &book)
            .map_err(|error| format!("not done, it would not outlive a restart: {error}"))?;
        (self.book, self.unwritten, self.told) = (book, false, false);
        Ok(given)
    }
}

/// The reason for which a server gets no new connections.
pub(super) fn why_drained(order: &Order) -> String {
    match order.reason.is_empty() {
        true => "drained".to_owned(),
        false => order.reason.clone(),
    }
}

/// The servers that an order is about. The error: there is no such service.
pub(super) fn meant<'c>(
    config: &'c Config,
    about: &ServerRequest,
) -> Result<Vec<(&'c Service, &'c Server)>, String> {
    let ServerRequest { server: name, service: of, .. } = about;
    let is_of = |service: &Service| of.as_ref().is_none_or(|of| service.is_called(of));
    if !config.services.iter().any(is_of) {
        let names = config.services.iter().map(|service| service.name.as_str());
        return Err(format!(
            "there is no service {:?}, there are {}",
            of.as_deref().unwrap_or(""),
            list(names)
        ));
    }
    Ok(servers(config).filter(|(service, server)| is_of(service) && server.is_called(name)).collect())
}

/// By addresses, because names may differ from director to director. One order for all services if
/// that is about the same servers here, so that it is also about services to come.
fn subjects(config: &Config, about: &ServerRequest, meant: &[(&Service, &Server)]) -> Vec<Subject> {
    let with_port = |server: &Server| {
        let without = [server.name.clone(), server.address.to_string()];
        !without.contains(&canonical(&about.server).into_owned())
    };
    let address = |server: &Server| {
        let [address, whole] = addresses(server);
        if with_port(server) { whole } else { address }
    };
    let everywhere: BTreeSet<Subject> =
        meant.iter().map(|(_, server)| Subject { server: address(server), service: None }).collect();
    let names: BTreeSet<&String> = everywhere.iter().map(|subject| &subject.server).collect();
    let reached = servers(config)
        .filter(|(_, server)| addresses(server).iter().any(|address| names.contains(address)))
        .count();
    if about.service.is_none() && reached == meant.len() {
        return everywhere.into_iter().collect();
    }
    let each = meant
        .iter()
        .map(|(service, server)| Subject { server: address(server), service: Some(service_text(service)) });
    each.collect::<BTreeSet<Subject>>().into_iter().collect()
}

/// What subjects call a server.
fn addresses(server: &Server) -> [String; 2] {
    [server.address.to_string(), SocketAddr::new(server.address, server.port).to_string()]
}

/// What subjects call a service.
fn service_text(service: &Service) -> String {
    format!("{}/{}", service.key.protocol.name(), service.key.address())
}

/// The arguments of the command that undoes an order.
fn undo(about: &ServerRequest, value: &str) -> String {
    let service = about.service.as_ref().map_or_else(String::new, |service| format!(" --service {service}"));
    format!(" {}{value}{service}", about.server)
}

fn undone(wish: Wish, was: bool, servers: &str) -> String {
    match (wish.aspect(), was) {
        (Aspect::Drain, true) => format!("in maintenance no more: {servers}"),
        (Aspect::Drain, false) => format!("not in maintenance: {servers}"),
        (Aspect::Weight, true) => format!("of the configured weight again: {servers}"),
        (Aspect::Weight, false) => format!("of the configured weight: {servers}"),
    }
}

fn status(order: &Order) -> StandingOrder {
    let Order { version, subject: _, wish, by, reason } = order;
    let weight = match wish {
        Wish::Weight(weight) => Some(*weight),
        Wish::Drain | Wish::Serve | Wish::ConfiguredWeight => None,
    };
    StandingOrder {
        order: if weight.is_some() { "weight" } else { "drain" }.to_owned(),
        weight,
        by: by.clone(),
        reason: Some(reason.clone()).filter(|reason| !reason.is_empty()),
        since: version.time_ms / 1000,
    }
}

fn host_name() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_else(|| "lb".to_owned())
}

/// At most so many bytes, and whole characters.
fn shortened(text: &str, most: usize) -> String {
    lb_api::words::cut(text, most).trim_end().to_owned()
}

/// A file that is not there holds no orders.
fn read(file: &Path) -> io::Result<Book> {
    let shown = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", file.display()));
    let text = match fs::read(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Book::default()),
        read => read.map_err(shown)?,
    };
    let orders: Vec<Order> = serde_json::from_slice(&text).map_err(|error| shown(error.into()))?;
    Ok(orders.into_iter().collect())
}

fn write(file: &Path, book: &Book) -> io::Result<()> {
    let orders: Vec<&Order> = book.orders().collect();
    whole_file::replace(file, &serde_json::to_vec_pretty(&orders)?)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot write {error}")))
}

#[cfg(test)]
mod tests;
