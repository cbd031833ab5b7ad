//! `keepalived -t` tells which lines it does not understand; the report must say so, too.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context as _, Result, ensure};
use lb_lab::lab::originals;

use super::{Imported, cases, import};

/// Checks each file in its folder: `FOLDER FILE ID` a line.
const SCRIPT: &str = r#"
set +e
while read -r folder file id; do
    cd "/srv/$folder"
    if [ "$id" = - ]; then keepalived -t -f "/srv/$folder/$file"; else keepalived -t -i "$id" -f "/srv/$folder/$file"; fi \
        > "/srv/$folder.said" 2>&1 < /dev/null
    echo $? > "/srv/$folder.exit"
done < /srv/list
"#;

/// A file and how it is imported.
struct File {
    folder: String,
    name: String,
    words: Vec<String>,
}

/// Lines that keepalived does not understand: their numbers. A brace that it then has too many is
/// no mistake of its own.
fn unknown(said: &str, name: &str) -> BTreeSet<u64> {
    let words = ["Unknown keyword", "Unknown configuration entry", "invalid number", "Invalid lvs_scheduler"];
    let number = |line: &str| {
        let told =
            words.iter().any(|word| line.contains(word)) && !line.contains("'}'") && !line.contains("'{'");
        let place = line.split_once("Line ")?;
        let of_another = place.0.contains('/') && !place.0.contains(name);
        (told && !of_another).then(|| place.1.split(')').next()?.parse().ok()).flatten()
    };
    said.lines().filter_map(number).collect()
}

#[test]
fn what_keepalived_does_not_understand_is_told() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let srv = folder.path();
    let (mut files, mut list) = (Vec::new(), String::new());
    for case in cases("keepalived")?.iter().filter(|case| !case.has("--hosts")) {
        let target = srv.join(&case.name);
        fs::create_dir(&target)?;
        for entry in fs::read_dir(&case.folder)? {
            let path = entry?.path();
            fs::copy(&path, target.join(path.file_name().context("a name")?))?;
        }
        let first = case.words.get(1).context("a file")?;
        let name = first.split('=').next_back().unwrap_or(first).to_owned();
        let id = case.words.iter().position(|word| word == "--id").and_then(|at| case.words.get(at + 1));
        list += &format!("{} {name} {}\n", case.name, id.map_or("-", String::as_str));
        files.push(File { folder: case.name.clone(), name, words: case.words.clone() });
    }
    let samples = originals::path().join("usr/share/doc/keepalived/samples");
    for entry in fs::read_dir(&samples).context("the originals are not there: run `cargo xtask setup`")? {
        let path = entry?.path();
        let name = path.file_name().context("a name")?.to_string_lossy().into_owned();
        if name.starts_with("keepalived.conf") {
            let folder = format!("sample-{name}");
            fs::create_dir(srv.join(&folder))?;
            fs::copy(&path, srv.join(&folder).join(&name))?;
            list += &format!("{folder} {name} -\n");
            files.push(File { folder, words: vec!["keepalived".into(), name.clone()], name });
        }
    }
    ensure!(files.len() > 30, "only {} files", files.len());
    fs::write(srv.join("list"), list)?;
    let output = originals::run(srv, SCRIPT)?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let (mut content, mut wrong) = (0, Vec::new());
    for file in &files {
        let read = |ending: &str| fs::read_to_string(srv.join(format!("{}.{ending}", file.folder)));
        let said = read("said")?;
        let words: Vec<&str> = file.words.iter().map(String::as_str).collect();
        let result = import(&words, &srv.join(&file.folder))?;
        content += usize::from(read("exit")?.trim() == "0");
        wrong.extend(
            disagreements(&result, &said, file).into_iter().map(|what| format!("{}: {what}", file.folder)),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    println!("keepalived is content with {content} of {} files", files.len());
    assert!(content >= 15, "keepalived is content with {content} files only");
    Ok(())
}

fn disagreements(result: &Imported, said: &str, file: &File) -> Vec<String> {
    let mut found = Vec::new();
    let unknown = unknown(said, &file.name);
    for line in result.lines().iter().filter(|line| line.file == file.name) {
        let is_unknown = unknown.contains(&line.line);
        if is_unknown && line.fate != "lost" && line.fate != "not_needed" {
            found.push(format!(
                "line {} {:?} is {}, but keepalived says:\n{said}",
                line.line, line.text, line.fate
            ));
        }
        if !is_unknown && line.notes.contains("does not know") && said.trim().is_empty() {
            found.push(format!(
                "line {} {:?}: {}, but keepalived is content",
                line.line, line.text, line.notes
            ));
        }
    }
    if !result.succeeded && !result.said.contains("`services` is missing or empty") {
        found.push(result.said.clone());
    }
    found
}
