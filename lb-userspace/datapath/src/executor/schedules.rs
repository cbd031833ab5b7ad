//! Schedules of services: written where none is in force, then put in force.

use std::sync::atomic::Ordering;

use anyhow::{Context as _, Result, bail};
use lb_common::schedule::Schedule;
use lb_common::schedule::compile::{Candidate, Compiled, compile};
use lb_common::schedule::tournament::Tree;
use lb_model::{Hashing, Scheduler, ServiceKey};

use super::Executor;
use crate::allocator::Region;
use crate::plan::Target;

/// Where the lists of a schedule stand, and its tournament.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Regions {
    pub(super) words: Region,
    pub(super) tree: Region,
}

impl Executor {
    /// Writes the schedule that is not in force, then puts it in force.
    pub(super) fn schedule(
        &mut self,
        key: &ServiceKey,
        scheduler: Scheduler,
        hashing: Hashing,
        candidates: &[Candidate<Target>],
    ) -> Result<()> {
        let record = self.services.get(key).with_context(|| format!("no such service: {key}"))?;
        let numbered = |candidate: &Candidate<Target>| {
            let Candidate { server, weight, holding, thresholds } = *candidate;
            Some(Candidate { server: *record.servers.get(&server)?, weight, holding, thresholds })
        };
        let candidates: Vec<Candidate> = candidates.iter().filter_map(numbered).collect();
        let compiled = compile(scheduler, hashing, &candidates);
        if let Some(regions) = self.allocate(&compiled) {
            self.put_in_force(key, compiled, regions);
            return Ok(());
        }
        // The schedule in force may name servers that are about to go, so it goes first. What it
        // held may be room enough; if not, servers are taken in turn whatever their weights until
        // the configuration has changed.
        self.put_in_force(key, compile(scheduler, hashing, &[]), Regions::default());
        let simple = compile(Scheduler::Rr, hashing, &candidates);
        let needed = compiled.words.len();
        for compiled in [compiled, simple] {
            if let Some(regions) = self.allocate(&compiled) {
                let as_wanted = compiled.schedule.scheduler == scheduler as u32;
                self.put_in_force(key, compiled, regions);
                if as_wanted {
                    return Ok(());
                }
                break;
            }
        }
        bail!(
            "{key}: no room for a schedule of {needed} words (one per server and distinct weight; of mh 8191), so its \
             servers are taken in turn: give them equal weights or split the service, or restart lb for a larger room"
        )
    }

    /// Writes a schedule where none is in force, and switches to it. What was in force is free
    /// after [`Self::settle`].
    pub(super) fn put_in_force(&mut self, key: &ServiceKey, compiled: Compiled, regions: Regions) {
        let Some(switched) = self.services.get(key).map(|record| record.switched) else { return };
        self.settle(switched);
        let compiled = compiled.at(regions.words.start, regions.tree.start);
        for (index, word) in compiled.words.iter().enumerate() {
            self.maps.schedule_words.write(regions.words.start as usize + index, *word);
        }
        self.switches += 1;
        let switches = self.switches;
        let Some(record) = self.services.get_mut(key) else { return };
        record.switched = switches;
        let (id, service) = (record.id, usize::from(record.id.0));
        self.retired.push(std::mem::replace(&mut record.regions, regions));
        let limited = compiled.schedule.has(Schedule::LIMITED);
        let measure = compiled.schedule.scheduler().and_then(|scheduler| scheduler.measure(limited));
        let tree = measure.map(|measure| {
            let width = Tree::width_for(compiled.leaves.len() as u32);
            Tree { first: regions.tree.start, width, measure, limited }
        });
        self.maps.tournaments.put_in_force(id, tree, compiled.leaves);
        let active = self.maps.active_schedules.atomic(service);
        let idle = (active.load(Ordering::Acquire) & 1) ^ 1;
        self.maps.schedules.write(service * 2 + idle as usize, compiled.schedule);
        active.store(idle, Ordering::Release);
        // Connections may have come and gone since the tournament was planted.
        self.maps.tournaments.mend_service(id);
    }

    /// Room for a schedule; what was switched off is waited for if need be.
    pub(super) fn allocate(&mut self, compiled: &Compiled) -> Option<Regions> {
        if let Some(regions) = self.allocate_now(compiled) {
            return Some(regions);
        }
        if self.retired.is_empty() {
            return None;
        }
        self.settle(self.switches);
        self.allocate_now(compiled)
    }

    fn allocate_now(&mut self, compiled: &Compiled) -> Option<Regions> {
        let width = match compiled.leaves.len() as u32 {
            0 => 0,
            leaves => Tree::width_for(leaves),
        };
        let words = self.schedule_words.allocate(compiled.words.len() as u32)?;
        let Some(tree) = self.pairs.allocate(width) else {
            self.schedule_words.release(words);
            return None;
        };
        Some(Regions { words, tree })
    }
}
