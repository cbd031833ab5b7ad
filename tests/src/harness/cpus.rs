//! On which CPU a thread of a test runs.

use std::sync::Barrier;
use std::thread;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// Binds this thread to one CPU. There may be fewer CPUs than `number`: they are counted round.
fn bind_to_cpu(number: usize) {
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    let mut set = CpuSet::new();
    set.set(number % cpus).expect("a CPU number");
    sched_setaffinity(Pid::from_raw(0), &set).expect("a CPU that is there");
}

/// Runs `work` on so many threads at once, each bound to one CPU, and hands each its number.
/// Returns what they return, in their order.
pub fn on_cpus<T: Send>(threads: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let start = Barrier::new(threads);
    let begin = |thread| {
        let (work, start) = (&work, &start);
        move || {
            bind_to_cpu(thread);
            start.wait();
            work(thread)
        }
    };
    thread::scope(|scope| {
        let started: Vec<_> = (0..threads).map(|thread| scope.spawn(begin(thread))).collect();
        started.into_iter().map(|thread| thread.join().expect("no thread of a test panics")).collect()
    })
}
