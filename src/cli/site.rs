//! Which controller's state a verb looks at.

use std::path::PathBuf;

/// Where the controller of this host keeps its state.
#[derive(Debug, Clone, clap::Args)]
pub struct SiteArgs {
    /// The controller's state directory
    #[arg(long, value_name = "DIR", env = "BACKSTAY_STATE", default_value = DEFAULT_STATE)]
    pub state: PathBuf,
}

/// Where a controller keeps its state when it is not told.
pub const DEFAULT_STATE: &str = "/var/lib/backstay";
