//! The flags of `backstay restore`.

use crate::{
    cli::{
        backups::{BackupsArgs, Meant},
        output::OutputArgs,
        place::Place,
        problem::Problem,
        time,
    },
    domain::{
        location::SecretSource,
        names::SourceName,
        policy::{MongoConnection, MongoUri, NamespacePattern, Policy, VolumePlace},
        restore::{MetadataOptions, MongodbTarget, Ownership, RestoreRequest, VolumeTarget},
        snapshot::AsOf,
    },
    orchestrators::local::lookup::Host,
};
use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

/// `--forget` without a value.
pub const ALL: &str = "all";

/// Bring a snapshot back: into directories, a database, or both
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  backstay restore --from box:WT/production --volume homes=/mnt/homes --dry-run
  backstay restore --from box:WT/production --mongodb mongodb://localhost/?replicaSet=rs1 --rename girder=girder_test
  backstay restore --from box:WT/production --as-of 2026-11-25T02:00:00Z --volume homes=/tmp/back --path alice/notes
  backstay restore nightly --as-of yesterday --dry-run
  backstay restore nightly --confirm=production
  backstay restore -f restore.yaml")]
pub struct Args {
    /// Only snapshots of this policy. One of this host's or this Swarm's, without --from: restored to where it came
    /// from, when no target is named
    pub policy: Option<Meant>,
    /// A Restore document instead of flags: a file, or - for standard input
    #[arg(
        short = 'f',
        long = "filename",
        value_name = "FILE",
        conflicts_with_all = [
            "policy", "from", "as_of", "allow_partial", "volumes", "paths", "delete_extra", "mongodb",
            "mongodb_uri_file", "mongodb_username", "mongodb_password_file", "namespaces", "renames", "users",
            "forget", "confirm",
        ],
    )]
    pub document: Option<PathBuf>,
    #[command(flatten)]
    pub backups: BackupsArgs,
    /// Which snapshot: latest, the newest not after a time or by the end of a day (UTC), or a name
    #[arg(long, value_name = "WHEN", default_value = "latest", value_parser = time::as_of)]
    as_of: AsOf,
    /// Also from a snapshot that lacks something
    #[arg(long)]
    allow_partial: bool,
    /// A volume and the directory that it goes to, on a Swarm also a named volume; may be repeated
    #[arg(long = "volume", value_name = "NAME=DIRECTORY", value_parser = pair)]
    volumes: Vec<(String, String)>,
    /// Only this path of the volumes, or glob, and what is below it; may be repeated
    #[arg(long = "path", value_name = "PATH")]
    paths: Vec<String>,
    /// Remove what the backup does not have, once everything is in place
    #[arg(long)]
    delete_extra: bool,
    /// Who owns restored files: those of the backup (keep; needs root) or you. Default: keep as root
    #[arg(long, value_name = "WHO")]
    owner: Option<Owner>,
    /// Replace a user id; may be repeated
    #[arg(long, value_name = "OLD=NEW", value_parser = ids)]
    map_user: Vec<(u32, u32)>,
    /// Replace a group id; may be repeated
    #[arg(long, value_name = "OLD=NEW", value_parser = ids)]
    map_group: Vec<(u32, u32)>,
    /// Restore setuid and setgid bits and file capabilities of files
    #[arg(long)]
    preserve_setuid: bool,
    /// Make device nodes
    #[arg(long)]
    devices: bool,
    /// The deployment that the database goes to; a password does not belong on a command line
    #[arg(long, value_name = "URI", visible_alias = "mongodb-uri")]
    mongodb: Option<String>,
    /// A file with the deployment's URI, which may hold a password
    #[arg(long, value_name = "FILE", conflicts_with = "mongodb")]
    mongodb_uri_file: Option<PathBuf>,
    /// The user, when the URI names none
    #[arg(long, value_name = "NAME")]
    mongodb_username: Option<String>,
    /// A file with the user's password
    #[arg(long, value_name = "FILE")]
    mongodb_password_file: Option<PathBuf>,
    /// Only these namespaces: db.collection, * for any text; may be repeated
    #[arg(long = "namespace", value_name = "PATTERN")]
    namespaces: Vec<NamespacePattern>,
    /// Restore a database or collection under another name; may be repeated
    #[arg(long = "rename", value_name = "FROM=TO", value_parser = pair)]
    renames: Vec<(String, String)>,
    /// Restore users and roles, too
    #[arg(long)]
    users: bool,
    /// Show the plan and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Forget restores that ended badly, or one of them: the policy's sources are good as they are
    #[arg(long, value_name = "RESTORE", num_args = 0..=1, default_missing_value = ALL)]
    pub forget: Option<String>,
    /// Yes, replace what is there: the instance's name once more
    #[arg(long, value_name = "INSTANCE", require_equals = true)]
    pub confirm: Option<String>,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Owner {
    Keep,
    Me,
}

