//! `cargo xtask build-ebpf`: the XDP program as an object file, for those who want to look at it; `cargo build` makes its
//! own and embeds it.

use std::fs;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::setup::{self, Scope};
use crate::{ebpf, workspace};

#[derive(Debug, Args)]
pub(crate) struct Options {}

pub(crate) fn run(Options {}: &Options) -> Result<()> {
    setup::ensure(Scope::Build)?;
    let folder = ebpf::build(&workspace::root())?;
    for name in ebpf::OBJECTS {
        let object = folder.join(name);
        let size = fs::metadata(&object).with_context(|| format!("cannot read {}", object.display()))?.len();
        println!("{} ({} KiB)", object.display(), size.div_ceil(1024));
    }
    Ok(())
}
