//! -R: what -S has printed comes in as one change.

use std::collections::HashMap;
use std::io::Read as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use lb_api::client;
use lb_api::status::Status;
use lb_model::overlay::{CLI, Change};

use super::change;
use super::options::{self, Address, Command, Listing, Refusal, What};
use crate::cli::output::Director;

pub(super) fn run(program: &str, director: &Director) -> Result<ExitCode> {
    let mut rules = String::new();
    std::io::stdin().lock().read_to_string(&mut rules).context("reading standard input")?;
    let status = client::request_status(&director.socket)?;
    match changes(program, &rules, &status) {
        Ok(changes) if changes.is_empty() => {}
        Ok(changes) => drop(client::request_changes(&director.socket, CLI, changes)?),
        Err(Refusal { code, text }) => {
            eprintln!("{text}");
            return Ok(ExitCode::from(code));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The changes that the rules stand for, beside what there is. New services come with their
/// servers.
fn changes(program: &str, rules: &str, status: &Status) -> Result<Vec<Change>, Refusal> {
    let mut table = Table { changes: Vec::new(), new: HashMap::new(), status };
    for (number, line) in (1..).zip(rules.lines()) {
        let words = line.split_whitespace().take_while(|word| !word.starts_with('#'));
        let words: Vec<String> = words.filter(|word| *word != "ipvsadm").map(str::to_owned).collect();
        if !words.is_empty() {
            let taken = options::parse(program, words).and_then(|what| table.take(&what));
            taken
                .map_err(|Refusal { code, text }| Refusal { code, text: format!("line {number}: {text}") })?;
        }
    }
    Ok(table.changes)
}

struct Table<'s> {
    changes: Vec<Change>,
    /// Services that are to come, and where they stand in `changes`.
    new: HashMap<Address, usize>,
    status: &'s Status,
}

impl Table<'_> {
    fn take(&mut self, What { command, listing }: &What) -> Result<(), Refusal> {
        match (command, listing.service) {
            (Command::AddService, Some(address)) => {
                let is_there =
                    self.new.contains_key(&address) || change::find(self.status, &address).is_some();
                let added = change::added(&address, &listing.settings, is_there)?;
                self.new.insert(address, self.changes.len());
                self.changes.push(added);
                Ok(())
            }
            (Command::AddServer, Some(address)) => self.add_server(&address, listing),
            _ => {
                let text =
                    "-R takes lines with -A and -a, which -S prints, and nothing is changed".to_owned();
                Err(Refusal { code: super::MISUSED, text })
            }
        }
    }

    fn add_server(&mut self, address: &Address, listing: &Listing) -> Result<(), Refusal> {
        let new = self.new.get(address).and_then(|index| self.changes.get_mut(*index));
        if let Some(Change::AddService { service }) = new
            && let Some(server) = change::new_server(&listing.server, address.port)
        {
            if service.servers.iter().any(|known| known.address == server.address) {
                return change::no("Destination already exists");
            }
            service.servers.push(server);
            return Ok(());
        }
        let Some(service) = change::find(self.status, address) else {
            return change::no("Service not defined");
        };
        self.changes.push(change::of_server(Command::AddServer, service, listing)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
