//! `backstay doctor`: can what is declared be done from here? Nothing is written anywhere.

mod cluster;
mod report;

use crate::{
    cli::{
        backups::Backups,
        exit::Exit,
        output::{Output, OutputArgs},
        problem::Problem,
        runtime::block_on,
        site::{SiteArgs, SiteKind},
    },
    domain::{
        location::{RcloneConfig, SecretSource},
        policy::{MongoUri, Mongodb, Policy, Source},
        status::Status,
        verdict::Failure,
    },
    orchestrators::site::Known,
    storage::{
        owner,
        rclone::Mode,
        store::{ObjectStore, StoreError},
    },
    task::{
        mongodb::tool::Tools,
        sources::{mongodb, volume},
    },
};
use report::{Finding, Report, drill};
use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Find out what would keep backups from working here
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  backstay doctor --policies /etc/backstay/policies
  backstay doctor nightly
  backstay doctor -o json | jq '.[] | select(.good | not)'")]
pub struct Args {
    /// Only this policy
    policy: Option<String>,
    #[command(flatten)]
    site: SiteArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Looks at the tools, then at each policy's destination and sources.
///
/// # Errors
/// Policies that are not there, a closed output. What is found wrong is no error, but exit code 1.
pub fn run(args: &Args, out: &mut Output) -> Result<Exit, Problem> {
    if args.site.kind() != SiteKind::Local {
        let mut report = Report::new(out, args.output.format);
        let site = args.site.site()?;
        block_on(cluster::look(&*site, args.policy.as_deref(), &mut report))?;
        return report.end(true);
    }
    let host = args.site.is_there().then(|| args.site.host()).transpose()?;
    let site = host.as_ref().and_then(|host| host.state.as_ref()).and_then(|state| state.site().ok());
    let (policies, unusable) = match (&args.policy, &host) {
        (Some(_), None) => {
            return Err(Problem::Usage("say where the policies are: --policies DIR".to_owned()));
        }
        (Some(name), Some(host)) => (vec![host.find(name)?], Vec::new()),
        (None, Some(host)) => host.all()?,
        (None, None) => Default::default(),
    };
    let mut report = Report::new(out, args.output.format);
    for finding in tools() {
        report.add(finding)?;
    }
    for problem in unusable {
        let failure = Failure::permanent("Unusable", format!("it declares nothing: {}", problem.message));
        let check = format!("backstay validate -f {}", problem.place);
        report.add(Finding::bad(problem.place.clone(), failure.fix(check)))?;
    }
    for known in &policies {
        policy(known, site.as_deref(), &mut report)?;
    }
    report.end(host.is_some())
}

/// The programs that tasks start.
fn tools() -> Vec<Finding> {
    let tools = Tools::default();
    let programs = [
        ("rclone", Path::new("rclone"), "version"),
        ("mongodump", &tools.mongodump, "--version"),
        ("mongorestore", &tools.mongorestore, "--version"),
    ];
    programs.into_iter().map(|(name, program, flag)| version(name, program, flag)).collect()
}

/// What the program says of itself. Whether it is new enough is found out where it is used.
fn version(name: &str, program: &Path, flag: &str) -> Finding {
    let done = Command::new(program).arg(flag).stdin(Stdio::null()).output();
    match done {
        Ok(output) if output.status.success() => {
            let text = String::from_utf8_lossy(&output.stdout);
            Finding::good(name, text.lines().next().unwrap_or_default())
        }
        Ok(output) => Finding::bad(
            name,
            Failure::permanent("ToolBroken", format!("it ends with {}", output.status))
                .fix(format!("try: {name} {flag}")),
        ),
        Err(error) => Finding::bad(
            name,
            Failure::permanent("ToolMissing", format!("it cannot be started: {error}"))
                .fix(format!("install {name}, or put its directory on PATH")),
        ),
    }
}

fn policy(known: &Known, site: Option<&str>, report: &mut Report<'_>) -> Result<(), Problem> {
    let policy = match known.valid() {
        Ok(policy) => policy,
        Err(failure) => return report.add(Finding::bad(known.id.to_string(), failure)),
    };
    for finding in open_secrets(policy).into_iter().chain(drill(known)) {
        report.add(finding)?;
    }
    report.add(block_on(async { Ok(destination(policy, known.status.as_ref(), site).await) })?)?;
    for source in policy.sources() {
        report.add(block_on(async { Ok(look(policy, &source).await) })?)?;
    }
    Ok(())
}

/// Files with credentials that others can read.
fn open_secrets(policy: &Policy) -> Vec<Finding> {
    let mut files = vec![match &policy.destination.config {
        RcloneConfig::Directory(directory) => ("destination.configFrom", Some(directory.join("rclone.conf"))),
        RcloneConfig::Secret(secret) => ("destination.configFrom", file(secret)),
    }];
    if let Some(Mongodb { connection, .. }) = &policy.mongodb {
        if let MongoUri::From(secret) = &connection.uri {
            files.push(("mongodb.uriFrom", file(secret)));
        }
        files.push(("mongodb.passwordFrom", connection.password.as_ref().and_then(file)));
        files.push(("mongodb.tls.certificateFrom", connection.tls_certificate.as_ref().and_then(file)));
    }
    let is_open = |path: &Path| path.metadata().is_ok_and(|found| found.permissions().mode() & 0o004 != 0);
    let found =
        files.into_iter().filter_map(|(field, path)| Some((field, path.filter(|path| is_open(path))?)));
    found
        .map(|(field, path)| {
            let message = format!("{} holds credentials and everybody can read it", path.display());
            let fix = format!("chmod 600 {}", path.display());
            let failure = Failure::permanent("SecretReadable", message).fix(fix);
            Finding::bad(format!("{}: {field}", policy.name), failure)
        })
        .collect()
}

fn file(secret: &SecretSource) -> Option<PathBuf> {
    match secret {
        SecretSource::File(file) => Some(file.clone()),
        SecretSource::Key { .. } => None,
    }
}

async fn destination(policy: &Policy, status: Option<&Status>, site: Option<&str>) -> Finding {
    let what = format!("{}: destination", policy.name);
    let place =
        format!("{}:{}", policy.destination.remote, policy.destination.instance_path(&policy.instance));
    let looked = async {
        let store = Backups::of(policy)?.open(Mode::Read).await?;
        let listed = store.list("", false, false).await;
        let is_known = status.is_some_and(Status::knows_place);
        let owned = match site {
            Some(site) => {
                let takes_over = policy.takes_over(status.is_some_and(Status::was_filled));
                owned(policy, is_known, takes_over, site, &store).await
            }
            None => Ok(()),
        };
        store.stop().await;
        Ok::<_, Problem>(match listed {
            Err(StoreError::NotFound { .. }) | Ok(_) => owned.map(|()| listed.is_ok()),
            Err(error) => Err(error.into()),
        })
    };
    match looked.await {
        Ok(Ok(true)) => Finding::good(what, format!("{place} can be read")),
        Ok(Ok(false)) => {
            Finding::good(what, format!("{place} can be reached; nothing was backed up there yet"))
        }
        Ok(Err(failure)) | Err(Problem::Failure(failure)) => Finding::bad(what, failure),
        Err(problem) => Finding::bad(what, Failure::temporary("Unreachable", problem.to_string())),
    }
}

/// The place is ours, or free when nothing of ours is known to be there.
async fn owned(
    policy: &Policy,
    is_known: bool,
    takes_over: bool,
    site: &str,
    store: &dyn ObjectStore,
) -> Result<(), Failure> {
    let claimant = owner::Claimant {
        policy: &policy.name,
        instance: &policy.instance,
        site,
        destination: &policy.destination,
        settle: owner::SETTLE,
    };
    if is_known {
        claimant.refuse_lost(store).await?;
    }
    if takes_over { Ok(()) } else { claimant.refuse_other(store).await }
}

async fn look(policy: &Policy, source: &Source) -> Finding {
    let (field, looked) = match source {
        Source::Mongodb(spec) => ("mongodb".to_owned(), mongodb::preflight(spec).await),
        Source::Volume(spec) => {
            let looked = volume::preflight(spec).map(|()| vec!["it is there and can be read".to_owned()]);
            (format!("volumes[{}]", spec.name), looked)
        }
    };
    let what = format!("{}: {field}", policy.name);
    match looked {
        Ok(remarks) => Finding::good(what, remarks.join("; ")),
        Err(failure) => Finding::bad(what, failure),
    }
}
