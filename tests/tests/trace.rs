//! `lb trace` and `lb capture` with real clients and servers, on the talk's cluster.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStderr, ChildStdout};
use std::time::{Duration, Instant};

use lb_api::trace::{Outcome, Packet, Way};
use lb_lab::cluster::{Talk, VIP};
use lb_lab::lab::{Director, unique_name};
use lb_lab::scenario::kept_open::KeptOpen;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pcap_file::DataLink;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
use pcap_file::pcapng::{Block, PcapNgReader};

const PATIENCE: Duration = Duration::from_secs(60);

fn start(purpose: &str) -> (Talk, Director) {
    let talk = Talk::new(&unique_name(purpose)).expect("the cluster comes up");
    let director = talk.start_serving().expect("lb starts on ha1, and both servers come up");
    (talk, director)
}

/// `lb trace` under way.
struct Trace {
    child: Child,
    output: BufReader<ChildStdout>,
    words: BufReader<ChildStderr>,
}

impl Trace {
    /// Returns once the director traces.
    fn start(director: &Director, words: &[&str]) -> Self {
        let mut trace = Self::launch(director, words);
        let mut first = String::new();
        trace.words.read_line(&mut first).expect("a word");
        assert!(first.starts_with("tracing for "), "{first}");
        trace
    }

    /// The same of a capture.
    fn capture(director: &Director, words: &[&str]) -> Self {
        let mut capture = Self::of(director.start_capture(words).expect("lb capture starts"));
        let mut first = String::new();
        capture.words.read_line(&mut first).expect("a word");
        assert!(first.starts_with("capturing for "), "{first}");
        capture
    }

    fn launch(director: &Director, words: &[&str]) -> Self {
        Self::of(director.start_trace(words).expect("lb trace starts"))
    }

    fn of(mut child: Child) -> Self {
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        let words = BufReader::new(child.stderr.take().expect("a pipe"));
        Self { child, output, words }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("a line");
        line
    }

