//! The program `lb-kube`: Services of type LoadBalancer of a Kubernetes cluster, and Gateways of
//! TCP and UDP, become services of the director on the same machine. It runs beside each director;
//! one of them, by a Lease, gives Services their addresses.
//!
//! - `cluster`: what is known of the cluster; `watch`: how it becomes known
//! - `config`: the file, with pools of addresses; `address`: ranges of them
//! - `pools`: which Service gets which addresses; pure
//! - `desired`: the director's services; pure
//! - `decisions`: what is to be written to the cluster; pure. `writer`: it is written, and
//!   `patience`: what hangs there holds up no others
//! - `gateway`: the Gateway API, whose Gateways get Services of their own
//! - `lease`: who writes; pure. `elector`: the Lease itself
//! - `director`: the director is given its services
//! - `runner`: the loop around all that; `health`: how it does; `words`: what goes wrong, in words
//! - `documents`: the manual page, and completions for shells

mod address;
mod cluster;
mod config;
mod decisions;
mod desired;
mod director;
mod documents;
mod elector;
mod gateway;
mod health;
mod lease;
mod patience;
mod pools;
mod runner;
mod watch;
mod words;
mod writer;

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{CommandFactory as _, Parser};
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::documents::Documents;
use crate::runner::Settings;

/// The API server has so long to accept a connection,
const CONNECT: Duration = Duration::from_secs(5);
/// and so long to say something: longer than a watch lasts.
const SILENCE: Duration = Duration::from_secs(75);

/// Services and Gateways of a Kubernetes cluster, as services of the director on this machine
#[derive(Debug, Parser)]
#[command(name = "lb-kube", version)]
struct Options {
    /// The file with the pools of addresses; it is read again when it has changed
    #[arg(long, value_name = "FILE", default_value = "/etc/lb-kube/config.yaml")]
    config: PathBuf,
    /// The control socket of the director
    #[arg(long, value_name = "PATH", default_value = lb_api::wire::DEFAULT_PATH, env = "LB_SOCKET")]
    socket: PathBuf,
    /// How the API server is reached; default: $KUBECONFIG, ~/.kube/config, or the pod's account
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The namespace of the Lease; default: that of the pod, or of the kubeconfig
    #[arg(long, env = "POD_NAMESPACE")]
    namespace: Option<String>,
    /// What this one is called among all that run; default: the host's name
    #[arg(long, value_name = "NAME", env = "POD_NAME")]
    identity: Option<String>,
    /// Where /healthz and /metrics are served; default: nowhere
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    #[command(flatten)]
    documents: Documents,
}

fn main() -> ExitCode {
    start_log();
    let options = Options::parse();
    let done = match options.documents.write(Options::command()) {
        Ok(false) => run(options),
        written => written.map(drop),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lb-kube: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start_log() {
    // What the library says of a watch is told in our own words.
    let usual = || EnvFilter::new("info,kube_client=error,kube_runtime=error");
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| usual());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}

#[tokio::main(flavor = "current_thread")]
async fn run(options: Options) -> Result<()> {
    let Options { config: file, socket, kubeconfig, namespace, identity, listen, documents: _ } = options;
    // Before anything else: a stop that comes early is a stop, too.
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    let end = async move {
        tokio::select! {
            _ = terminated.recv() => {}
            _ = interrupted.recv() => {}
        }
    };
    let mut api = match kubeconfig {
        Some(path) => {
            let read = Kubeconfig::read_from(&path).with_context(|| path.display().to_string())?;
            let options = KubeConfigOptions::default();
            kube::Config::from_custom_kubeconfig(read, &options)
                .await
                .with_context(|| path.display().to_string())?
        }
        None => kube::Config::infer().await.context(
            "no API server is known: run it in a pod with a ServiceAccount, or give it --kubeconfig",
        )?,
    };
    api.connect_timeout = Some(CONNECT);
    api.read_timeout = Some(SILENCE);
    api.reset_reader_on_write = true;
    let namespace = namespace.unwrap_or_else(|| api.default_namespace.clone());
    tracing::info!("the API server is {}, the director's socket {}", api.cluster_url, socket.display());
    let client = Client::try_from(api).context("the client of the API server")?;
    let health = match listen {
        Some(address) => {
            Some(TcpListener::bind(address).await.with_context(|| format!("listening on {address}"))?)
        }
        None => None,
    };
    let me = match identity {
        Some(identity) => identity,
        None => host_name().context("this host has no name: give --identity")?,
    };
    runner::run(client, Settings { file, socket, namespace, me }, health, end).await
}

fn host_name() -> Result<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").context("reading the host's name")?;
    let name = name.trim();
    anyhow::ensure!(!name.is_empty(), "it is empty");
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_gives_options_that_there_are() {
        let unit = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/systemd/lb-kube.service");
        let unit = std::fs::read_to_string(unit).expect("the unit");
        let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).expect("a program");
        // Empty, unless the operator says otherwise.
        let words = start.split(' ').filter(|word| *word != "$LB_KUBE_OPTIONS");
        let options = Options::try_parse_from(words).expect("options");
        assert_eq!(options.kubeconfig, Some(PathBuf::from("${KUBECONFIG}")));
        assert_eq!(options.config, PathBuf::from("/etc/lb-kube/config.yaml"));
    }
}
