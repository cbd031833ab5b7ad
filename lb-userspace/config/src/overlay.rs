//! Changes that are made at run time, as changes of the file's text: so they are validated as if
//! they stood there, and can be written there.

use std::net::Ipv4Addr;

use lb_model::Config;
use lb_model::overlay::{Change, ChangedFile, NewServer, NewService};

use super::ConfigError;
use super::edit::{List, added, removed};
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
        let mut unused = Vec::new();
        for (index, change) in changes.into_iter().enumerate() {
            match changed.make(change, &config) {
                Ok(with_change) => config = with_change,
                Err(why) => unused.push((index, why)),
            }
        }
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

    /// Makes one change in `config`, which is what the files say, or says why it cannot be made.
    /// What is returned lacks lists of clients in files of their own: no change touches them.
    fn make(&mut self, change: &Change, config: &Config) -> Result<Config, String> {
        let (number, text) = self.text_with(change, config)?;
        let before = std::mem::replace(&mut self.documents[number].text, text);
        self.config_without_lists().map_err(|error| {
            self.documents[number].text = before;
            // Only the words of the mistake: the line is in no file.
            match error.mistakes().first() {
                Some(mistake) => mistake.message.clone(),
                None => error.to_string(),
            }
        })
    }

    /// The number of a file, and its text with the change.
    fn text_with(&self, change: &Change, config: &Config) -> Result<(usize, String), String> {
        let service_index = |name: &String| {
            let found = config.services.iter().position(|service| service.is_called(name));
            found.ok_or_else(|| format!("there is no service {name:?}"))
        };
        let text_of = |number: usize| &*self.documents[number].text;
        match change {
            Change::AddServer { service, server } => {
                let index = service_index(service)?;
                let known = &config.services[index].servers;
                let names = [Some(&server.address), server.name.as_ref()];
                let is_there = |name: &&String| known.iter().any(|known| known.is_called(name));
                if let Some(name) = names.into_iter().flatten().find(is_there) {
                    return Err(format!("{service} has a server {name:?} already"));
                }
                let (number, index) = self.place_of(index);
                Ok((number, added(text_of(number), List::Servers(index), &server_text(server))?))
            }
            Change::RemoveServer { service, server } => {
                let index = service_index(service)?;
                let known = config.services[index].servers.iter().position(|known| known.is_called(server));
                let known = known.ok_or_else(|| format!("{service} has no server {server:?}"))?;
                let (number, index) = self.place_of(index);
                Ok((number, removed(text_of(number), List::Servers(index), known)?))
            }
            Change::AddService { service } => {
                Ok((0, added(text_of(0), List::Services, &service_text(service))?))
            }
            Change::RemoveService { service } => {
                let (number, index) = self.place_of(service_index(service)?);
                Ok((number, removed(text_of(number), List::Services, index)?))
            }
        }
    }

    /// The number of the file that has the service with this index, and its index there.
    fn place_of(&self, mut index: usize) -> (usize, usize) {
        for (number, document) in self.documents.iter().enumerate() {
            let services = SourceMap::of(&document.text).root().key("services").items();
            match index.checked_sub(services) {
                None => return (number, index),
                Some(rest) => index = rest,
            }
        }
        (0, index)
    }
}

fn server_text(server: &NewServer) -> String {
    let NewServer { address, name, weight, forward, upper_threshold, lower_threshold } = server;
    mapping([
        ("name", name.as_deref().map(scalar)),
        ("address", Some(scalar(address))),
        ("weight", weight.map(|weight| weight.to_string())),
        ("forward", forward.as_deref().map(scalar)),
        ("upper_threshold", upper_threshold.map(|threshold| threshold.to_string())),
        ("lower_threshold", lower_threshold.map(|threshold| threshold.to_string())),
    ])
}

