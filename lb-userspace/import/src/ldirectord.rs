//! ldirectord.cf, as `read_config` of ldirectord 4 reads it; what it refuses and people write
//! nevertheless is taken as it was meant.

mod check;
mod mail;
mod real;
mod virtual_service;

pub(crate) use virtual_service::{hash_flags, prefix};

use crate::keywords::{self, Verdict};
use crate::ledger::Ledger;
use crate::parts::Parts;
use crate::report::At;
use crate::{Find, Original, OriginalFile};

/// A line `name = value`.
#[derive(Debug, Clone)]
pub(crate) struct Directive {
    pub name: String,
    pub value: String,
    pub at: At,
}

/// A `virtual` with its lines.
#[derive(Debug)]
pub(crate) struct Section {
    /// The line `virtual = …` or `virtual6 = …`.
    pub head: Directive,
    pub directives: Vec<Directive>,
}

#[derive(Debug, Default)]
pub(crate) struct Config {
    pub globals: Vec<Directive>,
    pub sections: Vec<Section>,
}

/// The last directive called `name`: that one counts.
pub(crate) fn last<'d>(directives: &'d [Directive], name: &str) -> Option<&'d Directive> {
    directives.iter().rev().find(|directive| directive.name == name)
}

/// The first run of digits, as ldirectord reads numbers.
pub(crate) fn digits(text: &str) -> Option<u64> {
    let start = text.find(|char: char| char.is_ascii_digit())?;
    let rest = &text[start..];
    let end = rest.find(|char: char| !char.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

/// What ldirectord refuses in the value of a directive, if it looks at it.
pub(crate) fn refused(directive: &Directive) -> Option<&'static str> {
    let Directive { name, value, .. } = directive;
    match name.as_str() {
        "checktimeout" | "negotiatetimeout" | "timeout" | "connecttimeout" | "checkinterval"
        | "checkcount" | "failurecount" | "checkport" => {
            let fits = digits(value).is_some_and(|number| number > 0);
            (!fits).then_some("expected a number above 0: ldirectord refuses the line")
        }
        "autoreload" | "fork" | "supervised" | "quiescent" | "readdquiescent" | "cleanstop" | "ops" => {
            let fits = matches!(value.as_str(), "yes" | "no");
            (!fits).then_some("expected yes or no: ldirectord refuses the line")
        }
        name => mail::refused_line(name, value),
    }
}

/// The text between the first quote and the last one, or the bare text.
pub(crate) fn unquoted(text: &str) -> &str {
    match (text.find('"'), text.rfind('"')) {
        (Some(0), Some(end)) if end > 0 => &text[1..end],
        _ => text.trim_matches('"'),
    }
}

pub(crate) fn read(file: usize, ledger: &mut Ledger, parts: &mut Parts<'_>, find: &mut Find<'_>) {
    read_at_depth(file, ledger, parts, find, 0);
}

/// `execute` may name files that name others: three deep is more than anybody has.
fn read_at_depth(file: usize, ledger: &mut Ledger, parts: &mut Parts<'_>, find: &mut Find<'_>, depth: usize) {
    let config = parse(file, ledger);
    globals(&config, ledger, parts);
    mail::read(&config, ledger, parts);
    for section in &config.sections {
        let end = section.directives.iter().map(|directive| directive.at).max().unwrap_or(section.head.at);
        ledger.section(section.head.at, end);
        virtual_service::convert(section, &config, ledger, parts);
    }
    for directive in config.globals.iter().filter(|directive| directive.name == "execute") {
        let Directive { value, at, .. } = directive;
        let name = ledger.name(file).to_owned();
        match find(value, &name) {
            Ok(files) if depth < 3 => {
                ledger.changed(*at, format!("{value} is imported too"));
                let numbers: Vec<usize> = files.iter().map(|file: &OriginalFile| ledger.add(file)).collect();
                for number in numbers {
                    read_at_depth(number, ledger, parts, find, depth + 1);
                }
            }
            Ok(_) => ledger.lost(*at, "`execute` in a file of a file of a file is not followed"),
            Err(why) => ledger.lost(*at, format!("{value} was not imported: {why}")),
        }
    }
}

/// Splits a file into global lines and sections.
fn parse(file: usize, ledger: &mut Ledger) -> Config {
    let mut config = Config::default();
    // Whether the section goes on: an empty line, or one that is not indented, ends it.
    let mut open = false;
    for (at, line) in ledger.lines(file) {
        let text = line.replace('\t', "    ");
        if text.trim().is_empty() {
            open = false;
            continue;
        }
        if text.trim_start().starts_with('#') {
            ledger.comment(at, &text.trim_start()[1..]);
            continue;
        }
        let indent = text.len() - text.trim_start_matches(' ').len();
        let inside = indent >= 4 && open;
        // Within a section `#` ends the line anywhere, else only at its beginning.
        let body =
            if indent > 0 || is_of_section_only(&text) { cut_comment(&text, at, ledger) } else { &text };
        let Some(directive) = directive(body.trim(), at) else {
            ledger.lost(at, "this is no line `name = value`: ldirectord refuses it");
            continue;
        };
        take(directive, indent, inside, &mut open, &mut config, ledger);
    }
    config
}

fn take(
    directive: Directive,
    indent: usize,
    inside: bool,
    open: &mut bool,
    config: &mut Config,
    ledger: &mut Ledger,
) {
    let Directive { name, at, .. } = &directive;
    let at = *at;
    if matches!(name.as_str(), "virtual" | "virtual6") {
        if indent > 0 {
            ledger.changed(at, "ldirectord refuses an indented `virtual`: taken for one that is not");
        }
        config.sections.push(Section { head: directive, directives: Vec::new() });
        *open = true;
        return;
    }
    let known = |scope| keywords::find(Original::Ldirectord, &[scope], name).is_some();
    let section = config.sections.last_mut();
    let head = section.as_ref().map(|section| section.head.value.clone()).unwrap_or_default();
    match section {
        Some(section) if inside => section.directives.push(directive),
        // As the talk of December 2000 had it; ldirectord refuses it since.
        Some(section) if known("virtual") && (indent > 0 || !known("global")) => {
            let note = format!("ldirectord 4 refuses it here: taken for a line of `virtual = {head}` above");
            ledger.changed(at, note);
            section.directives.push(directive);
        }
        _ => {
            *open = false;
            if indent > 0 && known("global") {
                ledger.changed(at, "ldirectord refuses an indented global line: taken for one that is not");
            }
            config.globals.push(directive);
        }
    }
}

fn is_of_section_only(text: &str) -> bool {
    let name = text.split('=').next().unwrap_or_default().trim();
    let known = |scope| keywords::find(Original::Ldirectord, &[scope], name).is_some();
    known("virtual") && !known("global")
}

fn cut_comment<'t>(text: &'t str, at: At, ledger: &mut Ledger) -> &'t str {
    match text.split_once('#') {
        Some((body, comment)) => {
            ledger.comment(at, comment);
            body
        }
        None => text,
    }
}

