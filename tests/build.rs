//! Compiles the programs that the benchmark times, and hands them to the crate, which embeds them.

use std::path::Path;

use anyhow::{Context as _, Result};

#[path = "../xtask/src/ebpf.rs"]
mod ebpf;

fn main() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the crate is one folder deep")?;
    ebpf::build_into_out_dir(root, ebpf::BENCHMARK)
}
