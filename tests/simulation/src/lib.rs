//! What connection synchronisation costs with few directors and with many: the engine of the
//! product in simulated time, with a table in memory and a network that delays and loses datagrams
//! (`lb_sync::simulation`). `cargo xtask simulate` runs it; docs/scale.md has what it prints.
//!
//! - [`plan`]: what is simulated
//! - `population`: connections that begin and end
//! - [`measure`]: one size of cluster, phase by phase
//! - [`figures`]: what comes out
//! - [`report`]: the same as tables

pub mod figures;
pub mod measure;
pub mod plan;
mod population;
pub mod report;

#[cfg(test)]
mod tests;