fn directive(text: &str, at: At) -> Option<Directive> {
    if text == "supervised" {
        return Some(Directive { name: text.to_owned(), value: "yes".to_owned(), at });
    }
    let (name, value) = text.split_once('=')?;
    let name = name.trim();
    let fits = !name.is_empty() && name.chars().all(|char| char.is_ascii_alphanumeric());
    fits.then(|| Directive { name: name.to_owned(), value: value.trim().to_owned(), at })
}

/// Tells of the global lines; those for services are read by them.
fn globals(config: &Config, ledger: &mut Ledger, parts: &mut Parts<'_>) {
    let counts = |directive: &Directive| {
        directive.name == "execute"
            || last(&config.globals, &directive.name).is_some_and(|last| last.at == directive.at)
    };
    for directive in &config.globals {
        let Directive { name, value, at } = directive;
        if keywords::find(Original::Ldirectord, &["global"], name).is_some() && !counts(directive) {
            ledger.needless(*at, format!("a later line has `{name}`, too, and that one counts"));
            continue;
        }
        if let Some(why) = refused(directive) {
            ledger.lost(*at, why);
            continue;
        }
        match name.as_str() {
            "timeout" => ledger.changed(
                *at,
                "taken for checktimeout and negotiatetimeout, its successors: `timeout` of the checks",
            ),
            "connecttimeout" => {
                ledger.changed(*at, "taken for negotiatetimeout, its successor: `timeout` of the checks");
            }
            "checktimeout" | "negotiatetimeout" => ledger.kept(*at, "`timeout` of the checks"),
            "checkinterval" => {
                let note = "`interval` of the checks; of each check by itself, not a pause between rounds over all servers";
                ledger.kept(*at, note);
            }
            "failurecount" => ledger.kept(*at, "`fall` of the checks"),
            "checkcount" => ledger.changed(*at, "`fall` of ping checks"),
            "fallback" | "fallback6" => ledger.kept(*at, "`fallback` of the services that name none"),
            "fallbackcommand" => ledger.kept(*at, "`hooks` of the services that name none"),
            "quiescent" => ledger.kept(*at, "`quiescent` of the services"),
            "maintenancedir" => {
                parts.top.set("maintenance_dir", unquoted(value), &[*at]);
                let note = "`maintenance_dir`: the files are called as a server's name, ADDRESS or ADDRESS:PORT; names of \
                            reverse DNS do not count";
                ledger.kept(*at, note);
            }
            "execute" | "emailalert" | "emailalertfrom" | "emailalertfreq" | "emailalertstatus" | "smtp" => {}
            name => keywords::tell(Original::Ldirectord, &["global"], name, *at, ledger),
        }
        let known = keywords::find(Original::Ldirectord, &["global"], name);
        if known.is_some_and(|keyword| keyword.verdict == Verdict::Equal)
            && config.sections.is_empty()
            && name != "maintenancedir"
        {
            ledger.needless(*at, "the file has no `virtual` that it is for");
        }
    }
}
