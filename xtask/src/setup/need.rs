//! The commands' requirements, and which are missing.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use lb_lab::lab::servers::{catalog, root};
use lb_lab::lab::{browser, editor, originals};

use super::machine::{self, Mount};
use crate::ebpf;
use crate::kernels::emulator;

/// A scope of requirements: what is about to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Building `lb`.
    Build,
    /// Building `lb` and running it in the lab.
    Lab,
    /// Like [`Self::Lab`], and a browser that takes pictures of the page.
    Demo,
    /// Like [`Self::Lab`], and keepalived for comparison.
    Keepalived,
    /// Like [`Self::Lab`], and ldirectord for comparison.
    Ldirectord,
    /// Formatting, lints and tests that need no root.
    QuickTest,
    /// Like [`Self::Lab`], and what injects faults.
    Chaos,
    /// Building `lb` and booting other kernels with it.
    Kernels,
    /// Building packages and images.
    Package,
    /// The same, and trying them out, also in the lab.
    PackageCheck,
    /// Everything.
    Test,
}

impl Scope {
    pub(crate) fn lab(self) -> bool {
        matches!(
            self,
            Self::Lab
                | Self::Demo
                | Self::Keepalived
                | Self::Ldirectord
                | Self::Chaos
                | Self::PackageCheck
                | Self::Test
        )
    }

    fn browser(self) -> bool {
        matches!(self, Self::Demo | Self::Test)
    }

    fn tests(self) -> bool {
        matches!(self, Self::QuickTest | Self::Test)
    }
}

/// A missing requirement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Missing {
    pub what: String,
    pub why: &'static str,
    pub how: How,
}

/// The remedy for a missing requirement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum How {
    /// Debian packages. In `a|b` the first one that apt knows is installed.
    Apt(Vec<String>),
    /// A Rust compiler with a core for BPF: Debian's, or rustup's nightly.
    BpfToolchain,
    /// `cargo install`, against the LLVM at `prefix`.
    BpfLinker { llvm: u32, prefix: PathBuf },
    /// Components of the running toolchain.
    Rustup(Vec<String>),
    /// A file system of the lab, from Debian packages.
    Servers,
    /// ldirectord and keepalived, from Debian packages.
    Originals,
    /// qemu, from Debian packages.
    Emulator,
    /// axe-core, from npm.
    Axe,
    /// yaml-language-server, from npm.
    LanguageServer,
    /// A mount.
    Mount(Mount),
}

pub(super) const DEBIAN_BPF_TOOLCHAIN: [&str; 3] = ["rustc-web", "cargo-web", "libstd-rust-web-dev-bpf"];

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Apt(packages) => write!(f, "apt-get install {}", packages.join(" ")),
            Self::BpfToolchain => write!(
                f,
                "apt-get install {} (Debian), or rustup toolchain install nightly --component rust-src",
                DEBIAN_BPF_TOOLCHAIN.join(" ")
            ),
            Self::BpfLinker { llvm, prefix } => write!(
                f,
                "LLVM_PREFIX={} cargo install bpf-linker --no-default-features --features llvm-{llvm}",
                prefix.display()
            ),
            Self::Rustup(components) => write!(f, "rustup component add {}", components.join(" ")),
            Self::Servers => write!(
                f,
                "download 140 MB of Debian packages and unpack them to 500 MB in {}, which takes a minute; none of \
                 it is installed or started on this machine",
                root::path().display()
            ),
            Self::Originals => write!(
                f,
                "download 37 MB of Debian packages and unpack them to 140 MB in {}; none of it is installed or started \
                 on this machine",
                originals::path().display()
            ),
            Self::Emulator => write!(
                f,
                "download 43 MB of Debian packages and unpack them to 140 MB in {}; none of it is installed",
                emulator::unpacked().display()
            ),
            Self::Axe => {
                write!(f, "npm pack axe-core@{}, of which one file is kept in target", browser::AXE_VERSION)
            }
            Self::LanguageServer => {
                write!(
                    f,
                    "npm install yaml-language-server@{} in {}",
                    editor::VERSION,
                    editor::folder().display()
                )
            }
            Self::Mount(mount) => mount.fmt(f),
        }
    }
}

