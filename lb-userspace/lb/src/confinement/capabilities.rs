//! The capabilities that a director keeps.

use std::collections::HashSet;

use anyhow::{Context as _, Result};
use caps::{CapSet, Capability};
use lb_model::Control;

/// What is kept, and what for. deploy/systemd/lb.service says the same to systemd; a test compares.
pub(super) const KEPT: [(Capability, &str); 7] = [
    (Capability::CAP_BPF, "loads programs and makes maps, also while it runs: a trace, another table size"),
    (Capability::CAP_PERFMON, "pointer arithmetic that the verifier grants only with it"),
    (Capability::CAP_NET_ADMIN, "attaches XDP programs; neighbours, VIPs and routes by netlink"),
    (
        Capability::CAP_NET_RAW,
        "ARP and neighbour advertisements, pings, AF_XDP sockets of checks through VIPs",
    ),
    (Capability::CAP_NET_BIND_SERVICE, "heartbeats on UDP port 694, the sorry page on port 80"),
    (Capability::CAP_SYS_NICE, "real-time priority of the heartbeats' thread, at each life of the director"),
    (Capability::CAP_IPC_LOCK, "memory that is not paged out under that thread"),
];

/// Kept only where the configuration names an owner or a group of the control socket, which is made
/// anew in each life of the director.
const OWNERS: Capability = Capability::CAP_CHOWN;

/// Takes everything else out of every set of this thread, and of all that it starts from now on.
/// Returns the names of what is left.
pub(super) fn give_up(control: &Control) -> Result<String> {
    let mut kept: HashSet<Capability> = KEPT.iter().map(|(capability, _)| *capability).collect();
    if control.owner.is_some() || control.group.is_some() {
        kept.insert(OWNERS);
    }
    // The bounding set first: that takes CAP_SETPCAP. Whoever has not got it cannot raise what is
    // in there either, because of no_new_privs.
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)? {
        for capability in caps::runtime::thread_all_supported().difference(&kept) {
            caps::drop(None, CapSet::Bounding, *capability)
                .with_context(|| format!("cannot drop {capability}"))?;
        }
    }
    for set in [CapSet::Ambient, CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        let before = caps::read(None, set)?;
        caps::set(None, set, &before.intersection(&kept).copied().collect())
            .with_context(|| format!("the {set:?} set"))?;
    }
    let left = caps::read(None, CapSet::Permitted)?;
    let mut names: Vec<String> = left.iter().map(ToString::to_string).collect();
    names.sort();
    Ok(if names.is_empty() { "no capability".to_owned() } else { names.join(" ") })
}

/// Takes all of them from this thread alone.
pub(super) fn give_up_all() -> Result<()> {
    for set in [CapSet::Ambient, CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        caps::clear(None, set)?;
    }
    Ok(())
}
