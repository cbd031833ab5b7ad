//! The corpus: each folder of `tests/corpus` has files of a source, the words of the command line
//! (`case`), and what must come out (`expected.yaml`, `expected.report`).

use std::fs;
use std::path::{Path, PathBuf};

use lb_import::{Fate, Imported, Known, Original, OriginalFile, import};

pub(crate) struct Case {
    pub name: String,
    pub folder: PathBuf,
    pub source: Original,
    pub files: Vec<OriginalFile>,
    pub known: Known,
}

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
}

fn read(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    String::from_utf8_lossy(&bytes).into_owned()
}

impl Case {
    fn new(folder: PathBuf) -> Self {
        let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
        let words = read(&folder.join("case"));
        let mut words = words.split_whitespace();
        let source =
            words.next().and_then(|word| Original::ALL.into_iter().find(|source| source.name() == word));
        let source = source.unwrap_or_else(|| panic!("{name}: no source"));
        let (mut known, mut files) = (Known::default(), Vec::new());
        known.host = "director.example.org".to_owned();
        while let Some(word) = words.next() {
            let mut value = || words.next().unwrap_or_else(|| panic!("{name}: {word} wants a value"));
            let pair =
                |text: &str| text.split_once('=').map(|(left, right)| (left.to_owned(), right.to_owned()));
            match word {
                "--hosts" => known.hosts = read(&folder.join(value())),
                "--interface" => known.interface = Some(value().to_owned()),
                "--id" => known.config_id = Some(value().to_owned()),
                "--host" => known.host = value().to_owned(),
                "--mark" => {
                    let (mark, vip) = pair(value()).expect("MARK=VIP");
                    known.marks.push((mark.parse().expect("a mark"), vip));
                }
                "--address" => {
                    let (node, address) = pair(value()).expect("NODE=ADDRESS");
                    known.addresses.push((node, address.parse().expect("an address")));
                }
                file => {
                    let (node, path) = match pair(file) {
                        Some((node, path)) => (Some(node), path),
                        None => (None, file.to_owned()),
                    };
                    files.push(OriginalFile { text: read(&folder.join(&path)), name: path, node });
                }
            }
        }
        Self { name, folder, source, files, known }
    }

    pub(crate) fn import(&self) -> Imported {
        // Names of the source are those of files in the case's folder; `*` is all that match.
        let mut find = |pattern: &str, _: &str| {
            let wanted = pattern.rsplit('/').next().unwrap_or_default();
            let fits = |name: &str| match wanted.split_once('*') {
                Some((begin, end)) => name.starts_with(begin) && name.ends_with(end),
                None => name == wanted,
            };
            let entries = fs::read_dir(&self.folder).expect("the case's folder");
            let names =
                entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
            let mut names: Vec<String> = names.filter(|name| fits(name)).collect();
            names.sort();
            if names.is_empty() {
                return Err("there is no such file".to_owned());
            }
            let file = |name: String| OriginalFile { text: read(&self.folder.join(&name)), name, node: None };
            Ok(names.into_iter().map(file).collect())
        };
        import(self.source, &self.files, &self.known, &mut find)
    }
}

pub(crate) fn cases() -> Vec<Case> {
    let entries = fs::read_dir(folder()).expect("the corpus");
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    folders.sort();
    folders.into_iter().map(Case::new).collect()
}

/// `LB_BLESS=1` rewrites what is expected; read the difference before committing it.
#[test]
fn each_case_gives_what_is_expected() {
    let bless = std::env::var_os("LB_BLESS").is_some();
    let cases = cases();
    let files: usize = cases.iter().map(|case| case.files.len()).sum();
    assert!(files >= 40, "only {files} files are in the corpus");
    let mut wrong = Vec::new();
    for case in &cases {
        let Imported { yaml, report, wrong: mistakes } = case.import();
        if let Some(mistakes) = mistakes {
            wrong.push(format!("{}: lb check refuses it: {mistakes}\n{yaml}", case.name));
        }
        for (name, text) in [("expected.yaml", yaml), ("expected.report", report.readable())] {
            let path = case.folder.join(name);
            if bless {
                fs::write(&path, &text).expect("a writable source tree");
            }
            let expected = fs::read_to_string(&path).unwrap_or_default();
            if text != expected {
                wrong.push(format!("{}/{name}: expected\n{expected}--- found\n{text}", case.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Every line that is not blank is in the report, once, in its place, and every comment in the
/// YAML.
#[test]
fn every_line_of_the_corpus_is_in_the_report() {
    for case in cases() {
        let Imported { yaml, report, .. } = case.import();
        for file in &case.files {
            let told: Vec<usize> =
                report.lines.iter().filter(|entry| entry.file == file.name).map(|entry| entry.line).collect();
            let lines = (1..).zip(file.text.split('\n'));
            let there: Vec<usize> =
                lines.filter(|(_, line)| !line.trim().is_empty()).map(|(line, _)| line).collect();
            assert_eq!(told, there, "{}: {}", case.name, file.name);
        }
        for entry in report.lines.iter().filter(|entry| entry.text.starts_with(['#', '!'])) {
            let comment = entry.text[1..].trim();
            assert!(yaml.contains(comment), "{}: {comment:?} is not in\n{yaml}", case.name);
        }
        assert!(
            report.lines.iter().all(|entry| entry.fate == Fate::Kept || !entry.notes.is_empty()),
            "{}",
            case.name
        );
    }
}
