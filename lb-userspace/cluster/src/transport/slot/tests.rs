//! A path that does as the test says.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Mutex;

use super::*;

/// What the next calls do; shared between the test, the opener and the path.
#[derive(Default)]
struct Script {
    opens: bool,
    sends: bool,
    opened: usize,
    /// Ages of what is there to be received.
    arrivals: Vec<Duration>,
}

#[derive(Clone)]
struct Scripted(Arc<Mutex<Script>>);

impl Open for Scripted {
    fn open(&self) -> io::Result<Box<dyn Path>> {
        let mut script = self.0.lock().unwrap();
        script.opened += usize::from(script.opens);
        match script.opens {
            true => Ok(Box::new(self.clone())),
            false => Err(io::Error::other("no interface")),
        }
    }
}

impl Path for Scripted {
    fn fd(&self) -> BorrowedFd<'_> {
        static STDIN: std::sync::LazyLock<io::Stdin> = std::sync::LazyLock::new(io::stdin);
        STDIN.as_fd()
    }

    fn send(&mut self, _: &[u8], _: Duration) -> io::Result<()> {
        if self.0.lock().unwrap().sends { Ok(()) } else { Err(io::Error::other("no buffer")) }
    }

    fn receive(&mut self, _: &mut Vec<u8>) -> io::Result<Option<Arrival>> {
        Ok(self.0.lock().unwrap().arrivals.pop().map(|age| Arrival { age, fault: None }))
    }
}

fn slot(script: Script) -> (Slot, Arc<Mutex<Script>>) {
    let script = Arc::new(Mutex::new(script));
    let statistics = Arc::new(Statistics::new("test".into()));
    (Slot::new(Box::new(Scripted(Arc::clone(&script))), statistics, Duration::ZERO), script)
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_path_that_does_not_open_is_told_once_and_tried_every_second() {
    let (mut slot, script) = slot(Script::default());
    assert_eq!(slot.timer(at(0)), Some(Change::Closed("no interface".into())));
    assert_eq!(slot.next_timeout(), Some(at(1)));
    assert_eq!(slot.timer(at(1)), None);
    script.lock().unwrap().opens = true;
    assert_eq!(slot.timer(at(1)), None, "not yet");
    assert_eq!(slot.timer(at(2)), Some(Change::Opened));
}

#[test]
fn failing_sends_are_told_once_and_get_a_new_socket() {
    let (mut slot, script) = slot(Script { opens: true, ..Script::default() });
    slot.timer(at(0));
    assert_eq!(slot.send(b"", at(0)), Some(Change::SendsFail("no buffer".into())));
    for second in 1..=6 {
        assert_eq!(slot.send(b"", at(second)), None);
    }
    assert_eq!(script.lock().unwrap().opened, 2);
    script.lock().unwrap().sends = true;
    assert_eq!(slot.send(b"", at(7)), None, "it may be by chance");
    assert_eq!(slot.send(b"", at(12)), Some(Change::SendsAgain));
    assert_eq!(slot.statistics().send_errors.load(Ordering::Relaxed), 7);
}

/// As in a process that was stopped from second 10 to 40, whose wall clock was set meanwhile, too.
#[test]
fn a_message_arrived_between_the_last_look_and_now() {
    let (mut slot, script) = slot(Script { opens: true, ..Script::default() });
    slot.timer(at(0));
    assert_eq!(slot.receive(&mut Vec::new(), at(10)).unwrap(), None);
    script.lock().unwrap().arrivals = vec![at(5), at(1_000_000), at(0)];
    let mut arrived = || slot.receive(&mut Vec::new(), at(40)).unwrap().unwrap().1;
    assert_eq!([arrived(), arrived(), arrived()], [at(40), at(10), at(35)]);
}
