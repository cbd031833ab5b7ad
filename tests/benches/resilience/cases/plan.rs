//! The cases: what happens in each, and about how long it takes.

use anyhow::Result;
use lb_lab::cluster::pair::Settings;
use lb_lab::scenario::floods::Kind;
use lb_lab::scenario::methods::Method;

use super::{
    MILLION, PATIENT, Run, TABLE, cluster_crash, cluster_resize, cluster_restart, cluster_standby,
    cluster_upgrade, comes_back_empty, crash, ecmp_cable, ecmp_freeze, ecmp_join, ecmp_leave, reload, resize,
    restart, sync_million, takeover_freeze, takeover_kill, takeover_link, upgrade,
};
use crate::report::Figures;
use crate::{sync, takeover};

/// A case before it is played.
pub(crate) struct Plan {
    pub name: &'static str,
    pub does: &'static str,
    /// About how long it takes on two cores with 10,000 connections.
    pub seconds: u64,
    /// By which it is played, one after the other.
    pub methods: &'static [Method],
    pub play: fn(&Run<'_>) -> Result<Figures>,
}

impl Plan {
    /// Whether it is played by several methods.
    pub(crate) fn is_by_method(&self) -> bool {
        self.methods.len() > 1
    }
}

const DIRECT: &[Method] = &[Method::Direct];
const EACH: &[Method] = &Method::ALL;

pub(crate) static CASES: [Plan; 30] = [
    Plan {
        name: "restart",
        does: "a director that is alone stops and starts again",
        seconds: 30,
        methods: DIRECT,
        play: |run| Ok(run.alone(TABLE, 0, restart)?.into()),
    },
    Plan {
        name: "crash",
        does: "a director that is alone is killed and starts again",
        seconds: 30,
        methods: DIRECT,
        play: |run| Ok(run.alone(TABLE, 0, crash)?.into()),
    },
    Plan {
        name: "upgrade",
        does: "a director that is alone stops, and another build of lb starts",
        seconds: 30,
        methods: DIRECT,
        play: |run| Ok(run.alone(TABLE, 0, upgrade)?.into()),
    },
    Plan {
        name: "resize",
        does: "a director that is alone stops, and starts with a table four times as large",
        seconds: 30,
        methods: DIRECT,
        play: |run| Ok(run.alone(TABLE, 0, resize)?.into()),
    },
    Plan {
        name: "restart-million",
        does: "as restart, with a million connections in the table",
        seconds: 60,
        methods: DIRECT,
        play: |run| Ok(run.alone(MILLION, MILLION, restart)?.into()),
    },
    Plan {
        name: "resize-million",
        does: "as resize, with a million connections in the table",
        seconds: 60,
        methods: DIRECT,
        play: |run| Ok(run.alone(MILLION, MILLION, resize)?.into()),
    },
    Plan {
        name: "cluster-restart",
        does: "the active one of two directors stops and comes back",
        seconds: 40,
        methods: DIRECT,
        play: |run| Ok(run.several(PATIENT, cluster_restart)?.into()),
    },
    Plan {
        name: "cluster-crash",
        does: "the active one of two directors is killed and comes back",
        seconds: 40,
        methods: DIRECT,
        play: |run| Ok(run.several(Settings::DEFAULT, cluster_crash)?.into()),
    },
    Plan {
        name: "cluster-upgrade",
        does: "the active one of two directors stops, and comes back as another build of lb",
        seconds: 40,
        methods: DIRECT,
        play: |run| Ok(run.several(PATIENT, |several| cluster_upgrade(run, several))?.into()),
    },
    Plan {
        name: "cluster-resize",
        does: "the active one of two directors stops, and comes back with a table four times as large",
        seconds: 40,
        methods: DIRECT,
        play: |run| Ok(run.several(PATIENT, cluster_resize)?.into()),
    },
    Plan {
        name: "cluster-standby",
        does: "a director that was active stops as the standby and comes back",
        seconds: 40,
        methods: DIRECT,
        play: |run| Ok(run.several(PATIENT, cluster_standby)?.into()),
    },
    Plan {
        name: "takeover-kill",
        does: "the active director gets SIGKILL, and its machine is gone",
        seconds: 40,
        methods: EACH,
        play: |run| Ok(run.known(Settings::DEFAULT, takeover_kill)?.into()),
    },
    Plan {
        name: "takeover-freeze",
        does: "the active director stands still (SIGSTOP), then goes on and takes back",
        seconds: 40,
        methods: EACH,
        play: |run| Ok(run.known(Settings::DEFAULT, takeover_freeze)?.into()),
    },
    Plan {
        name: "takeover-link",
        does: "the cable of the active director is out, then in again, and it takes back",
        seconds: 40,
        methods: EACH,
        play: |run| Ok(run.known(Settings::DEFAULT, takeover_link)?.into()),
    },
    Plan {
        name: "return",
        does: "as takeover-kill, then the machine comes back knowing nothing, and takes back",
        seconds: 50,
        methods: EACH,
        play: |run| Ok(run.known(Settings::DEFAULT, comes_back_empty)?.into()),
    },
    Plan {
        name: "takeover-20000",
        does: "as takeover-kill, while 20,000 connections a second begin",
        seconds: 80,
        methods: DIRECT,
        play: |run| Ok(takeover::measure(run)?.into()),
    },
    Plan {
        name: "ecmp-leave",
        does: "of three directors that serve at once one stops and another one is killed",
        seconds: 60,
        methods: DIRECT,
        play: |run| Ok(run.ecmp(ecmp_leave)?.into()),
    },
    Plan {
        name: "ecmp-join",
        does: "two of three directors that serve at once leave and come back knowing nothing",
        seconds: 60,
        methods: DIRECT,
        play: |run| Ok(run.ecmp(ecmp_join)?.into()),
    },
    Plan {
        name: "ecmp-freeze",
        does: "one of three directors that serve at once stands still (SIGSTOP), then goes on",
        seconds: 60,
        methods: DIRECT,
        play: |run| Ok(run.ecmp(ecmp_freeze)?.into()),
    },
    Plan {
        name: "ecmp-cable",
        does: "the cable of one of three directors that serve at once is out, then in again",
        seconds: 60,
        methods: DIRECT,
        play: |run| Ok(run.ecmp(ecmp_cable)?.into()),
    },
    Plan {
        name: "sync-million",
        does: "the standby comes back and learns a million connections",
        seconds: 60,
        methods: DIRECT,
        play: |run| Ok(sync_million(run)?.into()),
    },
    Plan {
        name: "reload-1000",
        does: "the configuration changes a thousand times around the service",
        seconds: 300,
        methods: DIRECT,
        play: |run| Ok(reload(run)?.into()),
    },
    Plan {
        name: "flood-syn",
        does: "SYNs of made-up sources for a minute",
        seconds: 100,
        methods: DIRECT,
        play: |run| Ok(run.flood(Kind::Syn)?.into()),
    },
    Plan {
        name: "flood-synack",
        does: "a SYN and an ACK of each made-up source for a minute",
        seconds: 100,
        methods: DIRECT,
        play: |run| Ok(run.flood(Kind::SynAck)?.into()),
    },
    Plan {
        name: "flood-udp2",
        does: "two datagrams of each made-up source for a minute",
        seconds: 100,
        methods: DIRECT,
        play: |run| Ok(run.flood(Kind::TwoDatagrams)?.into()),
    },
    Plan {
        name: "flood-ack",
        does: "ACKs of made-up sources for a minute",
        seconds: 100,
        methods: DIRECT,
        play: |run| Ok(run.flood(Kind::Ack)?.into()),
    },
    Plan {
        name: "flood-rst",
        does: "RSTs of made-up sources for a minute",
        seconds: 100,
        methods: DIRECT,
        play: |run| Ok(run.flood(Kind::Rst)?.into()),
    },
    Plan {
        name: "flood-icmp",
        does: "ICMP errors of made-up sources for a minute",
        seconds: 100,
        methods: DIRECT,
        play: |run| Ok(run.flood(Kind::IcmpErrors)?.into()),
    },
    Plan {
        name: "flood-fragments",
        does: "fragments of made-up sources for a minute",
        seconds: 100,
        methods: DIRECT,
        play: |run| Ok(run.flood(Kind::Fragments)?.into()),
    },
    Plan {
        name: "sync",
        does: "50,000 connections a second, without the clients of the other cases",
        seconds: 90,
        methods: DIRECT,
        play: |run| Ok(sync::measure(run)?.into()),
    },
];
