//! Packets as they come in: their headers, from Ethernet to the ports, and the numbers in these;
//! checksums, fragments, VLANs, connection IDs of QUIC.

pub mod checksum;
pub mod fragment;
pub mod frame;
pub mod numbers;
pub mod partial_checksum;
pub mod quic;
pub mod vlan;
