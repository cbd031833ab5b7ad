//! A change that comes alone, as from a script that calls `ipvsadm` thousands of times: it is made
//! in the configuration that runs, and its files are not read again.

use std::sync::Arc;

use lb_config::ServiceChange;
use lb_model::overlay::Change;
use lb_model::{Config, ServiceKey, ServiceNames};

use super::Overlay;
use super::added::Added;
use super::list::Joined;

impl Overlay {
    /// `config`, which is the files' with this overlay, and the overlay with one change more of a
    /// source, whose changes are `joined` then. `None`: all changes have to be made anew.
    pub(super) fn with_one_more(
        &self,
        config: &Config,
        source: &str,
        change: &Change,
        joined: &Joined,
    ) -> Option<(Config, Self)> {
        let base = self.base.as_ref()?;
        // Those of later sources are made after it.
        if self.sources.keys().next_back().is_some_and(|last| last.as_str() > source) {
            return None;
        }
        let one = self.service_change(config, source, change, joined)?;
        let mut config = base.with(config, &one, |key| self.is_new(key))?;
        let mut sources = self.sources.clone();
        match joined.changes.is_empty() {
            true => drop(sources.remove(source)),
            false => drop(sources.insert(source.to_owned(), joined.changes.clone())),
        }
        // What had no effect any more of this source's is forgotten.
        let earlier = self.unused.range(..self.first_number(source));
        let unused = earlier.map(|(number, why)| (*number, why.clone())).collect();
        let added = Added::of(&config, &sources, &unused);
        config.kept_elsewhere = added.kept_elsewhere();
        let path = self.path.clone();
        let base = Some(Arc::clone(base));
        Some((config, Self { path, sources, unused, base, added, ..Self::default() }))
    }

    fn is_new(&self, key: &ServiceKey) -> bool {
        self.added.services.contains_key(key)
    }

