//! A kernel's figures for an XDP program. The example `programs` prints them, a line of JSON per
//! program, in this kernel and in others; `xtask` parses them.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Program {
    pub name: String,
    /// It is one of `lb` itself, not of the benchmark.
    pub shipped: bool,
    /// Instructions that the verifier processed. It refuses a program at a million.
    pub steps: Option<u32>,
    /// Bytes of stack by function, as the verifier reports them: `32+272+0`. `None`: not requested.
    pub stack: Option<String>,
    /// Milliseconds to load the program: verification and JIT compilation.
    pub load_ms: f64,
    /// Why the kernel refuses the program, with the verifier's last lines.
    pub refused: Option<String>,
}

/// How long the kernel takes for all programs of `lb`, loaded as `lb` does: side by side. A line of
/// JSON behind those of the programs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Together {
    pub programs: usize,
    /// Milliseconds; the least of several times.
    pub together_ms: f64,
    /// Milliseconds of all processors, which other work on the machine changes little.
    pub processor_ms: f64,
}
