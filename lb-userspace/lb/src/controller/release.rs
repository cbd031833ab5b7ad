//! Takes away what an `lb` that does not run any more has left: its program with the connections,
//! and its VIPs.

use std::sync::mpsc::channel;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use lb_api::findings::Findings;
use lb_cluster::takeover::holder::{self, Holder};
use lb_datapath::attach::{self, pins::Pins};
use lb_model::Config;
use nix::net::if_::if_nametoindex;

use super::instance::Instance;

/// How long the addresses of a group may take to go.
const PATIENCE: Duration = Duration::from_secs(30);

/// Returns what was done, in words.
pub(crate) fn release(config: &Config) -> Result<String> {
    let interface = &config.interface;
    let _instance = Instance::claim(interface)?;
    let index = if_nametoindex(interface.as_str()).with_context(|| format!("interface {interface}"))?;
    give_up_vips(config, index)?;
    let found = attach::remove_what_is_left(&Pins::of(interface)?)?;
    Ok(match found {
        true => {
            let untold = match config.cluster {
                None => "",
                Some(_) => {
                    "; other nodes do not know that, and may relay packets to this host for some minutes. A running lb tells \
                     them: rather give the order to it"
                }
            };
            format!("{interface}: program, connections and VIPs of the last lb are gone{untold}")
        }
        false => format!(
            "{interface}: no lb had left a program; the VIPs of {} groups are gone",
            config.groups.len()
        ),
    })
}

fn give_up_vips(config: &Config, index: u32) -> Result<()> {
    let (sender, outcomes) = channel();
    let mac = attach::mac_of(&config.interface)?;
    let tell = move |outcome| drop(sender.send(outcome));
    let holder = Holder::start(index, mac, holder::orders(), Findings::default(), |_| true, tell)?;
    holder.orders().set_groups(&config.groups);
    for group in &config.groups {
        holder.orders().release(group.number);
    }
    for group in &config.groups {
        if outcomes.recv_timeout(PATIENCE).is_err() {
            bail!("the VIPs of group {} and those after it do not go", group.name);
        }
    }
    holder.end();
    Ok(())
}
