//! The commands of README.md, docs/*.md and deploy/routing/README.md.
//!
//! - ```` ```console ```` blocks are transcripts: their commands run in the order of the document,
//!   and print what stands below them ([`transcript`]), on the machines of a lab ([`machines`]) or
//!   in a folder. The word before `$` names the machine.
//! - Of ```` ```sh ```` blocks, and of commands between backticks, `lb` parses the words
//!   ([`words`]).
//! - ```` ```yaml ```` blocks are configurations, or parts of one, and right. Behind the word there
//!   may be the file that a block is written to: `lb1:/etc/lb/lb.yaml`, or added to: `lb1+/…`.

mod blocks;
mod machines;
mod transcript;
mod words;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use lb_lab::busy::measured;
use lb_lab::lab::director::binary;
use lb_lab::workspace::root;

use blocks::{Block, Document};
use machines::Machines;
use transcript::Step;

/// Documents whose transcripts run one after the other on the same machines: each goes on from what
/// the one before has left.
const ON_MACHINES: [&str; 3] = ["docs/getting-started.md", "docs/operations.md", "docs/commands.md"];
/// The one whose transcripts run in a folder with the talk's files.
const ON_FILES: &str = "docs/migration.md";

/// How long a step may take to print what it should: a server to come up, a group to come back.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the step again and again until it prints what it should, if it only looks.
fn play(step: &Step, run: impl Fn(&str) -> Result<(bool, String)>) -> Result<()> {
    let begin = Instant::now();
    loop {
        let (succeeded, said) = run(&step.command)?;
        if succeeded && step.is_answered_by(&said) {
            return Ok(());
        }
        if !step.only_looks() || begin.elapsed() > PATIENCE {
            let Step { line, command, output, .. } = step;
            let wanted = output.join("\n");
            let how = if succeeded { "" } else { ", and failed" };
            bail!("line {line}, `{command}`: it printed{how}\n{said}\nand should have printed\n{wanted}");
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn play_on_machines() -> Result<()> {
    let mut machines = Machines::new()?;
    for name in ON_MACHINES {
        let document = Document::read(name)?;
        for block in &document.blocks {
            machines.write(block).with_context(|| format!("{name}, line {}", block.line))?;
            for step in transcript::steps(block) {
                let played = match step.command.strip_prefix("systemctl ") {
                    Some(words) => machines.systemctl(&step.machine, words),
                    None => play(&step, |command| machines.run(&step.machine, command)),
                };
                played.with_context(|| name.to_owned())?;
            }
        }
    }
    Ok(())
}

#[test]
fn transcripts_on_machines_go_as_they_are_told() -> Result<()> {
    measured("the documents' commands", play_on_machines)
}

#[test]
fn imports_of_the_talks_files_print_what_is_told() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let talk = root().join("lb-userspace/import/tests/corpus/heartbeat-talk");
    for file in ["ha.cf", "haresources", "authkeys", "ldirectord.cf", "hosts"] {
        fs::copy(talk.join(file), folder.path().join(file))?;
    }
    let document = Document::read(ON_FILES)?;
    let steps: Vec<Step> = document.blocks.iter().flat_map(transcript::steps).collect();
    ensure!(steps.len() > 2, "{ON_FILES} has hardly any transcript");
    for step in steps {
        play(&step, |command| {
            let shell = format!("exec 2>&1\n{command}");
            // Away from the interfaces of this machine.
            let mut unshare = Command::new("unshare");
            unshare.args(["--net", "sh", "-c", &shell]).current_dir(folder.path());
            let output = unshare.env("PATH", machines::path()?).output()?;
            Ok((output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned()))
        })
        .context(ON_FILES)?;
    }
    Ok(())
}

#[test]
fn every_command_of_every_document_is_one() -> Result<()> {
    let lb = binary()?;
    let mut wrong = Vec::new();
    let mut found = 0;
    for document in Document::all()? {
        let name = &document.name;
        let is_run = ON_MACHINES.contains(&name.as_str()) || name == ON_FILES;
        for block in &document.blocks {
            let lines = match block.language.as_str() {
                "sh" => block.numbered_lines(),
                "console" if !is_run => {
                    transcript::steps(block).into_iter().map(|step| (step.line, step.command)).collect()
                }
                _ => continue,
            };
            for (line, text) in lines {
                for command in words::commands(&text) {
                    found += 1;
                    if let Err(error) = words::parsed_by(&lb, &command) {
                        wrong.push(format!("{name}:{line}: {error:#}"));
                    }
                }
            }
        }
        for (line, text) in &document.quoted {
            found += 1;
            if let Err(error) = words::named_by(&lb, text) {
                wrong.push(format!("{name}:{line}: {error:#}"));
            }
        }
    }
    assert!(found > 80, "only {found} commands were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn every_configuration_of_every_document_is_right() -> Result<()> {
    let lb = binary()?;
    let folder = tempfile::tempdir()?;
    let mut wrong = Vec::new();
    let mut found = 0;
    for document in Document::all()? {
        for block in document.blocks.iter().filter(|block| block.language == "yaml") {
            found += 1;
            if let Err(error) = check(&lb, folder.path(), block) {
                wrong.push(format!("{}:{}: {error:#}", document.name, block.line));
            }
        }
    }
    assert!(found >= 8, "only {found} configurations were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// `lb check` of the block, with what it leaves out, on a host that is called lb1.
fn check(lb: &Path, folder: &Path, block: &Block) -> Result<()> {
    let file = folder.join("lb.yaml");
    fs::write(&file, completed(&block.lines.join("\n")))?;
    let script = "echo lb1 >/proc/sys/kernel/hostname && exec \"$0\" check \"$1\"";
    let output =
        Command::new("unshare").args(["--uts", "--net", "sh", "-c", script]).arg(lb).arg(&file).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// A part of a configuration with an interface, a group and a service, if it has none.
fn completed(part: &str) -> String {
    let has = |key: &str| part.lines().any(|line| line.starts_with(&format!("{key}:")));
    let mut text = part.to_owned() + "\n";
    if !has("interface") && !has("interfaces") {
        text += "interface: eth0\n";
    }
    if has("cluster") && !has("groups") {
        text += "groups: [{ vips: [192.0.2.10/24] }]\n";
    }
    if !has("services") {
        text += "services: [{ vip: '192.0.2.10:80', servers: [{ address: 192.0.2.21 }] }]\n";
    }
    text
}

/// A document with a mistake does not pass.
#[test]
fn commands_that_are_none_are_found() -> Result<()> {
    let lb = binary()?;
    for line in ["lb status --colour", "lb drain", "lb stauts", "lb weight www1 often", "true; lb check"] {
        let commands = words::commands(line);
        let parsed = commands.iter().try_for_each(|command| words::parsed_by(&lb, command));
        assert!(parsed.is_err(), "{line}");
    }
    for line in ["lb status --brief", "echo lb nonsense", "cd /tmp && lb check 'a file' # lb nonsense"] {
        for command in words::commands(line) {
            words::parsed_by(&lb, &command)?;
        }
    }
    for text in ["lb stop --realease", "lb realserver instal", "lb stauts"] {
        assert!(words::named_by(&lb, text).is_err(), "{text}");
    }
    for text in ["lb stop --release", "lb realserver setup --vip VIP", "lb weight SERVER WEIGHT", "lb help"] {
        words::named_by(&lb, text)?;
    }
    Ok(())
}
