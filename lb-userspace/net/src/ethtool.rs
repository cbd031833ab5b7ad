//! What a driver can do and counts, as ethtool(8) asks for it.

use std::ffi::CStr;
use std::io;
use std::mem;
use std::os::fd::AsRawFd as _;

use socket2::{Domain, Socket, Type};

/// linux/sockios.h, linux/ethtool.h.
const SIOCETHTOOL: libc::c_ulong = 0x8946;
const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSSET_INFO: u32 = 0x37;
const ETHTOOL_GFEATURES: u32 = 0x3a;
const ETHTOOL_SFEATURES: u32 = 0x3b;
const ETH_GSTRING_LEN: usize = 32;

/// The kernel writes as many strings as the driver has at that moment, without a look at our
/// memory's size. A driver that gets more queues meanwhile has more: room for so many beyond twice
/// their number now.
const ROOM: usize = 4096;

/// A list of names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Names {
    Statistics = 1,
    Features = 4,
}

/// Tags that the driver takes off received frames, by the kernel's names for it.
const TAKES_TAGS_OFF: [&str; 2] = ["rx-vlan-hw-parse", "rx-vlan-stag-hw-parse"];
/// Tags that the driver puts into frames that it sends. A veth hands such frames to its far end
/// without their tags.
const PUTS_TAGS_IN: [&str; 2] = ["tx-vlan-hw-insert", "tx-vlan-stag-hw-insert"];

/// Frames of VLANs that no device on the interface is in are not received.
const FILTERS: [&str; 1] = ["rx-vlan-filter"];

/// Which of an interface's offloads of VLAN tags are on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VlanOffloads {
    /// Received frames come without their tags.
    pub receive: bool,
    /// Frames of VLANs that no device on it is in do not come at all, unless it is promiscuous.
    pub filter: bool,
    /// Frames that are sent leave the kernel without their tags.
    pub send: bool,
}

impl VlanOffloads {
    pub fn of(interface: &str) -> io::Result<Self> {
        let socket = socket()?;
        let names = names(&socket, interface, Names::Features)?;
        let active = active(&socket, interface, names.len())?;
        let is_on =
            |wanted: &[&str]| names.iter().zip(&active).any(|(name, on)| *on && wanted.contains(&&**name));
        Ok(Self { receive: is_on(&TAKES_TAGS_OFF), filter: is_on(&FILTERS), send: is_on(&PUTS_TAGS_IN) })
    }

    /// Has received frames keep their tags.
    ///
    /// # Errors
    /// The driver cannot, or this process may not.
    pub fn keep_tags(interface: &str) -> io::Result<()> {
        let socket = socket()?;
        let names = names(&socket, interface, Names::Features)?;
        let places = names.iter().enumerate().filter(|(_, name)| TAKES_TAGS_OFF.contains(&&***name));
        let mut words = vec![[0_u32; 2]; names.len().div_ceil(32)];
        places.for_each(|(place, _)| words[place / 32][0] |= 1 << (place % 32));
        // struct ethtool_sfeatures: command, size, and then which to change and what they become.
        let mut request = vec![ETHTOOL_SFEATURES, words.len() as u32];
        request.extend(words.into_iter().flatten());
        // SAFETY: the kernel reads as many words as the size tells.
        unsafe { self::request(&socket, interface, request.as_mut_ptr().cast()) }?;
        match Self::of(interface)?.receive {
            true => Err(io::Error::other("the driver cannot keep them")),
            false => Ok(()),
        }
    }
}

/// Of each feature whether it is on.
fn active(socket: &Socket, interface: &str, count: usize) -> io::Result<Vec<bool>> {
    // struct ethtool_gfeatures: command, size, and then four words for each 32 features: available,
    // requested, active, never changed.
    let size = count.div_ceil(32);
    let mut request = vec![0_u32; 2 + size * 4];
    request[..2].copy_from_slice(&[ETHTOOL_GFEATURES, size as u32]);
    // SAFETY: the kernel writes no more words than the size tells.
    unsafe { self::request(socket, interface, request.as_mut_ptr().cast()) }?;
    let word = |place: usize| request[2 + place / 32 * 4 + 2];
    Ok((0..count).map(|place| word(place) >> (place % 32) & 1 != 0).collect())
}

/// A socket for requests.
pub fn socket() -> io::Result<Socket> {
    Socket::new(Domain::IPV4, Type::DGRAM, None)
}

/// `struct ethtool_sset_info` with one set asked for.
#[repr(C)]
struct SetInfo {
    command: u32,
    reserved: u32,
    mask: u64,
    count: u32,
}

/// How many names there are.
pub fn count(socket: &Socket, interface: &str, which: Names) -> io::Result<usize> {
    let mut info = SetInfo { command: ETHTOOL_GSSET_INFO, reserved: 0, mask: 1 << which as u32, count: 0 };
    // SAFETY: the kernel reads the struct and writes one number for the one set that the mask
    // names.
    unsafe { request(socket, interface, (&raw mut info).cast()) }?;
    Ok(if info.mask == 0 { 0 } else { info.count as usize })
}

pub fn names(socket: &Socket, interface: &str, which: Names) -> io::Result<Vec<String>> {
    let count = count(socket, interface, which)?;
    if count == 0 {
        return Ok(Vec::new());
    }
    // struct ethtool_gstrings: command, set, count, and then the names.
    const HEAD: usize = 12;
    let mut buffer = vec![0_u32; (HEAD + (count * 2 + ROOM) * ETH_GSTRING_LEN) / size_of::<u32>()];
    buffer[..2].copy_from_slice(&[ETHTOOL_GSTRINGS, which as u32]);
    // SAFETY: the kernel writes as many names as there are; for the room see `ROOM`.
    unsafe { request(socket, interface, buffer.as_mut_ptr().cast()) }?;
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

/// ioctl(2) of ethtool.
///
/// # Safety
/// `request` points to the struct of its command, with room for all that the kernel writes.
pub unsafe fn request(socket: &Socket, interface: &str, request: *mut libc::c_char) -> io::Result<()> {
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
    use lb_lab::veth::VethPair;

    use super::*;

    #[test]
    fn names_end_at_their_place_or_before() {
        assert_eq!(text(b"xdp_tx\0\0"), "xdp_tx");
        assert_eq!(text(b"xdp_tx_e"), "xdp_tx_e");
    }

    #[test]
    fn a_driver_that_takes_tags_off_is_told_to_keep_them() {
        let pair = VethPair::new("vlanoff");
        pair.run(0, |_| {
            let both = VlanOffloads { receive: true, filter: false, send: true };
            assert_eq!(VlanOffloads::of("eth0").expect("features"), both, "a veth begins so");
            VlanOffloads::keep_tags("eth0").expect("a veth can");
            let sends = VlanOffloads { receive: false, filter: false, send: true };
            assert_eq!(VlanOffloads::of("eth0").expect("features"), sends);
            assert_eq!(VlanOffloads::of("lo").expect("features"), VlanOffloads::default());
            VlanOffloads::of("no-such-if").expect_err("it is not there");
        });
    }
}
