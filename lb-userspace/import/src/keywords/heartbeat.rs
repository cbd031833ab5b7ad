//! Directives of ha.cf.

use super::Row;
use super::Verdict::{Equal, Missing, Needless, Partly};

const CRM: &str = "this is a cluster of Pacemaker, not of haresources: its resources are not in these files";

pub(super) const ROWS: [Row; 10] = [
    (
        "ha.cf",
        Equal,
        "",
        "node keepalive deadtime warntime initdead udpport baud serial mcast mcast6 ucast ucast6",
    ),
    ("ha.cf", Equal, "", "auto_failback nice_failback ping"),
    ("ha.cf", Partly, "", "bcast ping_group respawn"),
    (
        "ha.cf",
        Missing,
        "fencing is a command of your own: `fence` of the cluster, see full.yaml",
        "stonith stonith_host",
    ),
    ("ha.cf", Partly, "systemd watches over `lb`: WatchdogSec of its unit", "watchdog"),
    (
        "ha.cf",
        Needless,
        "`lb` logs to standard error, so to the journal under systemd",
        "logfacility logfile debugfile debug use_logd conn_logd_time log_badpack",
    ),
    ("ha.cf", Needless, "`lb` is a real-time process where it may be", "rtprio realtime"),
    (
        "ha.cf",
        Needless,
        "a matter of heartbeat's own insides",
        "hopfudge hbgenmethod normalpoll msgfmt use_apphbd coredumps coreroot uuidfrom compression compression_threshold \
         traditional_compression env max_rexmit_delay apiauth deadping",
    ),
    (
        "ha.cf",
        Missing,
        CRM,
        "crm pacemaker crm_daemon_dir crmd_spawns_pengine autojoin record_config_changes record_pengine_inputs \
         enable_config_writes",
    ),
    (
        "ha.cf",
        Missing,
        "`lb` has no such path for heartbeats or pings: see `paths` and `references`",
        "hbaping openais",
    ),
];
