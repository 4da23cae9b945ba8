//! Which backups a verb reads: a place on a remote, or those of a policy of this host.

use crate::{
    cli::{
        place::{Place, PlaceArgs},
        problem::Problem,
        runtime::block_on,
        site::{SiteArgs, SiteKind},
    },
    domain::{
        error::Invalid,
        location::Location,
        names::{InstanceName, PolicyName, SnapshotName},
        policy::Policy,
        snapshot::SnapshotSummary,
    },
    orchestrators::{
        local::lookup::Host,
        site::{Known, find},
        swarm::site::SwarmSite,
    },
    storage::rclone::{Mode, Rclone, RcloneOptions},
    task::real::store_options,
};
use std::str::FromStr;

/// `--from` and a configuration; or a policy's name, and where this host's policies are.
#[derive(Debug, Clone, clap::Args)]
pub struct BackupsArgs {
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    site: SiteArgs,
}

/// A policy as people name it: `nightly`, or `wt/nightly` where several scopes have one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meant {
    /// As written.
    pub text: String,
    /// Without its scope, as snapshots carry it.
    pub name: PolicyName,
}

impl FromStr for Meant {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let name = text.rsplit_once('/').map_or(text, |(_, name)| name).parse()?;
        Ok(Self { text: text.to_owned(), name })
    }
}

/// Where backups are and how to reach them.
pub struct Backups {
    /// The instance's folder.
    pub place: Place,
    options: RcloneOptions,
}

impl BackupsArgs {
    /// True when a place is named, so that no policy of this host is asked.
    pub fn names_place(&self) -> bool {
        self.place.from.is_some()
    }

    /// This host's policies and state, where there are any.
    ///
    /// # Errors
    /// What is named cannot be used.
    pub fn host(&self) -> Result<Option<Host>, Problem> {
        let is_host = self.site.kind() == SiteKind::Local && self.site.is_there();
        if is_host { self.site.host().map(Some) } else { Ok(None) }
    }

    /// The Swarm whose policies are meant, where it is one and no place is named.
    ///
    /// # Errors
    /// What is named cannot be used.
    pub fn swarm(&self) -> Result<Option<SwarmSite>, Problem> {
        let meant = !self.names_place() && self.site.is_swarm();
        Ok(if meant { Some(SwarmSite::open()?) } else { None })
    }

    /// Snapshots at `place` that a person holds, as far as this host's controller knows.
    pub fn held(&self, place: &Place) -> Vec<SnapshotName> {
        let Ok(Some(host)) = self.host() else { return Vec::new() };
        let (Some(state), Ok((all, _))) = (&host.state, host.all()) else { return Vec::new() };
        let is_there = |known: &&Known| {
            known.policy.as_ref().is_ok_and(|policy| Backups::of(policy).is_ok_and(|own| own.place == *place))
        };
        all.iter().filter(is_there).flat_map(|known| state.holds(&known.id).unwrap_or_default()).collect()
    }

    /// The place that is given; else that of `policy`; else that of this host's policies, when it is only one.
    ///
    /// # Errors
    /// Neither is given, or what is given does not exist.
    pub fn find(&self, policy: Option<&PolicyName>) -> Result<Backups, Problem> {
        if self.place.from.is_some() {
            let place = self.place.place()?.clone();
            let (remote, path) = (place.remote.clone(), place.path.clone());
            return Ok(Backups {
                place,
                options: RcloneOptions::new(self.place.config_file(), remote, path, Mode::Read),
            });
        }
        if self.site.kind() != SiteKind::Local {
            return self.of_cluster(policy);
        }
        if !self.site.is_there() {
            self.place.place()?;
        }
        let host = self.site.host()?;
        if let Some(name) = policy {
            return Backups::of(host.find(name.as_str())?.valid()?);
        }
        let (all, _) = host.all()?;
        let valid: Vec<_> = all.iter().filter_map(|known| known.policy.as_ref().ok()).collect();
        let mut places: Vec<Backups> = Vec::new();
        for policy in &valid {
            let found = Backups::of(policy)?;
            if !places.iter().any(|known| known.place == found.place) {
                places.push(found);
            }
        }
        match (places.pop(), places.len()) {
            (Some(only), 0) => Ok(only),
            (None, _) => Err(Problem::Usage(
                "no valid policy of this host says where the backups are; name the place: --from REMOTE:PATH/INSTANCE".to_owned(),
            )),
            _ => {
                let names: Vec<_> = valid.iter().map(|policy| policy.name.as_str()).collect();
                Err(Problem::Usage(format!("the policies of this host use several places; name one of {}", names.join(", "))))
            }
        }
    }
}

