//! The names of events, and their numbers in systemd's journal.

use sha2::{Digest as _, Sha256};

/// Every event, by its name in `snake_case`; names stay. Whoever records one looks here in a debug
/// build, and the configuration names them.
pub const EVENTS: [&str; 88] = [
    "attached",
    "bpf_fs_mounted",
    "command_refused",
    "config_agrees",
    "config_differs",
    "config_refused",
    "config_reloaded",
    "config_unfinished",
    "config_warning",
    "connections_lost",
    "counters_zeroed",
    "data_path_failed",
    "failed",
    "fallback_ended",
    "fallback_started",
    "fencing",
    "fencing_failed",
    "finding",
    "finding_ended",
    "generic_mode",
    "group_added",
    "group_removed",
    "heartbeat_ended",
    "heartbeat_late",
    "http_order",
    "http_token_refused",
    "interface_back",
    "interface_gone",
    "ipv6_table_small",
    "kernel_old",
    "keys_refused",
    "keys_reloaded",
    "left_forwarding",
    "maintenance_unknown",
    "maintenance_unreadable",
    "message_dropped",
    "message_not_sent",
    "node_dead",
    "node_maintenance",
    "node_restarted",
    "node_up",
    "not_pinned",
    "order_given",
    "orders_learnt",
    "orders_unreadable",
    "orders_unwritten",
    "overlay_changed",
    "overlay_unreadable",
    "path_closed",
    "path_open",
    "path_sends_again",
    "path_sends_fail",
    "quorum_lost",
    "quorum_won",
    "role_changed",
    "served_on",
    "served_on_ended",
    "server_added",
    "server_down",
    "server_full",
    "server_has_room",
    "server_maintenance",
    "server_removed",
    "server_up",
    "service_added",
    "service_removed",
    "split_brain",
    "split_brain_resolved",
    "stalled",
    "stopping",
    "stopping_at_once",
    "taken_over",
    "thread_answers",
    "thread_hangs",
    "veth_unseen",
    "veth_without_program",
    "vip_announced",
    "vip_checks_failed",
    "vip_checks_work",
    "vip_device_down",
    "vip_released",
    "vip_taken",
    "vip_withdrawn",
    "vlan_offload_off",
    "waiting_for_interface",
    "waiting_for_keys",
    "waiting_for_right_keys",
    "xdp_mode",
];

/// Whether there is an event of this name.
pub fn is_event(name: &str) -> bool {
    EVENTS.binary_search(&name).is_ok()
}

/// What [`message_id`] is made in: a random number that stays.
const NAMESPACE: u128 = 0xd01a_1214_db2c_46c4_8d11_0ae6_4648_bfd5;

/// The event's `MESSAGE_ID` in systemd's journal, by which deploy/systemd/lb.catalog explains it: a
/// UUID of version 8, which RFC 9562 leaves to its maker. It is the first half of SHA-256 over the
/// namespace's 16 bytes and the event's name, with the bits of version and variant set.
pub fn message_id(event: &str) -> u128 {
    const VERSION: u128 = 0xf << 76;
    const VARIANT: u128 = 0b11 << 62;
    let hash: [u8; 32] =
        Sha256::new_with_prefix(NAMESPACE.to_be_bytes()).chain_update(event).finalize().into();
    let id = hash[..16].iter().fold(0_u128, |id, byte| (id << 8) | u128::from(*byte));
    (id & !(VERSION | VARIANT)) | (8 << 76) | (0b10 << 62)
}

#[test]
fn they_are_in_order() {
    assert!(EVENTS.is_sorted());
}

/// Whoever searches the journal for one finds it in entries of any age.
#[test]
fn message_ids_stay() {
    let id = |event| format!("{:032x}", message_id(event));
    assert_eq!(id("server_down"), "205707089fb58e28bbe3c9710e02e786");
    assert_eq!(id("role_changed"), "2e019d463afb870ab741dd23b0525c2d");
    let all: std::collections::BTreeSet<u128> = EVENTS.iter().map(|event| message_id(event)).collect();
    assert_eq!(all.len(), EVENTS.len());
}
