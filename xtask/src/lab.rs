//! `cargo xtask lab`: the talk's cluster, for manual experiments.

use std::env;
use std::os::unix::process::CommandExt as _;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use lb_lab::cluster::{NODES, Talk, open_node};
use lb_lab::lab::state::Owner;
use lb_lab::lab::{Namespace, State, WebServer, cleanup};

use crate::setup::{self, Scope};

/// Default lab of the commands, and of the demo.
pub(crate) const DEFAULT_NAME: &str = "talk";

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    command: Command,
    /// Name of the lab, if several are running.
    #[arg(long, global = true, default_value = DEFAULT_NAME)]
    name: String,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create the cluster: client, ha1, ha2, www1, www2, and three web servers, without a director.
    Up,
    /// Remove the lab with all its processes.
    Down,
    /// Run a command on a node (or on `switch`); without a command, a shell.
    Exec {
        node: String,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Start the web server of www1, www2 or ha1.
    Start { node: String },
    /// Stop the web server of www1, www2 or ha1.
    Stop { node: String },
    /// List the labs of this machine and their processes.
    Status,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let name = &options.name;
    match &options.command {
        Command::Up => up(name),
        Command::Down => down(name),
        Command::Exec { node, command } => exec(name, node, command),
        Command::Start { node } => web_server(name, node)?.start(),
        Command::Stop { node } => web_server(name, node)?.stop(),
        Command::Status => status(),
    }
}

fn up(name: &str) -> Result<()> {
    setup::ensure(Scope::Lab)?;
    Talk::new(name)?.lab.keep()?;
    println!("The talk's cluster is up:\n");
    for (node, octet) in NODES {
        println!("    {node:<8} 211.58.250.{octet}");
    }
    println!("\nLook around:\n{}", how_to_look_around(name));
    Ok(())
}

/// Suggested commands for a running lab.
pub(crate) fn how_to_look_around(name: &str) -> String {
    let option = if name == DEFAULT_NAME { String::new() } else { format!(" --name {name}") };
    format!(
        "    cargo xtask lab exec{option} client -- curl -s http://211.58.250.6/index.html
    cargo xtask lab stop{option} www1     # its web server; `start` brings it back
    cargo xtask lab exec{option} switch -- bridge fdb show br br0
    cargo xtask lab status
    cargo xtask lab down{option}          # removes everything again"
    )
}

/// Removes the lab `name`, even if its owner is alive. A missing lab is not an error.
fn down(name: &str) -> Result<()> {
    let Ok(state) = State::open(name) else {
        println!("There is no lab {name}.");
        return Ok(());
    };
    if let Owner::Process(process) = state.owner() {
        bail!("lab {name} belongs to process {}, which removes it itself: end that one", process.pid());
    }
    cleanup::remove(&state);
    println!("Lab {name} is removed.");
    Ok(())
}

fn exec(name: &str, node: &str, command: &[String]) -> Result<()> {
    let state = State::open(name)?;
    if node != "switch" {
        open_node(&state, node)?;
    }
    let shell = [env::var("SHELL").unwrap_or_else(|_| "/bin/sh".to_owned())];
    let words = if command.is_empty() { &shell[..] } else { command };
    let (program, arguments) = words.split_first().context("there is always a word")?;
    let namespace = Namespace::open(&state.namespace(node));
    let error = namespace.command(program).args(arguments).exec();
    Err(error).with_context(|| format!("cannot run {program} on {node} (as root?)"))
}

fn web_server(name: &str, node: &str) -> Result<WebServer> {
    let node = open_node(&State::open(name)?, node)?;
    WebServer::open(&node)
}

fn status() -> Result<()> {
    let labs = State::all()?;
    if labs.is_empty() {
        println!("No lab is up.");
    }
    for state in labs {
        let owner = match state.owner() {
            Owner::Process(process) => format!("belongs to process {}", process.pid()),
            Owner::Kept => "was kept".to_owned(),
            Owner::Dead => "left behind; the next lab removes it".to_owned(),
        };
        println!("lab {} ({owner})", state.name());
        for namespace in state.namespaces() {
            println!("    namespace {namespace}");
        }
        for (process, id) in state.processes() {
            println!("    process {} {process}, log {}", id.pid(), state.log(&process).display());
        }
    }
    Ok(())
}
