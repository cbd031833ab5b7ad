//! Maintenance mode of servers: a folder with one file for each server that is kept out on this
//! director, named after it.
//!
//! Scripts and people make and remove them; `lb enable` removes them, too. What `lb drain` orders
//! is in `standing`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use lb_api::events::{Level, Record};
use lb_api::findings::Findings;
use lb_api::words::{list, printable};
use lb_model::{Config, Server, Service, canonical};

/// Read of each file, in bytes.
const LONGEST: u64 = 4096;
/// Shown of a reason, in characters.
const SHOWN: usize = 200;

/// The folder, as it was last seen.
#[derive(Debug, Default)]
pub(super) struct Maintenance {
    folder: PathBuf,
    /// The reason in each file, by its name.
    files: BTreeMap<String, String>,
    /// The same by the names that servers have.
    by_name: BTreeMap<String, String>,
    /// Why the folder could not be read at the last look.
    trouble: Option<String>,
}

impl Maintenance {
    /// Reads the folder. True if something has changed there; files that keep no server out are
    /// then in the log.
    pub(super) fn poll(&mut self, config: &Config, findings: &Findings) -> bool {
        let changed = self.read(&config.maintenance, findings);
        if changed {
            for name in self.idle(config) {
                let text = format!(
                    "{}/{name}: unknown server: no server of the configuration has this name or address",
                    config.maintenance.display()
                );
                findings.note(Record::new(Level::Warning, "maintenance_unknown", text).server(name));
            }
        }
        changed
    }

    fn read(&mut self, folder: &Path, findings: &Findings) -> bool {
        folder.clone_into(&mut self.folder);
        let (files, trouble) = match read(folder) {
            Ok(files) => (files, None),
            Err(error) => {
                let trouble = format!("{}: {error}", folder.display());
                if self.trouble.as_ref() != Some(&trouble) {
                    let text = format!("who is in maintenance stays as it was: cannot read {trouble}");
                    findings.note(Record::new(Level::Error, "maintenance_unreadable", text));
                }
                (self.files.clone(), Some(trouble))
            }
        };
        self.trouble = trouble;
        let changed = self.files != files;
        let named = files.iter().map(|(file, reason)| (canonical(file).into_owned(), reason.clone()));
        self.by_name = named.collect();
        self.files = files;
        changed
    }

    /// Why the server is kept out, if it is.
    pub(super) fn reason(&self, server: &Server) -> Option<String> {
        if self.files.is_empty() {
            return None;
        }
        server.names().iter().find_map(|name| self.by_name.get(name)).cloned()
    }

    /// Files that keep no server out: somebody has mistyped a name.
    fn idle<'a>(&'a self, config: &'a Config) -> impl Iterator<Item = &'a str> {
        let used: BTreeSet<String> = match self.files.is_empty() {
            true => BTreeSet::new(),
            false => servers(config).flat_map(|(_, server)| server.names()).collect(),
        };
        self.files.keys().filter(move |name| !used.contains(&*canonical(name))).map(String::as_str)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.folder.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }
}

/// All servers of the configuration.
pub(super) fn servers(config: &Config) -> impl Iterator<Item = (&Service, &Server)> {
    config.services.iter().flat_map(|service| service.servers.iter().map(move |server| (service, server)))
}

/// How a server is told of.
pub(super) fn shown((service, server): (&Service, &Server)) -> String {
    format!("{} of {}", server.name, service.name)
}

/// The servers that a file of this name keeps out, as `www1 of web`.
fn covered(config: &Config, name: &str) -> BTreeSet<String> {
    servers(config).filter(|(_, server)| server.is_called(name)).map(shown).collect()
}

/// A folder that is not there keeps nobody out.
fn read(folder: &Path) -> io::Result<BTreeMap<String, String>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        entries => entries?,
    };
    let mut files = BTreeMap::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // What editors leave for a moment. A pipe would be waited for.
        let passing = name.starts_with('.') || name.ends_with('~');
        if !passing && fs::metadata(entry.path()).is_ok_and(|file| file.is_file()) {
            files.insert(name, first_line(&entry.path()));
        }
    }
    Ok(files)
}

/// A file counts even if nobody may read it.
fn first_line(path: &Path) -> String {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LONGEST).read_to_end(&mut bytes));
    let text = String::from_utf8_lossy(&bytes);
    let line = plain(text.lines().next().unwrap_or_default());
    match read {
        Ok(_) if line.is_empty() => "no reason given".to_owned(),
        Ok(_) => line,
        Err(error) => format!("its reason cannot be read: {error}"),
    }
}

/// The text in one line, without control characters.
pub(super) fn plain(text: &str) -> String {
    printable(text).chars().take(SHOWN).collect::<String>().trim().to_owned()
}

impl Maintenance {
    /// `lb enable`: removes the files that keep out nobody but these servers. True if there were
    /// any; the error says what is in the way.
    pub(super) fn enable(
        &self,
        name: &str,
        meant: &BTreeSet<String>,
        config: &Config,
    ) -> Result<bool, String> {
        let files = self.files.keys().map(|file| (file, covered(config, file)));
        let (mut removed, mut wider) = (false, Vec::new());
        for (file, covered) in files.filter(|(_, covered)| !covered.is_disjoint(meant)) {
            if covered.is_subset(meant) {
                let path = self.folder.join(file);
                self.remove(file).map_err(|error| format!("cannot remove {}: {error}", path.display()))?;
                removed = true;
            } else {
                wider.push(format!(
                    "{name} stays in maintenance with others, by the file {}: use `lb enable {file}`",
                    self.folder.join(file).display()
                ));
            }
        }
        if wider.is_empty() { Ok(removed) } else { Err(wider.join("\n")) }
    }
}

