//! A thread that checks whether the program still is on its interface, and whether the frames that
//! it sends get through. It is a thread of its own because the kernel answers such questions under
//! a lock that others may hold for long.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use lb_api::findings::{Finding, Findings, Kind};
use lb_model::XdpMode;

use super::far_end::FarEnd;
use super::statistics::Statistics;
use crate::attach::{AttachmentCheck, Mode};

/// The time from one check of the attachment to the next.
const ATTACHMENT_PERIOD: Duration = Duration::from_millis(200);
/// The time from one reading of the driver's counters to the next, at least.
const COUNTERS_PERIOD: Duration = Duration::from_millis(400);
/// Some drivers ask their hardware for every counter, so readings take at most one part in this of
/// the time.
const SHARE: u32 = 100;
/// The finding about lost frames stays for so long after the last of them.
const LASTS: Duration = Duration::from_secs(30);

/// The controller's hold on the thread. Dropping it ends the thread.
#[derive(Debug)]
pub struct Watch {
    told: Sender<NewAttachment>,
    takes_nothing: Arc<AtomicBool>,
    /// Number of the attachment that the thread was told of last; the first one has 1.
    number: u64,
    /// Number of the attachment that the last check found off its interface; 0: it was on it.
    off: Arc<AtomicU64>,
}

/// An attachment that the thread is told of.
struct NewAttachment {
    number: u64,
    attached: Attached,
    check: AttachmentCheck,
}

/// How the program is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attached {
    pub mode: Mode,
    /// What the configuration wants.
    pub wanted: XdpMode,
}

impl Watch {
    /// Starts the thread for `interface`, whose index is `index`. It checks nothing until
    /// [`Self::attached`] tells it of an attachment.
    pub fn start(interface: &str, index: u32, findings: Findings) -> io::Result<Self> {
        let (sender, told) = channel();
        let (takes_nothing, off) = (Arc::default(), Arc::default());
        let look = Look {
            interface: interface.to_owned(),
            index,
            findings,
            takes_nothing: Arc::clone(&takes_nothing),
            off: Arc::clone(&off),
            told: None,
            statistics: None,
            known: Vec::new(),
            lost: Vec::new(),
        };
        thread::Builder::new().name("lb-device".into()).spawn(move || look.run(&told))?;
        Ok(Self { told: sender, takes_nothing, number: 0, off })
    }

    /// The program is attached like this from now on; `check` tells whether it still is.
    pub fn attached(&mut self, attached: Attached, check: AttachmentCheck) {
        self.number += 1;
        // The thread ends with self, or not at all.
        let _ = self.told.send(NewAttachment { number: self.number, attached, check });
    }

    /// Whether the program that was attached last was on its interface at the last check, which
    /// was less than a second ago unless the kernel is slow to answer.
    pub fn is_attached(&self) -> bool {
        self.off.load(Ordering::Relaxed) != self.number
    }

    /// Whether the far end of the interface, a veth, takes nothing of what the program sends.
    pub fn takes_nothing(&self) -> bool {
        self.takes_nothing.load(Ordering::Relaxed)
    }
}

struct Look {
    interface: String,
    index: u32,
    findings: Findings,
    takes_nothing: Arc<AtomicBool>,
    off: Arc<AtomicU64>,
    told: Option<NewAttachment>,
    statistics: Option<Statistics>,
    /// Values of the counters at the last reading.
    known: Vec<u64>,
    /// Frames lost since the program was attached like this, by counter.
    lost: Vec<(String, u64)>,
}

