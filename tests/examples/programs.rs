//! Loads every XDP program of the project into the running kernel, one after the other, and tells
//! what the kernel makes of it: a line of JSON for each (`lb_lab::program`), and one of how long
//! all of them take side by side. Needs root.
//!
//! `cargo xtask build-ebpf --report` runs it on this machine, `cargo xtask test --kernels` in other
//! kernels.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use aya::programs::{ProgramError, Xdp};
use aya::{Ebpf, EbpfLoader, VerifierLogLevel};
use clap::Parser;
use lb_common::mac::Mac;
use lb_datapath::DataPath;
use lb_datapath::direct::DirectMaps;
use lb_datapath::inherited::PinnedMaps;
use lb_datapath::lease::Start;
use lb_datapath::object::{self, OBJECT, Sizes, TRACE_PROGRAM};
use lb_lab::program::{Program, Together};
use lb_tests::BENCHMARK;
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use nix::sys::time::{TimeVal, TimeValLike as _};

/// Verification does not depend on it.
const SIZES: Sizes = Sizes {
    connections: 4096,
    connections_v6: 4096,
    services: 64,
    servers: 1024,
    schedule_words: 1 << 14,
    bindings: 1 << 12,
};

/// All programs are loaded side by side so many times: other processes take processors away.
const TIMES: usize = 3;

/// What the running kernel makes of every XDP program.
#[derive(Debug, Parser)]
struct Options {
    /// Ask for the stack as well, for which each program is verified twice more.
    #[arg(long)]
    stack: bool,
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    ensure!(nix::unistd::geteuid().is_root(), "programs are loaded into the kernel, which takes root");
    let mut all_loaded = true;
    let real = object::load(&SIZES, &PinnedMaps::default())?;
    let shipped = names(&real.ebpf);
    let benchmark = object::load_object(BENCHMARK, &SIZES)?;
    // The benchmark has programs of `lb` as well, which are the same.
    let others = names(&benchmark.ebpf).into_iter().filter(|name| !shipped.contains(name)).collect();
    for (mut loaded, object, names) in [(real, OBJECT, &shipped), (benchmark, BENCHMARK, &others)] {
        for name in names {
            let mut program = load(&mut loaded.ebpf, name, object == OBJECT)?;
            if options.stack && program.refused.is_none() {
                program.stack = stack(object, name)?;
            }
            all_loaded &= program.refused.is_none();
            println!("{}", serde_json::to_string(&program)?);
        }
    }
    if !all_loaded {
        return Ok(ExitCode::FAILURE);
    }
    println!("{}", serde_json::to_string(&together(shipped.len())?)?);
    Ok(ExitCode::SUCCESS)
}

fn names(ebpf: &Ebpf) -> BTreeSet<String> {
    ebpf.programs().map(|(name, _)| name.to_owned()).collect()
}

/// Loads all programs of `lb`, also the one that it loads only when packets are traced.
fn together(programs: usize) -> Result<Together> {
    let mut times = Vec::new();
    for _ in 0..TIMES {
        let object = object::load(&SIZES, &PinnedMaps::default())?;
        let mac = Mac::new([2, 0, 0, 0, 0, 5]);
        let mut data_path = DataPath::new(object, SIZES, mac, [1, 2], Start::Active, None)?;
        let (start, before) = (Instant::now(), processor_ms()?);
        data_path.load_all_programs()?;
        object::load_program(&mut data_path.ebpf, TRACE_PROGRAM)?;
        times.push([start.elapsed().as_secs_f64() * 1e3, processor_ms()? - before]);
    }
    let least = |of: usize| times.iter().map(|times| times[of]).fold(f64::INFINITY, f64::min);
    Ok(Together { programs, together_ms: least(0), processor_ms: least(1) })
}

/// Milliseconds that this process has had of all processors.
fn processor_ms() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let ms = |time: TimeVal| time.num_microseconds() as f64 / 1e3;
    Ok(ms(usage.user_time()) + ms(usage.system_time()))
}

fn load(ebpf: &mut Ebpf, name: &str, shipped: bool) -> Result<Program> {
    let start = Instant::now();
    let loaded = object::load_program(ebpf, name);
    let load_ms = start.elapsed().as_secs_f64() * 1e3;
    let (steps, refused) = match loaded {
        Ok(program) => (program.info()?.verified_instruction_count(), None),
        Err(error) => (None, Some(format!("{error:#}"))),
    };
    Ok(Program { name: name.to_owned(), shipped, steps, stack: None, load_ms, refused })
}

/// The verifier tells it in its log alone, and aya hands a log out with a refusal only. So the
/// program is loaded where the process may have no descriptor for it, which the kernel finds out
/// when all has been verified.
fn stack(object: &[u8], name: &str) -> Result<Option<String>> {
    let direct = DirectMaps::new(&PinnedMaps::default())?;
    let object = direct.write_into(object)?;
    let mut ebpf = EbpfLoader::new().verifier_log_level(VerifierLogLevel::STATS).load(object.bytes())?;
    let program: &mut Xdp = object::program(&mut ebpf, name)?;
    let loaded = without_descriptors(|| program.load())?;
    Ok(match loaded {
        Err(ProgramError::LoadError { verifier_log, .. }) => {
            let log = verifier_log.to_string();
            log.lines().find_map(|line| line.strip_prefix("stack depth ")).map(str::to_owned)
        }
        // A kernel that counts descriptors in another way tells nothing of the stack.
        _ => None,
    })
}

/// Runs `work` while every new descriptor of this process is one too many.
fn without_descriptors<T>(work: impl FnOnce() -> T) -> Result<T> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    // New descriptors get the lowest number that is free.
    let free = File::open("/dev/null").context("/dev/null")?.as_raw_fd();
    setrlimit(Resource::RLIMIT_NOFILE, u64::try_from(free)?, hard)?;
    let result = work();
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard)?;
    Ok(result)
}
