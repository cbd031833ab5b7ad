//! What operators read of the VIPs.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use lb_api::events::{Level, Record};
use lb_api::findings::{Finding, Findings, Kind};
use lb_net::link;
use lb_net::vips::VipAddress;
use tokio::time::Instant;

/// Addresses that are told one by one; of more, how many there are. A log that is slow must not
/// hold a take-over up.
pub(super) const TOLD: usize = 16;

/// From one line about a trouble to the next one.
const PACE: Duration = Duration::from_secs(60);

/// How long it is a finding that a VIP was removed.
const REMOVED: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Report {
    /// The interface's name.
    interface: String,
    findings: Findings,
    /// When each trouble was told last.
    told: HashMap<String, Instant>,
    /// The program that has removed addresses last.
    remover: Option<String>,
}

impl Report {
    /// `interface` is the interface's index.
    pub(super) fn new(interface: u32, findings: Findings) -> Self {
        let interface = link::name_of(interface).unwrap_or_else(|| format!("interface {interface}"));
        Self { interface, findings, told: HashMap::new(), remover: None }
    }

    pub(super) fn taken(&self, vips: &[VipAddress]) {
        if vips.len() > TOLD {
            return self
                .note("vip_taken", format!("{} IP addresses taken, sending announcements", vips.len()));
        }
        for vip in vips {
            let news = if vip.address.is_ipv4() { "gratuitous ARP" } else { "neighbour advertisements" };
            let text = format!("IP address {}/{} taken, sending {news}", vip.address, vip.prefix);
            self.findings.note(Record::new(Level::Info, "vip_taken", text).vip(vip.address));
        }
    }

    fn note(&self, event: &str, text: String) {
        self.findings.note(Record::new(Level::Info, event, text));
    }

    pub(super) fn released(&self, vips: &BTreeSet<IpAddr>) {
        if vips.len() > TOLD {
            return self.note("vip_released", format!("{} IP addresses released", vips.len()));
        }
        for vip in vips {
            let text = format!("IP address {vip} released");
            self.findings.note(Record::new(Level::Info, "vip_released", text).vip(*vip));
        }
    }

    /// A VIP was removed. `by`: the netlink port of who has done it.
    pub(super) fn removed(&mut self, by: Option<NonZeroU32>) {
        self.remover = by.and_then(program);
    }

    pub(super) fn put_back(&mut self, vips: &[IpAddr]) {
        let (vips, interface) = (some(vips), &self.interface);
        let by = self.remover.as_deref().unwrap_or("another program");
        let finding = Finding {
            kind: Kind::VipRemoved,
            subject: interface.clone(),
            text: format!("VIP {vips} was removed from {interface} by {by} and put back"),
            mend: format!(
                "have the program that manages {interface} leave addresses that are not its own (systemd-networkd: \
                 KeepConfiguration=yes; NetworkManager: make the interface unmanaged)"
            ),
        };
        self.findings.raise_for(finding, REMOVED);
    }

    pub(super) fn trouble(&mut self, what: String) {
        if self.is_news(&what) {
            tracing::error!("{what}");
        }
    }

    pub(super) fn unannounced(&mut self, vip: IpAddr, error: &io::Error) {
        if self.is_news(&format!("announce: {error}")) {
            tracing::warn!("cannot announce {vip}: {error}");
        }
    }

    fn is_news(&mut self, what: &str) -> bool {
        let now = Instant::now();
        self.told.retain(|_, told| now - *told < PACE);
        if self.told.contains_key(what) {
            return false;
        }
        self.told.insert(what.to_owned(), now);
        true
    }
}

/// A process with its first netlink socket has its own number for a port. `None`: it has ended, or
/// it is no process.
fn program(port: NonZeroU32) -> Option<String> {
    let name = std::fs::read_to_string(format!("/proc/{port}/comm")).ok()?;
    Some(format!("{} (process {port})", name.trim_end()))
}

/// The first of them, and how many there are besides.
fn some(vips: &[IpAddr]) -> String {
    match vips {
        [] => String::new(),
        [vip] => vip.to_string(),
        [vip, rest @ ..] => format!("{vip} and {} more", rest.len()),
    }
}
