//! Builds the BPF objects of the crate `lb-ebpf` with the machine's BPF toolchain.
//!
//! The build scripts of `lb-userspace/datapath` and `tests` include this file (by `embed.rs`), so
//! that `cargo build` and `cargo xtask build-ebpf` do the same. Therefore it uses only std and
//! anyhow.
//!
//! Why not aya-build: it cannot choose the BPF instruction set (the connection table needs `v3`),
//! and it adds `-Z build-std`, which a toolchain with a ready-made BPF core must not get.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// A file of BPF programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Object {
    /// The package whose binary it is.
    pub package: &'static str,
    pub name: &'static str,
}

/// Install folder of Debian's `rustc-web` and `libstd-rust-web-dev-bpf`.
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_RUSTLIB: &str = "/usr/lib/rustlib";

/// Crates with unstable features, by the compiler's names: aya-ebpf, and our library and programs
/// (for `core::intrinsics` and inline assembler). All other crates use stable features only.
pub(crate) const UNSTABLE_CRATES: &str = "aya_ebpf,lb_ebpf,lb,bench";

/// A pair of cargo and rustc that can build for BPF.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Toolchain {
    pub cargo: PathBuf,
    pub rustc: PathBuf,
    /// Whether cargo builds `core` from rust-src, which needs a nightly toolchain.
    pub build_std: bool,
}

/// Builds an object in release and returns its file.
///
/// The target folder is `target/ebpf`, because the cargo that runs a build script holds the lock of
/// the usual one.
pub(crate) fn build(workspace_root: &Path, object: Object) -> Result<PathBuf> {
    let Some(toolchain) = toolchain() else {
        bail!(
            "no Rust toolchain for BPF: run `cargo xtask setup`, or install Debian's rustc-web, cargo-web and \
             libstd-rust-web-dev-bpf, or `rustup toolchain install nightly --component rust-src`"
        );
    };
    let Some(linker) = bpf_linker() else {
        bail!(
            "bpf-linker is missing: run `cargo xtask setup`, or `cargo install bpf-linker` with LLVM's libraries"
        );
    };
    let target_dir = env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| workspace_root.join("target"), |folder| workspace_root.join(folder))
        .join("ebpf");

    let mut command = cargo(&toolchain, &linker, object);
    command.current_dir(workspace_root).arg("--target-dir").arg(&target_dir);
    let status = command.status().with_context(|| format!("cannot start {}", toolchain.cargo.display()))?;
    if !status.success() {
        bail!(
            "building the BPF object `{}` with {} failed ({status}); the compiler's words are above",
            object.name,
            toolchain.cargo.display()
        );
    }
    let file = target_dir.join(target()).join("release").join(object.name);
    if !file.is_file() {
        bail!("the build left no object {}: is it still a binary of {}?", file.display(), object.package);
    }
    Ok(file)
}

/// The cargo call, without its target folder.
fn cargo(toolchain: &Toolchain, linker: &Path, object: Object) -> Command {
    let mut command = Command::new(&toolchain.cargo);
    command.args(["build", "--package", object.package, "--bins", "--release", "--target", target()]);
    forget_outer_cargo(&mut command);
    command.env("RUSTC", &toolchain.rustc).env("CARGO_ENCODED_RUSTFLAGS", rustflags(linker));
    if toolchain.build_std {
        command.args(["-Z", "build-std=core"]);
    } else {
        command.env("RUSTC_BOOTSTRAP", UNSTABLE_CRATES);
    }
    command
}

/// Compiler flags. `-Cdebuginfo=2` and `--btf`: for line numbers in the verifier's messages, and
/// for BTF maps. `v3`: for atomics that return a value. The cfg tells aya-ebpf the layout of
/// `pt_regs`.
fn rustflags(linker: &Path) -> String {
    let flags = [
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        "-Ctarget-cpu=v3".to_owned(),
        format!("-Clinker={}", linker.display()),
        format!("--cfg=bpf_target_arch=\"{}\"", env::consts::ARCH),
    ];
    flags.join("\x1f")
}

/// Removes the environment variables of an outer cargo, its build script or rustup's proxies, which
/// name another compiler, other flags and another package. The user's settings (proxies, mirrors,
/// cargo's home) stay.
fn forget_outer_cargo(command: &mut Command) {
    const KEPT: [&str; 6] =
        ["CARGO_HOME", "CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTR", "CARGO_SOURCE_", "CARGO_TERM_"];
    for (name, _) in env::vars_os() {
        let Some(name) = name.to_str() else { continue };
        let cargos = name == "CARGO" || name.starts_with("CARGO_");
        let kept = KEPT.iter().any(|prefix| name.starts_with(prefix));
        let compilers = name.starts_with("RUSTC") || name == "RUSTFLAGS" || name == "RUSTUP_TOOLCHAIN";
        // Cargo sets it for build scripts. Those of aya ask for it, and whatever depends on them
        // would be built anew by turns, within a build script and without.
        let hosts = name == "HOST";
        if (cargos && !kept) || compilers || hosts {
            command.env_remove(name);
        }
    }
}

/// Debian's precompiled BPF core if installed, else rustup's nightly with rust-src, else `None`.
pub(crate) fn toolchain() -> Option<Toolchain> {
    debian().or_else(nightly)
}

fn debian() -> Option<Toolchain> {
    let (cargo, rustc) = (PathBuf::from(DEBIAN_CARGO), PathBuf::from(DEBIAN_RUSTC));
    let core = Path::new(DEBIAN_RUSTLIB).join(target());
    (core.is_dir() && cargo.is_file() && rustc.is_file()).then_some(Toolchain {
        cargo,
        rustc,
        build_std: false,
    })
}

/// Searches rustup's folders instead of running rustup, which is slow and may start a download.
fn nightly() -> Option<Toolchain> {
    let rustup =
        env::var_os("RUSTUP_HOME").map(PathBuf::from).or_else(|| Some(env::home_dir()?.join(".rustup")))?;
    let mut toolchains: Vec<PathBuf> =
        rustup.join("toolchains").read_dir().ok()?.flatten().map(|entry| entry.path()).collect();
    // "nightly-HOST", which rustup updates, sorts after the dated ones, "nightly-2026-…".
    toolchains.sort();
    toolchains.into_iter().rev().find_map(|folder| {
        let nightly = folder.file_name()?.to_str()?.starts_with("nightly");
        let source = folder.join("lib/rustlib/src/rust/library/core").is_dir();
        let (cargo, rustc) = (folder.join("bin/cargo"), folder.join("bin/rustc"));
        (nightly && source && cargo.is_file()).then_some(Toolchain { cargo, rustc, build_std: true })
    })
}

/// bpf-linker on PATH, or in the folder of `cargo install`.
pub(crate) fn bpf_linker() -> Option<PathBuf> {
    let cargo_home =
        env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| Some(env::home_dir()?.join(".cargo")));
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(cargo_home.map(|home| home.join("bin")))
        .map(|folder| folder.join("bpf-linker"))
        .find(|file| file.is_file())
}

/// BPF programs have the byte order of the machine they run on.
fn target() -> &'static str {
    if cfg!(target_endian = "big") { "bpfeb-unknown-none" } else { "bpfel-unknown-none" }
}
