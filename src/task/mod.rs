//! What runs inside a task: the sources that are read, and the verbs.

pub mod context;
pub mod restore;
pub mod sources;
