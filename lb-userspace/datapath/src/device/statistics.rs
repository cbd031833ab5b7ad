//! A driver's own counters (`ethtool -S`) of frames that an XDP program sent and that it threw
//! away.
//!
//! There is no common name for them, so they are known by what their names say. Drivers without
//! such counters throw away in silence.

use std::io;

use lb_net::ethtool::{self, Names};
use socket2::Socket;

const ETHTOOL_GSTATS: u32 = 0x1d;

/// The kernel writes as many counters as the driver has at that moment, without a look at our
/// memory's size. A driver that gets more queues meanwhile has more: room for so many beyond twice
/// their number now.
const ROOM: usize = 4096;

/// Counters of one interface that tell of frames thrown away.
#[derive(Debug)]
pub(super) struct Statistics {
    socket: Socket,
    interface: String,
    /// Place and name of each.
    counters: Vec<(usize, String)>,
    /// Of all the driver's counters.
    count: usize,
}

impl Statistics {
    /// `None`: the driver has no such counters.
    pub(super) fn of(interface: &str) -> io::Result<Option<Self>> {
        let socket = ethtool::socket()?;
        let names = ethtool::names(&socket, interface, Names::Statistics)?;
        let count = names.len();
        let counters: Vec<(usize, String)> =
            names.into_iter().enumerate().filter(|(_, name)| tells_of_loss(name)).collect();
        let interface = interface.to_owned();
        Ok((!counters.is_empty()).then_some(Self { socket, interface, counters, count }))
    }

    /// The present values, each with its counter's name, always in the same order.
    pub(super) fn read(&self) -> io::Result<Vec<(&str, u64)>> {
        if ethtool::count(&self.socket, &self.interface, Names::Statistics)? != self.count {
            return Err(io::Error::other("the driver has other counters now"));
        }
        let values = values(&self.socket, &self.interface, self.count)?;
        let value = |place: &usize| values.get(*place).copied().unwrap_or_default();
        Ok(self.counters.iter().map(|(place, name)| (&**name, value(place))).collect())
    }
}

/// Whether a counter of this name counts frames that an XDP program sent by XDP_TX and that went
/// nowhere: `xdp_tx_errors` (veth, mvneta), `xdp_tx_drops` (virtio_net), `xdp_tx_full`,
/// `xdp_tx_err` (mlx5, mlx4), `xdp_bad_drops` (sfc) and others. Not `xdp_drops`: those are frames
/// that the program itself drops. Not `redirect` and `xmit`: what goes to and comes from other
/// interfaces.
fn tells_of_loss(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let has = |word: &str| name.contains(word);
    let of_others = ["redirect", "xmit", "alloc"].iter().any(|word| has(word));
    let is_lost = has("err") || has("full") || has("fail") || (has("drop") && (has("tx") || has("bad")));
    has("xdp") && is_lost && !of_others
}

fn values(socket: &Socket, interface: &str, count: usize) -> io::Result<Vec<u64>> {
    // struct ethtool_stats: command and count, and then the values.
    let mut buffer = vec![0_u64; 1 + count * 2 + ROOM];
    let [a, b, c, d] = ETHTOOL_GSTATS.to_ne_bytes();
    buffer[0] = u64::from_ne_bytes([a, b, c, d, 0, 0, 0, 0]);
    // SAFETY: the kernel writes as many values as there are counters; for the room see `ROOM`.
    unsafe { ethtool::request(socket, interface, buffer.as_mut_ptr().cast()) }?;
    buffer.truncate(1 + count);
    Ok(buffer.split_off(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_frames_that_the_driver_threw_away_are_known_by_name() {
        for name in [
            "rx_queue_0_xdp_tx_errors", // veth
            "tx0_xdp_tx_drops",         // virtio_net
            "rx_xdp_tx_full",           // mlx5, mlx4
            "rx3_xdp_tx_err",
            "rx_xdp_bad_drops",               // sfc
            "rx_xdp_tx_errors[2]",            // gve
            "[drv] xdp tx errors",            // dpaa2
            "queue_8_xdp_tx_dma_mapping_err", // ena
        ] {
            assert!(tells_of_loss(name), "{name}");
        }
        for name in [
            "rx_queue_0_xdp_drops", // the program's own verdict
            "rx_xdp_drop",
            "rx0_xdp_drops",
            "rx_queue_0_xdp_tx",
            "tx_queue_0_xdp_xmit_errors", // sent by other interfaces' programs
            "rx_xdp_redirect_fail",       // the controller's own sockets
            "rx_xdp_alloc_fails",
            "tx_errors",
            "rx_queue_0_drops",
        ] {
            assert!(!tells_of_loss(name), "{name}");
        }
    }

    #[test]
    fn an_interface_without_such_counters_has_none() {
        match Statistics::of("lo") {
            Ok(None) => {}
            // What drivers without any statistics of their own are answered with.
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EOPNOTSUPP)),
            Ok(Some(found)) => panic!("{found:?}"),
        }
        let error = Statistics::of("no-such-if").expect_err("it is not there");
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
    }
}
