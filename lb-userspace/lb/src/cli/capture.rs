//! `lb capture`: the frames of packets as they came in and as they went out, in a file for tcpdump,
//! tshark or Wireshark.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, IsTerminal as _, Write};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use lb_api::client::{Trace, Traced, request_status};
use lb_api::trace::{Bounds, Direction, End, Frame, SECONDS};
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::{DataLink, Endianness, PcapError};

use super::output::{Director, Usage};
use super::trace::{Which, comment, stop_when_interrupted};

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    which: Which,
    /// Write to this file; `-` is standard output
    #[arg(short, long, value_name = "FILE")]
    write: PathBuf,
    /// End after so many packets
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after so many seconds
    #[arg(long, visible_alias = "duration", value_name = "N", default_value_t = SECONDS, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Capture one of so many packets
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    sample: u32,
    /// Write so many bytes of each frame
    #[arg(long, value_name = "BYTES", default_value_t = MOST, value_parser = clap::value_parser!(u32).range(14..=i64::from(MOST)))]
    snaplen: u32,
    #[command(flatten)]
    director: Director,
}

/// Of a jumbo frame.
const MOST: u32 = lb_common::program::capture::MOST as u32;

pub(super) fn run(options: Options) -> Result<()> {
    let Options { which, write, count, seconds, sample, snaplen, director } = options;
    let interface = request_status(&director.socket)?.interface;
    let bounds = Bounds { count, seconds, sample, snaplen: Some(snaplen) };
    let to_standard_output = write.as_os_str() == "-";
    if to_standard_output && io::stdout().is_terminal() {
        let why =
            "standard output is a terminal: name a file, or pipe it to a program such as `tcpdump -r -`";
        return Err(Usage(why.to_owned()).into());
    }
    let mut trace = Trace::begin(&director.socket, which.filter(), bounds)?;
    stop_when_interrupted(trace.stop()?)?;
    // Nothing is written for a capture that is refused.
    let mut traced = trace.hear()?;
    let output: Box<dyn Write> = match to_standard_output {
        true => Box::new(io::stdout()),
        false => Box::new(File::create(&write).with_context(|| format!("cannot write {}", write.display()))?),
    };
    eprintln!("capturing for {seconds} s at most; Ctrl-C ends it");
    let mut file = Pcap::begin(BufWriter::new(output), &interface, snaplen)?;
    loop {
        match traced {
            Traced::Frames(frames) if !file.write(&frames)? => return Ok(()),
            Traced::Frames(_) => {}
            Traced::Packets(_) => {
                bail!("lb sends packets without frames: does another version of lb run there?")
            }
            Traced::End(end) => return finish(&end, file.frames),
        }
        traced = trace.hear()?;
    }
}

/// To standard error, where it is in no program's way.
fn finish(end: &End, frames: u64) -> Result<()> {
    eprintln!("{}", summary(end, frames));
    match &end.error {
        Some(error) => bail!("{error}"),
        None => Ok(()),
    }
}

fn summary(End { told, matched, lost, .. }: &End, frames: u64) -> String {
    let lost = match lost {
        0 => String::new(),
        lost => format!(
            ", {lost} frames lost because there was no room for them: narrow the filter, or use --sample or a smaller --snaplen"
        ),
    };
    format!("{told} captured of {matched} packets, as {frames} frames{lost}")
}

/// A pcapng file: one interface, and a block for each frame with its direction and, as a comment,
/// what was decided.
struct Pcap<W: Write> {
    writer: PcapNgWriter<W>,
    frames: u64,
}

/// Of `epb_flags`, its lowest two bits.
const INBOUND: u32 = 1;
const OUTBOUND: u32 = 2;
/// Of `if_tsresol`: time stamps are in nanoseconds.
const NANOSECONDS: u8 = 9;

impl<W: Write> Pcap<W> {
    fn begin(output: W, interface: &str, snaplen: u32) -> Result<Self> {
        let mut writer = PcapNgWriter::with_endianness(output, Endianness::Big).map_err(cannot_write)?;
        let options = vec![
            InterfaceDescriptionOption::IfName(Cow::Borrowed(interface)),
            InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
        ];
        let interface = InterfaceDescriptionBlock { linktype: DataLink::ETHERNET, snaplen, options };
        writer.write_pcapng_block(interface).map_err(cannot_write)?;
        writer.get_mut().flush().context("cannot write")?;
        Ok(Self { writer, frames: 0 })
    }

