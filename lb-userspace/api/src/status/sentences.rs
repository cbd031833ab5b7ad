//! States in words, with how much they matter: listing, page and terminal say the same.

use std::net::IpAddr;

use lb_model::Health;

use super::{
    FindingStatus, GroupStatus, Heard, NodeReadiness, NodeStatus, PathStatus, ServerStatus, ServiceStatus,
    SyncPeer,
};
use crate::events::Level;
use crate::words;

/// How much a state matters to whoever is on call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tone {
    Plain,
    Good,
    Warning,
    Bad,
}

impl From<Level> for Tone {
    fn from(level: Level) -> Self {
        match level {
            Level::Info => Self::Plain,
            Level::Warning => Self::Warning,
            Level::Error => Self::Bad,
        }
    }
}

impl FindingStatus {
    /// A finding is never good news.
    pub fn tone(&self) -> Tone {
        Tone::from(self.level).max(Tone::Warning)
    }
}

impl ServiceStatus {
    /// `211.58.250.6:80`, with several ports as the configuration has them.
    pub fn address(&self) -> String {
        words::ports(self.vip, &self.ports)
    }

    /// The fallback, whether it serves and why, and what is wrong with it.
    pub fn fallback_words(&self) -> (Tone, String) {
        if self.draining {
            return (Tone::Warning, "draining: it left the configuration".to_owned());
        }
        let Self { fallback, on_fallback, fallback_ready, fallback_error, quorum, .. } = self;
        let why = match quorum.usable {
            0 => "no server is usable".to_owned(),
            usable => format!("usable servers weigh {usable}, the quorum is {}", quorum.weight),
        };
        let error = fallback_error.as_ref().map_or_else(String::new, |error| format!("; {error}"));
        let text = match (on_fallback, fallback_ready) {
            (true, true) => format!("{fallback}: SERVING, {why}{error}"),
            (true, false) => {
                format!("{fallback}: NOBODY SERVES, new connections are dropped or refused: {why}{error}")
            }
            (false, _) if fallback_error.is_some() => format!("{fallback}{error}"),
            (false, _) if quorum.weight > 1 => {
                let text =
                    format!("{fallback}, quorum {}: usable servers weigh {}", quorum.weight, quorum.usable);
                return (Tone::Plain, text);
            }
            (false, _) => return (Tone::Plain, fallback.clone()),
        };
        (Tone::Bad, text)
    }

    /// How much is wrong with the service as a whole.
    pub fn tone(&self) -> Tone {
        let (fallback, _) = self.fallback_words();
        let worst = self.servers.iter().map(|server| server.health_tone()).max().unwrap_or(Tone::Warning);
        match fallback {
            Tone::Plain if worst == Tone::Bad => Tone::Warning,
            Tone::Plain => worst,
            tone => tone,
        }
    }

    /// Connections since the start, with those of servers that have left.
    pub fn connections(&self) -> u64 {
        self.departed.connections + self.all_servers().map(|server| server.connections).sum::<u64>()
    }

    /// Bytes since the start, with those of servers that have left.
    pub fn bytes(&self) -> u64 {
        self.departed.bytes + self.all_servers().map(|server| server.bytes).sum::<u64>()
    }

    /// Connections in state ESTABLISHED.
    pub fn active(&self) -> u64 {
        self.all_servers().map(|server| u64::from(server.active)).sum()
    }

    /// The servers, and the fallback if it is one.
    pub fn all_servers(&self) -> impl Iterator<Item = &ServerStatus> {
        self.servers.iter().chain(&self.fallback_server)
    }
}

impl ServerStatus {
    pub fn health_tone(&self) -> Tone {
        match self.health {
            Health::Up => Tone::Good,
            Health::Down => Tone::Bad,
            Health::Unknown | Health::Maintenance | Health::Draining => Tone::Warning,
            Health::Unchecked => Tone::Plain,
        }
    }

    /// `1 of 4` while the weight in force is not the configured one. What a server that is down
    /// would have goes without saying.
    pub fn weight_words(&self) -> (Tone, String) {
        let Self { weight, effective_weight: now, health, .. } = self;
        match health {
            Health::Up | Health::Unchecked | Health::Maintenance if now != weight => {
                (Tone::Warning, format!("{now} of {weight}"))
            }
            _ => (Tone::Plain, weight.to_string()),
        }
    }

    /// Latency of the slowest check's last probe, in microseconds.
    pub fn last_latency_us(&self) -> Option<u64> {
        self.checks.iter().filter_map(|check| check.latencies_us.first()).max().copied()
    }

    /// Why the server is not as it should be; empty if it is.
    pub fn notes(&self) -> String {
        let warning = self.warning.as_ref().map(|warning| format!("warning: {warning}"));
        let Self { upper_threshold, lower_threshold, .. } = self;
        let full = self.full.then(|| {
            format!("full: {upper_threshold} connections and more, new ones again below {lower_threshold}")
        });
        let source = self.source.as_ref().map(|source| format!("added by {source}"));
        let orders = self.orders.iter().map(|order| Some(words::order(order)));
        let notes = [self.reason.clone(), self.weight_reason.clone(), full, warning, source];
        notes.into_iter().chain(orders).flatten().collect::<Vec<_>>().join("; ")
    }
}

