//! `lb stop`: ends the director, and with `--release` all that it would leave for the next one.

use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;

use super::output::{Director, print};
use crate::observe::socket::{self, Request};
use crate::{config, controller};

/// A director of a cluster waits for its connections, `linger`; this is for those.
const PATIENCE: Duration = Duration::from_secs(600);
const LOOK: Duration = Duration::from_millis(50);

#[derive(Debug, Args)]
pub struct Options {
    /// Leave nothing behind: neither the XDP program with its connections nor the VIPs. Works without a running director too
    #[arg(long)]
    release: bool,
    /// The configuration file; tells without a running director what there is to take away
    #[arg(long, value_name = "FILE", default_value = "/etc/lb/lb.yaml")]
    config: PathBuf,
    #[command(flatten)]
    director: Director,
}

pub fn run(options: &Options) -> Result<()> {
    let Options { release, config, director } = options;
    if listens(&director.socket) {
        let told = socket::request_server_order(&director.socket, &Request::Stop { release: *release })?;
        print(&(told + "\n"))?;
        return wait_until_gone(&director.socket);
    }
    if !release {
        bail!("no director answers on {}: nothing to stop", director.socket.display());
    }
    print(&(controller::release(&config::load(config)?)? + "\n"))
}

fn listens(socket: &Path) -> bool {
    match UnixStream::connect(socket) {
        Ok(_) => true,
        Err(error) => !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused),
    }
}

fn wait_until_gone(socket: &Path) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while listens(socket) {
        if Instant::now() > deadline {
            bail!("the director is still stopping after {} s", PATIENCE.as_secs());
        }
        sleep(LOOK);
    }
    Ok(())
}
