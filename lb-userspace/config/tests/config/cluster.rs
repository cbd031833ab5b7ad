//! The `cluster` section: defaults, limits, nodes and paths.

use super::*;

const LEAST_CLUSTER: &str = "
interface: eth0
cluster:
  nodes: [{ name: ha1, address: 192.0.2.2 }, { name: ha2, address: 192.0.2.3 }]
  paths: [{ type: unicast }]
groups: [{ vips: [192.0.2.10/24] }]
services:
  - vip: 192.0.2.10:80
    servers: [{ address: 192.0.2.21 }]
";

/// `LEAST_CLUSTER` with more keys in its cluster, parsed for the host ha1.
#[track_caller]
fn cluster_with(keys: &str) -> Cluster {
    let text = LEAST_CLUSTER.replace("cluster:\n", &format!("cluster:\n{keys}"));
    accepted_on("ha1", &text).cluster.expect("a cluster")
}

#[test]
fn defaults_of_a_cluster() {
    let config = accepted_on("ha2", LEAST_CLUSTER);
    let addresses = vec![v4([192, 0, 2, 2]), v4([192, 0, 2, 3])];
    let nodes = ["ha1", "ha2"].into_iter().zip(&addresses);
    let cluster = Cluster {
        name: "lb".into(),
        me: NodeId(1),
        nodes: nodes.map(|(name, address)| Node { name: name.into(), address: *address }).collect(),
        key_file: "/etc/lb/keys".into(),
        interval: millis(50),
        dead: millis(200),
        late: millis(100),
        initial_dead: seconds(1),
        linger: seconds(5),
        paths: vec![HeartbeatPath::Unicast { interface: None, port: 694, addresses }],
        references: vec![],
        state: "/var/lib/lb".into(),
        hooks: Hooks::default(),
        fence: None,
        sync: Some(ConnectionSync { port: 8848, rate: 12_500_000 }),
    };
    assert_eq!(config.cluster, Some(cluster));
    assert_eq!(config.groups[0].nodes, [0, 1]);
    assert_eq!(config.groups[0].failback, Failback::Auto { delay: Duration::ZERO });
}

#[test]
fn a_node_knows_itself_by_its_hosts_name() {
    let me = |host: &str, text: &str| accepted_on(host, text).cluster.expect("a cluster").me;
    let whole = LEAST_CLUSTER.replace("ha2", "ha1.example.org");
    assert_eq!(me("ha2.example.org", LEAST_CLUSTER), 1);
    assert_eq!(me("ha1.example.org", &whole), 1);
    assert_eq!(me("ha1.example.net", &whole), 0);
    assert_eq!(me("ha1", &LEAST_CLUSTER.replace("cluster:\n", "cluster:\n  node: ha2\n")), 1);

    let here = fs::read_to_string("/proc/sys/kernel/hostname").expect("a kernel of Linux");
    let text = LEAST_CLUSTER.replace("ha2", &format!("{:?}", here.trim_end()));
    assert_eq!(accepted(&text).cluster.expect("a cluster").me, 1);
}

#[test]
fn a_slow_heartbeat_slows_the_other_times() {
    let times = |keys: &str| {
        let Cluster { interval, dead, late, initial_dead, .. } = cluster_with(keys);
        [interval, dead, late, initial_dead].map(|time| time.as_millis())
    };
    assert_eq!(times("  interval: 10ms\n"), [10, 200, 100, 1000]);
    assert_eq!(times("  interval: 10ms\n  dead: 40ms\n"), [10, 40, 20, 1000]);
    assert_eq!(times("  interval: 100ms\n"), [100, 400, 200, 1000]);
    assert_eq!(times("  interval: 10s\n"), [10_000, 40_000, 20_000, 40_000]);
    assert_eq!(times("  dead: 3s\n  late: 50ms\n  initial_dead: 9s\n"), [50, 3000, 50, 9000]);
}

#[test]
fn commands_with_and_without_a_time() {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let cluster = cluster_with(
        "  hooks: { active: [/bin/a, \"\", 1], fault: { command: [/bin/b], timeout: 5m } }\n  fence: [/bin/c]\n",
    );
    let active = Command { words: words(&["/bin/a", "", "1"]), timeout: seconds(10) };
    let fault = Command { words: words(&["/bin/b"]), timeout: seconds(300) };
    assert_eq!(cluster.hooks, Hooks { active: Some(active), standby: None, fault: Some(fault) });
    assert_eq!(cluster.fence, Some(Command { words: words(&["/bin/c"]), timeout: seconds(10) }));
}

