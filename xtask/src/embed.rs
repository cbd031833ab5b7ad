//! For build scripts: compiles an object of BPF programs into OUT_DIR, from where the crate embeds
//! it.
//!
//! `lb-userspace/datapath/build.rs` and `tests/build.rs` include this file; xtask itself does not.

use std::path::Path;
use std::{env, fs};

use anyhow::{Context as _, Result};

#[path = "ebpf.rs"]
mod ebpf;

pub(crate) use ebpf::Object;

pub(crate) fn embed(workspace_root: &Path, object: Object) -> Result<()> {
    for source in ["lb-ebpf", "lb-common", "xtask/src/ebpf.rs", "xtask/src/embed.rs", "Cargo.toml"] {
        println!("cargo:rerun-if-changed={}", workspace_root.join(source).display());
    }
    let built = ebpf::build(workspace_root, object)?;
    let out = env::var("OUT_DIR").context("cargo did not set OUT_DIR")?;
    fs::copy(&built, Path::new(&out).join(object.name))
        .with_context(|| format!("cannot copy {}", built.display()))?;
    Ok(())
}
