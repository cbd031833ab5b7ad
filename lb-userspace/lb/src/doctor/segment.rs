//! Who answers for the VIPs on their Ethernet segments.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::Result;
use lb_common::mac::Mac;
use lb_model::Config;
use lb_net::announce::Announcer;
use lb_net::links::{Link, Links};
use lb_net::segment::claims::{Claim, Listener};
use tokio::time::{Instant, timeout_at};

use super::Line;

/// Answers come within milliseconds.
const ANSWERS: Duration = Duration::from_secs(1);

/// Questions without a sender change nothing at those who hear them.
pub(super) async fn look(config: &Config, links: &Links) -> Vec<Line> {
    let mut lines = Vec::new();
    for link in config.interfaces().filter_map(|name| links.named(name)).filter(|link| link.up) {
        let vips: BTreeSet<IpAddr> = config.services.iter().map(|service| service.key.vip).collect();
        match claims(link, &vips).await {
            Ok(claims) => lines.extend(vips.iter().map(|vip| {
                let macs = claims.iter().filter(|(address, _)| address == vip).map(|(_, mac)| *mac);
                tell(*vip, link, &macs.collect())
            })),
            Err(error) => lines.push(Line::warning(format!("who answers on {}: {error:#}", link.name), "")),
        }
    }
    lines
}

/// Who else says to have one of the addresses.
async fn claims(link: &Link, vips: &BTreeSet<IpAddr>) -> Result<BTreeSet<(IpAddr, Mac)>> {
    let mut listener = Listener::open(link.index)?;
    let asker = Announcer::new(link.index)?;
    if let Some(mac) = link.mac {
        for vip in vips {
            asker.ask(*vip, mac)?;
        }
    }
    let mut found = BTreeSet::new();
    let end = Instant::now() + ANSWERS;
    while let Ok(heard) = timeout_at(end, listener.next()).await {
        let Claim { address, mac } = heard?.claim;
        if vips.contains(&address) && Some(mac) != link.mac {
            found.insert((address, mac));
        }
    }
    Ok(found)
}

fn tell(vip: IpAddr, link: &Link, macs: &BTreeSet<Mac>) -> Line {
    let name = &link.name;
    match macs.iter().map(ToString::to_string).collect::<Vec<_>>().as_slice() {
        [] => Line::ok(format!("VIP {vip}: nobody else answers for it on {name}")),
        [one] => Line::warning(
            format!("VIP {vip}: {one} answers for it on {name}"),
            "right if that is the active director; a real server must be silent: `lb realserver setup` on it",
        ),
        several => Line::wrong(
            format!("VIP {vip}: {} answer for it on {name}", several.join(" and ")),
            "one of them at most is the active director; a real server must be silent: `lb realserver setup` on it",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn one_may_answer_and_two_must_not() {
        let link = Link {
            index: 2,
            name: "eth0".to_owned(),
            kind: lb_net::links::Kind::Device,
            mac: None,
            mtu: 1500,
            up: true,
            carrier: true,
            below: None,
            master: None,
            promiscuous: false,
        };
        let level = |macs: &[u8]| {
            let macs = macs.iter().map(|last| Mac::new([2, 0, 0, 0, 0, *last])).collect();
            tell([192, 0, 2, 10].into(), &link, &macs).level
        };
        assert_eq!([level(&[]), level(&[1]), level(&[1, 2])], [Level::Ok, Level::Warning, Level::Wrong]);
    }
}
