//! The log in systemd's journal: an entry has the event's fields, for `journalctl LB_EVENT=…`, and
//! an event's number, by which `journalctl -x` adds what deploy/systemd/lb.catalog says of it.
//!
//! The journal takes entries as datagrams of fields (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>).

use std::env;
use std::fmt::{Debug, Write as _};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

/// Where the journal takes entries.
const SOCKET: &str = "/run/systemd/journal/socket";

/// How many bytes of one field are told: with all others the datagram must fit into a socket's
/// buffer.
const LONGEST: usize = 48 * 1024;

/// What every entry has: the name for `journalctl -t`, and the facility of daemons.
const ALWAYS: &str = "SYSLOG_IDENTIFIER=lb\nSYSLOG_FACILITY=3\n";

/// Sends what is logged to the journal.
#[derive(Debug)]
pub(crate) struct Journal {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Journal {
    /// Where standard error is the journal's: under systemd, unless the unit says otherwise.
    pub(crate) fn behind_standard_error() -> Option<Self> {
        let named = env::var("JOURNAL_STREAM").ok()?;
        let error = File::from(io::stderr().as_fd().try_clone_to_owned().ok()?).metadata().ok()?;
        is_named(&named, error.dev(), error.ino()).then(|| Self::at(Path::new(SOCKET)).ok()).flatten()
    }

    fn at(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        // What the journal does not take at once goes to standard error.
        socket.set_nonblocking(true)?;
        Ok(Self { socket, path: path.to_owned() })
    }

    /// By the path each time, so that a journal that was started anew is found.
    fn send(&self, entry: &Entry) -> io::Result<()> {
        self.socket.send_to(&entry.datagram(), &self.path).map(drop)
    }
}

/// Whether JOURNAL_STREAM, `DEVICE:INODE`, names this file.
fn is_named(named: &str, device: u64, inode: u64) -> bool {
    named == format!("{device}:{inode}")
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut entry = Entry::new(*event.metadata().level());
        event.record(&mut entry);
        if self.send(&entry).is_err() {
            // It comes to the journal this way, too, or to whatever standard error is by now.
            let _ = writeln!(io::stderr(), "<{}>{}", entry.priority, entry.message());
        }
    }
}

struct Entry {
    /// As syslog(3) has it.
    priority: u8,
    text: String,
    fields: Vec<(&'static str, String)>,
}

impl Entry {
    fn new(level: Level) -> Self {
        let priority = match level {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            _ => 7,
        };
        Self { priority, text: String::new(), fields: Vec::new() }
    }

    fn add(&mut self, field: &Field, value: String) {
        match field.name() {
            "message" => self.text = value,
            // Of the crate `log`: where in the source.
            name if name.starts_with("log.") => {}
            name => self.fields.push((name, value)),
        }
    }

    /// Of an event of the event log: its name. Other lines may have one that is in no table.
    fn event(&self) -> Option<&str> {
        self.fields.iter().find(|(name, _)| *name == "event").map(|(_, event)| &**event)
    }

    /// An event's text says all; what else is logged has the rest in its fields, which journalctl
    /// does not show.
    fn message(&self) -> String {
        let mut message = self.text.clone();
        if self.event().is_none() {
            for (name, value) in &self.fields {
                // Writing to a string cannot fail.
                let _ = write!(message, " {name}={value}");
            }
        }
        message
    }

    fn datagram(&self) -> Vec<u8> {
        let mut datagram = ALWAYS.as_bytes().to_vec();
        put(&mut datagram, "PRIORITY", &self.priority.to_string());
        put(&mut datagram, "MESSAGE", &self.message());
        if let Some(event) = self.event().filter(|event| lb_model::is_event(event)) {
            put(&mut datagram, "MESSAGE_ID", &format!("{:032x}", lb_model::message_id(event)));
        }
        for (name, value) in &self.fields {
            put(&mut datagram, &field_name(name), value);
        }
        datagram
    }
}

impl Visit for Entry {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.add(field, format!("{value:?}"));
    }
}

/// The journal takes capitals, digits and underscores.
fn field_name(name: &str) -> String {
    let upper = name.chars().map(|char| match char.to_ascii_uppercase() {
        char @ ('A'..='Z' | '0'..='9') => char,
        _ => '_',
    });
    format!("LB_{}", String::from_iter(upper))
}

