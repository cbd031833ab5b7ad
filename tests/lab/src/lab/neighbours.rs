//! Resolves an address on the segment.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lb_common::mac::Mac;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use super::{Node, shell};
use crate::uninterrupted;

/// How long to wait for answers.
const PATIENCE: Duration = Duration::from_secs(1);

impl Node {
    /// The MACs of all machines on `eth0`'s segment that answer for `address`, by ARP or neighbour
    /// discovery. Waits for a second.
    pub fn who_has(&self, address: impl Into<IpAddr>) -> Result<BTreeSet<String>> {
        match address.into() {
            IpAddr::V4(address) => self.ask_by_arp(address),
            IpAddr::V6(address) => self.solicit(address),
        }
    }

    fn ask_by_arp(&self, address: Ipv4Addr) -> Result<BTreeSet<String>> {
        let mut command = self.command("arping");
        command.args(["-b", "-w", &PATIENCE.as_secs().to_string(), "-I", "eth0"]).arg(address.to_string());
        // arping's exit code only says whether there was an answer.
        let output = command.output().with_context(|| format!("cannot start {}", shell::line(&command)))?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(
            text.starts_with("ARPING"),
            "{} failed: {}",
            shell::line(&command),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        // Unicast reply from 211.58.250.6 [02:00:D3:3A:FA:05]  0.612ms
        let replies = text.lines().filter(|line| line.contains("reply from"));
        let macs = replies.filter_map(|line| Some(line.split_once('[')?.1.split_once(']')?.0));
        Ok(macs.map(str::to_ascii_lowercase).collect())
    }

    /// Makes the kernel send a neighbour solicitation, by sending a datagram to the address.
    fn solicit(&self, address: Ipv6Addr) -> Result<BTreeSet<String>> {
        self.ip(&format!("-6 neighbour flush to {address} dev eth0"))?;
        self.run(|| {
            let flags = SockFlag::SOCK_CLOEXEC;
            let answers = socket(AddressFamily::Inet6, SockType::Raw, flags, SockProtocol::IcmpV6)?;
            // A raw socket as tokio's UDP socket: receiving works the same way.
            let answers = UdpSocket::from(answers);
            UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?.send_to(b"?", (address, 9))?;
            let deadline = Instant::now() + PATIENCE;
            let mut macs = BTreeSet::new();
            while let Some(left) =
                deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
            {
                answers.set_read_timeout(Some(left))?;
                let mut message = [0; 128];
                match uninterrupted(|| answers.recv(&mut message)) {
                    Ok(length) => macs.extend(answer_for(address, &message[..length])),
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                        break;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(macs)
        })?
    }
}

/// The MAC in a neighbour advertisement that answers a solicitation for `address` (RFC 4861,
/// section 4.4).
fn answer_for(address: Ipv6Addr, message: &[u8]) -> Option<String> {
    const SOLICITED: u8 = 0x40;
    let (advertisement, option) = message.split_first_chunk::<24>()?;
    let is_answer = advertisement[..2] == [136, 0] && advertisement[4] & SOLICITED != 0;
    let [2, 1, mac @ ..] = option.first_chunk::<8>()? else { return None };
    (is_answer && advertisement[8..] == address.octets()).then(|| Mac::new(*mac).to_string())
}