impl BackupsArgs {
    /// The snapshots that the status lists, newest first, and those that people hold, where nothing better can be asked: the
    /// secrets of a cluster cannot be read, and no configuration of rclone is here.
    ///
    /// # Errors
    /// A cluster that cannot be asked, a policy that is not there.
    pub fn told_by_status(&self, policy: Option<&Meant>) -> Result<Option<Told>, Problem> {
        if self.names_place() || self.site.kind() == SiteKind::Local || self.place.config_file().exists() {
            return Ok(None);
        }
        let site = self.site.site()?;
        let (chosen, held) = block_on(async {
            let chosen = match policy {
                Some(meant) => vec![find(&*site, &meant.text).await?],
                None => site.all().await?.0,
            };
            let mut held = Vec::new();
            for known in &chosen {
                held.extend(site.held(&known.id).await?);
            }
            Ok((chosen, held))
        })?;
        let statuses = chosen.iter().filter_map(|known| known.status.as_ref());
        let mut snapshots: Vec<SnapshotSummary> =
            statuses.flat_map(|status| status.snapshots.iter().cloned()).collect();
        snapshots.sort_by_key(|snapshot| std::cmp::Reverse(snapshot.name.slot()));
        Ok(Some(Told { snapshots, held }))
    }

    /// Those of a cluster's policy; its secrets are not read from here, so the configuration is the one that is named.
    fn of_cluster(&self, policy: Option<&PolicyName>) -> Result<Backups, Problem> {
        let Some(name) = policy else {
            return Err(Problem::Usage(
                "name a policy, or the place: --from REMOTE:PATH/INSTANCE".to_owned(),
            ));
        };
        let site = self.site.site()?;
        let known = block_on(async { Ok(find(&*site, name.as_str()).await?) })?;
        let place = Place::of(known.valid()?);
        let (remote, path) = (place.remote.clone(), place.path.clone());
        Ok(Backups { place, options: RcloneOptions::new(self.place.config_file(), remote, path, Mode::Read) })
    }
}

/// What a status tells of snapshots.
pub struct Told {
    /// The newest, newest first.
    pub snapshots: Vec<SnapshotSummary>,
    /// Those that people hold.
    pub held: Vec<SnapshotName>,
}

impl Backups {
    /// Those of a policy.
    ///
    /// # Errors
    /// A configuration that is no file here.
    pub fn of(policy: &Policy) -> Result<Self, Problem> {
        Self::at(&policy.destination, &policy.instance)
    }

    /// Those of an instance at a place.
    ///
    /// # Errors
    /// A configuration that is no file here.
    pub fn at(location: &Location, instance: &InstanceName) -> Result<Self, Problem> {
        let options = store_options(location, instance, Mode::Read)?;
        Ok(Self { place: Place { remote: options.remote.clone(), path: options.path.clone() }, options })
    }

    /// The store there.
    ///
    /// # Errors
    /// rclone cannot use it.
    pub async fn open(&self, mode: Mode) -> Result<Rclone, Problem> {
        Ok(Rclone::start(RcloneOptions { mode, ..self.options.clone() }).await?)
    }
}
