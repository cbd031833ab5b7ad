//! The servers MACs.
