//! A restore and the runs of this host exclude each other where it writes into a policy's sources.

use crate::{
    cli::{output, problem::Problem},
    domain::{
        identity::PolicyId,
        policy::{MongoConnection, Source, Volume, VolumePlace},
        restore::{RestoreRequest, VolumeTarget},
        run::RunPlan,
        verdict::Failure,
    },
    orchestrators::{
        local::{lookup::Host, restores::RestoreClaim, state::StateDir},
        site::Known,
    },
    task::{mongodb::connection::Connection, restore::RestoreReport},
};
use jiff::Timestamp;
use std::{collections::BTreeSet, io, path::Path};

/// The policies whose runs wait for this restore.
pub struct Claims {
    claims: Vec<RestoreClaim>,
    /// The restore brings back whole sources, so that it settles an earlier one that ended badly.
    whole: bool,
}

impl Claims {
    /// Claims every policy of `host` whose sources, or those of a run of it, `request` writes into.
    ///
    /// # Errors
    /// A run or another restore is active; what was claimed by then is let go.
    pub async fn of(host: Option<&Host>, request: &RestoreRequest, now: Timestamp) -> Result<Self, Problem> {
        let mut claims = Self { claims: vec![], whole: is_whole(request) };
        let Some((host, state)) = host.and_then(|host| Some((host, host.state.as_ref()?))) else {
            return Ok(claims);
        };
        let target = match &request.mongodb {
            Some(target) => hosts(&target.connection).await,
            None => BTreeSet::new(),
        };
        for known in host.all()?.0 {
            let sources = sources(&known, state);
            if writes_files(request, &sources) || shares_server(&target, &sources).await {
                match state.begin_restore(&known.id, "backstay restore", now) {
                    Ok(claim) => claims.claims.push(claim),
                    Err(failure) => {
                        claims.unchanged()?;
                        return Err(failure.into());
                    }
                }
            }
        }
        Ok(claims)
    }

    /// Tells the controller how the restore ended, and whether it changed anything by then: the policies that are held.
    ///
    /// # Errors
    /// A record that cannot be written: the policy is held then, as after a failure.
    pub fn end(self, result: &Result<RestoreReport, Failure>, changed: bool) -> io::Result<Vec<PolicyId>> {
        match End::of(result, changed, self.whole) {
            End::Succeeded => self.each(RestoreClaim::succeeded)?,
            End::Unchanged => self.unchanged()?,
            End::Failed(why) => {
                let held = self.claims.iter().map(|claim| claim.policy().clone()).collect();
                return self.each(|claim| claim.failed(&why)).map(|()| held);
            }
        }
        Ok(Vec::new())
    }

    fn unchanged(self) -> io::Result<()> {
        self.each(RestoreClaim::unchanged)
    }

    fn each(self, end: impl Fn(RestoreClaim) -> io::Result<()>) -> io::Result<()> {
        self.claims.into_iter().try_for_each(end)
    }
}

/// What a restore means for the policies that it has claimed.
pub enum End {
    /// Their sources are as the snapshot was.
    Succeeded,
    /// Nothing has to be settled.
    Unchanged,
    /// They are held, for this reason.
    Failed(String),
}

impl End {
    /// `changed`: something may have been written; `whole`: whole sources were asked for.
    pub fn of(result: &Result<RestoreReport, Failure>, changed: bool, whole: bool) -> Self {
        match result {
            Ok(report) if report.is_whole() && whole => Self::Succeeded,
            Ok(report) if report.is_whole() => Self::Unchanged,
            Ok(_) => Self::Failed("not everything could be restored".to_owned()),
            Err(_) if !changed => Self::Unchanged,
            Err(failure) => Self::Failed(failure.message.clone()),
        }
    }
}

/// True when whole sources are brought back, which settles an earlier restore that ended badly.
pub fn is_whole(request: &RestoreRequest) -> bool {
    request.volumes.iter().all(|target| target.include.is_empty())
        && request.mongodb.as_ref().is_none_or(|target| target.include.is_empty())
}

/// What the policy reads as it is declared, and what its run that is not over reads, whatever became of the document.
fn sources(known: &Known, state: &StateDir) -> Vec<Source> {
    let declared = known.policy.as_ref().map(|policy| policy.sources()).unwrap_or_default();
    let plan = state.active_plan(&known.id).unwrap_or_else(|error| {
        output::warn(format!("{error}: what a run of {} reads is not known", known.id));
        None
    });
    declared.into_iter().chain(plan.iter().flat_map(RunPlan::sources).cloned()).collect()
}

fn writes_files(request: &RestoreRequest, sources: &[Source]) -> bool {
    let overlap = |a: &Path, b: &Path| a.starts_with(b) || b.starts_with(a);
    sources.iter().any(|source| {
        let Source::Volume(Volume { place: VolumePlace::HostPath(source), .. }) = source else {
            return false;
        };
        let source = real(source);
        let mut targets = request.volumes.iter().filter_map(VolumeTarget::directory);
        targets.any(|target| overlap(&real(target), &source))
    })
}

/// The path without symlinks, as far as it exists.
fn real(path: &Path) -> std::path::PathBuf {
    let mut missing = Vec::new();
    let mut there = path;
    loop {
        match (there.canonicalize(), there.parent(), there.file_name()) {
            (Ok(real), ..) => return missing.iter().rev().fold(real, |path, name| path.join(name)),
            (Err(_), Some(parent), Some(name)) => {
                missing.push(name.to_owned());
                there = parent;
            }
            _ => return path.to_owned(),
        }
    }
}

/// True when one of `sources` is on a server of `target`.
pub async fn shares_server(target: &BTreeSet<String>, sources: &[Source]) -> bool {
    for source in sources {
        if let Source::Mongodb(source) = source
            && !hosts(&source.connection).await.is_disjoint(target)
        {
            return true;
        }
    }
    false
}

/// The servers that a URI names. One that cannot be read names none: the restore itself says why.
pub async fn hosts(connection: &MongoConnection) -> BTreeSet<String> {
    match Connection::resolve(connection, "mongodb").await {
        Ok(connection) => connection.seeds().iter().map(ToString::to_string).collect(),
        Err(_) => BTreeSet::new(),
    }
}
