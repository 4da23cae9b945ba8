//! The store behind rclone: one supervised daemon a task, objects over its restic protocol, all else over its API.
//!
//! ```text
//! store           the calls of the store
//!   transfer      bytes up and down, watched for stalls
//!     supervisor  starts the daemon again when it died or hangs
//!       daemon    one running daemon: sockets, what it serves, calls of its API
//!         process   the child itself and its end
//!         config    what it is configured with, and what it renews in that
//!         private   the directory that nobody else can enter
//!         log       its words
//!         reason    its words → why
//! ```
//!
//! Nothing is asked of rclone that the listing does not prove later: its exit code and its silence mean nothing.

mod config;
mod daemon;
mod log;
mod options;
mod private;
mod process;
mod reason;
mod store;
mod supervisor;
mod transfer;

pub use config::Config;
pub use options::{Mode, RcloneOptions};
pub use store::Rclone;
