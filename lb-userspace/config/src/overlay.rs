//! Changes that are made at run time, as changes of the file's text: so they are validated as if
//! they stood there, and can be written there.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use lb_model::Config;
use lb_model::overlay::{Change, NewServer, NewService};

use super::ConfigError;
use super::edit::{List, added, removed};

/// What has come of changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlaid {
    pub text: String,
    /// Indices of changes that change nothing, and why: the file may have changed since.
    pub unused: Vec<(usize, String)>,
}

/// Makes the changes in the text of a valid file, one after the other.
///
/// # Errors
/// The file is not valid by itself.
pub fn overlaid<'a>(
    text: &str,
    origin: &str,
    changes: impl IntoIterator<Item = &'a Change>,
) -> Result<Overlaid, ConfigError> {
    super::parse(text, origin)?;
    let mut overlaid = Overlaid { text: text.to_owned(), unused: Vec::new() };
    for (index, change) in changes.into_iter().enumerate() {
        match changed(&overlaid.text, origin, change) {
            Ok(text) => overlaid.text = text,
            Err(why) => overlaid.unused.push((index, why)),
        }
    }
    Ok(overlaid)
}

/// The configuration of the file at `path` with these changes, and those that are unused, see
/// [`Overlaid`].
pub fn load_with<'a>(
    path: &Path,
    changes: impl IntoIterator<Item = &'a Change>,
) -> Result<(Config, Vec<(usize, String)>), ConfigError> {
    let origin = path.display().to_string();
    let bytes = fs::read(path).map_err(|cause| ConfigError::Unreadable { origin: origin.clone(), cause })?;
    let Ok(text) = std::str::from_utf8(&bytes) else {
        return super::load(path).map(|config| (config, Vec::new()));
    };
    let Overlaid { text, unused } = overlaid(text, &origin, changes)?;
    let config = super::parse(&text, &origin)?;
    Ok((super::with_lists(config, &text, &origin)?, unused))
}

/// The text with one change, or why it cannot be made.
fn changed(text: &str, origin: &str, change: &Change) -> Result<String, String> {
    let config = super::parse(text, origin).map_err(|error| error.to_string())?;
    let service_index = |name: &String| {
        let found = config.services.iter().position(|service| service.is_called(name));
        found.ok_or_else(|| format!("there is no service {name:?}"))
    };
    let text = match change {
        Change::AddServer { service, server } => {
            let index = service_index(service)?;
            let known = &config.services[index].servers;
            let names = [Some(&server.address), server.name.as_ref()];
            let is_there = |name: &&String| known.iter().any(|known| known.is_called(name));
            if let Some(name) = names.into_iter().flatten().find(is_there) {
                return Err(format!("{service} has a server {name:?} already"));
            }
            added(text, List::Servers(index), &server_text(server))
        }
        Change::RemoveServer { service, server } => {
            let index = service_index(service)?;
            let known = config.services[index].servers.iter().position(|known| known.is_called(server));
            let known = known.ok_or_else(|| format!("{service} has no server {server:?}"))?;
            removed(text, List::Servers(index), known)
        }
        Change::AddService { service } => added(text, List::Services, &service_text(service)),
        Change::RemoveService { service } => removed(text, List::Services, service_index(service)?),
    }?;
    // Only the words of the mistake: the line is in no file.
    super::parse(&text, origin).map(|_| text).map_err(|error| match error.mistakes().first() {
        Some(mistake) => mistake.message.clone(),
        None => error.to_string(),
    })
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
        false => format!("'{}'", text.replace('\'', "''").replace(char::is_control, " ")),
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

    fn made(changes: &[Change]) -> Overlaid {
        overlaid(FILE, "lb.yaml", changes).unwrap_or_else(|error| panic!("{error}"))
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
        let found = made(&[
            add("web", www2),
            Change::RemoveServer { service: "web".into(), server: "192.0.2.21".into() },
            Change::AddService { service: dns },
        ]);
        assert!(found.unused.is_empty(), "{found:?}");
        let wanted = FILE.replace(
            "- address: 192.0.2.21     # the old one",
            "- { name: www2, address: 192.0.2.22, weight: 3 }",
        ) + "  - { vip: '[2001:db8::10]:53', protocol: udp, servers: [{ address: '2001:db8::21' }] }\n";
        assert_eq!(found.text, wanted);
        let config = crate::parse(&found.text, "lb.yaml").unwrap_or_else(|error| panic!("{error}"));
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
        let found = made(&changes);
        let indices: Vec<usize> = found.unused.iter().map(|(index, _)| *index).collect();
        assert_eq!(indices, [0, 1, 2, 3], "{found:?}");
        assert!(found.unused[0].1.contains("already"), "{found:?}");
        assert!(found.unused[3].1.contains("expected one of direct"), "{found:?}");
        assert_eq!(found.text, FILE.to_owned() + "      - { address: 192.0.2.24 }\n");
        assert!(overlaid("interface: [", "lb.yaml", &changes).is_err());
    }

    proptest! {
        /// Whatever is asked for, the file stays a valid one.
        #[test]
        fn names_break_nothing(name in ".{0,20}", address in "[0-9a-f:.\\]\\['{}, #]{0,20}") {
            let named = NewServer { name: Some(name), ..server("192.0.2.22") };
            let found = made(&[add("web", named), add("web", server(&address))]);
            prop_assert!(crate::parse(&found.text, "lb.yaml").is_ok(), "{}", found.text);
        }
    }
}
