//! Makes the tree one that `lb check` accepts: what it refuses is taken out, and the lines that it
//! comes from are lost, in `lb check`'s words.

use std::collections::BTreeSet;

use lb_config::ConfigError;

use crate::ledger::Ledger;
use crate::report::At;
use crate::tree::{Item, Map, Value, write};

/// A tree that still has mistakes after so many rounds is not expected.
const ROUNDS: usize = 200;

/// Maps that may do without any of their keys. All others begin with the key that they need:
/// without it the map is taken out as a whole.
const LOOSE: [&str; 4] = ["hooks", "timeouts", "persistence", "hash"];

/// Takes out what `lb check` refuses on the host called `host`. What is wrong still is the error.
pub(crate) fn settle(root: &mut Item, ledger: &mut Ledger, host: &str) -> Result<(), ConfigError> {
    let mut result = check(root, host);
    for _ in 0..ROUNDS {
        let Err((error, paths)) = &result else { return Ok(()) };
        let mut cuts: Vec<(Vec<usize>, String)> = Vec::new();
        for mistake in error.mistakes() {
            let path = paths.get(mistake.line - 1).cloned().unwrap_or_default();
            if let Some(cut) = cut(root, &path)
                && !cuts.iter().any(|(known, _)| *known == cut)
            {
                cuts.push((cut, mistake.message.clone()));
            }
        }
        if cuts.is_empty() {
            break;
        }
        // The last one first: steps to the others stay right. What lies in another one goes with
        // it.
        cuts.sort();
        let mut gone = Vec::new();
        while let Some((path, message)) = cuts.pop() {
            gone.extend(take(root, &path).map(|item| (item, message)));
        }
        let rest: BTreeSet<At> = root.all_from().into_iter().collect();
        gone.iter().for_each(|(item, message)| tell(item, &rest, message, ledger));
        result = check(root, host);
    }
    result.map_err(|(error, _)| error)
}

fn check(root: &Item, host: &str) -> Result<(), (ConfigError, Vec<Vec<usize>>)> {
    let Value::Map(map) = &root.value else { return Ok(()) };
    let written = write(map, &[], &[]);
    match lb_config::parse_on(&written.text, "imported", host) {
        Ok(_) => Ok(()),
        Err(error) => Err((error, written.paths)),
    }
}

/// The steps to what is taken out because of a mistake at `path`: as little as can be.
fn cut(root: &Item, path: &[usize]) -> Option<Vec<usize>> {
    let mut cut = None;
    let (mut here, mut name) = (root, "");
    for (depth, step) in path.iter().enumerate() {
        let (removable, key) = match &here.value {
            Value::List(_) => (true, ""),
            Value::Map(Map(entries)) => {
                let key = entries.get(*step).map_or("", |(key, _)| key.as_str());
                let is_needed = *step == 0 && !LOOSE.contains(&name);
                (!(is_needed || (depth == 0 && key == "services")), key)
            }
            Value::Text(_) | Value::Words(_) => (false, ""),
        };
        if removable {
            cut = Some(path[..=depth].to_vec());
        }
        here = here.at_step(*step)?;
        name = key;
    }
    cut
}

fn take(root: &mut Item, path: &[usize]) -> Option<Item> {
    let (last, before) = path.split_last()?;
    let mut here = root;
    for step in before {
        here = here.at_step_mut(*step)?;
    }
    match &mut here.value {
        Value::List(items) if *last < items.len() => Some(items.remove(*last)),
        Value::Map(Map(entries)) if *last < entries.len() => Some(entries.remove(*last).1),
        _ => None,
    }
}

/// The item's own lines are lost, those of what is in it unless others have them, too.
fn tell(item: &Item, rest: &BTreeSet<At>, message: &str, ledger: &mut Ledger) {
    let inner = item.all_from().into_iter().filter(|at| !rest.contains(at));
    let from: BTreeSet<At> = item.from.iter().copied().chain(inner).collect();
    if from.is_empty() {
        ledger.assume(format!("left out again, as `lb check` refuses it: {message}"));
    }
    for at in from {
        ledger.lost(at, format!("`lb check` refuses it: {message}"));
    }
}

/// Puts comments of the source, and what was lost, before what they belong to. Returns those that
/// come after everything.
pub(crate) fn place_remarks(root: &mut Item, ledger: &Ledger) -> Vec<String> {
    let mut places = Vec::new();
    collect(root, &mut Vec::new(), &mut places);
    places.sort();
    let outer: Vec<_> = places.iter().filter(|(_, path)| path.len() <= 2).cloned().collect();
    let mut below = Vec::new();
    for (at, texts) in ledger.remarks() {
        let sections = ledger.sections_around(at);
        let path = sections
            .iter()
            .find_map(|section| within(&places, at, *section))
            // What stands outside of blocks is not put deep into one.
            .or_else(|| next(&outer, at));
        match path.and_then(|path| at_path(root, path)) {
            Some(item) => item.above.extend(texts),
            None => below.extend(texts),
        }
    }
    below
}

type Places = [(At, Vec<usize>)];

/// What comes from the first line at or behind `at` within a block, else from the last one before.
fn within(places: &Places, at: At, (first, last): (At, At)) -> Option<&[usize]> {
    let index = places.partition_point(|(place, _)| *place < at);
    let inside = |place: At| first <= place && place <= last;
    let after = places.get(index).filter(|(place, _)| inside(*place));
    let before = || places.get(index.checked_sub(1)?).filter(|(place, _)| inside(*place));
    let (place, _) = after.or_else(before)?;
    next(places, *place)
}

/// What comes from the first line at or behind `at` in the same file: the outermost of that.
fn next(places: &Places, at: At) -> Option<&[usize]> {
    let index = places.partition_point(|(place, _)| *place < at);
    places.get(index).filter(|(place, _)| place.file == at.file).map(|(_, path)| path.as_slice())
}

fn collect(item: &Item, path: &mut Vec<usize>, places: &mut Vec<(At, Vec<usize>)>) {
    if let Some(first) = item.from.iter().min().filter(|_| !path.is_empty()) {
        places.push((*first, path.clone()));
    }
    let mut step = 0;
    while let Some(inner) = item.at_step(step) {
        path.push(step);
        collect(inner, path, places);
        path.pop();
        step += 1;
    }
}

fn at_path<'a>(root: &'a mut Item, path: &[usize]) -> Option<&'a mut Item> {
    path.iter().try_fold(root, |item, step| item.at_step_mut(*step))
}
