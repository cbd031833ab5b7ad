//! Compiles the XDP programs and hands them to the crate, which embeds them.

use std::path::Path;

use anyhow::{Context as _, Result};

#[path = "../../xtask/src/embed.rs"]
mod embed;

fn main() -> Result<()> {
    let root =
        Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).context("the crate is two folders deep")?;
    embed::embed(root, embed::Object { package: "lb-ebpf", name: "lb" })
}
