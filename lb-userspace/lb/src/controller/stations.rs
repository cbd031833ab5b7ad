//! The machines that the configuration names, by the MACs that they have on the segment.

use lb_model::{Cluster, Config};
use lb_net::segment::claimant::{Machine, Machines};

use super::desired::RuntimeState as _;
use super::runtime::Runtime;

/// Those whose MAC is known now.
pub(super) fn machines(config: &Config, runtime: &Runtime) -> Machines {
    let servers = config.services.iter().flat_map(|service| &service.servers);
    // Those that are reached by routes may be behind a router, whose MAC it is then.
    let servers = servers.filter(|server| !server.is_routed());
    let servers = servers.map(|server| {
        (server.address, Machine::Server { name: server.name.clone(), address: server.address })
    });
    let nodes = config.cluster.iter().flat_map(Cluster::others);
    let nodes = nodes.map(|node| (node.address, Machine::Director(node.name.clone())));
    let mut machines = Machines::new();
    for (address, machine) in servers.chain(nodes) {
        if let Some(mac) = runtime.mac(address) {
            let here = machines.entry(mac).or_default();
            if !here.contains(&machine) {
                here.push(machine);
            }
        }
    }
    machines
}
