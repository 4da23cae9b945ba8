//! What runs inside a task: the sources that are read, and the verbs.

pub mod clock;
pub mod context;
pub mod mongodb;
pub mod restore;
pub mod scratch;
pub mod secret;
pub mod sources;
pub mod verify;
