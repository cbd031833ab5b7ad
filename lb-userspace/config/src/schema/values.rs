//! What a key's value may be. All else, such as names that must exist, `lb check` finds.

use serde_json::{Value, json};

/// Any scalar.
pub(super) fn any() -> Value {
    json!({ "type": ["string", "number", "boolean"] })
}

/// Words of which the value is one.
const CHOICES: [(&str, &str, &[&str]); 12] = [
    ("File", "xdp_mode", &["native", "generic", "auto"]),
    ("Group", "failback", &["auto", "manual"]),
    ("Path", "type", &["unicast", "multicast", "broadcast", "serial"]),
    ("Service", "protocol", &["tcp", "udp"]),
    ("Service", "scheduler", &["rr", "wrr", "lc", "wlc", "sed", "nq", "sh", "dh", "mh", "fo", "ovf", "twos"]),
    ("Service", "forward", FORWARD),
    ("Server", "forward", FORWARD),
    ("Service", "stray", &["hash", "pass"]),
    ("Persistence", "weight_zero", &["keep", "release"]),
    ("Check", "type", CHECKS),
    ("Check", "via", &["server", "vip"]),
    ("Check", "method", &["GET", "HEAD", "OPTIONS", "POST"]),
];

const FORWARD: &[&str] = &["direct", "masq", "ipip", "gue", "gre", "gate", "nat"];

const CHECKS: &[&str] = &[
    "tcp",
    "http",
    "https",
    "udp",
    "dns",
    "smtp",
    "imap",
    "pop3",
    "ftp",
    "ldap",
    "mysql",
    "postgresql",
    "redis",
    "grpc",
    "ping",
    "agent",
    "external",
    "file",
    "none",
    "off",
];

const SWITCHES: [(&str, &str); 9] = [
    ("File", "zero_copy"),
    ("Cluster", "sync"),
    ("Service", "ops"),
    ("Service", "quiescent"),
    ("Hash", "port"),
    ("Hash", "fallback"),
    ("Check", "tls"),
    ("Check", "verify"),
    ("Check", "dynamic"),
];

/// Whole numbers and their ranges.
const NUMBERS: [(&str, &str, u64, u64); 27] = [
    ("File", "connections", 1, 64_000_000),
    ("File", "bindings", 1024, 16_000_000),
    ("File", "announce_rate", 10, 1_000_000),
    ("Cluster", "sync_port", 1, 65_535),
    ("Cluster", "sync_rate", 1, 100_000),
    ("Path", "port", 1, 65_535),
    ("Path", "baud", 50, 4_000_000),
    ("Service", "quorum", 1, 1_000_000_000),
    ("Persistence", "prefix", 1, 128),
    ("Clients", "prefix", 1, 32),
    ("Clients", "prefix_v6", 1, 128),
    ("EveryClient", "prefix", 1, 32),
    ("EveryClient", "prefix_v6", 1, 128),
    ("LimitsOfEach", "new_per_second", 0, 10_000_000),
    ("LimitsOfEach", "new_burst", 1, 10_000_000),
    ("LimitsOfEach", "packets_per_second", 0, 10_000_000),
    ("LimitsOfEach", "packets_burst", 1, 10_000_000),
    ("LimitsOfAll", "new_per_second", 0, 10_000_000),
    ("LimitsOfAll", "new_burst", 1, 10_000_000),
    ("LimitsOfAll", "packets_per_second", 0, 10_000_000),
    ("LimitsOfAll", "packets_burst", 1, 10_000_000),
    ("LimitsOfEach", "connections", 0, 10_000_000),
    ("Check", "rise", 1, 100),
    ("Check", "fall", 1, 100),
    ("Check", "port", 1, 65_535),
    ("Server", "weight", 0, 65_535),
    ("Server", "upper_threshold", 0, 1_000_000_000),
];

/// Times: a number with a unit, or of seconds.
const TIMES: [&str; 17] = [
    "interval",
    "fast_interval",
    "timeout",
    "dead",
    "late",
    "initial_dead",
    "linger",
    "refresh",
    "failback_delay",
    "drain",
    "slow_start",
    "within",
    "hold",
    "established",
    "fin_wait",
    "syn_recv",
    "expiry_warning",
];

pub(super) fn of(owner: &str, key: &str) -> Value {
    let is = |found: &(&str, &str)| *found == (owner, key);
    if let Some((.., choices)) = CHOICES.iter().find(|(owner, key, _)| is(&(owner, key))) {
        return json!({ "enum": choices });
    }
    if SWITCHES.iter().any(is) {
        return json!({ "enum": ["on", "off", "yes", "no", "true", "false", true, false] });
    }
    if let Some((.., least, most)) = NUMBERS.iter().find(|(owner, key, ..)| is(&(owner, key))) {
        // Of 1_000_000 editors that know YAML 1.2 make a string.
        return json!({ "type": ["integer", "string"], "minimum": least, "maximum": most, "pattern": "^[0-9][0-9_]*$" });
    }
    if TIMES.contains(&key) {
        return json!({ "type": ["string", "number"], "minimum": 0, "pattern": "^[0-9]" });
    }
    any()
}
