//! A director whose packets are traced.

use aya::maps::{PerCpuArray, PerCpuValues};
use std::time::Duration;

use lb_common::program::stage::Stage;
use lb_common::program::trace::{Event, Settings};
use lb_datapath::object::{self, TRACE_PROGRAM};
use lb_datapath::trace::Captured;

use super::{Director, Outcome, run};

/// Longer than any test takes.
const AN_HOUR: Duration = Duration::from_secs(3600);

impl Director {
    /// Has the program tell of packets; they come by [`Self::send_traced`].
    pub fn trace(&mut self, settings: Settings) {
        self.trace_for(settings, AN_HOUR);
    }

    pub fn trace_for(&mut self, settings: Settings, time: Duration) {
        object::loaded_program(&mut self.data_path.ebpf, TRACE_PROGRAM).unwrap();
        self.data_path.executor.trace().ask(settings, time);
    }

    /// Hands a frame to the entry that is attached while somebody traces.
    pub fn send_traced(&self, frame: &[u8]) -> Outcome {
        run(self.data_path.ebpf.program(TRACE_PROGRAM).unwrap().try_into().unwrap(), frame)
    }

    /// While `work` runs, whatever would go on in this stage is not forwarded.
    pub fn without_stage(&mut self, stage: Stage, work: impl FnOnce(&mut Self)) {
        // It drops or passes what is for a service that does not refuse, unless an earlier packet
        // was one of a dead server.
        self.forget_refusal();
        self.put(stage, Stage::Refuse.program());
        work(self);
        self.put(stage, stage.program());
    }

    /// As if no packet had been refused yet.
    fn forget_refusal(&mut self) {
        let map = self.data_path.ebpf.map_mut("REFUSED").expect("the map is there");
        let mut refused = PerCpuArray::<_, u32>::try_from(map).expect("a value for each CPU");
        let cpus = aya::util::nr_cpus().expect("a number of CPUs");
        let never = PerCpuValues::try_from(vec![0; cpus]).expect("a value for each CPU");
        refused.set(0, never, 0).expect("it can be set");
    }

    /// What was told since the last time.
    pub fn told(&mut self) -> Vec<Event> {
        let trace = self.data_path.executor.trace();
        std::iter::from_fn(|| trace.take()).collect()
    }

    /// The frames that were captured since the last time.
    pub fn captured(&mut self) -> Vec<Captured> {
        let trace = self.data_path.executor.trace();
        std::iter::from_fn(|| trace.take_captured()).collect()
    }

    /// What is told of this frame.
    #[track_caller]
    pub fn told_of(&mut self, frame: &[u8]) -> Event {
        self.send_traced(frame);
        let told = self.told();
        let [event] = told.as_slice() else { panic!("one packet, and told of {told:#?}") };
        *event
    }
}