fn service_text(service: &NewService) -> String {
    let NewService { vip, name, protocol, scheduler, fallback, check, servers } = service;
    let servers: Vec<String> = servers.iter().map(server_text).collect();
    mapping([
        ("name", name.as_deref().map(scalar)),
        ("vip", Some(scalar(vip))),
        ("protocol", protocol.as_deref().map(scalar)),
        ("scheduler", scheduler.as_deref().map(scalar)),
        ("fallback", fallback.as_deref().map(scalar)),
        ("check", check.as_deref().map(|check| mapping([("type", Some(scalar(check)))]))),
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FILE: &str = "\
interface: eth0
services:
  # The web.
  - name: web
    vip: 192.0.2.10:80
    check: { type: http }       # and that
    servers:
      - address: 192.0.2.21     # the old one
";

    fn server(address: &str) -> NewServer {
        NewServer { address: address.to_owned(), ..NewServer::default() }
    }

    fn add(service: &str, server: NewServer) -> Change {
        Change::AddServer { service: service.to_owned(), server }
    }

    fn files(text: &str) -> Files {
        Files::of(Document::new("lb.yaml".into(), text))
    }

    /// The new text, and what is unused.
    fn made(changes: &[Change]) -> (String, Vec<(usize, String)>) {
        let changed = files(FILE).changed(changes).unwrap_or_else(|error| panic!("{error}"));
        let text = changed.files.into_iter().next().map_or_else(|| FILE.to_owned(), |file| file.after);
        (text, changed.unused)
    }

    #[test]
    fn servers_and_services_come_and_go() {
        let www2 = NewServer { name: Some("www2".into()), weight: Some(3), ..server("192.0.2.22") };
        let dns = NewService {
            vip: "[2001:db8::10]:53".into(),
            protocol: Some("udp".into()),
            servers: vec![server("2001:db8::21")],
            ..NewService::default()
        };
        let (text, unused) = made(&[
            add("web", www2),
            Change::RemoveServer { service: "web".into(), server: "192.0.2.21".into() },
            Change::AddService { service: dns },
        ]);
        assert!(unused.is_empty(), "{unused:?}");
        let wanted = FILE.replace(
            "- address: 192.0.2.21     # the old one",
            "- { name: www2, address: 192.0.2.22, weight: 3 }",
        ) + "  - { vip: '[2001:db8::10]:53', protocol: udp, servers: [{ address: '2001:db8::21' }] }\n";
        assert_eq!(text, wanted);
        let config = crate::parse(&text, "lb.yaml").unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(config.services[0].servers[0].checks.len(), 1, "the service's check is its own, too");
    }

    #[test]
    fn what_makes_no_sense_any_more_is_left_out_and_told() {
        let changes = [
            add("web", server("192.0.2.21")),
            add("mail", server("192.0.2.22")),
            Change::RemoveServer { service: "web".into(), server: "www9".into() },
            add("web", NewServer { forward: Some("teleport".into()), ..server("192.0.2.23") }),
            add("web", server("192.0.2.24")),
        ];
        let (text, unused) = made(&changes);
        let indices: Vec<usize> = unused.iter().map(|(index, _)| *index).collect();
        assert_eq!(indices, [0, 1, 2, 3], "{unused:?}");
        assert!(unused[0].1.contains("already"), "{unused:?}");
        assert!(unused[3].1.contains("expected one of direct"), "{unused:?}");
        assert_eq!(text, FILE.to_owned() + "      - { address: 192.0.2.24 }\n");
        assert!(files("interface: [").changed(&changes).is_err());
    }

    proptest! {
        /// Whatever is asked for, the file stays a valid one.
        #[test]
        fn names_break_nothing(name in "(.|\\$\\{file:/etc/passwd\\}){0,20}", address in "[0-9a-f:.\\]\\['{}, #$]{0,20}") {
            let named = NewServer { name: Some(name.clone()), ..server("192.0.2.22") };
            let (text, _) = made(&[add("web", named), add("web", server(&address))]);
            let config = crate::parse(&text, "lb.yaml");
            prop_assert!(config.is_ok(), "{}", text);
            for server in &config.expect("it is valid").services[0].servers[1..] {
                prop_assert!(server.name == name.replace(char::is_control, " ") || server.name == server.address.to_string(), "{}", text);
            }
        }
    }
}