const FONTS: &str = "/usr/share/fonts/truetype/dejavu";

/// Of Debian's package `ansible`, not of `ansible-core`, which it brings.
const CHROOT_CONNECTION: &str =
    "/usr/lib/python3/dist-packages/ansible_collections/community/general/plugins/connection/chroot.py";

/// What is missing of what npm fetches.
fn from_npm() -> Vec<Missing> {
    let all = [
        (browser::axe(), "axe-core", "finds what keeps people from using the page", How::Axe),
        (
            editor::language_server(),
            "yaml-language-server",
            "completes keys for editors in a test",
            How::LanguageServer,
        ),
    ];
    let missing = all.into_iter().filter(|(file, ..)| !file.exists());
    missing.map(|(_, what, why, how)| Missing { what: what.to_owned(), why, how }).collect()
}

/// The missing requirements of `scope`, in the order of installation.
pub(super) fn missing(scope: Scope) -> Vec<Missing> {
    let mut missing = programs(scope);
    if scope.tests() && !Path::new("/etc/services").exists() {
        let how = How::Apt(vec!["netbase".to_owned()]);
        missing.push(Missing { what: "/etc/services".to_owned(), why: "has the names of ports", how });
    }
    if scope.browser() && !Path::new(FONTS).exists() {
        let how = How::Apt(vec!["fonts-dejavu-core".to_owned()]);
        missing.push(Missing { what: "fonts".to_owned(), why: "are what the browser writes with", how });
    }
    if scope == Scope::Test {
        missing.extend(from_npm());
    }
    if scope == Scope::Test && !root::is_complete() {
        let names: Vec<_> = catalog::ALL.iter().map(|program| program.name).collect();
        let what = format!("real servers ({})", names.join(", "));
        missing.push(Missing { what, why: "are what checks are tested against", how: How::Servers });
    }
    if scope == Scope::Test && !originals::is_complete() {
        let what = "ldirectord and keepalived".to_owned();
        missing.push(Missing { what, why: "are what `lb import` is compared with", how: How::Originals });
    }
    if scope == Scope::PackageCheck && !Path::new(CHROOT_CONNECTION).exists() {
        let what = "ansible with its chroot connection".to_owned();
        let how = How::Apt(vec!["ansible".to_owned()]);
        missing.push(Missing { what, why: "tries the Ansible role", how });
    }
    if scope == Scope::Kernels && !emulator::is_there() {
        let what = "qemu-system-x86_64".to_owned();
        missing.push(Missing { what, why: "boots other kernels", how: How::Emulator });
    }
    if scope.tests() {
        missing.extend(rust_components());
    }
    missing.extend(bpf());
    if scope.lab() {
        missing.extend(machine::mounts());
    }
    missing
}

