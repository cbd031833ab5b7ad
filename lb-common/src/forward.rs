//! Packets as they leave: by address translation, in tunnels, by other interfaces and in other
//! VLANs, to other directors, and back to where they came from.

pub mod egress;
pub mod hairpin;
pub mod ingress;
pub mod nat;
pub mod peer;
pub mod tunnel;