    fn packet(&mut self) -> Packet {
        let line = self.line();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// The rest of its output, its exit code and its last words.
    fn end(mut self) -> (String, Option<i32>, String) {
        let (mut rest, mut said) = (String::new(), String::new());
        self.output.read_to_string(&mut rest).expect("its output");
        self.words.read_to_string(&mut said).expect("its words");
        (rest, self.child.wait().expect("an end").code(), said)
    }

    fn interrupt(&self) {
        let pid = Pid::from_raw(self.child.id().try_into().expect("a pid"));
        kill(pid, Signal::SIGINT).expect("it runs");
    }
}

#[test]
fn a_connections_packets_are_told_with_their_server() {
    let (talk, director) = start("trace");
    let mut trace = Trace::start(&director, &["--service", "web", "--count", "5", "--json"]);
    let page = KeptOpen::open(&talk.client).get();
    let packets: Vec<Packet> = (0..5).map(|_| trace.packet()).collect();
    let (rest, code, said) = trace.end();
    assert_eq!((rest.as_str(), code), ("", Some(0)), "{said}");
    assert!(said.starts_with("5 shown of "), "{said}");

    let server = packets[0].server.clone().expect("a server");
    assert!(page.contains(&server), "{page:?} is of {server}");
    assert_eq!((packets[0].flags.as_deref(), packets[0].way), (Some("S"), Some(Way::New)));
    for packet in &packets {
        assert_eq!((packet.outcome, packet.server.as_ref()), (Outcome::Forwarded, Some(&server)));
        assert_eq!((packet.vip, packet.port), (Some(VIP.into()), Some(80)));
        assert_eq!(packet.client, Some(talk.client.address().into()));
        assert_eq!(packet.forwarding.as_deref(), Some("direct"));
    }
    assert!(packets[1..].iter().all(|packet| packet.way == Some(Way::Known)), "{packets:#?}");
    assert!(packets.is_sorted_by_key(|packet| packet.time.clone()), "in their order");
}

#[test]
fn a_filter_shows_nothing_else_until_it_is_interrupted() {
    let (talk, director) = start("filter");
    let mut trace = Trace::start(&director, &["--server", "www2"]);
    let pages: Vec<String> = (0..4).map(|_| KeptOpen::open(&talk.client).get()).collect();
    assert_eq!(pages.iter().filter(|page| page.contains("www2")).count(), 2, "{pages:?}");
    let first = trace.line();
    assert!(first.contains(" TCP S ") && first.ends_with("new, rr -> www2, direct\n"), "{first}");
    trace.interrupt();
    let (rest, code, said) = trace.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(rest.lines().all(|line| line.ends_with("-> www2, direct")), "{rest}");

    let trace = Trace::start(&director, &["--refused", "--client", &talk.client.address().to_string()]);
    KeptOpen::open(&talk.client).get();
    trace.interrupt();
    let (rest, code, said) = trace.end();
    assert_eq!((rest.as_str(), code), ("", Some(0)), "{said}");
}

#[test]
fn a_trace_ends_with_its_director_and_the_next_one_has_none() {
    let (talk, mut director) = start("kill");
    let mut open = KeptOpen::open(&talk.client);
    let page = open.get();
    let trace = Trace::start(&director, &["--json", "--seconds", "600"]);
    director.kill().expect("it dies");
    let (_, code, said) = trace.end();
    assert_eq!(code, Some(1), "{said}");
    assert_eq!(open.get(), page, "the program that tells forwards on");
    let (_, code, said) = Trace::launch(&director, &[]).end();
    assert_eq!(code, Some(3), "nobody is there: {said}");

    director.restart().expect("the next one starts");
    assert_eq!(open.get(), page);
    let trace = Trace::start(&director, &["--json", "--seconds", "600"]);
    director.stop().expect("it stops in order");
    assert_eq!(trace.end().1, Some(1));
    assert_eq!(open.get(), page, "its program forwards on");

    director.restart().expect("the next one starts");
    let mut trace = Trace::start(&director, &["--count", "1", "--json"]);
    assert_eq!(open.get(), page);
    assert_eq!(trace.packet().way, Some(Way::Known), "tracing is off until it is asked for");
    assert_eq!(trace.end().1, Some(0));

    // One at a time; a client that goes without a word ends its own.
    let mut trace = Trace::start(&director, &["--json", "--seconds", "600"]);
    let (_, code, said) = Trace::launch(&director, &[]).end();
    assert_eq!(code, Some(1));
    assert!(said.contains("somebody traces already"), "{said}");
    trace.child.kill().expect("it runs");
    trace.child.wait().expect("an end");
    let deadline = Instant::now() + PATIENCE;
    while Trace::launch(&director, &["--seconds", "1"]).end().1 != Some(0) {
        assert!(Instant::now() < deadline, "the trace does not end");
    }
}

/// A frame of a capture: whether it went out, its bytes and its comment.
type Frame = (bool, Vec<u8>, String);

fn read(file: &[u8]) -> Vec<Frame> {
    let mut reader = PcapNgReader::new(file).expect("a section");
    let mut frames = Vec::new();
    while let Some(block) = reader.next_block() {
        match block.expect("a block") {
            Block::InterfaceDescription(interface) => assert_eq!(interface.linktype, DataLink::ETHERNET),
            Block::EnhancedPacket(packet) => {
                assert_eq!(packet.original_len as usize, packet.data.len());
                let (mut out, mut comment) = (None, None);
                for option in &packet.options {
                    match option {
                        EnhancedPacketOption::Flags(flags) => out = Some(flags & 3 == 2),
                        EnhancedPacketOption::Comment(text) => comment = Some(text.to_string()),
                        _ => {}
                    }
                }
                let direction = out.expect("a direction");
                frames.push((direction, packet.data.to_vec(), comment.expect("a comment")));
            }
            other => panic!("{other:?}"),
        }
    }
    frames
}

#[test]
fn a_capture_has_what_came_in_and_what_went_out() {
    let (talk, director) = start("capture");
    let file = tempfile::NamedTempFile::new().expect("a file");
    let path = file.path().to_str().expect("a name");
    let capture = Trace::capture(&director, &["--service", "web", "--count", "5", "-w", path]);
    let page = KeptOpen::open(&talk.client).get();
    let (_, code, said) = capture.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.starts_with("5 captured of "), "{said}");

    let frames = read(&std::fs::read(path).expect("the file"));
    assert_eq!(frames.len(), 10, "each packet twice");
    let server = if page.contains("www1") { &talk.www1 } else { &talk.www2 };
    let name = if page.contains("www1") { "www1" } else { "www2" };
    let mac = |octets: &[u8]| octets.iter().map(|octet| format!("{octet:02x}")).collect::<Vec<_>>().join(":");
    let (client, director_mac, server) = (talk.client.mac(), talk.ha1.mac(), server.node().mac());
    for (number, pair) in frames.chunks(2).enumerate() {
        let [(false, came, comment), (true, went, same)] = pair else { panic!("in, then out: {pair:?}") };
        assert_eq!([mac(&came[..6]), mac(&came[6..12])], [director_mac.clone(), client.clone()]);
        assert_eq!([mac(&went[..6]), mac(&went[6..12])], [server.clone(), director_mac.clone()]);
        assert_eq!(came[12..], went[12..], "direct routing changes nothing else");
        let way = if number == 0 { "new, rr" } else { "known" };
        assert_eq!(*comment, format!("web: {way} -> {name}, direct"));
        assert_eq!(comment, same);
    }

    // To standard output, as much of each frame as is asked for, until it is interrupted.
    let capture = Trace::capture(&director, &["--snaplen", "60", "--protocol", "tcp", "-w", "-"]);
    KeptOpen::open(&talk.client).get();
    std::thread::sleep(Duration::from_millis(100));
    capture.interrupt();
    let mut output = Vec::new();
    let Trace { mut child, output: mut pipe, .. } = capture;
    pipe.read_to_end(&mut output).expect("its output");
    assert!(child.wait().expect("an end").success());
    assert!(output.starts_with(&[0x0a, 0x0d, 0x0d, 0x0a]), "a section of pcapng");
    assert!(output.windows(4).any(|window| window == b"www1" || window == b"www2"), "comments");
}
