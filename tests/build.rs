//! Compiles the programs that the benchmark times, and hands them to the crate, which embeds them.

use std::path::Path;

use anyhow::{Context as _, Result};

#[path = "../xtask/src/embed.rs"]
mod embed;

fn main() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the crate is one folder deep")?;
    embed::embed(root, embed::Object { package: "lb-ebpf-bench", name: "bench" })
}
