//! What the configuration accepts, the cluster's machine accepts too.

use lb_cluster::machine::Settings;
use lb_config::parse_on;
use lb_model::ids::NodeId;
use lb_model::{Cluster, Config};
use proptest::prelude::*;

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

proptest! {
    #[test]
    fn any_times_of_a_cluster(
        interval in 5..11_000_u64,
        dead in prop::option::of((300..600_u64, 0..700_u64)),
        late in prop::option::of(0..1000_u64),
        initial_dead in prop::option::of(0..5000_u64),
    ) {
        // Near the limits, which the interval moves.
        let dead = dead.map(|(percent, more)| interval * percent / 100 + more);
        let mut keys = format!("  interval: {interval}ms\n");
        for (key, time) in [("dead", dead), ("late", late), ("initial_dead", initial_dead)] {
            if let Some(time) = time {
                keys += &format!("  {key}: {time}ms\n");
            }
        }
        let text = LEAST_CLUSTER.replace("cluster:\n", &format!("cluster:\n{keys}"));
        let accepted = parse_on(&text, "test.yaml", "ha1");
        let dead = dead.unwrap_or_else(|| 200.max(4 * interval));
        let right = (10..=10_000).contains(&interval)
            && dead >= 4 * interval
            && late.is_none_or(|late| late >= interval)
            && initial_dead.is_none_or(|initial_dead| initial_dead >= dead);
        prop_assert_eq!(accepted.is_ok(), right, "{}\n{:?}", keys, accepted);
        if let Ok(Config { cluster: Some(Cluster { interval, dead, late, initial_dead, .. }), .. }) = accepted {
            let lease = Settings::longest_lease(interval, dead);
            let settings =
                Settings { interval, dead, late, initial_dead, lease, ..Settings::new(NodeId(0), 2, 1) };
            prop_assert_eq!(settings.check(), Ok(()));
        }
    }
}