/// Where a restore is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Where {
    /// On this machine, by this process.
    Here,
    /// On the nodes that have the data, by tasks.
    Beside,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (left, right) = text.split_once('=').ok_or_else(|| format!("{text:?} has no '='"))?;
    if left.is_empty() || right.is_empty() {
        return Err(format!("{text:?} has nothing on one side of '='"));
    }
    Ok((left.to_owned(), right.to_owned()))
}

fn ids(text: &str) -> Result<(u32, u32), String> {
    let wrong = || format!("{text:?} is not a pair of numbers such as 1000=2000");
    let (old, new) = text.split_once('=').ok_or_else(wrong)?;
    Ok((old.parse().map_err(|_| wrong())?, new.parse().map_err(|_| wrong())?))
}

impl Args {
    /// The policy of this host whose backups are restored, if one is named and no place is.
    ///
    /// # Errors
    /// There is no such policy, or it is wrong.
    pub fn own_policy(&self, host: Option<&Host>) -> Result<Option<Arc<Policy>>, Problem> {
        match (host, &self.policy) {
            (Some(host), Some(meant)) if !self.backups.names_place() => {
                Ok(Some(Arc::clone(host.find(&meant.text)?.valid()?)))
            }
            _ => Ok(None),
        }
    }

    /// What is asked for; without a target, everything back to where `own` has it.
    ///
    /// # Errors
    /// Flags that cannot be meant together.
    pub fn request(&self, own: Option<&Policy>, at: Where) -> Result<RestoreRequest, Problem> {
        let volumes = self.volumes.iter().map(|pair| self.volume(pair, at));
        let (mut volumes, mut mongodb) = (volumes.collect::<Result<Vec<_>, _>>()?, self.mongodb()?);
        if let Some(own) = own.filter(|_| volumes.is_empty() && mongodb.is_none()) {
            (volumes, mongodb) = self.in_place(own, at);
        }
        if at == Where::Beside && (self.mongodb_uri_file.is_some() || self.mongodb_password_file.is_some()) {
            return Err(Problem::Usage(
                "a file of this machine is not there where the task runs: let the policy name a secret, or restore with --from where the deployment can be reached".to_owned(),
            ));
        }
        if volumes.is_empty() && mongodb.is_none() {
            return Err(Problem::Usage(
                "say what to restore and where: --volume NAME=DIRECTORY, --mongodb URI, or both".to_owned(),
            ));
        }
        if volumes.is_empty() && !self.paths.is_empty() {
            return Err(Problem::Usage("--path chooses in a volume, and no --volume is given".to_owned()));
        }
        Ok(RestoreRequest {
            policy: self.policy.as_ref().map(|meant| meant.name.clone()),
            as_of: self.as_of.clone(),
            allow_partial: self.allow_partial,
            mongodb,
            volumes,
            confirmed: self.confirm.is_some(),
        })
    }

    /// A confirmation names the instance that is restored from.
    ///
    /// # Errors
    /// It names another one.
    pub fn check_confirmation(&self, place: &Place) -> Result<(), Problem> {
        match &self.confirm {
            Some(name) if *name != place.instance() => Err(Problem::Usage(format!(
                "--confirm={name} does not name the instance that is restored from: {}",
                place.instance()
            ))),
            _ => Ok(()),
        }
    }

    /// The policy's own sources as targets; a path chooses files, and a namespace collections.
    fn in_place(&self, own: &Policy, at: Where) -> (Vec<VolumeTarget>, Option<MongodbTarget>) {
        let (only_files, only_database) = (!self.paths.is_empty(), self.wants_database());
        let volumes = own.volumes.iter().filter(|_| !only_database || only_files);
        let volumes = volumes.map(|volume| self.target(volume.name.clone(), volume.place.clone(), at));
        let source = own.mongodb.as_ref().filter(|_| !only_files || only_database);
        let mongodb = source.map(|source| {
            let mut connection = source.connection.clone();
            if self.mongodb_username.is_some() {
                connection.username.clone_from(&self.mongodb_username);
                connection.password = self.mongodb_password_file.clone().map(SecretSource::File);
            }
            self.database(connection)
        });
        (volumes.collect(), mongodb)
    }

