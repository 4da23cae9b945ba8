//! `backstay restore`: flags → request → plan → confirmation → restore → what came of it.

mod args;
mod claim;
mod screen;

pub use args::Args;

use crate::{
    cli::{
        exit::Exit,
        output::{self, Format, Output},
        problem::Problem,
        progress::Watch,
        runtime::block_on,
        time,
    },
    domain::verdict::{Failure, Verdict},
    storage::rclone::Mode,
    task::{
        context::Meter,
        mongodb::tool::Tools,
        restore::{Restore, RestoreReport, plan::RestorePlan},
    },
};
use claim::Claims;
use std::sync::Arc;

/// Memory for buffers, bytes.
const MEMORY: u64 = 128 << 20;

/// Shows the plan, and carries it out unless that was all.
///
/// # Errors
/// A command line that cannot be meant, a target that would have to be confirmed, whatever keeps it from being done.
pub fn run(args: &Args, out: &mut Output) -> Result<Exit, Problem> {
    if let Some(id) = &args.forget {
        return forget(args, id);
    }
    let host = args.backups.host()?;
    let own = args.own_policy(host.as_ref())?;
    let request = args.request(own.as_deref())?;
    let backups = args.backups.find(args.policy.as_ref())?;
    let place = &backups.place;
    args.check_confirmation(place)?;
    block_on(async {
        let store = Arc::new(backups.open(Mode::Read).await?);
        let meter = Arc::new(Meter::default());
        let quiet = args.output.format != Format::Table && args.output.format != Format::Wide;
        let watch = Watch::start(Arc::clone(&meter), quiet);
        let restore = Restore { store, request, tools: Tools::default(), memory_bytes: MEMORY, meter };
        let plan = restore.plan().await?;
        drop(watch);
        if args.dry_run {
            return show(
                out,
                args,
                &plan,
                &screen::plan(&plan, &place.to_string(), out.color()),
                Some(place.instance()),
            );
        }
        let reasons = plan.needs_confirmation();
        if !reasons.is_empty() && args.confirm.is_none() && !screen::goes_on(&plan) {
            output::note(screen::plan(&plan, &place.to_string(), output::color_on_stderr()));
            let failure = Failure::new(Verdict::Guard, "TargetNotEmpty", reasons.join("; "));
            return Err(failure.fix(screen::command(Some(place.instance()))).into());
        }
        let claims = Claims::of(host.as_ref(), &restore.request, time::now()).await?;
        let watch = Watch::start(Arc::clone(&restore.meter), quiet);
        let result = restore.execute(&plan).await;
        drop(watch);
        let ended = claims.end(&result);
        let exit = finish(out, args, &result?)?;
        ended.map(|()| exit).map_err(Problem::from)
    })
}

/// The sources are good as they are, says the person: runs need not wait any longer.
fn forget(args: &Args, id: &str) -> Result<Exit, Problem> {
    let needed = || Problem::Usage("--forget goes with a policy's name".to_owned());
    let (host, name) = (args.backups.host()?, args.policy.as_ref().ok_or_else(needed)?);
    let host =
        host.ok_or_else(|| Problem::Usage("--forget needs the controller's state: --state DIR".to_owned()))?;
    let policy = host.find(name.as_str())?.id;
    host.state()?.forget_restore(&policy, id)?;
    output::note(format!("restore {id} is forgotten: runs of {policy} go on"));
    Ok(Exit::Ok)
}

fn show(
    out: &mut Output,
    args: &Args,
    plan: &RestorePlan,
    text: &str,
    instance: Option<&str>,
) -> Result<Exit, Problem> {
    match args.output.format {
        Format::Table | Format::Wide => {
            out.bytes(text.as_bytes())?;
            let confirm = instance.filter(|_| !plan.needs_confirmation().is_empty());
            out.line(format!("Run:  {}", screen::command(confirm)))?;
        }
        format => out.bytes(output::to_document(format, plan)?.as_bytes())?,
    }
    Ok(Exit::Ok)
}

fn finish(out: &mut Output, args: &Args, report: &RestoreReport) -> Result<Exit, Problem> {
    match args.output.format {
        Format::Table | Format::Wide => out.bytes(screen::report(report, out.color()).as_bytes())?,
        format => out.bytes(output::to_document(format, report)?.as_bytes())?,
    }
    Ok(if report.is_whole() { Exit::Ok } else { Exit::Partial })
}
