//! Health checks: a pure machine per server and one file per kind of probe.