impl Look {
    fn run(mut self, told: &Receiver<NewAttachment>) {
        let mut next_look = Instant::now();
        loop {
            match told.recv_timeout(ATTACHMENT_PERIOD) {
                Ok(told) => {
                    self.begin(told);
                    next_look = Instant::now();
                }
                Err(RecvTimeoutError::Timeout) => self.check_attachment(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
            // Generic mode goes through the kernel's own queues.
            let is_native = self.told.as_ref().is_some_and(|told| told.attached.mode == Mode::Native);
            let begun = Instant::now();
            if is_native && begun >= next_look {
                self.look();
                next_look = begun + COUNTERS_PERIOD.max(begun.elapsed() * SHARE);
            }
        }
    }

    fn begin(&mut self, told: NewAttachment) {
        self.findings.clear(Kind::FramesLost, &self.interface);
        self.takes_nothing.store(false, Ordering::Relaxed);
        self.told = Some(told);
        self.lost.clear();
        self.open();
    }

    fn check_attachment(&self) {
        if let Some(NewAttachment { number, check, .. }) = &self.told {
            let off = if check.is_attached() { 0 } else { *number };
            self.off.store(off, Ordering::Relaxed);
        }
    }

    /// Counts lost frames from the counters' present values on.
    fn open(&mut self) {
        self.statistics = Statistics::of(&self.interface).unwrap_or_else(|error| {
            tracing::debug!("{}: the driver's counters cannot be had: {error}", self.interface);
            None
        });
        let values = self.statistics.as_ref().and_then(|statistics| statistics.read().ok());
        self.known = values.unwrap_or_default().iter().map(|(_, value)| *value).collect();
    }

    fn look(&mut self) {
        let grown = self.count();
        let Some(Attached { wanted, .. }) = self.told.as_ref().map(|told| told.attached) else { return };
        let takes_nothing = FarEnd::of(self.index) == FarEnd::WithoutProgram;
        let did = self.takes_nothing.swap(takes_nothing, Ordering::Relaxed);
        if takes_nothing {
            // With auto the mode changes at once.
            if wanted == XdpMode::Native {
                self.findings.raise(far_end_finding(&self.interface, &self.lost));
            }
            return;
        }
        if did {
            self.findings.clear(Kind::FramesLost, &self.interface);
        }
        if grown {
            self.findings.raise_for(driver_finding(&self.interface, &self.lost), LASTS);
        }
    }

    /// Adds up what the counters say. `true`: more frames were lost since the last reading.
    fn count(&mut self) -> bool {
        let Some(statistics) = &self.statistics else { return false };
        let Ok(values) = statistics.read() else {
            // The driver has got other queues, and other counters with them.
            self.open();
            return false;
        };
        let grown: Vec<(String, u64)> = grown(&self.known, &values).collect();
        self.known = values.iter().map(|(_, value)| *value).collect();
        for (name, more) in &grown {
            match self.lost.iter_mut().find(|(known, _)| known == name) {
                Some((_, lost)) => *lost += more,
                None => self.lost.push((name.clone(), *more)),
            }
        }
        !grown.is_empty()
    }
}

/// Counters that have grown, and by how much. One that went back was reset.
fn grown(before: &[u64], now: &[(&str, u64)]) -> impl Iterator<Item = (String, u64)> {
    let pairs = before.iter().zip(now);
    pairs
        .filter(|(before, (_, now))| now > before)
        .map(|(before, (name, now))| ((*name).to_owned(), now - before))
}

/// All frames lost and the counter that counted most of them, as
/// `, 12 so far (rx_queue_0_xdp_tx_errors)`.
fn so_far(lost: &[(String, u64)]) -> Option<(u64, &str)> {
    let (name, _) = lost.iter().max_by_key(|(_, count)| *count)?;
    Some((lost.iter().map(|(_, count)| count).sum(), name))
}

fn far_end_finding(interface: &str, lost: &[(String, u64)]) -> Finding {
    let so_far = so_far(lost).map_or_else(String::new, |(count, name)| format!(": {count} so far ({name})"));
    Finding {
        kind: Kind::FramesLost,
        subject: interface.to_owned(),
        text: format!(
            "the far end of the veth {interface} has no XDP program, so it throws away all that lb sends in native mode{so_far}"
        ),
        mend: "set `xdp_mode: auto` or `generic`, or attach an XDP program to the far end, such as one that passes everything"
            .to_owned(),
    }
}

fn driver_finding(interface: &str, lost: &[(String, u64)]) -> Finding {
    let (count, name) = so_far(lost).unwrap_or_default();
    Finding {
        kind: Kind::FramesLost,
        subject: interface.to_owned(),
        text: format!("the driver of {interface} threw away {count} frames that lb sent in native mode ({name})"),
        mend: "if no client is served, set `xdp_mode: generic`; if it happens under load only, give the driver longer rings \
               (ethtool -G) or more queues (ethtool -L)"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_growth_counts() {
        let now = [("a", 5), ("b", 5), ("c", 1)];
        let grown: Vec<_> = grown(&[5, 2, 3], &now).collect();
        assert_eq!(grown, [("b".to_owned(), 3)]);
    }

    #[test]
    fn a_finding_names_the_counter_that_counted_most() {
        let lost = [("rx_queue_0_xdp_tx_errors".to_owned(), 2), ("rx_queue_1_xdp_tx_errors".to_owned(), 10)];
        let finding = far_end_finding("eth0", &lost);
        assert!(
            finding.text.ends_with("native mode: 12 so far (rx_queue_1_xdp_tx_errors)"),
            "{}",
            finding.text
        );
        let finding = driver_finding("eth0", &lost);
        assert!(
            finding.text.contains("12 frames") && finding.mend.contains("xdp_mode: generic"),
            "{finding:?}"
        );
        assert!(far_end_finding("eth0", &[]).text.ends_with("in native mode"));
    }
}
