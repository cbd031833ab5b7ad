//! The table of the sources' keywords: whether the YAML has an equivalent, and if not, what that
//! means. A test compares it with the lists in `data/`.

mod heartbeat;
mod keepalived;
mod ldirectord;

use crate::Original;
use crate::ledger::Ledger;
use crate::report::At;

/// Whether the YAML can say what a keyword says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It can.
    Equal,
    /// It can say a part of it, or something near.
    Partly,
    /// It cannot.
    Missing,
    /// `lb` needs nothing of the kind.
    Needless,
}

/// A keyword of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keyword {
    /// Where in the source it stands: a section, for keepalived the file of its parser.
    pub scope: &'static str,
    pub name: &'static str,
    pub verdict: Verdict,
    /// What its absence means, or why it is not needed; empty where a reader tells.
    pub note: &'static str,
}

/// Scope, verdict, note, names.
type Row = (&'static str, Verdict, &'static str, &'static str);

fn rows(source: Original) -> &'static [Row] {
    match source {
        Original::Ldirectord => &ldirectord::ROWS,
        Original::Heartbeat => &heartbeat::ROWS,
        Original::Keepalived => &keepalived::ROWS,
        Original::Ipvsadm => &[],
    }
}

/// All keywords of a source. ipvsadm has options, which its reader lists.
pub fn keywords(source: Original) -> impl Iterator<Item = Keyword> {
    rows(source).iter().flat_map(|(scope, verdict, note, names)| {
        let keyword = |name| Keyword { scope, name, verdict: *verdict, note };
        names.split_whitespace().map(keyword)
    })
}

/// The keyword `name` in one of `scopes`.
pub(crate) fn find(source: Original, scopes: &[&str], name: &str) -> Option<Keyword> {
    keywords(source).find(|keyword| keyword.name == name && scopes.contains(&keyword.scope))
}

/// The keyword that `name` is most likely a misspelling of.
pub(crate) fn nearest(source: Original, scopes: &[&str], name: &str) -> Option<&'static str> {
    let inside = keywords(source).filter(|keyword| scopes.contains(&keyword.scope));
    let near = inside.map(|keyword| (strsim::damerau_levenshtein(name, keyword.name), keyword.name));
    near.filter(|(distance, known)| *distance <= 2 && *distance * 3 <= known.len())
        .min()
        .map(|(_, name)| name)
}

/// Tells what becomes of a line whose keyword no reader turns into YAML.
pub(crate) fn tell(source: Original, scopes: &[&str], name: &str, at: At, ledger: &mut Ledger) {
    match find(source, scopes, name) {
        Some(Keyword { verdict: Verdict::Needless, note, .. }) => ledger.needless(at, note),
        Some(Keyword { verdict: Verdict::Partly, note, .. }) if !note.is_empty() => ledger.changed(at, note),
        Some(Keyword { note: "", .. }) => {
            ledger.lost(at, format!("`{name}` means nothing to `lb` in this place"));
        }
        Some(Keyword { note, .. }) => ledger.lost(at, note),
        None => ledger.lost(at, unknown(source, scopes, name)),
    }
}

fn unknown(source: Original, scopes: &[&str], name: &str) -> String {
    let shown: String = name.chars().take(40).collect();
    match nearest(source, scopes, name) {
        Some(near) => format!("{} does not know `{shown}`; did it mean `{near}`?", source.name()),
        None => format!("{} does not know `{shown}` here, and `lb import` does not, either", source.name()),
    }
}
