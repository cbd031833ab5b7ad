//! Whose a packet is: the connection table first, then the table of services.

pub mod connection;
pub mod service;
pub mod table;
