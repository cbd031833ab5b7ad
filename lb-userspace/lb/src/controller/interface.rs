//! An interface that the program is attached to, and the mode in which: as the configuration says,
//! and as the interface can.

use anyhow::{Context as _, Result, anyhow, bail};
use lb_api::events::{Level, Record};
use lb_api::findings::Findings;
use lb_cluster::takeover::segments::Station;
use lb_common::mac::Mac;
use lb_datapath::attach::pins::Pins;
use lb_datapath::attach::{self, Attachment, Facts, Mode};
use lb_datapath::device;
use lb_datapath::device::far_end::FarEnd;
use lb_datapath::device::watch::{Attached, Watch};
use lb_model::XdpMode;
use lb_net::link;
use nix::net::if_::if_nametoindex;

use super::forwarder::Forwarder;
use super::instance::Instance;

/// What an interface is to the director.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Servers are reached by it, unless it is said or found to be otherwise.
    Main,
    /// Packets come in by it, too.
    Other,
}

pub(super) struct Interface {
    role: Role,
    name: String,
    index: u32,
    mac: Mac,
    /// Present from the end of the start on.
    attachment: Option<Attachment>,
    watch: Watch,
    _instance: Instance,
}

/// What came of a change of mode.
pub(super) struct ModeChange {
    /// The program is attached anew; in the mode that it had before, if no other could be had.
    pub is_anew: bool,
    pub records: Vec<Record>,
}

impl Interface {
    /// Nobody else can have the interface from now on, until `self` is dropped.
    pub(super) fn claim(role: Role, name: &str, findings: Findings) -> Result<Self> {
        let instance = Instance::claim(name)?;
        let index = if_nametoindex(name)
            .with_context(|| format!("interface {name}: not found; `ip link` lists those there are"))?;
        let mac = attach::mac_of(name)?;
        let watch = Watch::start(name, index, findings)
            .context("cannot start the thread that watches the interface")?;
        let name = name.to_owned();
        Ok(Self { role, name, index, mac, attachment: None, watch, _instance: instance })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) const fn mac(&self) -> Mac {
        self.mac
    }

    pub(super) const fn set_mac(&mut self, mac: Mac) {
        self.mac = mac;
    }

    pub(super) const fn station(&self) -> Station {
        Station { interface: self.index, mac: self.mac }
    }

    pub(super) const fn index(&self) -> u32 {
        self.index
    }

    pub(super) fn mode(&self) -> Option<Mode> {
        self.attachment.as_ref().map(Attachment::mode)
    }

    /// Whether the kernel still runs the program here, as it said a moment ago.
    pub(super) fn is_attached(&self) -> bool {
        self.attachment.is_some() && self.watch.is_attached()
    }

    /// Whether the program outlives this process.
    pub(super) fn is_pinned(&self) -> bool {
        self.attachment.as_ref().is_some_and(Attachment::is_pinned)
    }

    /// The kernel no longer has the interface.
    pub(super) fn is_gone(&self) -> bool {
        !self.is_attached() && link::name_of(self.index).is_none()
    }

    /// In native mode: what the program sends does not get through.
    pub(super) fn loses_frames(&self) -> bool {
        self.mode() == Some(Mode::Native) && self.watch.takes_nothing()
    }

    /// The interface stays this process's own until `self` is dropped.
    pub(super) fn take_attachment(&mut self) -> Option<Attachment> {
        self.attachment.take()
    }

    /// In a cluster the program must outlive the process.
    pub(super) fn attach(
        &mut self,
        forwarder: &mut Forwarder,
        wanted: XdpMode,
        in_cluster: bool,
    ) -> Result<Vec<Record>> {
        let (modes, far_end) = self.modes(wanted);
        let attachment = forwarder.attach(self.role, &self.name, self.index, modes)?;
        if in_cluster && !attachment.is_pinned() {
            attachment.detach_for_good()?;
            bail!(
                "a cluster needs the BPF file system, where the program stays when lb is killed and gives the addresses \
                 up by itself: mount -t bpf bpf /sys/fs/bpf, or start lb with CAP_SYS_ADMIN, and it does so itself"
            );
        }
        let mode = attachment.mode().name();
        let mut records = Vec::from_iter(far_end);
        records.push(attached(&self.name, mode, attachment.facts()));
        if modes.first() != Some(&attachment.mode()) {
            records.push(generic_mode(&self.name, mode, attachment.facts()));
        }
        records.extend(not_pinned(&self.name, attachment.facts()));
        if self.role == Role::Other {
            records.extend(forget_maps(&self.name));
        }
        self.attachment = Some(attachment);
        self.watch(wanted)?;
        Ok(records)
    }

    /// Puts the program that is to be the entry in the place of the one before.
    pub(super) fn exchange_entry(&self, forwarder: &mut Forwarder) -> Result<()> {
        let attachment = self.attachment.as_ref().context("no program is attached")?;
        forwarder.exchange_entry(attachment)
    }

    /// The program, and what it sends, are watched from now on.
    ///
    /// # Errors
    /// There is no descriptor left for that.
    pub(super) fn watch(&mut self, wanted: XdpMode) -> Result<()> {
        if let Some(attachment) = &self.attachment {
            let check = attachment.check().context("the program cannot be watched")?;
            self.watch.attached(Attached { mode: attachment.mode(), wanted }, check);
        }
        Ok(())
    }

