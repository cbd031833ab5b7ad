//! The files of a configuration: the one that `lb` was told of, and those that it includes.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use glob::{MatchOptions, Pattern};
use lb_model::Config;
use lb_system::regular_file::{self, RegularFileError};

use super::beside::Beside;
use super::error::{ConfigError, Found, Mistake};
use super::source_map::Position;
use super::surplus::{self, is_due_to_a_blank, within};
use super::{host_name, lists, references, syntax, validate, yaml};

/// How many files there may be.
const MOST: usize = 4096;
/// Bytes of an included file: several times what the largest configuration has.
const LARGEST: u64 = 64 << 20;

/// What an included file can have.
const LISTS: [&str; 2] = ["groups", "services"];

/// A file and its text, without an editor's byte order mark: columns of the first line do not count
/// it.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    pub path: PathBuf,
    pub text: String,
}

impl Document {
    pub(crate) fn new(path: PathBuf, text: &str) -> Self {
        Self { path, text: text.strip_prefix('\u{feff}').unwrap_or(text).to_owned() }
    }

    /// Also what is wrong with bytes that are not UTF-8.
    fn of(path: PathBuf, bytes: &[u8]) -> (Self, Option<Found>) {
        match std::str::from_utf8(bytes) {
            Ok(text) => (Self::new(path, text), None),
            Err(cause) => {
                let (found, text) = syntax::not_utf8(bytes, &cause);
                (Self { path, text }, Some(found))
            }
        }
    }

    pub(crate) fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// What relative paths in it begin from.
    fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }
}

/// What a configuration depends on besides its file: a change there changes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    /// Of `include`, with the folder they begin from.
    patterns: BTreeSet<String>,
    /// Files with values and with lists of clients, whether they are there or not.
    files: BTreeSet<PathBuf>,
}

impl Sources {
    /// The files that count at this moment, by name.
    pub fn paths(&self) -> Vec<PathBuf> {
        let included = self.patterns.iter().flat_map(|pattern| matching(pattern).unwrap_or_default());
        let all: BTreeSet<PathBuf> = included.chain(self.files.iter().cloned()).collect();
        all.into_iter().collect()
    }
}

/// A configuration's files as they were read: each once, when it was asked for first. So all
/// configurations that are made of one value are of one moment.
#[derive(Debug, Clone)]
pub struct Files {
    /// Never empty; the first includes the others.
    pub(crate) documents: Vec<Document>,
    /// The others have been looked for.
    is_complete: bool,
    /// Why files could not be read.
    unread: Vec<Found>,
    warnings: Vec<Found>,
    /// Of `include`, see [`Sources`].
    patterns: BTreeSet<String>,
    beside: Beside,
    /// Lists of clients that stand in files of their own are read, too.
    with_lists: bool,
    /// With changes made at run time: there may be no service, and services may wait for servers.
    pub(crate) at_run_time: bool,
}

impl Files {
    /// Reads the file. What it includes is read with the first configuration that is made of it.
    ///
    /// # Errors
    /// The file at `path` cannot be read. [`Self::config`] tells of all other mistakes.
    pub fn open(path: &Path) -> Result<Self, ConfigError> {
        let origin = path.display().to_string();
        // This one alone may be a pipe: `lb check /dev/stdin`.
        let bytes = fs::read(path).map_err(|cause| ConfigError::Unreadable { origin, cause })?;
        let (main, found) = Document::of(path.to_owned(), &bytes);
        Ok(Self { with_lists: true, unread: found.into_iter().collect(), ..Self::of(main) })
    }

    pub(crate) fn of(main: Document) -> Self {
        Self {
            documents: vec![main],
            is_complete: false,
            unread: Vec::new(),
            warnings: Vec::new(),
            patterns: BTreeSet::new(),
            beside: Beside::default(),
            with_lists: false,
            at_run_time: false,
        }
    }

    /// The same, read already, with these texts in the place of their own. Lists of clients that
    /// stand in files of their own are not read, and there may be no service.
    pub(crate) fn with_texts(&self, texts: impl IntoIterator<Item = String>) -> Self {
        let paths = self.documents.iter().map(|document| document.path.clone());
        let documents = paths.zip(texts).map(|(path, text)| Document { path, text }).collect();
        Self {
            documents,
            is_complete: self.is_complete,
            unread: self.unread.clone(),
            warnings: Vec::new(),
            patterns: BTreeSet::new(),
            beside: self.beside.clone(),
            with_lists: false,
            at_run_time: true,
        }
    }

    /// The configuration, for this host's name.
    pub fn config(&mut self) -> Result<Config, ConfigError> {
        self.config_on(&host_name())
    }

