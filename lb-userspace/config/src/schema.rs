//! The shape of the file as a JSON schema, for editors and for programs that write it.

/// The JSON schema of the whole file, as draft 2020-12 has it. It has the name, place, values,
/// default and meaning of each key; a test writes it from the table of keys.
pub const SCHEMA: &str = include_str!("../../../deploy/schema/lb.schema.json");
