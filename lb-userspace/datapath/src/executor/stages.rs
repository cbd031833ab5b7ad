//! The programs that others go on in.

use anyhow::{Context as _, Result};
use aya::programs::ProgramFd;
use lb_common::stage::Stage;

use super::Executor;

impl Executor {
    /// Has the programs that call this stage go on in `program`.
    pub fn set_stage(&mut self, stage: Stage, program: &ProgramFd) -> Result<()> {
        let set = self.maps.stages.set(stage as u32, program, 0);
        set.with_context(|| format!("cannot make {} known to other programs", stage.program()))?;
        self.callable[stage as usize] = true;
        Ok(())
    }

    pub(crate) fn is_callable(&self, stage: Stage) -> bool {
        self.callable[stage as usize]
    }
}
