//! What the XDP program and the controller agree on: layouts, header parsing, connection states, schedules.
//!
//! Builds for the BPF target and for the host, so that every rule of the data path is tested on the host.
#![no_std]

pub mod schedule;
pub mod service;
