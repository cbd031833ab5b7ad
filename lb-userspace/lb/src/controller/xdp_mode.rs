//! In which mode the program is attached: as the configuration says, and as the interface can.

use anyhow::{Context as _, Result, anyhow};
use lb_api::events::{Level, Record};
use lb_datapath::attach::{Attachment, Mode};
use lb_datapath::device;
use lb_datapath::device::far_end::FarEnd;
use lb_datapath::device::watch::Attached;
use lb_datapath::object;
use lb_model::XdpMode;

use super::Controller;

impl Controller {
    /// The modes to attach the program in, the best first.
    pub(super) fn modes(&self) -> &'static [Mode] {
        let wanted = self.config.xdp_mode;
        let far_end = if wanted == XdpMode::Auto { FarEnd::of(self.index) } else { FarEnd::NotAVeth };
        let interface = &self.config.interface;
        match far_end {
            FarEnd::WithoutProgram => tracing::warn!(
                "{interface} is a veth whose far end has no XDP program and takes nothing that native mode sends: using \
                 generic mode, which costs several times as much per packet"
            ),
            FarEnd::Unseen => tracing::warn!(
                "{interface} is a veth whose far end cannot be looked at from here: using generic mode, which costs several \
                 times as much per packet; if the far end has an XDP program, `xdp_mode: native` is faster"
            ),
            FarEnd::NotAVeth | FarEnd::WithProgram => {}
        }
        device::modes(wanted, far_end)
    }

    /// The program is attached: what it sends is watched from now on.
    pub(super) fn watch_device(&self) {
        if let Some(attachment) = &self.attachment {
            self.device.attached(Attached { mode: attachment.mode(), wanted: self.config.xdp_mode });
        }
    }

    /// With auto, goes over to generic mode when the far end of a veth has lost its program: nothing gets through any more.
    pub(super) fn follow_device(&mut self) {
        let is_native = self.attachment.as_ref().map(Attachment::mode) == Some(Mode::Native);
        let is_free = self.config.xdp_mode == XdpMode::Auto && self.leaving.is_none();
        if is_native && is_free && self.device.takes_nothing() {
            self.change_mode("what native mode sends gets lost");
        }
    }

    /// The configuration wants another mode.
    pub(super) fn follow_xdp_mode(&mut self) {
        self.change_mode("the configuration has changed");
        self.watch_device();
    }

    fn change_mode(&mut self, why: &str) {
        let Some(before) = self.attachment.as_ref().map(Attachment::mode) else { return };
        let modes = self.modes();
        if modes.first() == Some(&before) {
            return;
        }
        match self.attach_anew(before, modes) {
            Ok(now) if now == before => {}
            Ok(now) => {
                let text = format!(
                    "XDP program on {}: {} mode, was {}: {why}",
                    self.config.interface,
                    now.name(),
                    before.name()
                );
                let record = Record::new(Level::Warning, "xdp_mode", text);
                self.events.record(record.from_to(before.name(), now.name()));
            }
            Err(error) => self.fail(error),
        }
    }

    /// No program can be on an interface in two modes at once. In the moment between them the host gets the packets.
    fn attach_anew(&mut self, before: Mode, modes: &[Mode]) -> Result<Mode> {
        let attachment = self.attachment.take().context("no program is attached")?;
        attachment.detach()?;
        let interface = &self.config.interface;
        let program = object::program(&mut self.data_path.ebpf, object::PROGRAM)?;
        let attachment = Attachment::new(program, interface, self.index, modes).or_else(|error| {
            tracing::error!("{} mode stays: {error:#}", before.name());
            Attachment::new(program, interface, self.index, &[before])
        });
        let attachment =
            attachment.map_err(|error| anyhow!("the XDP program is off {interface}: {error:#}"))?;
        let mode = attachment.mode();
        self.attachment = Some(attachment);
        self.watch_device();
        self.forget_checksums();
        // Sockets that share their memory with the driver are bound to its mode.
        if self.config.zero_copy {
            self.checker.vip().close();
            self.follow_vip_checks();
        }
        Ok(mode)
    }
}
