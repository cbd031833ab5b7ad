//! Signs of life: a thread that others depend on gives one in each of its rounds, and a [`Watch`]
//! tells which threads have given none for too long.
//!
//! The watch counts its own looks and no time: a machine that was suspended, or a process that was
//! stopped, has no dead threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A thread gives a sign at least so often, also where it has nothing to do.
pub const RHYTHM: Duration = Duration::from_secs(1);

/// The signs of one thread.
#[derive(Debug, Clone, Default)]
pub struct Pulse(Arc<AtomicU32>);

impl Pulse {
    pub fn beat(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn count(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Looks at the signs of several threads.
#[derive(Debug, Default)]
pub struct Watch(Vec<Watched>);

#[derive(Debug)]
struct Watched {
    name: &'static str,
    pulse: Pulse,
    /// The count at the last look.
    seen: u32,
    /// Looks since the last sign.
    silent: u32,
}

impl Watch {
    /// `name` is the thread's name, which top(1) shows.
    pub fn add(&mut self, name: &'static str, pulse: Pulse) {
        self.0.push(Watched { name, seen: pulse.count(), pulse, silent: 0 });
    }

    /// To be called at regular intervals. Returns the threads that have given no sign since `most`
    /// looks.
    pub fn look(&mut self, most: u32) -> Vec<&'static str> {
        for thread in &mut self.0 {
            let count = thread.pulse.count();
            thread.silent = if count == thread.seen { thread.silent.saturating_add(1) } else { 0 };
            thread.seen = count;
        }
        self.0.iter().filter(|thread| thread.silent >= most).map(|thread| thread.name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_gives_no_sign_is_named_until_it_gives_one() {
        let (busy, stuck) = (Pulse::default(), Pulse::default());
        let mut watch = Watch::default();
        watch.add("busy", busy.clone());
        watch.add("stuck", stuck.clone());
        for look in 1..=5 {
            busy.beat();
            let silent = watch.look(3);
            assert_eq!(silent, if look < 3 { Vec::new() } else { vec!["stuck"] }, "look {look}");
        }
        stuck.beat();
        busy.beat();
        assert!(watch.look(3).is_empty());
    }
}
