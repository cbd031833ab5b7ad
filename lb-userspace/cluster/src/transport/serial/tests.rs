//! On pseudo-terminals: one end is the path, the other the test's own, or a second path behind a
//! "cable".

use std::os::fd::OwnedFd;
use std::thread::sleep;
use std::time::Instant;

use lb_system::clock::now;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::pty::openpty;

use super::*;

const FAST: u32 = 1_000_000;
/// Nothing more comes after this long of nothing.
const QUIET: Duration = Duration::from_millis(100);
/// How long the kernel may take to pass on what was written.
const PATIENCE: Duration = Duration::from_secs(60);

/// A path and the other end of its line.
struct Line {
    path: Box<dyn Path>,
    far: File,
    /// Keeps the line there, whatever the path does.
    _near: OwnedFd,
}

fn line(baud: u32) -> Line {
    let pair = openpty(None, None).expect("a pseudo-terminal");
    let device = std::fs::read_link(format!("/proc/self/fd/{}", pair.slave.as_raw_fd())).unwrap();
    let path = Serial { device, baud }.open().expect("the path opens");
    fcntl(&pair.master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    Line { path, far: pair.master.into(), _near: pair.slave }
}

impl Line {
    /// Everything until the line is quiet, at least `least` bytes; the kernel passes bytes on in
    /// its own time.
    fn read(&mut self, least: usize) -> Vec<u8> {
        let (mut all, mut bytes, mut last) = (Vec::new(), [0; 4096], Instant::now());
        while last.elapsed() < if all.len() < least { PATIENCE } else { QUIET } {
            match self.far.read(&mut bytes) {
                Ok(length) => {
                    all.extend(&bytes[..length]);
                    last = Instant::now();
                }
                Err(_) => sleep(Duration::from_millis(1)),
            }
        }
        all
    }

    /// What the path receives until the line is quiet: at least so many messages and pieces of
    /// noise.
    fn receive(&mut self, least: usize) -> (Vec<Vec<u8>>, usize) {
        receive(&mut *self.path, least)
    }
}

fn receive(path: &mut dyn Path, least: usize) -> (Vec<Vec<u8>>, usize) {
    let (mut messages, mut noise, mut buffer, mut last) = (Vec::new(), 0, Vec::new(), Instant::now());
    while last.elapsed() < if messages.len() + noise < least { PATIENCE } else { QUIET } {
        let Some(arrival) = path.receive(&mut buffer).expect("the line works") else {
            sleep(Duration::from_millis(1));
            continue;
        };
        last = Instant::now();
        match arrival.fault {
            None => messages.push(buffer.clone()),
            Some(DropReason::BadFrame) => noise += 1,
            Some(other) => panic!("{other:?}"),
        }
    }
    (messages, noise)
}

#[test]
fn messages_go_both_ways() {
    for baud in [9_600, 19_200, 115_200, 250_000, FAST] {
        let mut line = line(baud);
        let all: Vec<u8> = (0..=255).collect();
        line.path.send(&all, now()).unwrap();
        assert_eq!(line.read(frame(&all).len()), frame(&all), "raw: no byte is changed");
        line.far.write_all(&frame(&all)).unwrap();
        assert_eq!(line.receive(1), (vec![all], 0));
    }
}

#[test]
fn noise_halves_and_bursts() {
    let mut line = line(FAST);
    let [one, two] = [frame(b"one"), frame(b"two")];
    line.far.write_all(&one[..3]).unwrap();
    assert_eq!(line.receive(0), (vec![], 0));
    line.far.write_all(&one[3..]).unwrap();
    assert_eq!(line.receive(1), (vec![b"one".to_vec()], 0), "in two parts");

    line.far.write_all(b"\xff\x80NO CARRIER\r\n\x03\x11\x13").unwrap();
    line.far.write_all(&two).unwrap();
    assert_eq!(line.receive(2), (vec![b"two".to_vec()], 1), "after noise");

    line.far.write_all(&two[3..]).unwrap();
    line.far.write_all(&one[..4]).unwrap();
    line.far.write_all(&two).unwrap();
    assert_eq!(line.receive(3).0.last().unwrap(), b"two", "after halves");

    let burst: Vec<u8> = (0..200).flat_map(|number: u8| frame(&[number; 10])).collect();
    line.far.write_all(&burst).unwrap();
    assert_eq!(line.receive(200).0, (0..200).map(|number: u8| vec![number; 10]).collect::<Vec<_>>());
}

/// 30 bytes take 31 ms at 9,600 baud. Of what comes meanwhile the newest is sent, and nothing
/// before its time.
#[test]
fn a_slow_line_carries_the_newest() {
    let mut line = line(9_600);
    let message = |number: u8| [number; 27];
    let ms = Duration::from_millis;
    let start = now();
    line.path.send(&message(1), start).unwrap();
    for number in 2..5 {
        line.path.send(&message(number), start + ms(number.into())).unwrap();
    }
    assert_eq!(line.read(frame(&message(1)).len()), frame(&message(1)));
    let due = line.path.next_timeout().expect("one waits");
    assert!((ms(31)..ms(32)).contains(&(due - start)), "{:?}", due - start);
    line.path.timer(due - ms(1)).unwrap();
    assert!(line.read(0).is_empty());
    line.path.timer(due).unwrap();
    assert_eq!(line.read(frame(&message(4)).len()), frame(&message(4)));
    assert_eq!(line.path.next_timeout(), None);
}

/// Nobody reads at the other end: no call waits, and once somebody does, what comes is fresh.
#[test]
fn a_stalled_line_holds_nothing_up() {
    let mut line = line(FAST);
    let (start, mut time) = (Instant::now(), now());
    let mut errors = 0;
    for number in 0..2_000_u32 {
        time += Duration::from_millis(50);
        let message = [number.to_be_bytes(); 50].concat();
        errors += usize::from(line.path.send(&message, time).is_err());
        errors += usize::from(line.path.timer(time + Duration::from_millis(25)).is_err());
    }
    assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
    assert!(errors > 10, "{errors}");
    line.read(1);
    for number in 5_000..5_010_u32 {
        time += Duration::from_secs(1);
        let _ = line.path.send(&number.to_be_bytes(), time);
    }
    let (mut collector, mut message) = (Collector::default(), Vec::new());
    while message != 5_009_u32.to_be_bytes() {
        let bytes = line.read(1);
        assert!(!bytes.is_empty(), "the last one does not come");
        for byte in bytes {
            collector.take(byte, &mut message);
        }
    }
    assert!(line.read(0).is_empty());
}

#[test]
fn a_line_that_has_gone_is_an_error() {
    let mut line = line(FAST);
    line.far = File::open("/dev/null").unwrap();
    assert!(line.path.receive(&mut Vec::new()).is_err());
}

#[test]
fn what_is_no_line_is_refused() {
    let refused = |device: &str, baud| {
        let error = Serial { device: device.into(), baud }.open().err().expect("refused").to_string();
        assert!(error.starts_with(device), "{error}");
        error
    };
    assert!(refused("/dev/null", 9_600).contains("not a serial line"));
    assert!(refused("/dev/none-such", 9_600).contains("No such file"));
    assert!(refused("/dev/null", 0).contains("0 baud"));
}

#[test]
fn what_a_slow_line_would_be_busy_with_for_long_is_left_to_other_paths() {
    let message = |version, length| {
        let mut message = vec![0; length];
        message[2] = version;
        message
    };
    let carries = |length, baud| fits(&message(wire::WITH_ORDERS, length), baud);
    assert!(carries(93, 9_600) && carries(144, 9_600) && !carries(145, 9_600));
    assert!(carries(192, 19_200) && !carries(193, 19_200) && carries(600, 115_200));
    assert!(fits(&message(wire::VERSION, 700), 9_600), "heartbeats come by all paths");
}
