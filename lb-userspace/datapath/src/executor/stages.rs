//! The programs that others go on in.

use anyhow::{Context as _, Result};
use aya::programs::ProgramFd;
use lb_common::program::stage::{HOST_IPV6, Stage};

use super::Executor;

impl Executor {
    /// Has the programs that call this stage go on in `program`.
    pub fn set_stage(&mut self, stage: Stage, program: &ProgramFd) -> Result<()> {
        let set = self.maps.stages.set(stage as u32, program, 0);
        set.with_context(|| format!("cannot make {} known to other programs", stage.program()))?;
        self.callable[stage as usize] = true;
        Ok(())
    }

    /// Has them go on in `program` instead of each stage that can do without its own and has not
    /// got it, see [`Stage::has_stand_in`].
    pub(crate) fn stand_in(&mut self, program: &ProgramFd) -> Result<()> {
        let stages = Stage::ALL.into_iter().filter(|stage| stage.has_stand_in());
        for stage in stages.filter(|stage| !self.callable[*stage as usize]) {
            let set = self.maps.stages.set(stage as u32, program, 0);
            set.with_context(|| format!("cannot make {HOST_IPV6} known to other programs"))?;
        }
        Ok(())
    }

    pub(crate) fn is_callable(&self, stage: Stage) -> bool {
        self.callable[stage as usize]
    }
}
