//! Commands of `sh` blocks, and of sentences, that are not run here: each with the reason, and with
//! what tries the same elsewhere.

/// How such commands begin, by whole words, and why they are not run.
pub(crate) const UNPLAYED: [(&str, &str); 19] = [
    ("cargo", "builds, measures or tests the project itself, for minutes; xtask's tests parse its words"),
    ("ansible-playbook", "`cargo xtask package --check` plays these files in Debian roots of their own"),
    (
        "kubectl",
        "wants a cluster; lb-kube's tests have kubectl apply these manifests at a server of their own",
    ),
    ("skopeo copy", "wants a registry; `cargo xtask package --check` has skopeo read the image"),
    ("apt install", "`cargo xtask package --check` installs the packages in a Debian root of their own"),
    ("cp /usr/share/doc/lb-kube/examples/config.yaml", "is of a package; its check looks for the examples"),
    ("install -m 600 kubeconfig", "there is no cluster that the kubeconfig is for"),
    (
        "systemctl enable --now lb-kube",
        "there is no cluster; `cargo xtask package --check` verifies the unit",
    ),
    (
        "journalctl",
        "labs have no journal; lb's own tests read the entries, with their fields, from its socket",
    ),
    ("lb top", "wants a terminal; tests/tests/web/top.rs has it under tmux"),
    ("lb alerts test", "fails without receivers; docs/alerts.md has it with one"),
    ("lb realserver setup --vip 192.0.2.10 --tunnel", MODULES),
    ("modprobe", MODULES),
    ("sysctl net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.tunl0.rp_filter=0", MODULES),
    ("ip address show dev lb-anycast", "tests/tests/anycast.rs looks at the device's addresses"),
    ("ip route show 192.0.2.53", "tests/tests/anycast.rs looks at a router's ways"),
    ("lb run --fresh", "tests/tests/restart.rs starts a director so"),
    ("lb run --unconfined", "tests/tests/confinement.rs starts a director so"),
    (
        "lb capture --client 10.0.0.7 -w - | tcpdump",
        "tests/tests/trace.rs reads a capture; tcpdump is not needed else",
    ),
];

const MODULES: &str = "would load modules into this machine's kernel, which labs share; \
                       lb's own tests compare what it would do, tests/tests/tunnels.rs has the packets";

/// The entry of a command, if it has one.
pub(crate) fn entry(command: &str) -> Option<usize> {
    let mut entries = UNPLAYED.iter();
    entries.position(|(begin, _)| {
        command.strip_prefix(begin).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', ';']))
    })
}

#[test]
fn entries_are_found_by_whole_words() {
    assert!(entry("lb top").is_some() && entry("lb top --once").is_some());
    assert!(entry("lb top-clients").is_none() && entry("lb status").is_none());
    assert!(UNPLAYED.iter().all(|(_, why)| why.len() > 20), "each has a reason");
}
