//! Takes away what an `lb` that does not run any more has left: its program with the connections,
//! and its VIPs.

use std::sync::mpsc::channel;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use lb_api::findings::Findings;
use lb_cluster::takeover::segments::{self, Holders, Station};
use lb_datapath::attach::{self, pins::Pins};
use lb_model::Config;
use nix::net::if_::if_nametoindex;

use super::host;
use super::instance::Instance;

/// How long the addresses of a group may take to go.
const PATIENCE: Duration = Duration::from_secs(30);

/// Returns what was done, in words.
pub(crate) fn release(config: &Config) -> Result<String> {
    let ingresses = config.ingresses();
    let _instances = ingresses.iter().map(|name| Instance::claim(name)).collect::<Result<Vec<_>>>()?;
    let stations = config.interfaces().map(station).collect::<Result<Vec<_>>>()?;
    give_up_vips(config, &stations)?;
    let (mut found, mut mounted) = (false, None);
    for interface in &ingresses {
        let pins = Pins::of(interface)?;
        mounted = mounted.or(pins.mounted().map(|mounted| host::mounted(mounted).text + "\n"));
        found |= attach::remove_what_is_left(&pins)?;
    }
    super::ingresses::remove_left(config);
    let interface = &ingresses.join(", ");
    let done = match found {
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
    };
    Ok(mounted.unwrap_or_default() + &done)
}

fn station(interface: &str) -> Result<Station> {
    let index = if_nametoindex(interface).with_context(|| format!("interface {interface}"))?;
    Ok(Station { interface: index, mac: attach::mac_of(interface)? })
}

fn give_up_vips(config: &Config, stations: &[Station]) -> Result<()> {
    let (sender, outcomes) = channel();
    let tell = move |outcome| drop(sender.send(outcome));
    let orders = segments::orders(stations.len());
    let holders = Holders::start(stations, orders, &Findings::default(), |_| true, tell)?;
    holders.set_groups(config);
    for group in &config.groups {
        holders.orders().release(group.number);
    }
    for group in &config.groups {
        if outcomes.recv_timeout(PATIENCE).is_err() {
            bail!("the VIPs of group {} and those after it do not go", group.name);
        }
    }
    holders.end();
    Ok(())
}
