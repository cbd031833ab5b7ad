//! Other interfaces that packets come in by, and the AF_XDP sockets of all interfaces.

use std::mem::offset_of;
use std::os::fd::BorrowedFd;
use std::sync::atomic::Ordering;

use anyhow::{Context as _, Result};
use lb_common::control::Control;
use lb_common::forward::ingress::Ingress;
use lb_common::mac::Mac;
use lb_net::xsk::MAX_QUEUES;

use super::Executor;

impl Executor {
    /// From now on packets come in by these interfaces, too, whose indices and MACs are told in a
    /// fixed order; `main` is the index of the main one.
    pub fn set_ingresses(&mut self, main: u32, others: &[(u32, Mac)]) -> Result<()> {
        let sockets = (1..).map(|place| u64::from(MAX_QUEUES) * place);
        let ingresses = others.iter().zip(sockets).map(|((index, mac), sockets)| {
            let ingress = Ingress { mac: *mac, sockets };
            (*index, zerocopy::transmute!(ingress))
        });
        self.maps.ingresses.set("interfaces that packets come in by", &ingresses.collect())?;
        if !others.is_empty() {
            self.make_known(main)?;
        }
        // What servers behind address translation send may leave by any of them.
        for (index, _) in others {
            self.make_known(*index)?;
        }
        let main = if others.is_empty() { 0 } else { u64::from(main) };
        self.maps.control.word(0, offset_of!(Control, main)).store(main, Ordering::Release);
        Ok(())
    }

    /// Has answers that come in by `queue` of the interface with this place among all that packets
    /// come in by (0: the main one) go to this AF_XDP socket, as long as that is open.
    pub fn set_xsk(&mut self, place: u32, queue: u32, socket: BorrowedFd<'_>) -> Result<()> {
        self.maps
            .xsks
            .set(place * MAX_QUEUES + queue, socket, 0)
            .with_context(|| format!("no room for a socket of queue {queue}"))
    }
}
