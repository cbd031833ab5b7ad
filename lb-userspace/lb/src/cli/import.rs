//! `lb import`: configurations of ldirectord, Heartbeat, keepalived and ipvsadm as our YAML.

use std::fs;
use std::io::{self, ErrorKind, Read as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args, ValueEnum};
use lb_import::{Fate, Known, Original, OriginalFile};

use super::output;

/// Where Heartbeat and ldirectord look for files that their own files name.
const HA_D: &str = "/etc/ha.d";

#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Options {
    /// What is imported
    #[arg(value_name = "SOURCE")]
    source: OriginalName,
    /// Its files, which belong together; `-` is standard input. NODE=FILE says of which node a file
    /// is, where each has its own
    #[arg(value_name = "FILE", required = true)]
    files: Vec<String>,
    /// Write the YAML to this file, in place of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Form of the report on every line of the source, which goes to standard error
    #[arg(long, value_name = "FORM", default_value = "text")]
    report: Form,
    /// Fail, and write nothing, if anything of the source is lost
    #[arg(long)]
    strict: bool,
    /// Interface that clients' packets come in by; default the source's, or eth0
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
    /// Hosts file with the addresses of names in the source
    #[arg(long, value_name = "FILE", default_value = "/etc/hosts")]
    hosts: PathBuf,
    /// Address of a node
    #[arg(long = "address", value_name = "NODE=ADDRESS", value_parser = node_address)]
    addresses: Vec<(String, IpAddr)>,
    /// What a firewall mark stands for: the VIP and its ports
    #[arg(long = "mark", value_name = "MARK=ADDRESS:PORTS", value_parser = mark)]
    marks: Vec<(u32, String)>,
    /// keepalived's --config-id: which of the lines that begin with @ count
    #[arg(long, value_name = "ID")]
    id: Option<String>,
}

const AFTER_HELP: &str = "\
Examples:
  lb import ldirectord /etc/ha.d/ldirectord.cf -o lb.yaml
  lb import heartbeat ha.cf haresources authkeys ldirectord.cf --address ha1=192.0.2.2 --address ha2=192.0.2.3
  lb import keepalived ha1=keepalived.conf.ha1 ha2=keepalived.conf.ha2
  ipvsadm -S -n | lb import ipvsadm - --mark 1=192.0.2.10:80,443

Each line of the source is kept, changed (the report says how), not needed (why) or lost (what that means).";

#[derive(Debug, Clone, Copy, ValueEnum)]
enum OriginalName {
    /// ldirectord.cf
    Ldirectord,
    /// ha.cf, haresources and authkeys, with the ldirectord.cf that haresources names
    Heartbeat,
    /// keepalived.conf, of one node or of several
    Keepalived,
    /// What `ipvsadm -S -n` or `ipvsadm -L -n` prints, or ipvsadm.rules
    Ipvsadm,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// For people
    Text,
    /// For programs
    Json,
}

fn node_address(text: &str) -> Result<(String, IpAddr), String> {
    let (node, address) = text.split_once('=').ok_or("expected NODE=ADDRESS, such as ha1=192.0.2.2")?;
    let address = address.parse().map_err(|_| format!("{address:?} is no IP address"))?;
    Ok((node.to_owned(), address))
}

fn mark(text: &str) -> Result<(u32, String), String> {
    let expected = "expected MARK=ADDRESS:PORTS, such as 1=192.0.2.10:80,443";
    let (mark, vip) = text.split_once('=').ok_or(expected)?;
    Ok((mark.parse().map_err(|_| expected)?, vip.to_owned()))
}

pub(super) fn run(options: Options) -> Result<()> {
    let source = match options.source {
        OriginalName::Ldirectord => Original::Ldirectord,
        OriginalName::Heartbeat => Original::Heartbeat,
        OriginalName::Keepalived => Original::Keepalived,
        OriginalName::Ipvsadm => Original::Ipvsadm,
    };
    let files = options.files.iter().map(|word| named(word)).collect::<Result<Vec<_>>>()?;
    let known = Known {
        interface: options.interface,
        hosts: hosts(&options.hosts)?,
        addresses: options.addresses,
        marks: options.marks,
        config_id: options.id,
        host: nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default(),
    };
    let imported = lb_import::import(source, &files, &known, &mut |pattern, here| find(pattern, here));
    match options.report {
        Form::Text => eprint!("{}", imported.report.readable()),
        Form::Json => eprintln!("{}", serde_json::to_string_pretty(&imported.report)?),
    }
    if let Some(wrong) = imported.wrong {
        bail!("nothing is written, because `lb check` would refuse it: {wrong}");
    }
    let lost = imported.report.count(Fate::Lost);
    ensure!(lost == 0 || !options.strict, "nothing is written, because {lost} lines are lost (--strict)");
    match options.output {
        Some(path) => {
            fs::write(&path, imported.yaml).with_context(|| format!("cannot write {}", path.display()))
        }
        None => output::print(&imported.yaml),
    }
}

/// `FILE`, `NODE=FILE` or `-`.
fn named(word: &str) -> Result<OriginalFile> {
    let (node, path) = match word.split_once('=') {
        // A file may have such a name, too.
        Some((node, path)) if !Path::new(word).exists() => (Some(node.to_owned()), path),
        _ => (None, word),
    };
    let mut file = read(Path::new(path))?;
    file.node = node;
    Ok(file)
}

/// What is not UTF-8, such as a comment in Latin-1, becomes U+FFFD.
fn read(path: &Path) -> Result<OriginalFile> {
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        io::stdin().lock().read_to_end(&mut bytes).context("cannot read standard input")?;
    } else {
        bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Ok(OriginalFile { name: path.display().to_string(), node: None, text })
}

/// The machine may have no hosts file.
fn hosts(path: &Path) -> Result<String> {
    match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == ErrorKind::NotFound && path == Path::new("/etc/hosts") => {
            Ok(String::new())
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// The files that the file `here` calls `pattern`: as it says, or beside `here` where all of it
/// was copied from another machine, or in `/etc/ha.d`.
fn find(pattern: &str, here: &str) -> Result<Vec<OriginalFile>, String> {
    let folder = Path::new(here).parent().unwrap_or(Path::new("."));
    let name = Path::new(pattern).file_name().unwrap_or_default();
    for place in [folder.join(pattern), folder.join(name), Path::new(HA_D).join(pattern)] {
        let place = place.to_str().ok_or("its path is not UTF-8")?;
        let paths = glob::glob(place).map_err(|error| format!("{pattern}: {error}"))?;
        let mut files = Vec::new();
        for path in paths.flatten().filter(|path| path.is_file()) {
            files.push(read(&path).map_err(|error| format!("{error:#}"))?);
        }
        if !files.is_empty() {
            return Ok(files);
        }
    }
    Err("there is no such file".to_owned())
}