    fn service_change<'a>(
        &'a self,
        config: &Config,
        source: &str,
        change: &'a Change,
        joined: &'a Joined,
    ) -> Option<ServiceChange<'a>> {
        let names = ServiceNames::of(&config.services);
        match change {
            Change::AddService { service } => {
                names.index_of_new(service).is_none().then_some(ServiceChange::Put(service, None))
            }
            Change::RemoveService { service } => names.index(service).map(ServiceChange::Remove),
            Change::AddServer { service, .. }
            | Change::RemoveServer { service, .. }
            | Change::EditServer { service, .. }
            | Change::EditService { service, .. } => {
                let index = names.index(service)?;
                if let [number] = joined.new[..]
                    && let Some(Change::AddService { service: new }) = joined.changes.get(number)
                {
                    let is_it = names.index_of_new(new) == Some(index);
                    return is_it.then_some(ServiceChange::Put(new, Some(index)));
                }
                let known = config.services.get(index).filter(|known| !self.is_new(&known.key))?;
                let mut about = Vec::new();
                for change in self.before(source).chain(&joined.changes) {
                    match change {
                        Change::AddServer { service, .. }
                        | Change::RemoveServer { service, .. }
                        | Change::EditServer { service, .. }
                        | Change::EditService { service, .. } => {
                            if *service == known.name {
                                about.push(change);
                            } else if names.index(service) == Some(index) {
                                // By an address, which may have meant another one.
                                return None;
                            }
                        }
                        Change::AddService { .. } | Change::RemoveService { .. } => {}
                    }
                }
                Some(ServiceChange::Change(index, about))
            }
        }
    }

    /// Changes of earlier sources that have an effect.
    fn before(&self, source: &str) -> impl Iterator<Item = &Change> {
        let earlier = self.sources.iter().take_while(move |(other, _)| other.as_str() < source);
        let numbered = earlier.flat_map(|(_, changes)| changes).enumerate();
        numbered.filter(move |(number, _)| !self.unused.contains_key(number)).map(|(_, change)| change)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use lb_config::Files;
    use lb_model::overlay::{CLI, NewServer, NewService, Overlays, ServerSettings, Settings};

    use super::super::{Loaded, list, load_with};
    use super::*;

    const FILE: &str = "
interface: eth0
services:
  - name: web
    vip: 192.0.2.10:80
    servers: [{ address: 192.0.2.21 }, { address: 192.0.2.22, weight: 2 }]
  - name: mail
    vip: 192.0.2.10:25
    fallback: local
";

    fn add_server(service: &str, address: &str) -> Change {
        let server = NewServer { address: address.into(), ..NewServer::default() };
        Change::AddServer { service: service.into(), server }
    }

    fn remove_server(service: &str, server: &str) -> Change {
        Change::RemoveServer { service: service.into(), server: server.into() }
    }

    fn weigh(service: &str, server: &str, weight: u16) -> Change {
        let settings = ServerSettings { weight: Some(weight), ..ServerSettings::default() };
        Change::EditServer { service: service.into(), server: server.into(), settings }
    }

    fn edit(service: &str, scheduler: &str) -> Change {
        let settings = Settings { scheduler: Some(scheduler.into()), ..Settings::default() };
        Change::EditService { service: service.into(), settings }
    }

    fn new(port: u16) -> Change {
        let (vip, fallback) = (format!("192.0.2.10:{port}"), Some("refuse".to_owned()));
        Change::AddService { service: NewService { vip, fallback, ..NewService::default() } }
    }

    fn remove(service: &str) -> Change {
        Change::RemoveService { service: service.into() }
    }

    /// What is loaded of the file and these changes.
    fn loaded(path: &std::path::Path, sources: Overlays) -> (Config, Overlay) {
        let mut files = Files::open(path).expect("the file");
        let loaded = load_with(&mut files, PathBuf::from("overlay.json"), sources);
        let Loaded { config, overlay, .. } = loaded.unwrap_or_else(|error| panic!("{error}"));
        (config, overlay)
    }

    /// The changes that one more makes of those of its source.
    fn joined(config: &Config, overlay: &Overlay, change: &Change) -> Joined {
        let (_, used) = overlay.used(CLI);
        list::joined(used, vec![change.clone()], &ServiceNames::of(&config.services))
    }

    #[test]
    fn one_more_is_what_would_be_loaded() {
        const OTHER: &str = "tcp/192.0.2.10:81";
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lb.yaml");
        std::fs::write(&path, FILE).expect("a file");
        // Another source's, of which one has no effect.
        let api = vec![add_server("web", "192.0.2.23"), remove_server("web", "192.0.2.29"), new(82)];
        let (mut config, mut overlay) = loaded(&path, Overlays::from([("api".to_owned(), api)]));
        for change in [
            new(81),
            add_server(OTHER, "192.0.2.21"),
            add_server("192.0.2.10:81", "192.0.2.22"),
            weigh(OTHER, "192.0.2.22", 3),
            edit(OTHER, "rr"),
            new(83),
            add_server("web", "192.0.2.24"),
            weigh("web", "192.0.2.24", 4),
            weigh("web", "192.0.2.22:80", 4),
            weigh("web", "192.0.2.22", 2),
            weigh("web", "192.0.2.23", 0),
            weigh("web", "192.0.2.21", 9),
            remove_server("web", "192.0.2.21"),
            edit("web", "wrr"),
            edit("web", "rr"),
            remove_server("web", "192.0.2.24"),
            remove_server("web", "192.0.2.23"),
            remove_server(OTHER, "192.0.2.21"),
            remove("mail"),
            new(25),
            remove("tcp/192.0.2.10:25"),
            remove(OTHER),
            remove("tcp/192.0.2.10:82"),
        ] {
            let joined = joined(&config, &overlay, &change);
            let one_more = overlay.with_one_more(&config, CLI, &change, &joined);
            (config, overlay) = one_more.unwrap_or_else(|| panic!("{change:?}"));
            let (all, anew) = loaded(&path, overlay.sources.clone());
            assert_eq!(config, all, "{change:?}");
            assert_eq!((&overlay.unused, overlay.saving()), (&anew.unused, anew.saving()), "{change:?}");
            assert_eq!(overlay.added.services, anew.added.services, "{change:?}");
            assert_eq!(overlay.added.servers, anew.added.servers, "{change:?}");
        }
        assert_eq!(overlay.unused.keys().copied().collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn what_was_changed_in_a_programs_service_cannot_be_saved() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lb.yaml");
        std::fs::write(&path, FILE).expect("a file");
        let own = vec![add_server("web", "192.0.2.24"), add_server("tcp/192.0.2.10:82", "192.0.2.21")];
        let sources = Overlays::from([("acme".to_owned(), vec![new(82)]), (CLI.to_owned(), own)]);
        let (_, overlay) = loaded(&path, sources);
        assert_eq!(overlay.unused, BTreeMap::new(), "all of it is in force");
        let lacks = overlay.saving().lacks.expect("one would be forgotten");
        assert!(lacks.starts_with("+ server tcp/192.0.2.10:82/192.0.2.21 cannot be written"), "{lacks}");
    }

    #[test]
    fn what_makes_no_sense_and_what_others_come_after_is_left_to_all_changes() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lb.yaml");
        std::fs::write(&path, FILE).expect("a file");
        let (config, overlay) = loaded(&path, Overlays::new());
        for change in [
            new(80),
            remove("other"),
            add_server("web", "192.0.2.21"),
            add_server("web", "192.0.2.10"),
            remove_server("web", "192.0.2.29"),
            edit("web", "none"),
            edit("other", "rr"),
            weigh("web", "192.0.2.29", 2),
        ] {
            let joined = joined(&config, &overlay, &change);
            assert!(overlay.with_one_more(&config, CLI, &change, &joined).is_none(), "{change:?}");
        }
        let later = Overlays::from([("later".to_owned(), vec![new(81)])]);
        let (config, overlay) = loaded(&path, later);
        assert_eq!(overlay.unused, BTreeMap::new());
        let joined = joined(&config, &overlay, &new(82));
        assert!(overlay.with_one_more(&config, CLI, &new(82), &joined).is_none());
    }
}
