//! What systemd's journal says of events: deploy/systemd/lb.catalog.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use lb_model::{EVENTS, message_id};

use crate::workspace;

const FILE: &str = "deploy/systemd/lb.catalog";

/// Where packages have README.md and docs/.
const DOCUMENTS: &str = "file:///usr/share/doc/lb/";

/// Fields that entries of events have in the journal; a text may have them between two @.
const FIELDS: [&str; 14] = [
    "LB_EVENT",
    "LB_GROUP",
    "LB_SERVICE",
    "LB_SERVER",
    "LB_NODE",
    "LB_FINDING",
    "LB_SUBJECT",
    "LB_VIP",
    "LB_FROM",
    "LB_TO",
    "LB_CAUSE",
    "LB_CAUSE_ID",
    "LB_BY",
    "LB_TOOK_MS",
];

fn text() -> String {
    fs::read_to_string(workspace::root().join(FILE)).expect("the catalog")
}

/// The first two lines of an event's entry.
fn beginning(event: &str) -> String {
    format!("{event}\n-- {:032x}", message_id(event))
}

/// The heads of an entry, such as its subject, and the text below them.
fn heads(entry: &str) -> (BTreeMap<&str, &str>, &str) {
    let (heads, text) = entry.split_once("\n\n").unwrap_or((entry, ""));
    (heads.lines().filter_map(|line| line.split_once(": ")).collect(), text.trim())
}

/// Whether a link leads to a document, and to a heading of it unless a field names that one.
fn leads_somewhere(link: &str) -> bool {
    let Some(path) = link.strip_prefix(DOCUMENTS) else { return false };
    let (file, place) = path.split_once('#').unwrap_or((path, ""));
    let Ok(document) = fs::read_to_string(workspace::root().join(file)) else { return false };
    let headings = document.lines().filter_map(|line| line.strip_prefix('#'));
    let mut places = headings.map(|line| line.trim_matches(['#', ' ']).to_lowercase().replace(' ', "-"));
    place.is_empty() || place.contains('@') || places.any(|known| known == place)
}

#[test]
fn every_event_is_explained_under_its_number() {
    let text = text();
    let entries: Vec<&str> = text.split("\n\n# ").skip(1).collect();
    for event in EVENTS {
        let of_event = |entry: &&&str| entry.starts_with(&format!("{event}\n"));
        let begin = beginning(event);
        let entry = entries.iter().find(of_event);
        let entry = entry.unwrap_or_else(|| panic!("{FILE} lacks the entry\n\n# {begin}\nSubject: …"));
        assert!(entry.starts_with(&format!("{begin}\n")), "the entry must begin\n# {begin}\n\n# {entry}");
        let (heads, text) = heads(entry);
        assert!(heads.get("Subject").is_some_and(|subject| subject.len() > 5), "{entry}");
        assert_eq!(heads.get("Defined-By"), Some(&"lb"), "{entry}");
        assert!(heads.get("Documentation").is_some_and(|link| leads_somewhere(link)), "{entry}");
        assert!(text.ends_with(['.', ')']), "{entry}");
        let fields: Vec<&str> = entry.split('@').skip(1).step_by(2).collect();
        assert!(fields.iter().all(|field| FIELDS.contains(field)), "{fields:?} in {entry}");
    }
    let names: Vec<&str> = entries.iter().filter_map(|entry| entry.lines().next()).collect();
    assert_eq!(names, EVENTS, "the order, and no other entries");
}

#[test]
fn journalctl_takes_the_catalog() {
    let folder = tempfile::tempdir().expect("a folder");
    let journalctl = |argument: &str| {
        let root = format!("--root={}", folder.path().display());
        let output = Command::new("journalctl").args([&*root, "--quiet", "--no-pager", argument]).output();
        let output = output.expect("journalctl, of Debian's package systemd, runs");
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && errors.is_empty(), "{argument}: {errors}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    for place in ["usr/lib/systemd/catalog", "var/lib/systemd/catalog"] {
        fs::create_dir_all(folder.path().join(place)).expect("a folder");
    }
    fs::write(folder.path().join("usr/lib/systemd/catalog/lb.catalog"), text()).expect("a file");
    journalctl("--update-catalog");
    let known = journalctl("--list-catalog");
    for event in EVENTS {
        let id = format!("{:032x} ", message_id(event));
        assert!(known.lines().any(|line| line.starts_with(&id)), "{event}: {known}");
    }
}
