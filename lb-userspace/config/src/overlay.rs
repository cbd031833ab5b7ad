//! Changes that are made at run time, as changes of the file's text: so they are validated as if
//! they stood there, and can be written there.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::Ipv4Addr;

use lb_model::overlay::{Change, ChangedFile, NewPersistence, NewServer, NewService, Settings};
use lb_model::{Config, Fallback, Scheduler, Service, canonical};

use super::ConfigError;
use super::edit::{List, To, added, emptied, removed, set};
use super::files::{Document, Files};
use super::references::REFERENCE;
use super::source_map::SourceMap;

/// What has come of changes.
#[derive(Debug, Clone, PartialEq)]
pub struct Changed {
    pub config: Config,
    /// The files that differ.
    pub files: Vec<ChangedFile>,
    /// Indices of changes that change nothing, and why: the files may have changed since.
    pub unused: Vec<(usize, String)>,
}

impl Changed {
    /// What a file must have that these would not, if they were written. Changes that come one by
    /// one may be made without it: a service that `ipvsadm -A` has added waits for its servers.
    pub fn lacks(&self) -> Option<String> {
        let waits = |service: &&Service| {
            service.servers.is_empty() && matches!(service.fallback, Fallback::None | Fallback::Refuse)
        };
        match self.config.services.as_slice() {
            [] => Some("no service is left, and a configuration file has at least one".to_owned()),
            services => services
                .iter()
                .find(waits)
                .map(|one| format!("service {} has no server, and in a file it needs one", one.name)),
        }
    }
}