/// A value of several lines stands behind its length, in 8 bytes, the lowest first.
fn put(datagram: &mut Vec<u8>, name: &str, value: &str) {
    let value = lb_api::words::cut(value, LONGEST);
    datagram.extend(name.bytes());
    if value.contains('\n') {
        datagram.push(b'\n');
        datagram.extend((value.len() as u64).to_le_bytes());
    } else {
        datagram.push(b'=');
    }
    datagram.extend(value.bytes());
    datagram.push(b'\n');
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use lb_api::events::{self, Record};
    use tempfile::TempDir;
    use tracing_subscriber::prelude::*;

    use super::*;

    /// A socket as the journal has one, and what `log` has sent there.
    fn sent(log: impl FnOnce()) -> Vec<BTreeMap<String, String>> {
        let folder = tempfile::tempdir().expect("a folder");
        let (socket, journal) = listen(&folder);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(journal), log);
        let mut bytes = vec![0; 1 << 18];
        let mut sent = Vec::new();
        while let Ok(length) = socket.recv(&mut bytes) {
            sent.push(parsed(&bytes[..length]));
        }
        sent
    }

    fn listen(folder: &TempDir) -> (UnixDatagram, Journal) {
        let path = folder.path().join("socket");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        // What was sent is there.
        socket.set_nonblocking(true).expect("it need not wait");
        (socket, Journal::at(&path).expect("a socket"))
    }

    /// As the journal reads it.
    fn parsed(mut datagram: &[u8]) -> BTreeMap<String, String> {
        let mut fields = BTreeMap::new();
        while !datagram.is_empty() {
            let end = datagram.iter().position(|byte| *byte == b'\n').expect("lines end");
            let (line, rest) = (&datagram[..end], &datagram[end + 1..]);
            let (name, value, rest) = match line.iter().position(|byte| *byte == b'=') {
                Some(place) => (&line[..place], &line[place + 1..], rest),
                None => {
                    let (length, rest) = rest.split_first_chunk::<8>().expect("a length");
                    let length = usize::try_from(u64::from_le_bytes(*length)).expect("a length");
                    assert_eq!(rest[length], b'\n', "a value ends with its line");
                    (line, &rest[..length], &rest[length + 1..])
                }
            };
            let [name, value] = [name, value].map(|bytes| String::from_utf8(bytes.to_vec()).expect("UTF-8"));
            assert!(fields.insert(name, value).is_none(), "each field comes once");
            datagram = rest;
        }
        fields
    }

    fn pairs(fields: &BTreeMap<String, String>) -> Vec<(&str, &str)> {
        fields.iter().map(|(name, value)| (&**name, &**value)).collect()
    }

    #[test]
    fn an_event_has_its_fields_and_its_number() {
        let record =
            Record::new(events::Level::Warning, "server_down", "web: www1 is down: no\nanswer".into());
        let record = record.service("web").server("www1").from("up").took(Duration::from_millis(1500));
        let sent = sent(|| events::log(&record));
        let [entry] = &sent[..] else { panic!("{sent:?}") };
        assert_eq!(
            pairs(entry),
            [
                ("LB_EVENT", "server_down"),
                ("LB_FROM", "up"),
                ("LB_SERVER", "www1"),
                ("LB_SERVICE", "web"),
                ("LB_TOOK_MS", "1500.0"),
                ("MESSAGE", "web: www1 is down: no\nanswer"),
                ("MESSAGE_ID", "205707089fb58e28bbe3c9710e02e786"),
                ("PRIORITY", "4"),
                ("SYSLOG_FACILITY", "3"),
                ("SYSLOG_IDENTIFIER", "lb"),
            ]
        );
    }

    #[test]
    fn what_is_no_event_has_its_fields_in_its_text_too() {
        let error = io::Error::other("no such thing");
        let sent = sent(|| {
            tracing::warn!(%error, "cannot remove {}", "it");
            tracing::error!(count = 3, "a\nb");
        });
        let [warning, error] = &sent[..] else { panic!("{sent:?}") };
        assert_eq!(warning["MESSAGE"], "cannot remove it error=no such thing");
        assert_eq!(warning["LB_ERROR"], "no such thing");
        assert_eq!(warning["PRIORITY"], "4");
        assert!(!warning.contains_key("MESSAGE_ID"));
        let told = ["MESSAGE", "LB_COUNT", "PRIORITY"].map(|name| &*error[name]);
        assert_eq!(told, ["a\nb count=3", "3", "3"]);
    }

    #[test]
    fn a_very_long_text_is_cut_between_characters() {
        let sent = sent(|| tracing::info!("x{}", "ä".repeat(LONGEST)));
        let message = &sent[0]["MESSAGE"];
        assert_eq!(message.len(), LONGEST - 1);
        assert!(message.ends_with('ä'));
    }

    #[test]
    fn a_journal_that_is_started_anew_is_found() {
        let folder = tempfile::tempdir().expect("a folder");
        let (socket, journal) = listen(&folder);
        let entry = Entry::new(Level::INFO);
        journal.send(&entry).expect("the first one takes it");
        drop(socket);
        journal.send(&entry).expect_err("nobody is there");
        std::fs::remove_file(folder.path().join("socket")).expect("it was there");
        journal.send(&entry).expect_err("nothing is there");
        let (_socket, _) = listen(&folder);
        journal.send(&entry).expect("the second one takes it");
    }

    /// So that it is told on standard error.
    #[test]
    fn a_full_queue_is_an_error_at_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let (_socket, journal) = listen(&folder);
        let entry = Entry::new(Level::INFO);
        let refused = (0..100_000).find_map(|_| journal.send(&entry).err()).expect("queues have an end");
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn only_the_journals_own_stream_is_the_journal() {
        assert!(is_named("8:4711", 8, 4711));
        assert!(!is_named("8:4711", 8, 47) && !is_named("8", 8, 4711) && !is_named("", 8, 4711));
    }

    #[test]
    fn names_of_fields_are_the_journals() {
        assert_eq!(field_name("took_ms"), "LB_TOOK_MS");
        assert_eq!(field_name("log-level.x2"), "LB_LOG_LEVEL_X2");
    }
}
