//! Ports, persistence and thresholds of services, and connections of dead servers.

use super::*;

#[test]
fn services_have_lists_ranges_and_all_ports() {
    let service = |vip: &str| format!("  - vip: {vip}\n    servers: [{{ address: 192.0.2.21 }}]\n");
    let vips = [
        "192.0.2.10:443",
        "192.0.2.10:80,8443",
        "192.0.2.10:8000-8999,21",
        "\"[2001:db8::10]:8000-8999\"",
        "192.0.2.10:*",
    ];
    let services: String = vips.iter().map(|vip| service(vip)).collect();
    let config = accepted(&format!("interface: eth0\nservices:\n{services}"));
    let named: Vec<(&str, u16)> =
        config.services.iter().map(|service| (service.name.as_str(), service.key.port)).collect();
    let expected = [
        ("tcp/192.0.2.10:443", 443),
        ("tcp/192.0.2.10:80,8443", 80),
        ("tcp/192.0.2.10:8000-8999,21", 8000),
        ("tcp/[2001:db8::10]:8000-8999", 8000),
        ("tcp/192.0.2.10:*", 0),
    ];
    assert_eq!(named, expected);
    assert!(config.services.iter().all(|service| service.servers[0].port == service.key.port));
    assert_eq!(config.services[4].key.to_string(), "tcp/192.0.2.10:*");
    assert_eq!(config.services[1].addresses().count(), 2);
}

#[test]
fn clients_are_bound_and_servers_are_full() {
    let config = accepted(
        "interface: eth0
bindings: 5000
services:
  - vip: 192.0.2.10:80
    persistence: {}
    servers: [{ address: 192.0.2.21, upper_threshold: 100 }, { address: 192.0.2.22, upper_threshold: 9, lower_threshold: 9 }]
  - vip: '[2001:db8::10]:80'
    fallback: local
    persistence: { timeout: 1h, prefix: 64, weight_zero: release }
",
    );
    let of = |index: usize| config.services[index].persistence.clone().expect("it binds");
    let default = Persistence { timeout: seconds(300), prefix: 32, group: None, keeps: true };
    assert_eq!((config.bindings, of(0)), (5000, default));
    assert_eq!(of(1), Persistence { timeout: seconds(3600), prefix: 64, group: None, keeps: false });
    let thresholds: Vec<_> = config.services[0].servers.iter().map(|server| server.thresholds).collect();
    assert_eq!(thresholds, [Thresholds::new(100, 75), Thresholds::new(9, 9)]);
}

#[test]
fn what_becomes_of_a_dead_servers_connections_is_chosen() {
    for (text, dead_server) in [
        ("quiescent: on", DeadServer::Keep),
        ("quiescent: off", DeadServer::Expire),
        ("dead_server: keep", DeadServer::Keep),
        ("dead_server: expire", DeadServer::Expire),
        ("dead_server: move", DeadServer::Move),
        ("dead_server: reset", DeadServer::Reset),
        ("protocol: udp\n    dead_server: move", DeadServer::Move),
    ] {
        let config = accepted(&format!(
            "interface: eth0\nservices:\n  - vip: 192.0.2.10:80\n    {text}\n    servers: [{{ address: 192.0.2.21 }}]\n"
        ));
        assert_eq!(config.services[0].dead_server, dead_server, "{text}");
    }
}
