//! Which program a stage goes on in.

use lb_common::program::stage::{HOST_IPV6, Stage};
use lb_datapath::object;

use super::Director;

impl Director {
    /// As in the product, where no program of IPv6 is loaded before a service is of IPv6. One that
    /// was loaded as the product loads it is left as the product leaves it.
    pub(super) fn fit_stages(&mut self) {
        if !self.whole {
            return;
        }
        let stages: Vec<Stage> = self.data_path.applied().stages().collect();
        for stage in Stage::ALL.into_iter().filter(|stage| stage.has_stand_in()) {
            // One that only IPv6 needs has its own program where the family has any.
            let is_needed = stages.contains(&Stage::SlowIpv6);
            self.put(stage, if is_needed { stage.program() } else { HOST_IPV6 });
        }
    }

    /// `work` runs with this director, and once more with one that has had a service of IPv6.
    pub fn with_either(&mut self, work: impl Fn(&Self)) {
        work(self);
        for stage in Stage::ALL.into_iter().filter(|stage| stage.has_stand_in()) {
            self.put(stage, stage.program());
        }
        work(self);
        self.fit_stages();
    }

    pub(super) fn put(&mut self, stage: Stage, program: &str) {
        let program = object::loaded_program(&mut self.data_path.ebpf, program).unwrap();
        let program = program.fd().unwrap().try_clone().unwrap();
        self.data_path.executor.set_stage(stage, &program).unwrap();
    }
}
