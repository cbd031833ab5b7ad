//! What the controller shows: snapshots, metrics, logs.

pub mod view;
