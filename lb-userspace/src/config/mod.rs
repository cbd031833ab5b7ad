//! The configuration: from YAML to a checked model.

mod model;

pub use model::*;