#[test]
fn paths_of_every_kind() {
    let text = LEAST_CLUSTER.replace(
        "[{ type: unicast }]",
        r#"
    - { type: unicast, interface: eth0, addresses: { ha2: "fe80::2", ha1: "fe80::1" } }
    - { type: unicast, interface: eth1, addresses: { ha1: "fe80::1", ha2: "fe80::2" } }
    - { type: unicast, port: 695 }
    - { type: multicast, interface: eth1, group: "[ff02::4c42]:694" }
    - { type: multicast, interface: eth2, group: "[ff02::4c42]:694" }
    - { type: broadcast, interface: eth2, address: 255.255.255.255:694 }
    - { type: serial, device: /dev/ttyUSB0, baud: 1_000_000 }"#,
    );
    let cluster = accepted_on("ha1", &text).cluster.expect("a cluster");
    let link_local: Vec<IpAddr> = ["fe80::1", "fe80::2"].map(|text| text.parse().expect("an address")).into();
    let unicast = |interface: Option<&str>, port, addresses: &[IpAddr]| HeartbeatPath::Unicast {
        interface: interface.map(str::to_owned),
        port,
        addresses: addresses.to_vec(),
    };
    let multicast = |interface: &str| HeartbeatPath::Multicast {
        interface: interface.into(),
        group: "[ff02::4c42]:694".parse().expect("a group"),
    };
    let expected = [
        unicast(Some("eth0"), 694, &link_local),
        unicast(Some("eth1"), 694, &link_local),
        unicast(None, 695, &[v4([192, 0, 2, 2]), v4([192, 0, 2, 3])]),
        multicast("eth1"),
        multicast("eth2"),
        HeartbeatPath::Broadcast {
            interface: Some("eth2".into()),
            address: ([255, 255, 255, 255], 694).into(),
        },
        HeartbeatPath::Serial { device: "/dev/ttyUSB0".into(), baud: 1_000_000 },
    ];
    assert_eq!(cluster.paths, expected);
}

#[test]
fn synchronisation_can_be_off_and_has_its_port_and_rate() {
    let with = |keys: &str| LEAST_CLUSTER.replace("cluster:\n", &format!("cluster:\n{keys}"));
    let sync = |keys: &str| accepted_on("ha1", &with(keys)).cluster.expect("a cluster").sync;
    assert_eq!(sync("  sync: off\n"), None);
    assert_eq!(
        sync("  sync_port: 9000\n  sync_rate: 8\n"),
        Some(ConnectionSync { port: 9000, rate: 1_000_000 })
    );
}

/// All directors may have it, whoever is listed where.
#[test]
fn a_group_that_every_director_serves_has_a_device_and_a_time() {
    let anycast = |device: &str, withdraw_wait| {
        GroupKind::Anycast(Anycast { device: device.to_owned(), withdraw_wait })
    };
    let text = LEAST_CLUSTER.replace("192.0.2.10/24", "192.0.2.10");
    let group = |keys: &str| {
        let text = text.replace("vips: [192.0.2.10]", &format!("kind: anycast, vips: [192.0.2.10]{keys}"));
        accepted_on("ha1", &text).groups[0].clone()
    };
    let least = group("");
    assert_eq!((&least.kind, &*least.nodes), (&anycast("lb-anycast", seconds(1)), &[0, 1][..]));
    assert_eq!(least.anycast().map(|anycast| &*anycast.device), Some("lb-anycast"));
    assert_eq!(group(", device: lb-dns, withdraw_wait: 200ms").kind, anycast("lb-dns", millis(200)));
    assert_eq!(accepted_on("ha1", LEAST_CLUSTER).groups[0].anycast(), None);
}

#[test]
fn one_node_needs_no_paths() {
    let text = LEAST_CLUSTER.replace(", { name: ha2, address: 192.0.2.3 }", "");
    let text = text.replace("  paths: [{ type: unicast }]\n", "");
    assert_eq!(accepted_on("ha1", &text).cluster.expect("a cluster").paths, []);
}

pub(crate) fn full_cluster_states_the_defaults(full: &Config) {
    let least = accepted_on("ha1", LEAST_CLUSTER);
    let group = |config: &Config| (config.groups[0].nodes.clone(), config.groups[0].failback);
    assert_eq!(group(full), group(&least));
    let (full, least) = (full.cluster.as_ref().expect("a cluster"), least.cluster.expect("a cluster"));
    assert_eq!((&full.name, &full.key_file, &full.state), (&least.name, &least.key_file, &least.state));
    assert_eq!((full.interval, full.dead, full.late), (least.interval, least.dead, least.late));
    assert_eq!((full.initial_dead, full.linger), (least.initial_dead, least.linger));
    assert_eq!(full.sync, least.sync);
    let port_and_addresses = |cluster: &Cluster| match &cluster.paths[0] {
        HeartbeatPath::Unicast { port, addresses, .. } => (*port, addresses.clone()),
        other => panic!("{other:?}"),
    };
    assert_eq!(port_and_addresses(full), port_and_addresses(&least));
    let without_times =
        example("full.yaml").replace("      timeout: 10s", "").replace("    timeout: 10s", "");
    let without_times = accepted(&without_times).cluster.expect("a cluster");
    assert_eq!((&full.hooks, &full.fence), (&without_times.hooks, &without_times.fence));
}
