//! A restore and the runs of this host exclude each other where it writes into a policy's sources.

use crate::{
    cli::{output, problem::Problem},
    domain::{
        policy::{MongoConnection, Source, Volume, VolumePlace},
        run::RunPlan,
        verdict::Failure,
    },
    orchestrators::{
        local::{lookup::Host, restores::RestoreClaim, state::StateDir},
        site::Known,
    },
    task::{
        mongodb::connection::Connection,
        restore::{RestoreReport, request::RestoreRequest},
    },
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
        let whole = request.volumes.iter().all(|target| target.include.is_empty())
            && request.mongodb.as_ref().is_none_or(|target| target.include.is_empty());
        let mut claims = Self { claims: vec![], whole };
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

    /// Tells the controller how the restore ended, and whether it changed anything by then.
    ///
    /// # Errors
    /// A record that cannot be written: the policy is held then, as after a failure.
    pub fn end(self, result: &Result<RestoreReport, Failure>, changed: bool) -> io::Result<()> {
        match result {
            Ok(report) if report.is_whole() && self.whole => self.each(RestoreClaim::succeeded),
            Ok(report) if report.is_whole() => self.unchanged(),
            Ok(_) => self.each(|claim| claim.failed("not everything could be restored")),
            Err(_) if !changed => self.unchanged(),
            Err(failure) => self.each(|claim| claim.failed(&failure.message)),
        }
    }

    fn unchanged(self) -> io::Result<()> {
        self.each(RestoreClaim::unchanged)
    }

    fn each(self, end: impl Fn(RestoreClaim) -> io::Result<()>) -> io::Result<()> {
        self.claims.into_iter().try_for_each(end)
    }
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
        request.volumes.iter().any(|target| overlap(&real(&target.directory), &source))
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

async fn shares_server(target: &BTreeSet<String>, sources: &[Source]) -> bool {
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
async fn hosts(connection: &MongoConnection) -> BTreeSet<String> {
    match Connection::resolve(connection, "mongodb").await {
        Ok(connection) => connection.seeds().iter().map(ToString::to_string).collect(),
        Err(_) => BTreeSet::new(),
    }
}
