//! The importer through its public interface.

mod corpus;
