//! The director's controller: configuration, plan, data plane, health checks, observation, command line.

pub mod cli;
pub mod cluster;
pub mod command;
pub mod config;
pub mod controller;
pub mod dataplane;
mod filter;
pub mod findings;
pub mod firewall;
#[cfg(test)]
mod fuzz;
pub mod health;
mod icmp;
pub mod observe;
pub mod plan;
pub mod segment;
pub mod sorry;
pub mod worker;