    /// Goes over to the best mode that there is for `wanted`, if the program is not in it.
    pub(super) fn change_mode(
        &mut self,
        forwarder: &mut Forwarder,
        wanted: XdpMode,
        why: &str,
    ) -> Result<ModeChange> {
        let Some(before) = self.mode() else { return Ok(ModeChange { is_anew: false, records: Vec::new() }) };
        let (modes, far_end) = self.modes(wanted);
        let mut records = Vec::from_iter(far_end);
        if modes.first() == Some(&before) {
            return Ok(ModeChange { is_anew: false, records });
        }
        let now = self.attach_anew(forwarder, before, modes)?;
        let facts = self.attachment.as_ref().map(Attachment::facts);
        records.extend(facts.and_then(|facts| not_pinned(&self.name, facts)));
        self.watch(wanted)?;
        if now != before {
            let text =
                format!("XDP program on {}: {} mode, was {}: {why}", self.name, now.name(), before.name());
            let record = Record::new(Level::Warning, "xdp_mode", text).from_to(before.name(), now.name());
            records.push(record.cause(why.to_owned()));
        }
        Ok(ModeChange { is_anew: true, records })
    }

    /// No program can be on an interface in two modes at once. In the moment between them the host
    /// gets the packets.
    fn attach_anew(&mut self, forwarder: &mut Forwarder, before: Mode, modes: &[Mode]) -> Result<Mode> {
        let attachment = self.attachment.take().context("no program is attached")?;
        attachment.detach()?;
        let attachment = forwarder.attach(self.role, &self.name, self.index, modes).or_else(|error| {
            tracing::error!("{} mode stays: {error:#}", before.name());
            forwarder.attach(self.role, &self.name, self.index, &[before])
        });
        let attachment =
            attachment.map_err(|error| anyhow!("the XDP program is off {}: {error:#}", self.name))?;
        let mode = attachment.mode();
        self.attachment = Some(attachment);
        Ok(mode)
    }

    /// The modes to attach the program in, the best first; and what rules the better ones out.
    fn modes(&self, wanted: XdpMode) -> (&'static [Mode], Option<Record>) {
        let far_end = if wanted == XdpMode::Auto { FarEnd::of(self.index) } else { FarEnd::NotAVeth };
        let name = &self.name;
        let record = match far_end {
            FarEnd::WithoutProgram => Some((
                "veth_without_program",
                format!(
                    "{name} is a veth whose far end has no XDP program and takes nothing that native mode sends: using \
                     generic mode, which costs several times as much per packet"
                ),
            )),
            FarEnd::Unseen => Some((
                "veth_unseen",
                format!(
                    "{name} is a veth whose far end cannot be looked at from here: using generic mode, which costs several \
                     times as much per packet; if the far end has an XDP program, `xdp_mode: native` is faster"
                ),
            )),
            FarEnd::NotAVeth | FarEnd::WithProgram => None,
        };
        let record = record.map(|(event, text)| Record::new(Level::Warning, event, text));
        (device::modes(wanted, far_end), record)
    }
}

/// An `lb` before this one may have had this interface as its main one, and connections there.
fn forget_maps(interface: &str) -> Option<Record> {
    let pins = Pins::of(interface).ok()?;
    pins.left_maps()?;
    let text = match pins.remove_maps() {
        Ok(()) => format!(
            "an lb before this one had {interface} as its main interface, and its connections are not taken over: name \
             it first in `interfaces` to keep them"
        ),
        Err(error) => format!("what an lb before this one has left on {interface} stays: {error:#}"),
    };
    Some(Record::new(Level::Warning, "connections_lost", text))
}

fn attached(interface: &str, mode: &str, facts: &Facts) -> Record {
    let instead = facts.replaced.map(|before| format!(", in the place of program {before}"));
    let text = format!("XDP program attached to {interface} ({mode} mode){}", instead.unwrap_or_default());
    Record::new(Level::Info, "attached", text).to(mode)
}

fn generic_mode(interface: &str, mode: &str, facts: &Facts) -> Record {
    let text = format!("{interface} is in {mode} mode, which costs several times as much per packet");
    let text = facts.refused.as_ref().map_or(text.clone(), |refused| format!("{text} ({refused})"));
    Record::new(Level::Warning, "generic_mode", text)
}

fn not_pinned(interface: &str, facts: &Facts) -> Option<Record> {
    let error = facts.not_pinned.as_ref()?;
    let text =
        format!("the program on {interface} goes when lb is killed, and connections with it: {error:#}");
    Some(Record::new(Level::Warning, "not_pinned", text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_attaching_finds_out_is_told_once_in_the_event_of_its_kind() {
        let facts = Facts::default();
        assert_eq!(attached("eth0", "native", &facts).text, "XDP program attached to eth0 (native mode)");
        assert_eq!(not_pinned("eth0", &facts), None);
        let facts = Facts {
            replaced: Some(7),
            not_pinned: Some(anyhow!("no BPF file system can be used")),
            refused: Some("native: Operation not supported".to_owned()),
        };
        assert!(attached("eth0", "native", &facts).text.ends_with(", in the place of program 7"));
        let record = generic_mode("eth0", "generic", &facts);
        assert!(record.text.ends_with("per packet (native: Operation not supported)"), "{}", record.text);
        let record = not_pinned("eth0", &facts).expect("a warning");
        assert_eq!((record.level, &*record.event), (Level::Warning, "not_pinned"));
        assert!(record.text.ends_with("no BPF file system can be used"), "{}", record.text);
    }
}