    fn wants_database(&self) -> bool {
        !self.namespaces.is_empty() || !self.renames.is_empty() || self.users
    }

    fn volume(&self, (name, place): &(String, String), at: Where) -> Result<VolumeTarget, Problem> {
        let wrong = |what: String| Problem::Usage(format!("--volume {name}={place}: {what}"));
        let place = match at {
            Where::Here => {
                VolumePlace::HostPath(std::path::absolute(place).map_err(|error| wrong(error.to_string()))?)
            }
            Where::Beside if place.starts_with('/') => VolumePlace::HostPath(place.into()),
            Where::Beside if place.contains('/') => {
                return Err(wrong("on a node a directory has an absolute path".to_owned()));
            }
            Where::Beside => VolumePlace::Named(place.clone()),
        };
        Ok(self.target(name.parse()?, place, at))
    }

    fn target(&self, name: SourceName, place: VolumePlace, at: Where) -> VolumeTarget {
        VolumeTarget {
            name,
            place,
            include: self.paths.clone(),
            delete_extra: self.delete_extra,
            metadata: self.metadata(at),
        }
    }

    /// How owners, setuid bits and devices come back.
    pub fn metadata(&self, at: Where) -> MetadataOptions {
        MetadataOptions {
            ownership: self.ownership(at),
            preserve_setuid: self.preserve_setuid,
            devices: self.devices,
        }
    }

    fn ownership(&self, at: Where) -> Ownership {
        let maps: [BTreeMap<u32, u32>; 2] =
            [&self.map_user, &self.map_group].map(|pairs| pairs.iter().copied().collect());
        let keep = match self.owner {
            Some(owner) => owner == Owner::Keep,
            None => at == Where::Beside || rustix::process::geteuid().is_root(),
        };
        match maps {
            [users, groups] if !users.is_empty() || !groups.is_empty() => Ownership::Map { users, groups },
            _ if keep => Ownership::Keep,
            _ => Ownership::Me,
        }
    }

    fn mongodb(&self) -> Result<Option<MongodbTarget>, Problem> {
        let uri = match (&self.mongodb, &self.mongodb_uri_file) {
            (Some(uri), _) if has_password(uri) => {
                return Err(Problem::Usage(
                    "the URI holds a password, which every process on this machine can read: use --mongodb-uri-file"
                        .to_owned(),
                ));
            }
            (Some(uri), _) => MongoUri::Plain(uri.clone()),
            (None, Some(file)) => MongoUri::From(SecretSource::File(file.clone())),
            (None, None) => return Ok(None),
        };
        let connection = MongoConnection {
            uri,
            username: self.mongodb_username.clone(),
            password: self.mongodb_password_file.clone().map(SecretSource::File),
            tls_ca: None,
            tls_certificate: None,
        };
        Ok(Some(self.database(connection)))
    }

    fn database(&self, connection: MongoConnection) -> MongodbTarget {
        let (include, rename) = (self.namespaces.clone(), self.renames.clone());
        MongodbTarget { connection, include, rename, users: self.users, replace: true }
    }
}

fn has_password(uri: &str) -> bool {
    let authority = uri.split_once("://").map_or(uri, |(_, rest)| rest);
    let authority = authority.split(['/', '?']).next().unwrap_or_default();
    authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_and_passwords() {
        assert_eq!(pair("homes=/a=b").unwrap(), ("homes".to_owned(), "/a=b".to_owned()));
        for bad in ["homes", "=x", "homes="] {
            assert!(pair(bad).is_err(), "{bad}");
        }
        assert_eq!(ids("1=2").unwrap(), (1, 2));
        assert!(ids("1=x").is_err());
        assert!(has_password("mongodb://me:secret@host/?a=b"));
        for good in ["mongodb://host:27017/", "mongodb://me@host:27017", "mongodb://host/?x=a:b@c"] {
            assert!(!has_password(good), "{good}");
        }
    }
}
