//! What a kernel makes of an XDP program. The example `programs` tells it, a line of JSON for each program, here and in other
//! kernels; `xtask` reads it.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Program {
    pub name: String,
    /// Instructions that the verifier followed, as this kernel counts them. It refuses a program that takes a million.
    pub steps: Option<u32>,
    /// Bytes of stack by function, as this kernel's verifier tells it: `32+272+0`. `None`: it was not asked.
    pub stack: Option<String>,
    /// Milliseconds that it took to load the program: verification, and translation into the machine's own code.
    pub load_ms: f64,
    /// Why the kernel does not load it, with the verifier's last lines.
    pub refused: Option<String>,
}