/// The first ones of them, and how many more there are.
pub(super) fn all(servers: &BTreeSet<String>) -> String {
    list(servers.iter().map(String::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "
interface: eth0
services:
  - { name: web, vip: '192.0.2.10:80', servers: [{ name: www1, address: 192.0.2.21 }, { address: 192.0.2.22 }] }
  - { name: tls, vip: '192.0.2.10:443', servers: [{ name: www1, address: 192.0.2.21 }] }
";

    fn config() -> Config {
        lb_config::parse(CONFIG, "test.yaml").expect("a configuration")
    }

    /// Who is kept out by files of these names, and why.
    fn kept_out(files: &[(&str, &str)]) -> Vec<(String, String)> {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            fs::write(folder.path().join(name), text).expect("a file");
        }
        let mut maintenance = Maintenance::default();
        maintenance.read(folder.path(), &Findings::default());
        let config = config();
        let out = servers(&config).filter_map(|(service, server)| {
            Some((format!("{} of {}", server.name, service.name), maintenance.reason(server)?))
        });
        out.collect()
    }

    fn who(files: &[(&str, &str)]) -> Vec<String> {
        kept_out(files).into_iter().map(|(server, _)| server).collect()
    }

    #[test]
    fn files_are_called_as_servers() {
        assert_eq!(who(&[("www1", "")]), ["www1 of web", "www1 of tls"]);
        assert_eq!(who(&[("192.0.2.21", "")]), ["www1 of web", "www1 of tls"]);
        assert_eq!(who(&[("192.0.2.21:443", "")]), ["www1 of tls"]);
        assert_eq!(who(&[("www1:80", "")]), ["www1 of web"]);
        assert_eq!(who(&[("192.0.2.22:80", ""), ("www1:443", "")]), ["192.0.2.22 of web", "www1 of tls"]);
        assert!(who(&[("www", ""), ("www1:81", ""), (".www1", ""), ("www1~", "")]).is_empty());
    }

    #[test]
    fn the_first_line_is_the_reason() {
        for (text, reason) in [
            ("new disk\nby Kim\n", "new disk"),
            ("", "no reason given"),
            ("\u{1b}[2Jboo", "[2Jboo"),
            (&*"x".repeat(10_000), &*"x".repeat(200)),
        ] {
            assert_eq!(kept_out(&[("www1:80", text)])[0].1, reason);
        }
    }

    #[test]
    fn only_files_count_and_changes_are_noticed() {
        let folder = tempfile::tempdir().expect("a folder");
        let inner = folder.path().join("maintenance");
        let mut maintenance = Maintenance::default();
        assert!(!maintenance.read(&inner, &Findings::default()), "there is no folder");
        fs::create_dir(&inner).expect("a folder");
        fs::write(inner.join("www1"), "new disk").expect("a file");
        assert!(
            maintenance.read(&inner, &Findings::default()) && !maintenance.read(&inner, &Findings::default())
        );
        fs::create_dir(inner.join("192.0.2.22")).expect("a folder");
        nix::unistd::mkfifo(&inner.join("192.0.2.21"), nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        assert!(!maintenance.read(&inner, &Findings::default()));
        fs::write(inner.join("wwww1"), "").expect("a file");
        assert!(maintenance.read(&inner, &Findings::default()));
        assert_eq!(maintenance.idle(&config()).collect::<Vec<_>>(), ["wwww1"]);
        maintenance.remove("www1").expect("no file");
        maintenance.remove("www1").expect("nothing to do");
        assert!(maintenance.read(&inner, &Findings::default()));
    }

    #[test]
    fn what_cannot_be_read_changes_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut maintenance = Maintenance::default();
        fs::write(folder.path().join("www1"), "new disk").expect("a file");
        assert!(maintenance.read(folder.path(), &Findings::default()));
        assert!(!maintenance.read(&folder.path().join("www1"), &Findings::default()), "a file is no folder");
        assert!(maintenance.trouble.is_some() && maintenance.files.contains_key("www1"));
    }

    #[test]
    fn enabling_removes_files_that_keep_out_nobody_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let (config, mut maintenance) = (config(), Maintenance::default());
        let mut enable = |files: &[&str], name: &str| {
            for file in files {
                fs::write(folder.path().join(file), "").expect("a file");
            }
            maintenance.read(folder.path(), &Findings::default());
            maintenance.enable(name, &covered(&config, name), &config)
        };
        assert_eq!(enable(&[], "www1"), Ok(false));
        let refused = enable(&["www1", "192.0.2.21:80"], "www1:443").expect_err("it keeps out others");
        assert!(refused.ends_with("/www1: use `lb enable www1`"), "{refused}");
        assert_eq!(enable(&[], "192.0.2.21"), Ok(true));
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);
    }
}
