//! Network namespaces as machines, connected by a switch and by serial lines.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use lb_lab::lab::{Lab, unique_name};
//!
//! // Removed when dropped or interrupted, or at the latest by the next lab.
//! let lab = Lab::new(&unique_name("mine"))?;
//! let client = lab.node("client", "10.0.0.1/24".parse()?)?;
//! let server = lab.node("server", "10.0.0.2/24".parse()?)?;
//! let web = server.web_server("hello")?;
//! web.start()?;
//! assert_eq!(client.get("http://10.0.0.2/index.html")?.trim(), "hello");
//! # Ok(())
//! # }
//! ```
//!
//! A namespace's name is `lb-LAB-NODE`, for `ip netns list` and `ip -n lb-talk-ha1 address`.
//! Everything that belongs to a lab is recorded in [`state`] before it is created, so that clean-up
//! finds it.

pub mod alertmanager;
pub mod bare_machine;
pub mod bpf_file_system;
pub mod browser;
pub mod capture;
pub mod cleanup;
pub mod director;
pub mod echo;
pub mod editor;
mod global;
pub mod log;
pub mod namespace;
mod neighbours;
pub mod node;
pub mod originals;
pub mod process;
pub mod responder;
pub mod routing;
pub mod serial_line;
pub mod servers;
pub mod shell;
pub mod state;
pub mod switch;
pub mod tunnel_end;
pub mod vlan_end;
pub mod web_server;
pub mod xdp_pass;

use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, ensure};

pub use alertmanager::Alertmanager;
pub use bare_machine::BareMachine;
pub use capture::Capture;
pub use director::Director;
pub use namespace::Namespace;
pub use node::{Link, Node, Prefix};
pub use process::Process;
pub use responder::Responder;
pub use routing::Routing;
pub use serial_line::SerialLine;
pub use servers::RealServer;
pub use state::State;
pub use switch::Switch;
pub use tunnel_end::TunnelEnd;
pub use vlan_end::VlanEnd;
pub use web_server::WebServer;

use switch::Segment;

/// A running lab. Dropping it removes everything it made.
#[derive(Debug)]
pub struct Lab {
    state: State,
    switch: Switch,
    kept: bool,
}

impl Lab {
    /// Creates a lab with a switch and no nodes. First removes labs whose owners are dead.
    ///
    /// `name` is short, of lower-case letters and digits. It is an error if a lab of this name has
    /// a living owner.
    pub fn new(name: &str) -> Result<Self> {
        ensure!(nix::unistd::geteuid().is_root(), "{NEEDS_ROOT}");
        cleanup::on_signals()?;
        let state = State::claim(name)?;
        // From here on a failure must remove everything.
        match Switch::new(&state) {
            Ok(switch) => Ok(Self { state, switch, kept: false }),
            Err(error) => {
                cleanup::remove(&state);
                Err(error)
            }
        }
    }

    /// A machine on the switch, with `address` on its `eth0`.
    pub fn node(&self, name: &str, address: Prefix) -> Result<Node> {
        Node::new(&self.state, &self.switch, name, address)
    }

    /// Gives `node` an `eth1` with `address`, on the directors' segment for heartbeats.
    pub fn join_heartbeat_segment(&self, node: &Node, address: Prefix) -> Result<()> {
        node.connect(&self.switch, Segment::Heartbeat, address)
    }

    /// Creates a serial line (null-modem cable), recorded under `name`.
    pub fn serial_line(&self, name: &str) -> Result<SerialLine> {
        SerialLine::new(&self.state, name)
    }

    pub fn state(&self) -> &State {
        &self.state
    }

    /// Raises the kernel's neighbour limits, which are the whole machine's, until the lab is
    /// removed.
    pub fn make_room_for_neighbours(&self, count: usize) -> Result<()> {
        // Above gc_thresh2 the kernel removes entries, above gc_thresh3 it creates no more.
        for limit in ["gc_thresh3", "gc_thresh2"] {
            global::raise(&self.state, &format!("net/ipv4/neigh/default/{limit}"), 1024 + 2 * count as u64)?;
        }
        Ok(())
    }

    /// Keeps the lab running after this process; `cargo xtask lab down` removes it.
    pub fn keep(mut self) -> Result<()> {
        self.state.give_up_ownership()?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        if std::thread::panicking() {
            self.state.print_logs();
        }
        cleanup::remove(&self.state);
    }
}

const NEEDS_ROOT: &str = "the lab makes network namespaces and loads XDP programs, which takes root: run the command as root, \
     for example with `sudo -E env PATH=\"$PATH\" cargo xtask …`";

/// A lab name that no other process uses, so that tests can run side by side.
pub fn unique_name(purpose: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{purpose}x{}x{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}
