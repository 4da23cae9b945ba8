//! `backstay restore`: flags or a document → request → plan → confirmation → restore → what came of it.

mod args;
mod claim;
mod document;
mod screen;

pub use args::Args;

use crate::{
    cli::{
        backups::Backups,
        exit::Exit,
        output::{self, Format, Output},
        problem::Problem,
        progress::Watch,
        runtime::block_on,
        time,
    },
    domain::{
        restore::RestoreSource,
        verdict::{Failure, Verdict},
    },
    orchestrators::local::lookup::Host,
    storage::rclone::Mode,
    task::{
        context::Meter,
        mongodb::tool::Tools,
        restore::{Restore, RestoreReport, plan::RestorePlan, request::RestoreRequest},
    },
};
use claim::Claims;
use std::{path::Path, sync::Arc};

/// Memory for buffers, bytes: with the program's own part it stays below 128 MiB.
const MEMORY: u64 = 96 << 20;

/// The way on from a snapshot that is damaged.
const OLDER: &str = "an older snapshot may be whole: `backstay list` names them, --as-of chooses one";

/// What is asked for, by flags or by a document.
struct Asked {
    /// This host's policies, where there are any.
    host: Option<Host>,
    backups: Backups,
    request: RestoreRequest,
    dry_run: bool,
    /// What a person does to carry the plan out.
    command: String,
    /// And where something that exists is replaced.
    confirmation: String,
}

/// Shows the plan, and carries it out unless that was all.
///
/// # Errors
/// A command line that cannot be meant, a target that would have to be confirmed, whatever keeps it from being done.
pub fn run(args: &Args, out: &mut Output) -> Result<Exit, Problem> {
    if let Some(id) = &args.forget {
        return forget(args, id);
    }
    let Asked { host, backups, request, dry_run, command, confirmation } = match &args.document {
        Some(path) => asked_by_document(args, path)?,
        None => asked_by_flags(args)?,
    };
    let place = backups.place.to_string();
    block_on(async {
        let store = Arc::new(backups.open(Mode::Read).await?);
        let meter = Arc::new(Meter::default());
        let quiet = args.output.format != Format::Table && args.output.format != Format::Wide;
        let watch = Watch::start(Arc::clone(&meter), quiet);
        let restore = Restore { store, request, tools: Tools::default(), memory_bytes: MEMORY, meter };
        let plan = restore.plan().await?;
        drop(watch);
        if dry_run {
            let confirm = !plan.needs_confirmation().is_empty();
            return show(out, args, &plan, &place, if confirm { &confirmation } else { &command });
        }
        let reasons = plan.needs_confirmation();
        if !reasons.is_empty() && !restore.request.confirmed && !screen::goes_on(&plan) {
            output::note(screen::plan(&plan, &place, output::color_on_stderr()));
            let failure = Failure::new(Verdict::Guard, "TargetNotEmpty", reasons.join("; "));
            return Err(failure.fix(confirmation).into());
        }
        let claims = Claims::of(host.as_ref(), &restore.request, time::now()).await?;
        let watch = Watch::start(Arc::clone(&restore.meter), quiet);
        let result = restore.execute(&plan).await;
        drop(watch);
        let ended = claims.end(&result, restore.meter.has_changed());
        let exit = finish(out, args, &result.map_err(with_way_on)?)?;
        ended.map(|()| exit).map_err(Problem::from)
    })
}

fn asked_by_flags(args: &Args) -> Result<Asked, Problem> {
    let host = args.backups.host()?;
    let own = args.own_policy(host.as_ref())?;
    let request = args.request(own.as_deref())?;
    let backups = args.backups.find(args.policy.as_ref())?;
    args.check_confirmation(&backups.place)?;
    let confirmation = screen::command(Some(backups.place.instance()));
    Ok(Asked { host, backups, request, dry_run: args.dry_run, command: screen::command(None), confirmation })
}

fn asked_by_document(args: &Args, path: &Path) -> Result<Asked, Problem> {
    let restore = document::read(path)?;
    let host = args.backups.host()?;
    let own = document::own_policy(&restore, host.as_ref())?;
    let request = document::request(&restore, own.as_deref(), &args.metadata())?;
    let backups = match (&restore.from, &own) {
        (RestoreSource::Place { location, instance, .. }, _) => Backups::at(location, instance)?,
        (RestoreSource::Policy(_), Some(own)) => Backups::of(own)?,
        (RestoreSource::Policy(name), None) => args.backups.find(Some(name))?,
    };
    let (command, confirmation) = document::next_step(&restore, time::now());
    Ok(Asked { host, backups, request, dry_run: args.dry_run || restore.dry_run, command, confirmation })
}

/// The sources are good as they are, says the person: runs need not wait any longer.
fn forget(args: &Args, id: &str) -> Result<Exit, Problem> {
    let needed = || Problem::Usage("--forget goes with a policy's name".to_owned());
    let (host, name) = (args.backups.host()?, args.policy.as_ref().ok_or_else(needed)?);
    let host =
        host.ok_or_else(|| Problem::Usage("--forget needs the controller's state: --state DIR".to_owned()))?;
    let policy = host.find(name.as_str())?.id;
    let id = Some(id).filter(|id| *id != args::ALL);
    for id in host.state()?.forget_restores(&policy, id)? {
        output::note(format!("restore {id} is forgotten"));
    }
    Ok(Exit::Ok)
}

fn show(out: &mut Output, args: &Args, plan: &RestorePlan, place: &str, next: &str) -> Result<Exit, Problem> {
    match args.output.format {
        Format::Table | Format::Wide => {
            out.bytes(screen::plan(plan, place, out.color()).as_bytes())?;
            out.line(format!("Run:  {next}"))?;
        }
        format => out.bytes(output::to_document(format, plan)?.as_bytes())?,
    }
    if plan.damage.is_empty() {
        return Ok(Exit::Ok);
    }
    output::warn(format!("what lies in objects that are missing or damaged cannot be restored; {OLDER}"));
    Ok(Exit::Partial)
}

fn with_way_on(failure: Failure) -> Failure {
    let damaged = failure.fix.is_none() && failure.reason.ends_with("Damaged");
    if damaged { failure.fix(OLDER) } else { failure }
}

fn finish(out: &mut Output, args: &Args, report: &RestoreReport) -> Result<Exit, Problem> {
    match args.output.format {
        Format::Table | Format::Wide => out.bytes(screen::report(report, out.color()).as_bytes())?,
        format => out.bytes(output::to_document(format, report)?.as_bytes())?,
    }
    if report.is_whole() {
        return Ok(Exit::Ok);
    }
    output::warn(format!("not everything is back; where the backup is damaged, {OLDER}"));
    Ok(Exit::Partial)
}