impl Files {
    /// Makes the changes in the texts, one after the other: each in the file in which the service
    /// stands. A new service comes into the first one.
    ///
    /// # Errors
    /// The files are not valid by themselves.
    pub fn changed<'a>(
        &mut self,
        changes: impl IntoIterator<Item = &'a Change>,
    ) -> Result<Changed, ConfigError> {
        let mut config = self.config()?;
        let mut changed = self.clone();
        changed.at_run_time = true;
        let changes: Vec<(usize, &Change)> = changes.into_iter().enumerate().collect();
        let mut unused = Vec::new();
        for run in changes.chunk_by(|(_, one), (_, next)| go_together(one, next)) {
            let run = without_known(run, &config, &mut unused);
            if !run.is_empty() {
                changed.make(&run, &mut config, &mut unused);
            }
        }
        unused.sort_by_key(|(index, _)| *index);
        // With all lists of clients again.
        let config = changed.config()?;
        let both = self.documents.iter().zip(changed.documents);
        let differ = both.filter(|(old, new)| new.text != old.text);
        let files = differ.map(|(old, Document { path, text })| ChangedFile {
            path,
            before: old.text.clone(),
            after: text,
        });
        Ok(Changed { config, files: files.collect(), unused })
    }

    /// Makes changes that go together, with their indices, in `config`, which is what the files
    /// say; of those that cannot be made it notes why. What cannot be made at once is tried by
    /// halves, so thousands take few looks at the files.
    fn make(&mut self, changes: &[(usize, &Change)], config: &mut Config, unused: &mut Vec<(usize, String)>) {
        match (self.try_to_make(changes, config), changes) {
            (Ok(with_changes), _) => *config = with_changes,
            (Err(why), [(index, _)]) => unused.push((*index, why)),
            (Err(_), _) => {
                let (some, others) = changes.split_at(changes.len() / 2);
                self.make(some, config, unused);
                self.make(others, config, unused);
            }
        }
    }

    /// Makes all of them or none, and says why. What is returned lacks lists of clients in files of
    /// their own: no change touches them.
    fn try_to_make(&mut self, changes: &[(usize, &Change)], config: &Config) -> Result<Config, String> {
        let mut before = Vec::new();
        for (number, text) in self.texts_with(changes, config)? {
            before.push((number, std::mem::replace(&mut self.documents[number].text, text)));
        }
        // Only the words of a mistake: the line is in no file.
        let with_changes = self.config_without_lists().map_err(|error| match error.mistakes().first() {
            Some(mistake) => mistake.message.clone(),
            None => error.to_string(),
        });
        let with_changes = with_changes.and_then(|new| match changes_so_many(changes, config, &new) {
            true => Ok(new),
            false => Err("the file's layout does not let that be changed alone".to_owned()),
        });
        if with_changes.is_err() {
            for (number, text) in before {
                self.documents[number].text = text;
            }
        }
        with_changes
    }

    /// The numbers of files, and their texts with the changes, which go together.
    fn texts_with(
        &self,
        changes: &[(usize, &Change)],
        config: &Config,
    ) -> Result<Vec<(usize, String)>, String> {
        let added_services = changes.iter().map_while(|(_, change)| match change {
            Change::AddService { service } => Some(service_text(service)),
            _ => None,
        });
        let added_services: Vec<String> = added_services.collect();
        if !added_services.is_empty() {
            let entries: Vec<&str> = added_services.iter().map(String::as_str).collect();
            return Ok(vec![(0, added(&self.documents[0].text, List::Services, &entries)?)]);
        }
        let removed_services = changes.iter().map_while(|(_, change)| match change {
            Change::RemoveService { service } => Some(service.as_str()),
            _ => None,
        });
        let removed_services: Vec<&str> = removed_services.collect();
        if !removed_services.is_empty() {
            return self.without_services(config, &removed_services);
        }
        let one = changes.first().map(|(_, change)| self.text_with(config, change));
        one.transpose().map(Vec::from_iter)
    }

    /// The number of a file, and its text with the change.
    fn text_with(&self, config: &Config, change: &Change) -> Result<(usize, String), String> {
        let text_of = |number: usize| &*self.documents[number].text;
        match change {
            Change::AddServer { service, server } => {
                let index = service_index(config, service)?;
                let known = &config.services[index].servers;
                let names = [Some(&server.address), server.name.as_ref()];
                let is_there = |name: &&String| known.iter().any(|known| known.is_called(name));
                if let Some(name) = names.into_iter().flatten().find(is_there) {
                    return Err(format!("{service} has a server {name:?} already"));
                }
                let (number, index) = self.place_of(index);
                let text = added(text_of(number), List::Servers(index), &[&server_text(server)])?;
                Ok((number, text))
            }
            Change::RemoveServer { service, server } => {
                let index = service_index(config, service)?;
                let known = config.services[index].servers.iter().position(|known| known.is_called(server));
                let known = known.ok_or_else(|| format!("{service} has no server {server:?}"))?;
                let (number, index) = self.place_of(index);
                Ok((number, removed(text_of(number), List::Servers(index), known)?))
            }
            Change::EditService { service, settings } => {
                let known = service_index(config, service)?;
                let (number, index) = self.place_of(known);
                Ok((number, edited(text_of(number), index, settings, &config.services[known])?))
            }
            Change::AddService { .. } | Change::RemoveService { .. } => {
                Err("services come and go together".to_owned())
            }
        }
    }

    fn without_services(&self, config: &Config, names: &[&str]) -> Result<Vec<(usize, String)>, String> {
        let places = self.places();
        let mut gone: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
        for name in names {
            let service = service_index(config, name)?;
            let (number, index) = places.get(service).copied().ok_or("it stands in no file")?;
            if !gone.entry(number).or_default().insert(index) {
                return Err(format!("there is no second service {name:?}"));
            }
        }
        let text_without = |(number, indices): (usize, BTreeSet<usize>)| {
            let mut text = self.documents[number].text.clone();
            if indices.len() == places.iter().filter(|(of, _)| *of == number).count() {
                return Ok((number, emptied(&text, List::Services)?));
            }
            // From behind: indices of those before stay.
            for index in indices.into_iter().rev() {
                text = removed(&text, List::Services, index)?;
            }
            Ok((number, text))
        };
        gone.into_iter().map(text_without).collect()
    }

    /// The number of the file that has the service with this index, and its index there.
    fn place_of(&self, index: usize) -> (usize, usize) {
        self.places().get(index).copied().unwrap_or_default()
    }

    /// The same of all services.
    fn places(&self) -> Vec<(usize, usize)> {
        let services = |text: &str| SourceMap::of(text).root().key("services").items();
        let documents = self.documents.iter().enumerate();
        documents
            .flat_map(|(number, document)| (0..services(&document.text)).map(move |index| (number, index)))
            .collect()
    }
}

