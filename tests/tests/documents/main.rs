//! The commands of README.md, CONTRIBUTING.md, docs/*.md and deploy/routing/README.md.
//!
//! - ```` ```console ```` blocks are transcripts: their commands run in the order of the document,
//!   and print what stands below them ([`transcript`]), on the machines of a lab ([`machines`]) or
//!   in a folder. The word before `$` names the machine.
//! - ```` ```sh ```` blocks are lines for a shell, which run on the machines that stand behind the
//!   word, and must succeed ([`script`]). What is not run stands in a list, with the reason
//!   ([`unplayed`]).
//! - Of commands between backticks, and of all others, `lb` parses the words ([`words`]); under the
//!   same name and with the same options each is run somewhere. Of commands of other programs
//!   between backticks those programs' help knows the words ([`others`]).
//! - ```` ```yaml ```` blocks are configurations, or parts of one, and right. Behind the word there
//!   may be the file that a block is written to: `lb1:/etc/lb/lb.yaml`, or added to: `lb1+/…`.

mod blocks;
mod machines;
mod others;
mod script;
mod transcript;
mod unplayed;
mod words;

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
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

/// Machines, and documents that run one after the other on them: each goes on from what the one
/// before has left.
type Play = (&'static [&'static str], &'static [&'static str]);

const FIRST_TASTE: Play = (&["client", "lb1", "www1", "www2"], &["README.md"]);
const BY_HAND: Play = (&["www3", "www4", "gateway"], &["docs/forwarding.md"]);
const CLUSTER: Play = (
    &["client", "lb1", "lb2", "www1", "www2"],
    &[
        "docs/getting-started.md",
        "docs/operations.md",
        "docs/commands.md",
        "docs/cluster.md",
        "docs/scale.md",
        "docs/troubleshooting.md",
        "docs/alerts.md",
    ],
);
/// The one whose commands run in a folder with the talk's files, and some of other programs.
const ON_FILES: &str = "docs/migration.md";

/// What sentences name and no block has: run at the end of [`CLUSTER`], on this machine.
const SAID: [(&str, &str); 12] = [
    ("lb1", "lb help status"),
    ("lb1", "lb check --json /etc/lb/lb.yaml"),
    ("lb1", "lb status --json"),
    ("lb1", "lb events --json"),
    ("lb1", "lb events --server www2"),
    ("lb1", "lb disable www2"),
    ("lb1", "lb overlay clear --source kubernetes"),
    ("lb1", "lb remove service web"),
    ("lb1", "lb ipvsadm -C"),
    ("lb1", "lb stop"),
    ("lb1", "lb stop --release"),
    ("www1", "lb realserver undo"),
];

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

/// Runs the command on its machine.
fn play_on(machines: &mut Machines, step: &Step) -> Result<()> {
    match step.command.strip_prefix("systemctl ") {
        Some(words) => machines.systemctl(&step.machine, words),
        // In the foreground of another terminal.
        None if step.command == "lb run" => machines.systemctl(&step.machine, "start lb"),
        None => play(step, |command| machines.run(&step.machine, &script::ending(command))),
    }
}

fn play_script(machines: &mut Machines, block: &Block) -> Result<()> {
    for machine in script::machines(block) {
        for (line, command) in script::lines(block) {
            if unplayed::entry(&command).is_none() {
                let machine = machine.to_owned();
                play_on(machines, &Step { line, machine, command, output: Vec::new() })?;
            }
        }
    }
    Ok(())
}

fn play_documents((names, documents): Play, said: &[(&str, &str)]) -> Result<()> {
    let mut machines = Machines::new(names)?;
    let mut last = Vec::new();
    for name in documents {
        for block in Document::read(name)?.blocks {
            machines.write(&block).with_context(|| format!("{name}, line {}", block.line))?;
            for step in transcript::steps(&block) {
                play_on(&mut machines, &step).context(*name)?;
            }
            match script::comes_last(&block) {
                true => last.push((name, block)),
                false => play_script(&mut machines, &block).context(*name)?,
            }
        }
    }
    for (name, block) in &last {
        play_script(&mut machines, block).context(**name)?;
    }
    for (machine, command) in said {
        let (machine, command) = ((*machine).to_owned(), (*command).to_owned());
        let step = Step { line: 0, machine, command, output: Vec::new() };
        play_on(&mut machines, &step).context("what sentences name")?;
    }
    Ok(())
}

#[test]
fn transcripts_on_machines_go_as_they_are_told() -> Result<()> {
    measured("the documents' commands", || play_documents(CLUSTER, &SAID))
}

#[test]
fn the_readmes_first_taste_goes_as_it_stands_there() -> Result<()> {
    measured("the README's commands", || play_documents(FIRST_TASTE, &[]))
}

#[test]
fn servers_are_made_by_hand_as_it_is_told() -> Result<()> {
    play_documents(BY_HAND, &[])
}

