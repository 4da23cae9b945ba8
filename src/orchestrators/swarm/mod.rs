//! Docker Swarm: policies are labels of services, or configs; the state is in configs of our own; each task is a service.
//!
//! - [`engine`]: the client of the engine's API; [`names`]: what our objects are called.
//! - [`discover`]: the policies that services and configs declare, and [`facts`] about them; [`place`] finds what they name.
//! - [`service`]: the service of a task; [`state`]: how a task is. Both are pure.
//! - [`optional`]: what a task can do without.
//! - [`objects`]: what is kept, as configs; [`look`]: what is seen of it; [`harvest`]: what tasks said at their end;
//!   [`logs`]: what those that failed said.
//! - [`mirror`]: the one thing that is ever written on a user's service, where they ask for it.
//! - [`port`]: all of it as the controller's port; [`watch`] its hints; [`removed`] sweeps what is left behind.
//! - [`errand`]: a task that a person waits for; [`restores`]: what excludes runs.
//! - [`site`]: all of it as people ask it; [`notice`]: what the controller tells about itself.

pub mod discover;
pub mod engine;
pub mod errand;
pub mod facts;
mod harvest;
pub mod image;
mod logs;
mod look;
mod mirror;
pub mod names;
pub mod notice;
pub mod objects;
mod optional;
mod place;
pub mod port;
mod removed;
pub mod restores;
pub mod service;
pub mod site;
pub mod state;
mod watch;
