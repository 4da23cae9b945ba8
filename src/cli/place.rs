//! A place given on the command line: `--from box:WT/production --rclone-config F`, no controller needed.

use crate::{
    cli::problem::Problem,
    domain::{
        error::Invalid,
        location::{RemoteName, RemotePath},
        policy::Policy,
    },
};
use std::{path::PathBuf, str::FromStr};

/// Where a site's backups are and how to reach them.
#[derive(Debug, Clone, clap::Args)]
pub struct PlaceArgs {
    /// The instance's folder on a remote: REMOTE:PATH/INSTANCE, such as box:WT/production
    #[arg(long, value_name = "REMOTE:PATH")]
    pub from: Option<Place>,
    /// The rclone configuration that names the remote
    #[arg(long, value_name = "FILE", env = "RCLONE_CONFIG", default_value = "~/.config/rclone/rclone.conf")]
    pub rclone_config: PathBuf,
}

/// `REMOTE:PATH` with the instance as the path's last part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The remote.
    pub remote: RemoteName,
    /// The instance's folder on it.
    pub path: RemotePath,
}

impl FromStr for Place {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let (remote, path) = text.split_once(':').ok_or_else(|| {
            Invalid::new(format!(
                "{text:?} is not a place on a remote: write REMOTE:PATH, such as box:WT/production"
            ))
        })?;
        Ok(Self { remote: remote.parse()?, path: path.parse()? })
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.remote, self.path)
    }
}

impl Place {
    /// The one of a policy.
    pub fn of(policy: &Policy) -> Self {
        let Policy { destination, instance, .. } = policy;
        Self { remote: destination.remote.clone(), path: destination.instance_path(instance) }
    }

    /// Whose data it is: the path's last part.
    pub fn instance(&self) -> &str {
        self.path.as_str().rsplit('/').next().unwrap_or_default()
    }
}

impl PlaceArgs {
    /// The place, which must be given.
    ///
    /// # Errors
    /// It is not, or is a whole remote instead of an instance's folder.
    pub fn place(&self) -> Result<&Place, Problem> {
        match &self.from {
            Some(place) if place.instance().is_empty() => Err(Problem::Usage(format!(
                "--from {place} names no instance: add its folder, as in {place}WT/production"
            ))),
            Some(place) => Ok(place),
            None => Err(Problem::Usage(
                "say where the backups are: --from REMOTE:PATH/INSTANCE, such as --from box:WT/production; or where this host's policies are: --policies DIR"
                    .to_owned(),
            )),
        }
    }

    /// The configuration file, with `~/` put in full.
    pub fn config_file(&self) -> PathBuf {
        let home = std::env::var_os("HOME").map(PathBuf::from);
        match (self.rclone_config.strip_prefix("~"), home) {
            (Ok(rest), Some(home)) => home.join(rest),
            _ => self.rclone_config.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let place: Place = "box:WT/production".parse().unwrap();
        assert_eq!((place.to_string().as_str(), place.instance()), ("box:WT/production", "production"));
        for bad in ["", "box", ":local:/etc", "box:/etc", "box:../x", "box,env_auth=true:x"] {
            assert!(bad.parse::<Place>().is_err(), "{bad}");
        }
    }
}
