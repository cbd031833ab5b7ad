//! Watches on the interfaces of the VIPs: does anybody else answer for them?

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::Result;
use lb_api::findings::Findings;
use lb_cluster::member::disputes::Disputes;
use lb_cluster::takeover::segments::{Orders, Station};
use lb_common::mac::Mac;
use lb_model::ids::GroupNumber;
use lb_model::lease::Leases;
use lb_model::{Config, Group};
use lb_net::segment::claimant::Machines;
use lb_net::segment::watch::{Ours, Response, Surroundings, Watch};
use lb_system::clock;

/// A watch on each interface of the VIPs, for those that are on it. `disputes`: of a director that
/// is not alone.
pub(super) async fn watch_segments(
    config: &Config,
    stations: &[Station],
    (leases, disputes): (&Leases, Option<&Disputes>),
    findings: &Findings,
    respond: impl Fn(Response) + Clone + Send + 'static,
) -> Result<Vec<Watch>> {
    let mut watches = Vec::new();
    for (segment, (name, station)) in config.interfaces().zip(stations).enumerate() {
        let Station { interface, mac } = *station;
        let ours = Ours {
            interface: name.to_owned(),
            mac,
            vips: vips_on(config, segment),
            machines: Machines::new(),
        };
        let (leases, disputes) = (leases.clone(), disputes.cloned());
        let holds = move |group, age| {
            let now = clock::now();
            let held = leases.answer_until(group).is_some_and(|until| now < until);
            let told = now.saturating_sub(age);
            held && disputes.as_ref().is_none_or(|disputes| disputes.count(group, told))
        };
        let surroundings = Surroundings {
            interface,
            findings: findings.clone(),
            holds: Box::new(holds),
            respond: Box::new(respond.clone()),
        };
        watches.push(Watch::start(ours, surroundings).await?);
    }
    Ok(watches)
}

/// The VIPs that are on the interface with this place in `Config::interfaces`, each with the number
/// of its group. Those of groups of `kind: anycast` are on none: whoever answers for them on the
/// segment takes nothing away, for clients' packets come by routers.
pub(super) fn vips_on(config: &Config, segment: usize) -> HashMap<IpAddr, GroupNumber> {
    let here = |group: &&Group| group.anycast().is_none() && config.segment_of(group) == segment;
    let groups = config.groups.iter().filter(here);
    groups.flat_map(|group| group.vips.iter().map(|vip| (vip.address, group.number))).collect()
}

/// Of several directors one that meets a rival lets the cluster's rules decide.
pub(super) fn respond(
    conflict: impl Fn(GroupNumber, Mac, Duration) + Clone + Send,
    orders: Orders,
) -> impl Fn(Response) + Clone + Send {
    move |response| match response {
        Response::Conflict(group, mac, age) => conflict(group, mac, clock::now().saturating_sub(age)),
        Response::Announce(group) => orders.announce(group),
    }
}
