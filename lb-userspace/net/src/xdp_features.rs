//! What an interface's driver can do with XDP, asked of the kernel's netlink family `netdev`.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rtnetlink::sys::{Socket, SocketAddr};
use socket2::SockRef;

/// linux/netlink.h, linux/genetlink.h, linux/netdev.h.
const NETLINK_GENERIC: isize = 16;
const CONTROL: u16 = 0x10;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
const GET_DEVICE: u8 = 1;
const INTERFACE: u16 = 1;
const FEATURES: u16 = 3;
const ERROR: u16 = 2;
const REQUEST: u16 = 1;
/// NETDEV_XDP_ACT_NDO_XMIT.
const TAKES_REDIRECTED: u64 = 4;

const HEADERS: usize = 16 + 4;
/// The kernel answers at once.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
const LONGEST_ANSWER: usize = 1 << 16;

/// Whether the driver takes frames that XDP redirects to it in native mode, as it is set up now.
///
/// # Errors
/// The kernel cannot tell, as those before 6.3.
pub fn takes_redirected(interface: u32) -> Result<bool> {
    let socket = Socket::new(NETLINK_GENERIC).context("cannot open a netlink socket")?;
    SockRef::from(&socket).set_read_timeout(Some(ANSWER_WITHIN))?;
    let name = attribute(FAMILY_NAME, b"netdev\0");
    let family = ask(&socket, CONTROL, GET_FAMILY, &name)?;
    let family = value::<2>(&family, FAMILY_ID).context("the kernel has no family `netdev`")?;
    let about = ask(
        &socket,
        u16::from_ne_bytes(family),
        GET_DEVICE,
        &attribute(INTERFACE, &interface.to_ne_bytes()),
    )?;
    let features = value::<8>(&about, FEATURES).context("the kernel does not tell the features")?;
    Ok(u64::from_ne_bytes(features) & TAKES_REDIRECTED != 0)
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = (value.len() as u16 + 4).to_ne_bytes();
    let mut bytes = [&length[..], &kind.to_ne_bytes(), value].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// The attributes of the answer.
fn ask(socket: &Socket, family: u16, command: u8, attributes: &[u8]) -> Result<Vec<u8>> {
    let length = (HEADERS + attributes.len()) as u32;
    let header = [&length.to_ne_bytes()[..], &family.to_ne_bytes(), &REQUEST.to_ne_bytes(), &[0; 8]].concat();
    let request = [&header[..], &[command, 1, 0, 0], attributes].concat();
    socket.send_to(&request, &SocketAddr::new(0, 0), 0).context("cannot ask the kernel")?;
    let mut answer = Vec::with_capacity(LONGEST_ANSWER);
    socket.recv(&mut answer, 0).context("no answer from the kernel")?;
    let kind = answer.get(4..6).context("half an answer")?;
    if kind == ERROR.to_ne_bytes() {
        bail!("the kernel refuses to tell");
    }
    Ok(answer.get(HEADERS..).unwrap_or_default().to_vec())
}

/// The beginning of an attribute's value.
fn value<const LENGTH: usize>(mut attributes: &[u8], wanted: u16) -> Option<[u8; LENGTH]> {
    loop {
        let [a, b, c, d, ..] = *attributes else { return None };
        let (length, kind) = (usize::from(u16::from_ne_bytes([a, b])), u16::from_ne_bytes([c, d]));
        if kind == wanted {
            return attributes.get(4..length)?.first_chunk().copied();
        }
        attributes = attributes.get(length.max(4).next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use lb_lab::veth::VethPair;

    use super::*;

    /// A veth does while its far end empties its ring by itself, which GRO has it do.
    #[test]
    fn the_kernel_tells_who_takes_redirected_frames() {
        let pair = VethPair::new("redirect");
        let takes = || pair.run(0, |index| takes_redirected(index).expect("Linux 6.3 or later"));
        for on in [false, true] {
            let switch = if on { "on" } else { "off" };
            let set = |_| Command::new("ethtool").args(["-K", "eth0", "gro", switch]).status();
            assert!(pair.run(1, set).expect("ethtool").success());
            assert_eq!(takes(), on);
        }
        takes_redirected(u32::MAX / 2).expect_err("there is no such interface");
    }

    #[test]
    fn half_an_answer_tells_nothing() {
        let whole = [attribute(2, b"netdev\0"), attribute(1, &7_u16.to_ne_bytes())].concat();
        assert_eq!(value::<2>(&whole, 1), Some(7_u16.to_ne_bytes()));
        for length in 0..whole.len() - 2 {
            assert_eq!(value::<2>(&whole[..length], 1), None, "{length} bytes");
        }
        assert_eq!(value::<8>(&whole, 1), None);
        assert_eq!(value::<2>(&[0, 0, 9, 0, 0, 0, 0, 0], 1), None, "a length of nothing");
    }
}