/// The files that the commands of [`ON_FILES`] read.
fn files_to_import(folder: &Path) -> Result<()> {
    let corpus = root().join("lb-userspace/import/tests/corpus");
    for file in ["ha.cf", "haresources", "authkeys", "ldirectord.cf", "hosts"] {
        fs::copy(corpus.join("heartbeat-talk").join(file), folder.join(file))?;
    }
    for (from, to) in [
        ("keepalived-pair/one.conf", "keepalived.conf.lb1"),
        ("keepalived-pair/two.conf", "keepalived.conf.lb2"),
    ] {
        fs::copy(corpus.join(from), folder.join(to))?;
    }
    // One of which nothing is lost: without a firewall mark.
    let group = fs::read_to_string(corpus.join("keepalived-group/keepalived.conf"))?;
    fs::write(folder.join("keepalived.conf"), group.replace("fwmark 3", "192.0.2.98 80"))?;
    // What ipvsadm would print on a machine with such a table.
    let rules = fs::read_to_string(corpus.join("ipvsadm-saved/ipvsadm.rules"))?.replace("-f 5", "-f 1");
    let stand_in = folder.join("stand-ins/ipvsadm");
    fs::create_dir(folder.join("stand-ins"))?;
    fs::write(&stand_in, format!("#!/bin/sh\n[ \"$*\" = '-S -n' ] || exit 1\ncat <<'END'\n{rules}END\n"))?;
    fs::set_permissions(&stand_in, fs::Permissions::from_mode(0o755)).context("cannot make it a program")
}

#[test]
fn imports_print_what_is_told() -> Result<()> {
    let folder = tempfile::tempdir()?;
    files_to_import(folder.path())?;
    let others = machines::path()?;
    let path =
        env::join_paths([folder.path().join("stand-ins")].into_iter().chain(env::split_paths(&others)))?;
    let document = Document::read(ON_FILES)?;
    let mut steps: Vec<Step> = Vec::new();
    for block in &document.blocks {
        steps.extend(transcript::steps(block));
        for (line, command) in script::lines(block) {
            steps.push(Step { line, machine: String::new(), command, output: Vec::new() });
        }
    }
    ensure!(steps.len() > 6, "{ON_FILES} has hardly any command");
    for step in steps {
        play(&step, |command| {
            let shell = format!("exec 2>&1\n{command}");
            // Away from the interfaces of this machine.
            let mut unshare = Command::new("unshare");
            unshare.args(["--net", "sh", "-c", &shell]).current_dir(folder.path()).env("PATH", &path);
            let output = unshare.output()?;
            Ok((output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned()))
        })
        .context(ON_FILES)?;
    }
    Ok(())
}

/// The commands of a block with their lines, and whether all that is not listed is run.
fn commands_of(name: &str, block: &Block) -> (Vec<(usize, String)>, bool) {
    let is_of_a_play = [FIRST_TASTE, BY_HAND, CLUSTER].iter().any(|(_, documents)| documents.contains(&name));
    if block.language == "console" {
        let steps = transcript::steps(block).into_iter().map(|step| (step.line, step.command));
        return (steps.collect(), is_of_a_play || name == ON_FILES);
    }
    let runs = is_of_a_play && !script::machines(block).is_empty() || name == ON_FILES;
    (script::lines(block), runs)
}

#[test]
fn every_command_is_run_or_has_a_reason_not_to_be() -> Result<()> {
    let said = SAID.iter().flat_map(|(_, command)| words::commands(command));
    let (mut run, mut needed, mut silent) = (said.collect::<Vec<_>>(), BTreeSet::new(), Vec::new());
    let documents = Document::all()?;
    for Document { name, blocks, .. } in &documents {
        for block in blocks {
            let (commands, runs) = commands_of(name, block);
            for (line, command) in commands {
                match unplayed::entry(&command).filter(|_| block.language == "sh") {
                    Some(entry) => drop(needed.insert(entry)),
                    None if runs => run.extend(words::commands(&command)),
                    None => silent.push(format!("{name}:{line}: {command}")),
                }
            }
        }
    }
    for Document { name, quoted, .. } in &documents {
        for (line, text) in quoted.iter().filter(|(_, text)| !words::is_among(text, &run)) {
            match unplayed::entry(text) {
                Some(entry) => drop(needed.insert(entry)),
                None => silent.push(format!("{name}:{line}: `{text}`")),
            }
        }
    }
    let silent = silent.join("\n");
    assert!(silent.is_empty(), "not run, and not in unplayed.rs:\n{silent}");
    let all = unplayed::UNPLAYED.iter().enumerate();
    let idle: Vec<&str> =
        all.filter(|(index, _)| !needed.contains(index)).map(|(_, (begin, _))| *begin).collect();
    assert!(idle.is_empty(), "no document has them any more, or they are run: {idle:?}");
    Ok(())
}

#[test]
fn every_command_of_every_document_is_one() -> Result<()> {
    let lb = binary()?;
    let mut wrong = Vec::new();
    let mut found = 0;
    for document in Document::all()? {
        let name = &document.name;
        for block in &document.blocks {
            for (line, text) in commands_of(name, block).0 {
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
fn other_programs_know_their_commands_in_sentences() -> Result<()> {
    let documents = Document::all()?;
    let mut wrong = Vec::new();
    for Document { name, of_others, .. } in &documents {
        for (line, text) in of_others {
            wrong.extend(others::fault(text)?.map(|fault| format!("{name}:{line}: {fault}")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let found = documents.iter().flat_map(|document| &document.of_others);
    let found: Vec<&str> = found.map(|(_, text)| text.as_str()).collect();
    assert!(found.len() > 40, "only {} were found", found.len());
    let idle = others::idle(&found);
    assert!(idle.is_empty(), "no document has them any more: {idle:?}");
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