    pub(crate) fn config_on(&mut self, host: &str) -> Result<Config, ConfigError> {
        self.validated(host, self.with_lists)
    }

    /// The same without lists of clients that stand in files of their own.
    pub(crate) fn config_without_lists(&mut self) -> Result<Config, ConfigError> {
        self.validated(&host_name(), false)
    }

    fn validated(&mut self, host: &str, with_lists: bool) -> Result<Config, ConfigError> {
        self.check(host, with_lists).map_err(|found| ConfigError::of(found, &self.documents))
    }

    /// What is no mistake, but may not be meant: complete after [`Self::config`].
    pub fn warnings(&self) -> Vec<Mistake> {
        Mistake::of(self.warnings.clone(), &self.documents)
    }

    /// What they depend on: complete after [`Self::config`].
    pub fn sources(&self) -> Sources {
        Sources { patterns: self.patterns.clone(), files: self.beside.paths().cloned().collect() }
    }

    /// The configuration on `host`, or all that is wrong.
    fn check(&mut self, host: &str, with_lists: bool) -> Result<Config, Vec<Found>> {
        #[cfg(test)]
        work::note(self.documents.iter().map(|document| document.text.len()).sum());
        let Some(main) = self.documents.first() else { return Err(Vec::new()) };
        let folder = main.folder().to_owned();
        let mut all = surplus::read::<yaml::File>(&main.text);
        let mut wrong = all.map.expand(|text| references::expanded(text, &folder, &mut self.beside));
        if !self.is_complete {
            // It is the first file itself that cannot be read.
            if !self.unread.is_empty() {
                return Err(self.unread.clone());
            }
            self.include(&all, &wrong, &folder);
            self.is_complete = true;
        }
        if all.map.is_blank() && all.found.is_empty() {
            let message = "the file is empty, expected `interface` and `services`".to_owned();
            return Err(vec![(Position::START, message)]);
        }
        wrong.extend(self.join(&mut all));
        let surplus::Read { shape, map, mut found, mut touched } = all;
        let is_whole = found.is_empty() && self.unread.is_empty();
        if !self.unread.is_empty() {
            touched.extend(LISTS.into_iter().flat_map(|list| within(list.to_owned())));
        }
        let values = match shape.map(|file| validate::validate(&file, map.root(), host, self.at_run_time)) {
            Some(Ok(mut config)) if is_whole && wrong.is_empty() => {
                if with_lists {
                    lists::read(&mut config, map.root(), &mut self.beside)?;
                }
                return Ok(config);
            }
            Some(Err(values)) => values,
            Some(Ok(_)) | None => Vec::new(),
        };
        let is_own = |(at, message): &Found| {
            let is_reference = wrong.iter().any(|(of_reference, _)| of_reference == at);
            !is_reference && (is_whole || !is_due_to_a_blank(message, &touched))
        };
        found.extend(values.into_iter().filter(is_own));
        found.extend(wrong);
        found.extend(self.unread.iter().cloned());
        Err(found)
    }

    /// Adds to the first file what the others have. Returns what is wrong with their references.
    fn join(&mut self, all: &mut surplus::Read<yaml::File>) -> Vec<Found> {
        let mut wrong = Vec::new();
        if self.documents.len() > 1 {
            all.map.name_files(self.documents.iter().map(Document::name).collect());
        }
        for (number, document) in self.documents.iter().enumerate().skip(1) {
            if self.unread.iter().any(|(at, _)| at.file == number) {
                continue;
            }
            let mut read = surplus::read::<yaml::Included>(&document.text);
            let folder = document.folder();
            let expanded = read.map.expand(|text| references::expanded(text, folder, &mut self.beside));
            let of_file = |(at, message): Found| (at.of_file(number), message);
            wrong.extend(expanded.into_iter().map(of_file));
            all.found.extend(read.found.into_iter().map(of_file));
            all.touched.extend(read.touched);
            all.shape = all.shape.take().zip(read.shape).map(|(mut file, included)| {
                let yaml::Included { groups, services } = included;
                file.groups = joined(file.groups, groups);
                file.services = joined(file.services, services);
                file
            });
            all.map.include(read.map, number, &LISTS);
        }
        wrong
    }

    /// Reads what the first file includes. Patterns at which something is `wrong` are left out.
    fn include(&mut self, main: &surplus::Read<yaml::File>, wrong: &[Found], folder: &Path) {
        let mut known = BTreeSet::from_iter(self.documents.first().and_then(|main| identity(&main.path)));
        let list = main.map.root().key("include");
        for (index, item) in main.shape.iter().flat_map(|file| file.include.iter().flatten()).enumerate() {
            let span = list.item(index);
            if !wrong.iter().any(|(at, _)| *at == span.at()) {
                let pattern = item.text(|| span).unwrap_or_default();
                self.include_all(pattern, folder, span.at(), &mut known);
            }
        }
    }

