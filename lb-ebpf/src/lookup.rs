//! Whose a packet is: the connection table first, then the table of services. Later fragments: the
//! first one's trail.

pub mod backend;
pub mod connection;
pub mod fragment;
pub mod quic;
pub mod service;
pub mod source;
pub mod table;
