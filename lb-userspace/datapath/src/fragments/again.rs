//! A frame goes through a program that is not on an interface for it (BPF_PROG_TEST_RUN).

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, Result};
use aya::programs::ProgramFd;
use aya_obj::generated::{bpf_attr__bindgen_ty_7 as Run, bpf_cmd};
use lb_common::packet::fragment::AGAIN;
use lb_common::program::stage::Stage;

use crate::{bpf, kernel};

/// Most bytes that an outer header adds, and more.
const GROWS: usize = 256;
/// BPF_F_TEST_XDP_LIVE_FRAMES (Linux 5.18).
const LIVE: u32 = 1 << 1;

/// `enum xdp_action`.
const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;
const XDP_REDIRECT: u32 = 4;

/// `struct xdp_md`, as far as the kernel takes it.
#[repr(C)]
struct Context {
    data: u32,
    data_end: u32,
    data_meta: u32,
    interface: u32,
    queue: u32,
    to_interface: u32,
}

/// What a program says of a frame.
pub(super) enum Verdict {
    /// This leaves by the interface of this index.
    Send(u32, Vec<u8>),
    /// The frame is the host's.
    Pass,
    Drop,
}

/// The programs that look at fragments, as far as they are loaded: [`Stage::Related`] and
/// [`Stage::RelatedIpv6`].
#[derive(Debug, Default)]
pub struct RelatedPrograms([OnceLock<OwnedFd>; 2]);

impl RelatedPrograms {
    /// One more is loaded, perhaps of another stage.
    pub(crate) fn set(&self, stage: Stage, program: &ProgramFd) -> io::Result<()> {
        let Self([ipv4, ipv6]) = self;
        let place = match stage {
            Stage::Related => ipv4,
            Stage::RelatedIpv6 => ipv6,
            _ => return Ok(()),
        };
        // The one that was set first is the same program.
        let _ = place.set(program.as_fd().try_clone_to_owned()?);
        Ok(())
    }
}

pub(super) struct Programs {
    of: Arc<RelatedPrograms>,
    passing: OwnedFd,
    /// By its index.
    interface: u32,
}

impl Programs {
    pub(super) fn new(of: Arc<RelatedPrograms>, interface: u32) -> Result<Self> {
        let passing = kernel::passing().context("cannot load a program that passes frames on")?;
        Ok(Self { of, passing, interface })
    }

    /// Has the program look at a frame that was held.
    pub(super) fn look(&self, ipv6: bool, frame: &[u8]) -> io::Result<Verdict> {
        let RelatedPrograms(of) = &*self.of;
        // One that is not loaded has held no fragment.
        let Some(program) = of[usize::from(ipv6)].get() else { return Ok(Verdict::Pass) };
        let marked = [&AGAIN.to_ne_bytes(), frame].concat();
        let mut room = vec![0; marked.len() + GROWS];
        let begin = size_of_val(&AGAIN);
        // Whatever it came in by, the program has made it a packet of the main interface.
        let context = Context::new(begin as u32, marked.len() as u32, self.interface);
        let run = run(program, &marked, &context, |run| {
            run.data_out = room.as_mut_ptr() as u64;
            run.data_size_out = room.len() as u32;
        })?;
        room.truncate(run.data_size_out as usize);
        let frame = room.split_off(begin.min(room.len()));
        let leaves_by = room.try_into().map_or(AGAIN, u64::from_ne_bytes);
        Ok(match (run.retval, u32::try_from(leaves_by)) {
            (XDP_TX, _) => Verdict::Send(self.interface, frame),
            (XDP_REDIRECT, Ok(device)) => Verdict::Send(device, frame),
            (XDP_PASS, _) => Verdict::Pass,
            _ => Verdict::Drop,
        })
    }

    /// The host's stack gets the frame as if it had come by the interface.
    pub(super) fn pass(&self, frame: &[u8]) -> io::Result<()> {
        let context = Context::new(0, frame.len() as u32, self.interface);
        run(&self.passing, frame, &context, |run| {
            run.flags = LIVE;
            run.batch_size = 1;
        })
        .map(drop)
    }
}

impl Context {
    const fn new(data: u32, data_end: u32, interface: u32) -> Self {
        Self { data, data_end, data_meta: 0, interface, queue: 0, to_interface: 0 }
    }
}

fn run(program: &OwnedFd, data: &[u8], context: &Context, more: impl FnOnce(&mut Run)) -> io::Result<Run> {
    let (_, attr) = bpf::answer(bpf_cmd::BPF_PROG_TEST_RUN, |attr| {
        // SAFETY: this member of the union is the one that the command reads; all of it is
        // integers.
        let run = unsafe { &mut attr.test };
        run.prog_fd = program.as_raw_fd() as u32;
        run.data_in = data.as_ptr() as u64;
        run.data_size_in = data.len() as u32;
        run.ctx_in = (&raw const *context) as u64;
        run.ctx_size_in = size_of::<Context>() as u32;
        run.repeat = 1;
        more(run);
    })?;
    // SAFETY: the command has answered in it.
    Ok(unsafe { attr.test })
}