    /// Takes in what `pattern` matches, but for what is `known`: each file once.
    fn include_all(&mut self, pattern: &str, folder: &Path, at: Position, known: &mut BTreeSet<Identity>) {
        let told = |why: String| (at, format!("include {pattern:?}: {why}"));
        let joined = match whole_pattern(pattern, folder) {
            Ok(joined) => joined,
            Err(why) => return self.unread.push(told(why)),
        };
        let paths = matching(&joined);
        self.patterns.insert(joined);
        match paths {
            Err(why) => self.unread.push(told(why)),
            Ok(paths) if paths.is_empty() => self.warnings.push(told("no file matches".to_owned())),
            Ok(paths) => {
                for path in paths {
                    if identity(&path).is_some_and(|identity| !known.insert(identity)) {
                        continue;
                    }
                    if self.documents.len() == MOST {
                        let why = format!("found more files, expected at most {MOST} in all");
                        return self.unread.push(told(why));
                    }
                    if let Err(why) = self.add(path) {
                        self.unread.push(told(why));
                    }
                }
            }
        }
    }

    fn add(&mut self, path: PathBuf) -> Result<(), String> {
        let shown = path.display();
        let bytes = regular_file::read(&path, LARGEST).map_err(|error| match error {
            RegularFileError::Io(cause) => format!("cannot read {shown}: {cause}"),
            RegularFileError::NotRegular => {
                format!("{shown} is no regular file, expected a pattern that leaves it out")
            }
            RegularFileError::TooLong { .. } => {
                format!("{shown} is larger than 64 MiB, expected `groups` and `services`")
            }
        })?;
        let number = self.documents.len();
        let (document, found) = Document::of(path, &bytes);
        self.unread.extend(found.map(|(at, why)| (at.of_file(number), why)));
        self.documents.push(document);
        Ok(())
    }
}

/// Device and inode.
type Identity = (u64, u64);

fn identity(path: &Path) -> Option<Identity> {
    fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// The pattern with the folder that it begins from.
fn whole_pattern(pattern: &str, folder: &Path) -> Result<String, String> {
    if pattern.is_empty() || pattern.contains('\0') {
        return Err("expected a pattern of files, such as services.d/*.yaml".to_owned());
    }
    if pattern.contains("**") {
        return Err(
            "expected a pattern without `**`: each folder is named, or matched by its own `*`".to_owned()
        );
    }
    Pattern::new(pattern).map_err(|error| format!("not a pattern: {}", error.msg))?;
    if pattern.starts_with('/') || folder.as_os_str().is_empty() {
        return Ok(pattern.to_owned());
    }
    let folder = folder.to_str().ok_or("the configuration file's folder has a name that is not UTF-8")?;
    Ok(format!("{}/{pattern}", Pattern::escape(folder.trim_end_matches('/'))))
}

/// What there is of it, by name. Hidden files, which editors leave, must be named by their dot.
fn matching(pattern: &str) -> Result<Vec<PathBuf>, String> {
    let options = MatchOptions {
        case_sensitive: true,
        require_literal_separator: true,
        require_literal_leading_dot: true,
    };
    let paths = glob::glob_with(pattern, options).map_err(|error| error.msg.to_owned())?;
    let cannot =
        |error: glob::GlobError| format!("cannot read {}: {}", error.path().display(), error.error());
    let mut paths = paths.collect::<Result<Vec<PathBuf>, _>>().map_err(cannot)?;
    paths.sort();
    Ok(paths)
}

fn joined<T>(list: Option<Vec<T>>, more: Option<Vec<T>>) -> Option<Vec<T>> {
    match (list, more) {
        (Some(mut list), Some(more)) => {
            list.extend(more);
            Some(list)
        }
        (list, more) => list.or(more),
    }
}

/// How much is read, for tests: time says little on a busy machine.
#[cfg(test)]
pub(crate) mod work {
    use std::cell::Cell;

    thread_local! {
        static BYTES: Cell<usize> = const { Cell::new(0) };
    }

    pub(super) fn note(bytes: usize) {
        BYTES.set(BYTES.get() + bytes);
    }

    /// Bytes of text that `work` has parsed and validated.
    pub(crate) fn of<T>(work: impl FnOnce() -> T) -> (usize, T) {
        let before = BYTES.get();
        let done = work();
        (BYTES.get() - before, done)
    }
}
