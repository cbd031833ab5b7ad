//! `lb stop`: ends the director, and with `--release` all that it would leave for the next one.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use lb_api::client;
use lb_api::wire::Request;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::output::{Director, print};
use crate::controller;

/// A director of a cluster waits for its connections, `linger`; this is for those.
const PATIENCE: Duration = Duration::from_secs(600);

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Leave nothing behind: neither the XDP program with its connections nor the VIPs. Works
    /// without a running director too
    #[arg(long)]
    release: bool,
    /// The configuration file; tells without a running director what there is to take away
    #[arg(long, value_name = "FILE", default_value = "/etc/lb/lb.yaml")]
    config: PathBuf,
    #[command(flatten)]
    director: Director,
}

pub(super) fn run(options: &Options) -> Result<()> {
    let Options { release, config, director } = options;
    match UnixStream::connect(&director.socket) {
        Ok(stream) => {
            let process = process_behind(&stream)?;
            let told = client::request_server_order(&director.socket, &Request::Stop { release: *release })?;
            print(&(told + "\n"))?;
            wait_for(process)
        }
        Err(error) if *release && is_absent(&error) => {
            print(&(controller::release(&lb_config::load(config)?)? + "\n"))
        }
        // In the words of all commands.
        Err(_) => match client::request_status(&director.socket) {
            Ok(_) => bail!("a director has only just begun to listen, and goes on: give the order again"),
            Err(error) => Err(error),
        },
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused)
}

/// A descriptor of the process that listens there: it is readable once that has ended.
fn process_behind(stream: &UnixStream) -> Result<OwnedFd> {
    let peer = getsockopt(stream, PeerCredentials).context("cannot tell which process listens")?;
    let pid = Pid::from_raw(peer.pid()).context("the process that listens is of another PID namespace")?;
    pidfd_open(pid, PidfdFlags::empty()).context("cannot watch the director's process")
}

fn wait_for(process: OwnedFd) -> Result<()> {
    let mut events = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    let patience = PollTimeout::try_from(PATIENCE).unwrap_or(PollTimeout::NONE);
    match poll(&mut events, patience)? {
        0 => bail!("the director is still stopping after {} min", PATIENCE.as_secs() / 60),
        _ => Ok(()),
    }
}