impl NodeReadiness {
    /// What keeps a node from serving.
    pub fn hindrances(self) -> Vec<&'static str> {
        let Self { data_path, link, maintenance, servers: _, references: _ } = self;
        let all =
            [(maintenance, "standby or maintenance"), (!data_path, "no XDP program"), (!link, "no link")];
        all.into_iter().filter_map(|(hinders, word)| hinders.then_some(word)).collect()
    }
}

impl NodeStatus {
    pub fn state_words(&self) -> (Tone, String) {
        let Some(readiness) = self.readiness.filter(|_| self.alive) else {
            let text = if self.readiness.is_some() { "DEAD" } else { "never heard" };
            return (Tone::Bad, text.to_owned());
        };
        let config = (!self.config_agrees).then_some("ANOTHER CONFIGURATION");
        let all: Vec<&str> = readiness.hindrances().into_iter().chain(config).collect();
        match all.is_empty() {
            true => (Tone::Good, "up".to_owned()),
            false => (Tone::Warning, format!("up: {}", all.join(", "))),
        }
    }
}

impl PathStatus {
    pub fn state_words(&self) -> (Tone, &'static str) {
        if self.open { (Tone::Good, "open") } else { (Tone::Bad, "CLOSED") }
    }

    /// From whom a heartbeat came last on this path, and when.
    pub fn heard_words(&self) -> (Tone, String) {
        let is_long = |heard: &Heard| heard.ago_ms >= LONG_MS;
        let heard = self.heard.iter().map(|heard| match is_long(heard) {
            true => format!("{} {} ago", heard.node, words::since(heard.ago_ms / 1_000)),
            false => format!("{} {} ms ago", heard.node, heard.ago_ms),
        });
        let heard: Vec<String> = heard.collect();
        match (heard.is_empty(), self.heard.iter().any(is_long)) {
            (true, _) => (Tone::Warning, "nobody yet".to_owned()),
            (false, is_silent) => (if is_silent { Tone::Warning } else { Tone::Plain }, heard.join(", ")),
        }
    }
}

/// A heartbeat that is older, in milliseconds, is told by larger units, and stands out.
const LONG_MS: u64 = 10_000;

impl SyncPeer {
    /// How much of what one knows the other knows, too.
    pub fn state_words(&self) -> (Tone, String) {
        match (self.up, self.knows_ours && self.knows_theirs) {
            (false, _) => (Tone::Bad, "NO ANSWER".to_owned()),
            (true, false) => (Tone::Warning, self.progress_words()),
            (true, true) => (Tone::Good, "in step".to_owned()),
        }
    }

    /// With the share of the way that is behind whoever has farther to go, where it is known.
    fn progress_words(&self) -> String {
        let shares = [self.learned, self.told_again].into_iter().flatten();
        let share = shares.reduce(f64::min).map(|share| format!(", {:.0} %", (share * 100.0).floor()));
        format!("catching up{}", share.unwrap_or_default())
    }
}

impl GroupStatus {
    /// Every node that could serves it.
    pub fn is_anycast(&self) -> bool {
        self.kind == "anycast"
    }

    /// Who has the group; a warning if that is not its preferred node.
    pub fn holder_words(&self) -> (Tone, String) {
        match &self.holder {
            _ if self.is_anycast() && !self.serving.is_empty() => (Tone::Good, self.serving.join(", ")),
            Some(holder) if *holder == self.preferred => (Tone::Good, holder.clone()),
            Some(holder) => (Tone::Warning, holder.clone()),
            None => (Tone::Bad, "NOBODY".to_owned()),
        }
    }

    /// Who should have it.
    pub fn preferred_words(&self) -> &str {
        if self.is_anycast() { "every node" } else { &self.preferred }
    }

    /// This node's role; of one that is stopping its fault is no fault.
    pub fn role_words(&self, stopping: bool) -> (Tone, &str) {
        match if stopping && self.role == "fault" { "stopping" } else { &*self.role } {
            role @ "active" => (Tone::Good, role),
            role @ "fault" => (Tone::Bad, role),
            role @ "standby" => (Tone::Plain, role),
            role => (Tone::Warning, role),
        }
    }

    /// Why a node is active or standby is in the event log; why it cannot be is asked here.
    pub fn notes(&self, stopping: bool) -> (Tone, &str) {
        match self.role_words(stopping).1 {
            "fault" => (Tone::Bad, &self.cause),
            "active" if !self.has_successor && self.is_anycast() => {
                (Tone::Warning, "no other node serves it")
            }
            "active" if !self.has_successor => (Tone::Warning, "no other node is ready"),
            "standby" if self.is_anycast() => (Tone::Warning, &self.cause),
            _ if self.serves_on => (Tone::Plain, "serves its earlier connections on"),
            _ => (Tone::Plain, ""),
        }
    }

    /// The first VIPs, and how many there are besides.
    pub fn vips_words(&self) -> String {
        const SHOWN: usize = 4;
        let shown = if self.vips.len() > SHOWN + 1 { SHOWN } else { self.vips.len() };
        let (shown, rest) = self.vips.split_at(shown);
        let text = shown.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ");
        if rest.is_empty() { text } else { format!("{text} and {} more", rest.len()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    #[test]
    fn a_path_that_has_long_been_silent_stands_out() {
        let mut path = samples::directors().paths.swap_remove(0);
        assert_eq!(path.heard_words(), (Tone::Plain, "ha2 9120 ms ago".to_owned()));
        path.heard[0].ago_ms = 3 * 3_600_000;
        assert_eq!(path.heard_words(), (Tone::Warning, "ha2 3h ago".to_owned()));
    }
}