/// The same of programs that Debian's packages have.
fn programs(scope: Scope) -> Vec<Missing> {
    let mut missing = Vec::new();
    let mut program = |name: &str, packages: &str, why| {
        if !on_path(name) {
            missing.push(Missing { what: name.to_owned(), why, how: How::Apt(vec![packages.to_owned()]) });
        }
    };
    if scope.lab() {
        program("mount", "mount", "makes the lab's file systems");
        program("nsenter", "util-linux", "enters the lab's namespaces");
        program("ip", "iproute2", "makes the lab's namespaces");
        program("ethtool", "ethtool", "switches checksum offload off in the lab");
        program("nginx", "nginx-light|nginx", "is the lab's web server");
        program("curl", "curl", "is the lab's client");
        program("arping", "iputils-arping", "asks in the lab who has an address");
        program("nft", "nftables", "cuts heartbeats in the lab");
        program("socat", "socat", "is the lab's serial line");
    }
    if scope.browser() {
        program("chromium", "chromium", "shows the page");
        program("chromedriver", "chromium-driver", "drives the browser");
    }
    if scope == Scope::Keepalived {
        program("keepalived", "keepalived", "is what the benchmark compares with");
    }
    if scope == Scope::Ldirectord {
        program("ldirectord", "ldirectord", "is what the benchmark compares with");
    }
    if matches!(scope, Scope::Package | Scope::PackageCheck) {
        program("dpkg-deb", "dpkg", "builds Debian's packages");
        program("rpmbuild", "rpm", "builds the RPM packages");
        program("umoci", "umoci", "builds the images for containers");
        program("strip", "binutils", "leaves out of the packages what only debuggers read");
        let authorities = "makes the file of the authorities that the images trust";
        program("update-ca-certificates", "ca-certificates", authorities);
    }
    if scope == Scope::PackageCheck {
        program("lintian", "lintian", "checks Debian's packages");
        program("rpmlint", "rpmlint", "checks the RPM packages");
        program("skopeo", "skopeo", "checks the images for containers");
        program("mmdebstrap", "mmdebstrap", "makes a Debian to try the packages in");
        program("systemd-analyze", "systemd", "verifies the units of the packages");
        program("kill", "procps", "is what the unit reloads lb by");
    }
    if scope == Scope::Test {
        program("prometheus", "prometheus", "reads the metrics in a test");
        program("prometheus-alertmanager", "prometheus-alertmanager", "gets alerts in a test");
        program("kubectl", "kubernetes-client|kubectl", "has lb-kube's Services made in a test");
        program("tmux", "tmux", "is the terminal of lb top in a test");
        program("npm", "npm", "fetches axe-core and yaml-language-server");
        program("node", "nodejs", "runs yaml-language-server");
    }
    if matches!(scope, Scope::Test | Scope::Chaos) {
        program("faketime", "faketime", "sets a director's clock");
        program("strace", "strace", "has changes of maps fail");
    }
    if scope.tests() {
        program("systemd-analyze", "systemd", "rates the systemd unit in a test");
    }
    missing
}

/// The BPF toolchain. The compiler comes first: it determines the linker's LLVM.
fn bpf() -> Vec<Missing> {
    let Some(toolchain) = ebpf::toolchain() else {
        let what = "a Rust toolchain for BPF".to_owned();
        return vec![Missing { what, why: "compiles the XDP program", how: How::BpfToolchain }];
    };
    if ebpf::bpf_linker().is_some() {
        return Vec::new();
    }
    let why = "links the XDP program";
    // A linker with an older LLVM cannot read the compiler's output.
    let llvm = llvm_of(&toolchain.rustc).unwrap_or(22);
    let prefix = Path::new("/usr/lib").join(format!("llvm-{llvm}"));
    let mut packages = Vec::new();
    if !prefix.join("include/llvm-c/Core.h").is_file() {
        packages.extend([format!("llvm-{llvm}-dev"), format!("libpolly-{llvm}-dev")]);
        packages.extend(["libzstd-dev", "zlib1g-dev"].map(str::to_owned));
    }
    if !on_path("c++") {
        packages.push("g++".to_owned());
    }
    let mut missing = Vec::new();
    if !packages.is_empty() {
        missing.push(Missing { what: format!("LLVM {llvm} for bpf-linker"), why, how: How::Apt(packages) });
    }
    missing.push(Missing { what: "bpf-linker".to_owned(), why, how: How::BpfLinker { llvm, prefix } });
    missing
}

/// rustfmt and clippy, searched beside the running cargo: rustup's proxies on PATH exist even if a
/// toolchain lacks them.
fn rust_components() -> Option<Missing> {
    let cargo = PathBuf::from(env::var_os("CARGO")?);
    let folder = cargo.parent()?;
    let absent = |program: &str| !folder.join(program).is_file();
    let components: Vec<_> = [("rustfmt", "rustfmt"), ("cargo-clippy", "clippy")]
        .into_iter()
        .filter(|(program, _)| absent(program))
        .map(|(_, component)| component.to_owned())
        .collect();
    (!components.is_empty()).then(|| Missing {
        what: components.join(" and "),
        why: "checked by the tests",
        how: How::Rustup(components),
    })
}

/// Major version of the LLVM inside a compiler.
fn llvm_of(rustc: &Path) -> Option<u32> {
    let output = Command::new(rustc).arg("-vV").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let version = text.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    version.split('.').next()?.parse().ok()
}

pub(crate) fn on_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join(program).is_file())
}