/// Whether both can be made in one look at the files: whole services of which none needs another
/// one.
const fn go_together(one: &Change, next: &Change) -> bool {
    matches!(
        (one, next),
        (Change::AddService { .. }, Change::AddService { .. })
            | (Change::RemoveService { .. }, Change::RemoveService { .. })
    )
}

/// Without new services that stand there already, which are noted: a look at the files finds one at
/// a time.
fn without_known<'a>(
    run: &[(usize, &'a Change)],
    config: &Config,
    unused: &mut Vec<(usize, String)>,
) -> Vec<(usize, &'a Change)> {
    if !matches!(run, [(_, Change::AddService { .. }), ..]) {
        return run.to_vec();
    }
    let place = |protocol: &str, address: &str| format!("{protocol}/{address}");
    let names: HashSet<&str> = config.services.iter().map(|service| service.name.as_str()).collect();
    let places = config.services.iter().map(|service| {
        let Service { key, ports, .. } = service;
        place(key.protocol.name(), &ports.after(key.vip))
    });
    let places: HashSet<String> = places.collect();
    let is_known = |new: &NewService| {
        let protocol = new.protocol.as_deref().unwrap_or("tcp");
        new.name.as_deref().is_some_and(|name| names.contains(name))
            || places.contains(&place(protocol, &canonical(&new.vip)))
    };
    let mut others = Vec::with_capacity(run.len());
    for (index, change) in run {
        match change {
            Change::AddService { service } if is_known(service) => {
                unused.push((*index, format!("there is a service {} already", service.called())));
            }
            _ => others.push((*index, *change)),
        }
    }
    others
}

/// Whether so many services or servers have come or gone as these changes say, which go together:
/// a file may have a list that several services share.
fn changes_so_many(changes: &[(usize, &Change)], before: &Config, after: &Config) -> bool {
    let servers = |config: &Config| -> usize { config.services.iter().map(|one| one.servers.len()).sum() };
    let services = |config: &Config| config.services.len();
    match changes.first() {
        Some((_, Change::AddService { .. })) => services(after) == services(before) + changes.len(),
        Some((_, Change::RemoveService { .. })) => services(after) + changes.len() == services(before),
        Some((_, Change::AddServer { .. })) => servers(after) == servers(before) + 1,
        Some((_, Change::RemoveServer { .. })) => servers(after) + 1 == servers(before),
        Some((_, Change::EditService { .. })) | None => true,
    }
}

fn service_index(config: &Config, name: &str) -> Result<usize, String> {
    // Names are compared at once, addresses are written first.
    let by_name = config.services.iter().position(|service| service.name == name);
    let found = by_name.or_else(|| config.services.iter().position(|service| service.is_called(name)));
    found.ok_or_else(|| format!("there is no service {name:?}"))
}

/// The text with these settings for the service with this index; what is so already stays as it
/// stands.
fn edited(text: &str, index: usize, settings: &Settings, known: &Service) -> Result<String, String> {
    let Settings { scheduler, hash_port, hash_fallback, ops, persistence } = settings;
    let mut text = text.to_owned();
    let scheduler = scheduler.as_deref().unwrap_or(Scheduler::Wlc.name());
    if scheduler != known.scheduler.name() {
        text = set(&text, index, "scheduler", To::Value(&scalar(scheduler)))?;
    }
    let [port, fallback] = [*hash_port, *hash_fallback].map(switch);
    if (*hash_port, *hash_fallback) != (known.hashing.port, known.hashing.fallback) {
        text = set(&text, index, "hash", To::Keys(&[("port", port), ("fallback", fallback)]))?;
    }
    if *ops != known.ops {
        text = set(&text, index, "ops", To::Value(switch(*ops)))?;
    }
    let Some(NewPersistence { timeout_s, prefix }) = persistence else {
        return set(&text, index, "persistence", To::Nothing);
    };
    let longest = if known.key.vip.is_ipv4() { 32 } else { 128 };
    let (timeout, prefix) = (format!("{timeout_s}s"), prefix.unwrap_or(longest));
    let (own, is_longest) = (known.persistence.as_ref(), prefix == longest);
    let prefix = prefix.to_string();
    let keys = [("timeout", timeout.as_str()), ("prefix", prefix.as_str())];
    match own {
        Some(own) if own.timeout.as_secs() == *timeout_s && own.prefix.to_string() == prefix => Ok(text),
        None if is_longest => set(&text, index, "persistence", To::Keys(&keys[..1])),
        _ => set(&text, index, "persistence", To::Keys(&keys)),
    }
}

const fn switch(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

fn server_text(server: &NewServer) -> String {
    let NewServer { address, name, weight, forward, upper_threshold, lower_threshold, gue_port } = server;
    mapping([
        ("name", name.as_deref().map(scalar)),
        ("address", Some(scalar(address))),
        ("weight", weight.map(|weight| weight.to_string())),
        ("forward", forward.as_deref().map(scalar)),
        ("gue_port", gue_port.map(|port| port.to_string())),
        ("upper_threshold", upper_threshold.map(|threshold| threshold.to_string())),
        ("lower_threshold", lower_threshold.map(|threshold| threshold.to_string())),
    ])
}

fn service_text(service: &NewService) -> String {
    let NewService { vip, name, protocol, settings, fallback, check, check_port, check_request, servers } =
        service;
    let Settings { scheduler, hash_port, hash_fallback, ops, persistence } = settings;
    let servers: Vec<String> = servers.iter().map(server_text).collect();
    let on = |is_on: bool| is_on.then(|| "on".to_owned());
    let hash = mapping([("port", on(*hash_port)), ("fallback", on(*hash_fallback))]);
    let persistence = persistence.map(|NewPersistence { timeout_s, prefix }| {
        let prefix = prefix.map(|prefix| prefix.to_string());
        mapping([("timeout", Some(format!("{timeout_s}s"))), ("prefix", prefix)])
    });
    let check = check.as_deref().map(|check| {
        mapping([
            ("type", Some(scalar(check))),
            ("port", check_port.map(|port| port.to_string())),
            ("request", check_request.as_deref().map(scalar)),
        ])
    });
    mapping([
        ("name", name.as_deref().map(scalar)),
        ("vip", Some(scalar(vip))),
        ("protocol", protocol.as_deref().map(scalar)),
        ("scheduler", scheduler.as_deref().map(scalar)),
        ("hash", (*hash_port || *hash_fallback).then_some(hash)),
        ("ops", on(*ops)),
        ("persistence", persistence),
        ("fallback", fallback.as_deref().map(scalar)),
        ("check", check),
        ("servers", (!servers.is_empty()).then(|| format!("[{}]", servers.join(", ")))),
    ])
}

fn mapping<const N: usize>(entries: [(&str, Option<String>); N]) -> String {
    let entries = entries.into_iter().filter_map(|(key, value)| Some(format!("{key}: {}", value?)));
    format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "))
}

/// As plain as YAML lets it be.
fn scalar(text: &str) -> String {
    const RESERVED: [&str; 10] = ["true", "false", "yes", "no", "on", "off", "null", "y", "n", ".nan"];
    let is_plain = |text: &str| {
        text.starts_with(|first: char| first.is_ascii_alphabetic())
            && text.chars().all(|character| character.is_ascii_alphanumeric() || "-_.".contains(character))
            && !RESERVED.contains(&text.to_lowercase().as_str())
    };
    match is_plain(text) || text.parse::<Ipv4Addr>().is_ok() {
        true => text.to_owned(),
        // Whoever may change something must not have files read by that.
        false => {
            let text = text.replace(REFERENCE, "$${").replace('\'', "''");
            format!("'{}'", text.replace(char::is_control, " "))
        }
    }
}

#[cfg(test)]
mod tests;
