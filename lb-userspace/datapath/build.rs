//! Compiles the XDP program and hands it to the crate, which embeds it.

use std::path::Path;

use anyhow::{Context as _, Result};

#[path = "../../xtask/src/ebpf.rs"]
mod ebpf;

fn main() -> Result<()> {
    let root =
        Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).context("the crate is two folders deep")?;
    ebpf::build_into_out_dir(root, ebpf::PROGRAM)
}
