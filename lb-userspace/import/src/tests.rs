//! The table of keywords against the lists in `data/`, and single rules.

use std::collections::BTreeSet;

use crate::{Imported, Known, Source, SourceFile, Verdict, import, keywords};

/// Scope and name of each keyword in a list.
fn listed(text: &'static str) -> BTreeSet<(&'static str, &'static str)> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let names = lines.filter_map(|line| line.split_once(' '));
    names.flat_map(|(scope, names)| names.split_whitespace().map(move |name| (scope, name))).collect()
}

#[test]
fn every_keyword_of_the_sources_is_in_the_table() {
    for (source, list, least) in [
        (Source::Ldirectord, include_str!("../data/ldirectord.txt"), 60),
        (Source::Heartbeat, include_str!("../data/heartbeat.txt"), 45),
        (Source::Keepalived, include_str!("../data/keepalived.txt"), 380),
    ] {
        let listed = listed(list);
        assert!(listed.len() >= least, "{source:?}: only {} keywords are listed", listed.len());
        let ours: Vec<_> = keywords(source).map(|keyword| (keyword.scope, keyword.name)).collect();
        let table: BTreeSet<_> = ours.iter().copied().collect();
        assert_eq!(ours.len(), table.len(), "{source:?}: a keyword is there twice");
        let lacking: Vec<_> = listed.difference(&table).collect();
        let surplus: Vec<_> = table.difference(&listed).collect();
        assert!(
            lacking.is_empty() && surplus.is_empty(),
            "{source:?} lacks {lacking:?}, has {surplus:?} besides"
        );
    }
}

/// What is not needed or missing needs words; they are what the report says.
#[test]
fn a_keyword_that_is_not_imported_says_why() {
    let frames = ["global_defs", "SSL"];
    for source in Source::ALL {
        for keyword in keywords(source) {
            let silent =
                matches!(keyword.verdict, Verdict::Needless | Verdict::Missing) && keyword.note.is_empty();
            assert!(!silent || frames.contains(&keyword.name), "{source:?}: {keyword:?}");
        }
    }
}

fn of(source: Source, text: &str) -> Imported {
    let file = SourceFile { name: "file".into(), node: None, text: text.into() };
    import(source, &[file], &Known::default(), &mut |_, _| Err("there is no such file".into()))
}

/// A keyword that the table calls equal is known to a reader: it is never told as unknown.
#[test]
fn what_the_table_knows_the_readers_do_not_call_unknown() {
    for keyword in keywords(Source::Ldirectord) {
        let indent = if keyword.scope == "virtual" { "    " } else { "" };
        let text =
            format!("virtual=192.0.2.10:80\n    real=192.0.2.21:80 gate\n{indent}{}=1\n", keyword.name);
        told_of(&of(Source::Ldirectord, &text), 3, keyword.name);
    }
    for keyword in keywords(Source::Heartbeat) {
        told_of(&of(Source::Heartbeat, &format!("node a\n{} 1 2\n", keyword.name)), 2, keyword.name);
    }
    for keyword in keywords(Source::Keepalived).filter(|keyword| ["vrrp", "global"].contains(&keyword.scope))
    {
        let outer = if keyword.scope == "vrrp" { "vrrp_instance a {" } else { "global_defs {" };
        told_of(&of(Source::Keepalived, &format!("{outer}\n{} 1\n}}\n", keyword.name)), 2, keyword.name);
    }
}

#[track_caller]
fn told_of(imported: &Imported, line: usize, name: &str) {
    let entry = imported.report.lines.iter().find(|entry| entry.line == line).expect("the line");
    let unknown = |note: &String| note.contains("does not know") || note.contains("does not understand");
    assert!(!entry.notes.iter().any(unknown), "{name}: {entry:?}");
}

#[test]
fn secrets_are_not_shown() {
    for (source, text) in [
        (Source::Ldirectord, "virtual=192.0.2.10:110\n    real=192.0.2.21:110 gate\n    passwd=\"geheim\"\n"),
        (
            Source::Ldirectord,
            "virtual=192.0.2.10:1812\n    real=192.0.2.21:1812 gate\n    secret=\"geheim\"\n",
        ),
        (Source::Heartbeat, "auth 1\n1 sha1 geheim\n#2 md5 geheim\n"),
        (
            Source::Keepalived,
            "vrrp_instance a {\n  authentication {\n    auth_type PASS\n    auth_pass geheim\n  }\n  virtual_ipaddress {\n    192.0.2.10\n  }\n}\n",
        ),
    ] {
        let Imported { yaml, report, .. } = of(source, text);
        assert!(!yaml.contains("geheim"), "{yaml}");
        assert!(!report.readable().contains("geheim"), "{}", report.readable());
    }
}