    /// `false`: nobody reads any more, as behind `| head`.
    fn write(&mut self, frames: &[Frame]) -> Result<bool> {
        for frame in frames {
            let data = frame.content().context("lb sends what is no frame")?;
            let flags = match frame.direction {
                Direction::In => INBOUND,
                Direction::Out => OUTBOUND,
            };
            let options = vec![
                EnhancedPacketOption::Comment(comment(&frame.packet).into()),
                EnhancedPacketOption::Flags(flags),
            ];
            let block = EnhancedPacketBlock {
                interface_id: 0,
                timestamp: Duration::from_nanos(frame.time_ns),
                original_len: frame.length,
                data: data.into(),
                options,
            };
            match self.writer.write_pcapng_block(block) {
                Err(error) if is_broken_pipe(&error) => return Ok(false),
                result => result.map_err(cannot_write)?,
            };
            self.frames += 1;
        }
        match self.writer.get_mut().flush() {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
            result => result.context("cannot write").map(|()| true),
        }
    }
}

fn is_broken_pipe(error: &PcapError) -> bool {
    matches!(error, PcapError::IoError(error) if error.kind() == ErrorKind::BrokenPipe)
}

fn cannot_write(error: PcapError) -> anyhow::Error {
    anyhow::Error::new(error).context("cannot write the capture")
}

#[cfg(test)]
mod tests {
    use lb_api::trace::{Outcome, Packet, Way};

    use super::*;

    fn frame(direction: Direction) -> Frame {
        Frame {
            direction,
            time_ns: 1_796_000_000_123_456_789,
            length: 60,
            bytes: Frame::digits(&[1, 2, 3]),
            packet: Packet {
                protocol: Some("tcp".to_owned()),
                flags: Some("S".to_owned()),
                length: 46,
                service: Some("web".to_owned()),
                scheduler: Some("rr".to_owned()),
                way: Some(Way::New),
                server: Some("www2".to_owned()),
                forwarding: Some("direct".to_owned()),
                outcome: Outcome::Forwarded,
                ..Packet::default()
            },
        }
    }

    /// Byte by byte, as draft-ietf-opsawg-pcapng has it: what Wireshark and tcpdump read.
    #[test]
    fn a_file_is_as_the_format_says() {
        let mut file = Pcap::begin(Vec::new(), "eth0", 262).expect("room");
        assert!(file.write(&[frame(Direction::In), frame(Direction::Out)]).expect("room"));
        let bytes = std::mem::take(file.writer.get_mut());
        let word = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        assert_eq!((word(0), word(8)), (0x0a0d_0d0a, 0x1a2b_3c4d), "a section in network byte order");
        let interface = word(4) as usize;
        assert_eq!((word(interface), word(interface + 12)), (1, 262));
        assert_eq!(word(interface + 8), 1 << 16, "Ethernet");
        let comment = b"web: new, rr -> www2, direct";
        let mut at = interface + word(interface + 4) as usize;
        for flags in [1, 2] {
            assert_eq!((word(at), word(at + 8)), (6, 0), "an enhanced packet of interface 0");
            let time = u64::from(word(at + 12)) << 32 | u64::from(word(at + 16));
            assert_eq!(time, 1_796_000_000_123_456_789);
            assert_eq!((word(at + 20), word(at + 24)), (3, 60), "captured and original length");
            assert_eq!(bytes[at + 28..at + 32], [1, 2, 3, 0]);
            assert_eq!(word(at + 32), 1 << 16 | comment.len() as u32, "a comment");
            assert_eq!(&bytes[at + 36..][..comment.len()], comment);
            let behind = at + 36 + comment.len().next_multiple_of(4);
            assert_eq!((word(behind), word(behind + 4)), (2 << 16 | 4, flags), "the direction");
            at += word(at + 4) as usize;
        }
        assert_eq!(at, bytes.len());
    }

    #[test]
    fn the_summary_tells_what_was_lost() {
        let end = End { told: 5, matched: 120, lost: 0, error: None };
        assert_eq!(summary(&end, 9), "5 captured of 120 packets, as 9 frames");
        assert!(summary(&End { lost: 3, ..end }, 9).contains(", 3 frames lost because"));
    }
}
