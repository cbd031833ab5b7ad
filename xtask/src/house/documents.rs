//! Documents: links lead somewhere, and commands of `cargo xtask` are some.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use clap::{CommandFactory as _, Parser as _};

use super::read;
use crate::{Command, workspace};

/// All documents below a folder, but those of what is built or fetched.
fn documents(top: &Path) -> Vec<PathBuf> {
    let mut folders = vec![top.to_owned()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            match path.extension() {
                _ if path.is_dir() && (name.starts_with('.') || name == "target") => {}
                _ if path.is_symlink() => {}
                _ if path.is_dir() => folders.push(path),
                Some(end) if end == "md" => found.push(path),
                _ => {}
            }
        }
    }
    found.sort();
    found
}

/// The text without fenced blocks.
fn prose(text: &str) -> String {
    let mut inside = false;
    let mut kept = String::new();
    for line in text.lines() {
        if line.starts_with("```") {
            inside = !inside;
        } else if !inside {
            kept.push_str(line);
        }
        kept.push('\n');
    }
    kept
}

/// Where the links of a document lead.
fn links(text: &str) -> Vec<String> {
    // What stands between backticks is no link.
    let text = prose(text);
    let outside: String = text.split('`').step_by(2).collect::<Vec<_>>().join("`");
    let ends = outside.split("](").skip(1);
    ends.filter_map(|rest| rest.split_once(')')).map(|(target, _)| target.to_owned()).collect()
}

/// The anchors of a document's headings, as GitHub makes them.
fn anchors(text: &str) -> BTreeSet<String> {
    let text = prose(text);
    let titles =
        text.lines().filter_map(|line| line.strip_prefix('#')?.trim_start_matches('#').strip_prefix(' '));
    let mut anchors = BTreeSet::new();
    for title in titles {
        let kept = title.chars().filter(|char| char.is_alphanumeric() || matches!(char, ' ' | '-' | '_'));
        let anchor = kept.collect::<String>().to_lowercase().replace(' ', "-");
        let numbered = (1..).map(|number| format!("{anchor}-{number}"));
        let free = std::iter::once(anchor.clone()).chain(numbered).find(|one| !anchors.contains(one));
        anchors.extend(free);
    }
    anchors
}

/// What is wrong with a link of the document at `path`.
fn fault(path: &Path, link: &str) -> Option<String> {
    if ["http://", "https://", "mailto:"].iter().any(|scheme| link.starts_with(scheme)) {
        return None;
    }
    let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
    let target = if file.is_empty() { path.to_owned() } else { path.parent()?.join(file) };
    if !target.exists() {
        return Some(format!("there is no {}", target.display()));
    }
    let lacks = !anchor.is_empty() && !anchors(&read(&target)).contains(anchor);
    lacks.then(|| format!("{} has no heading #{anchor}", target.display()))
}

/// What is wrong with links of the documents below a folder.
pub(crate) fn broken_links(top: &Path) -> Vec<String> {
    let documents = documents(top);
    assert!(documents.len() > 15, "only {} documents were found", documents.len());
    let (mut found, mut wrong) = (0, Vec::new());
    for path in &documents {
        for link in links(&read(path)) {
            found += 1;
            wrong.extend(fault(path, &link).map(|fault| format!("{}: ({link}) {fault}", path.display())));
        }
    }
    assert!(found > 100, "only {found} links were found");
    wrong
}

#[test]
fn links_lead_to_files_and_headings() {
    let wrong = broken_links(&workspace::root());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// `a/{b,c}.rs` stands for two paths.
fn each_of(path: &str) -> Vec<String> {
    let braces = path.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?)));
    let Some((before, (inside, after))) = braces else { return vec![path.to_owned()] };
    inside.split(',').flat_map(|one| each_of(&format!("{before}{one}{after}"))).collect()
}

/// Whether a word between backticks is meant to be a path of this tree. Those in capitals stand for
/// several, those from the root and below `target` are not in it.
fn is_path(word: &str) -> bool {
    const ENDS: [&str; 7] = [".rs", ".md", ".toml", ".yaml", ".yml", ".catalog", ".txt"];
    const NOT_IN_THE_TREE: [&str; 3] = ["x.rs", "x/", "lb/status/1"];
    let plain = word.chars().all(|char| char.is_ascii_alphanumeric() || "_.-/{},".contains(char));
    let elsewhere = ["/", "target/"].iter().any(|start| word.starts_with(start));
    let stands_for_several = ["NAME", "SOURCE"].iter().any(|name| word.contains(name));
    let looks_like_one = word.contains('/') || ENDS.iter().any(|end| word.ends_with(end));
    plain && looks_like_one && !elsewhere && !stands_for_several && !NOT_IN_THE_TREE.contains(&word)
}

