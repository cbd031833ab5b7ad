//! Test fixture: two network namespaces joined by a veth pair.

use std::fs::File;
use std::process::Command;

use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, setns};

/// Two namespaces joined by a veth pair, each with an `eth0`: 10.9.9.1 and 10.9.9.2, fe80::1 and
/// fe80::2. Dropping it removes them.
pub struct VethPair {
    pub names: [String; 2],
}

impl VethPair {
    /// `purpose` is unique among the tests of this process.
    pub fn new(purpose: &str) -> Self {
        let names = ["a", "b"].map(|end| format!("lbw-{purpose}-{}-{end}", std::process::id()));
        let pair = Self { names };
        let [a, b] = &pair.names;
        for name in [a, b] {
            ip(&format!("netns add {name}"));
        }
        ip(&format!("-n {a} link add eth0 type veth peer name eth0 netns {b}"));
        for (name, number) in [(a, 1), (b, 2)] {
            ip(&format!("-n {name} address add 10.9.9.{number}/24 broadcast 10.9.9.255 dev eth0"));
            ip(&format!("-n {name} address add fe80::{number}/64 dev eth0 nodad"));
            ip(&format!("-n {name} link set eth0 up"));
        }
        pair
    }

    /// Runs `work` in one namespace, with the index of its interface, on a new thread, which alone
    /// enters the namespace.
    pub fn run<T: Send>(&self, end: usize, work: impl FnOnce(u32) -> T + Send) -> T {
        let namespace = File::open(format!("/run/netns/{}", self.names[end])).expect("the namespace");
        std::thread::scope(|scope| {
            let there = scope.spawn(|| {
                setns(&namespace, CloneFlags::CLONE_NEWNET).expect("entering the namespace");
                work(if_nametoindex("eth0").expect("an interface"))
            });
            there.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Drop for VethPair {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = Command::new("ip").args(["netns", "delete", name]).status();
        }
    }
}

pub fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().expect("ip");
    assert!(status.success(), "ip {arguments} (network namespaces need root: run the tests as root)");
}

/// Runs `test` on a runtime of the calling thread, so that sockets belong to its network namespace.
pub fn block_on<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(test)
}
