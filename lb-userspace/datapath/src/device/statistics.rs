//! A driver's own counters (`ethtool -S`) of frames that an XDP program sent and that it threw
//! away.
//!
//! There is no common name for them, so they are known by what their names say. Drivers without
//! such counters throw away in silence.

use std::ffi::CStr;
use std::io;
use std::mem;
use std::os::fd::AsRawFd as _;

use socket2::{Domain, Socket, Type};

/// linux/sockios.h, linux/ethtool.h.
const SIOCETHTOOL: libc::c_ulong = 0x8946;
const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSTATS: u32 = 0x1d;
const ETHTOOL_GSSET_INFO: u32 = 0x37;
const ETH_SS_STATS: u32 = 1;
const ETH_GSTRING_LEN: usize = 32;

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
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
        let names = names(&socket, interface)?;
        let count = names.len();
        let counters: Vec<(usize, String)> =
            names.into_iter().enumerate().filter(|(_, name)| tells_of_loss(name)).collect();
        let interface = interface.to_owned();
        Ok((!counters.is_empty()).then_some(Self { socket, interface, counters, count }))
    }

    /// The present values, each with its counter's name, always in the same order.
    pub(super) fn read(&self) -> io::Result<Vec<(&str, u64)>> {
        if count(&self.socket, &self.interface)? != self.count {
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

/// `struct ethtool_sset_info` with one set asked for.
#[repr(C)]
struct SetInfo {
    command: u32,
    reserved: u32,
    mask: u64,
    count: u32,
}

fn count(socket: &Socket, interface: &str) -> io::Result<usize> {
    let mut info = SetInfo { command: ETHTOOL_GSSET_INFO, reserved: 0, mask: 1 << ETH_SS_STATS, count: 0 };
    // SAFETY: the kernel reads the struct and writes one number for the one set that the mask
    // names.
    unsafe { ethtool(socket, interface, (&raw mut info).cast()) }?;
    Ok(if info.mask == 0 { 0 } else { info.count as usize })
}

fn names(socket: &Socket, interface: &str) -> io::Result<Vec<String>> {
    let count = count(socket, interface)?;
    if count == 0 {
        return Ok(Vec::new());
    }
    // struct ethtool_gstrings: command, set, count, and then the names.
    const HEAD: usize = 12;
    let mut buffer = vec![0_u32; (HEAD + (count * 2 + ROOM) * ETH_GSTRING_LEN) / size_of::<u32>()];
    buffer[..2].copy_from_slice(&[ETHTOOL_GSTRINGS, ETH_SS_STATS]);
    // SAFETY: the kernel writes as many names as there are counters; for the room see `ROOM`.
    unsafe { ethtool(socket, interface, buffer.as_mut_ptr().cast()) }?;
    let bytes: Vec<u8> = buffer.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let count = buffer[2] as usize;
    let names = bytes[HEAD..].chunks_exact(ETH_GSTRING_LEN).take(count);
    Ok(names.map(text).collect())
}

/// A name; one that fills its place has no 0 at the end.
fn text(bytes: &[u8]) -> String {
    let name = CStr::from_bytes_until_nul(bytes).map_or(bytes, CStr::to_bytes);
    String::from_utf8_lossy(name).into_owned()
}

fn values(socket: &Socket, interface: &str, count: usize) -> io::Result<Vec<u64>> {
    // struct ethtool_stats: command and count, and then the values.
    let mut buffer = vec![0_u64; 1 + count * 2 + ROOM];
    let [a, b, c, d] = ETHTOOL_GSTATS.to_ne_bytes();
    buffer[0] = u64::from_ne_bytes([a, b, c, d, 0, 0, 0, 0]);
    // SAFETY: the kernel writes as many values as there are counters; for the room see `ROOM`.
    unsafe { ethtool(socket, interface, buffer.as_mut_ptr().cast()) }?;
    buffer.truncate(1 + count);
    Ok(buffer.split_off(1))
}

/// ioctl(2) of ethtool.
///
/// # Safety
/// `request` points to the struct of its command, with room for all that the kernel writes.
unsafe fn ethtool(socket: &Socket, interface: &str, request: *mut libc::c_char) -> io::Result<()> {
    // SAFETY: the struct consists of integers and pointers, for which zeros are fine.
    let mut ifreq: libc::ifreq = unsafe { mem::zeroed() };
    let name = interface.bytes().take(libc::IFNAMSIZ - 1);
    ifreq.ifr_name.iter_mut().zip(name).for_each(|(to, from)| *to = from as libc::c_char);
    ifreq.ifr_ifru.ifru_data = request;
    // SAFETY: `ifreq` is valid, and `request` is by this function's own condition.
    match unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL as _, &raw mut ifreq) } {
        result if result < 0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
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

    #[test]
    fn names_end_at_their_place_or_before() {
        assert_eq!(text(b"xdp_tx\0\0"), "xdp_tx");
        assert_eq!(text(b"xdp_tx_e"), "xdp_tx_e");
    }
}
