//! Compiles the XDP program and hands it to the crate, which embeds it.

use std::path::Path;
use std::{env, fs};

use anyhow::{Context as _, Result};

#[path = "../../xtask/src/ebpf.rs"]
mod ebpf;

fn main() -> Result<()> {
    let root =
        Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).context("the crate is two folders deep")?;
    for source in ["lb-ebpf", "lb-common", "xtask/src/ebpf.rs", "Cargo.toml"] {
        println!("cargo:rerun-if-changed={}", root.join(source).display());
    }
    let objects = ebpf::build(root)?;
    let out = env::var("OUT_DIR").context("cargo did not set OUT_DIR")?;
    for object in ebpf::OBJECTS {
        fs::copy(objects.join(object), Path::new(&out).join(object))
            .with_context(|| format!("cannot copy {object}"))?;
    }
    Ok(())
}
