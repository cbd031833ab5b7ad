//! Directives of ldirectord.cf.

use super::Row;
use super::Verdict::{Equal, Missing, Needless, Partly};

const LOG: &str =
    "`lb` logs to standard error, so to the journal under systemd; `lb events` keeps what happened";
const LOGIN: &str = "`lb` checks the greeting and does not log in; an `external` check can";

pub(super) const ROWS: [Row; 20] = [
    (
        "global",
        Equal,
        "",
        "virtual virtual6 checktimeout negotiatetimeout checkinterval checkcount failurecount fallback",
    ),
    ("global", Equal, "", "fallback6 fallbackcommand quiescent maintenancedir"),
    ("global", Partly, "", "timeout connecttimeout execute"),
    ("global", Needless, "a change of the file is always noticed and reloaded", "autoreload"),
    ("global", Needless, LOG, "logfile"),
    ("global", Needless, "each check is a task of its own: none waits for another", "fork"),
    ("global", Needless, "`lb run` stays in the foreground, systemd supervises it", "supervised"),
    (
        "global",
        Needless,
        "servers are unknown until their first check, which is made at once",
        "readdquiescent",
    ),
    (
        "global",
        Needless,
        "a stopped or killed `lb` goes on forwarding; `lb stop --release` leaves nothing",
        "cleanstop",
    ),
    (
        "global",
        Missing,
        "no program is run when the file has changed: copy it by your configuration management",
        "callback",
    ),
    ("global", Equal, "", "emailalert emailalertfrom emailalertfreq smtp"),
    ("global", Partly, "", "emailalertstatus"),
    (
        "virtual",
        Equal,
        "",
        "real real6 request receive checktype checkcommand checktimeout negotiatetimeout checkcount",
    ),
    (
        "virtual",
        Equal,
        "",
        "failurecount checkinterval checkport scheduler persistent schedflags netmask protocol ops",
    ),
    (
        "virtual",
        Equal,
        "",
        "service httpmethod virtualhost fallback fallback6 fallbackcommand quiescent servicename comment",
    ),
    ("virtual", Partly, LOGIN, "connecttimeout login passwd database"),
    ("virtual", Missing, "`lb` has no check of RADIUS: use an `external` one", "secret"),
    ("virtual", Needless, "ldirectord itself does not use it", "load"),
    ("virtual", Partly, "", "emailalert emailalertfreq emailalertstatus smtp"),
    (
        "virtual",
        Needless,
        "`lb events` and `lb status` tell what the checks of each server said",
        "monitorfile cleanstop",
    ),
];