/// A successor looks for what they name. A path may lack its beginning, and nothing in the midst.
#[test]
fn paths_in_documents_for_developers_are_there() {
    let root = workspace::root();
    let mut known = BTreeSet::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if ["target", ".git"].iter().any(|other| path == root.join(other)) {
                continue;
            }
            let below = path.strip_prefix(&root).expect("below it").to_string_lossy().into_owned();
            known.extend(below.match_indices('/').map(|(at, _)| below[at + 1..].to_owned()));
            known.insert(below);
            if path.is_dir() && !path.is_symlink() {
                folders.push(path);
            }
        }
    }
    let mut missing = Vec::new();
    for document in ["ARCHITECTURE.md", "CONTRIBUTING.md", "GLOSSARY.md"] {
        let text = prose(&read(&root.join(document)));
        let words: Vec<&str> = text.split('`').skip(1).step_by(2).filter(|word| is_path(word)).collect();
        assert!(words.len() > 5, "{document}: {words:?}");
        let paths = words.into_iter().flat_map(each_of);
        let lost = paths.filter(|path| !known.contains(path.trim_end_matches('/')));
        missing.extend(lost.map(|path| format!("{document}: {path}")));
    }
    assert!(missing.is_empty(), "no such file or folder:\n{}", missing.join("\n"));
}

/// Every map has a line in the table, and the table no other.
#[test]
fn the_table_of_maps_is_that_of_the_program() {
    let source = read(&workspace::root().join("lb-ebpf/src/maps.rs"));
    // Those without `pub` have their address in the programs.
    let declared = source.lines().filter_map(|line| {
        let rest =
            line.strip_prefix("pub static ").or_else(|| line.trim_start().strip_prefix("static mut "))?;
        rest.split(':').next()
    });
    let declared: BTreeSet<&str> = declared.collect();
    let text = read(&workspace::root().join("ARCHITECTURE.md"));
    let (_, part) = text.split_once("\n## The maps\n").expect("a part about maps");
    let rows = part.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
    let rows = rows.take_while(|line| line.starts_with('|'));
    let named = rows.flat_map(|row| row.split('|').nth(1).unwrap_or_default().split('`').skip(1).step_by(2));
    let named: BTreeSet<&str> = named.collect();
    assert!(declared.len() > 40, "{declared:?}");
    assert_eq!(named, declared, "the left side is what the table says, the right side lb-ebpf/src/maps.rs");
}

#[test]
fn commands_of_xtask_are_some() {
    let mut found = 0;
    for path in documents(&workspace::root()) {
        for (number, line) in (1..).zip(read(&path).lines()) {
            let line = line.split(" #").next().unwrap_or_default();
            if line.starts_with("cargo xtask ") {
                found += 1;
                let words = std::iter::once("cargo xtask").chain(line.split_whitespace().skip(2));
                let parsed = Command::try_parse_from(words);
                assert!(parsed.is_ok(), "{}:{number}: {}", path.display(), parsed.expect_err("an error"));
            }
        }
    }
    assert!(found > 12, "only {found} commands were found");
}

/// The first word that no command has. A sentence may leave out values, and name one by capitals.
fn unknown_word(text: &str) -> Option<&str> {
    let mut command = Command::command();
    let mut after_option = false;
    for word in text.split_whitespace().skip(2) {
        // What follows is for another program, which looks at it when it is run.
        if command.get_arguments().any(clap::Arg::is_trailing_var_arg_set) {
            return None;
        }
        if let Some(option) = word.strip_prefix("--") {
            let name = option.split('=').next();
            if !command.get_arguments().any(|known| known.get_long() == name) {
                return Some(word);
            }
            after_option = true;
        } else if let Some(next) = command.find_subcommand(word).cloned() {
            command = next;
        } else if command.has_subcommands() && !after_option {
            return Some(word);
        }
    }
    None
}

#[test]
fn commands_of_xtask_in_sentences_are_some() {
    let root = workspace::root();
    let (mut found, mut wrong) = (0, Vec::new());
    for path in documents(&root) {
        // What a former version had is none of this one's.
        if path == root.join("CHANGELOG.md") {
            continue;
        }
        let text = prose(&read(&path));
        let spans = text.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
        for span in spans.filter(|span| span.starts_with("cargo xtask ")) {
            found += 1;
            wrong.extend(unknown_word(span).map(|word| format!("{}: `{span}`: {word}", path.display())));
        }
    }
    assert!(found > 20, "only {found} commands were found");
    assert!(wrong.is_empty(), "no command has this word:\n{}", wrong.join("\n"));
    for (text, word) in [
        ("cargo xtask tset", Some("tset")),
        ("cargo xtask chaos --minuts 5", Some("--minuts")),
        ("cargo xtask lab upp", Some("upp")),
        ("cargo xtask bench failover --only cut", None),
        ("cargo xtask test --kernels=6.1 nat::", None),
        ("cargo xtask fuzz packets --count N", None),
    ] {
        assert_eq!(unknown_word(text), word, "{text}");
    }
}

#[test]
fn links_and_anchors_are_those_of_github() {
    let text = "# A `b`: c, d\n## One\n## One\n```sh\n# no heading [no](link)\n```\n[x](y.md#z) `[no](link)` ![p\nq](r.png)\n";
    assert_eq!(links(text), ["y.md#z", "r.png"]);
    let anchors: Vec<String> = anchors(text).into_iter().collect();
    assert_eq!(anchors, ["a-b-c-d", "one", "one-1"]);
    let here = workspace::root().join("README.md");
    assert_eq!(fault(&here, "https://rustup.rs"), None);
    assert_eq!(fault(&here, "CONTRIBUTING.md#rules"), None);
    assert!(fault(&here, "CONTRIBUTING.md#ruels").is_some() && fault(&here, "CONTRIBUTNG.md").is_some());
    assert!(fault(&here, "#no-such-heading").is_some());
}
