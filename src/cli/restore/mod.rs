//! `backstay restore`: flags or a document → request → plan → confirmation → restore → what came of it.

mod args;
mod beside;
mod carrier;
mod claim;
mod document;
mod here;
mod screen;

pub use args::Args;

use crate::{
    cli::{
        backups::Backups,
        exit::Exit,
        output::{self, Format, Output},
        place::Place,
        problem::Problem,
        progress::Watch,
        runtime::{block_on, block_on_with},
        time,
    },
    domain::{
        policy::Policy,
        restore::{MetadataOptions, Restore, RestoreRequest, RestoreSource},
        verdict::{Failure, STOPPED, Verdict},
    },
    orchestrators::{site::find, swarm::restores},
    plan::{restoring, validate::Orchestrator},
    task::{
        context::Meter,
        restore::{RestoreReport, plan::RestorePlan},
    },
};
use args::Where;
use beside::Beside;
use carrier::{Carrier, Ended};
use here::Here;
use std::{path::Path, sync::Arc};

/// The way on from a snapshot that is damaged.
const OLDER: &str = "an older snapshot may be whole: `backstay list` names them, --as-of chooses one";

/// What is asked for, by flags or by a document.
struct Asked {
    carrier: Box<dyn Carrier>,
    meter: Arc<Meter>,
    place: Place,
    dry_run: bool,
    confirmed: bool,
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
    let Asked { mut carrier, meter, place, dry_run, confirmed, command, confirmation } = match &args.document
    {
        Some(path) => asked_by_document(args, path)?,
        None => asked_by_flags(args)?,
    };
    let place = place.to_string();
    block_on_with(|stop| async move {
        let quiet = args.output.format != Format::Table && args.output.format != Format::Wide;
        let watch = Watch::start(Arc::clone(&meter), quiet);
        let plan = carrier.plan(&stop).await?;
        drop(watch);
        if dry_run {
            let confirm = !plan.needs_confirmation().is_empty();
            return show(out, args, &plan, &place, if confirm { &confirmation } else { &command });
        }
        let reasons = plan.needs_confirmation();
        if !reasons.is_empty() && !confirmed && !screen::goes_on(&plan) {
            output::note(screen::plan(&plan, &place, output::color_on_stderr()));
            let failure = Failure::new(Verdict::Guard, "TargetNotEmpty", reasons.join("; "));
            return Err(failure.fix(confirmation).into());
        }
        carrier.claim().await?;
        let watch = Watch::start(Arc::clone(&meter), quiet);
        let result = carrier.execute(&plan, &stop).await;
        drop(watch);
        let ended = tokio::select! {
            ended = carrier.end(&result) => ended,
            () = stop.again() => Err(Problem::Interrupted("how the restore ended is not recorded".to_owned())),
        };
        match (result, ended) {
            (Err(failure), Ok(ended)) if failure.reason == STOPPED => Err(left(&failure, &ended)),
            (Err(failure), Err(_)) if failure.reason == STOPPED => Err(failure.into()),
            (result, ended) => {
                let exit = finish(out, args, &result.map_err(with_way_on)?)?;
                ended.map(|_| exit)
            }
        }
    })
}

fn asked_by_flags(args: &Args) -> Result<Asked, Problem> {
    let meter = Arc::new(Meter::default());
    let ask = |carrier, place: Place, confirmed| {
        args.check_confirmation(&place)?;
        let (command, confirmation) = (screen::command(None), screen::command(Some(place.instance())));
        let (meter, dry_run) = (Arc::clone(&meter), args.dry_run);
        Ok(Asked { carrier, meter, place, dry_run, confirmed, command, confirmation })
    };
    if let (Some(meant), Some(site)) = (&args.policy, args.backups.swarm()?) {
        let hands = block_on(async { Ok(site.hands(&meant.text).await?) })?;
        let request = args.request(Some(&hands.policy), Where::Beside)?;
        let (place, confirmed) = (Place::of(&hands.policy), request.confirmed);
        return ask(Box::new(Beside::new(site, hands, request, Arc::clone(&meter))?), place, confirmed);
    }
    let host = args.backups.host()?;
    let own = args.own_policy(host.as_ref())?;
    let request = args.request(own.as_deref(), Where::Here)?;
    let backups = args.backups.find(args.policy.as_ref().map(|meant| &meant.name))?;
    let (place, confirmed) = (backups.place.clone(), request.confirmed);
    ask(Box::new(Here::new(host, backups, request, Arc::clone(&meter))), place, confirmed)
}

fn asked_by_document(args: &Args, path: &Path) -> Result<Asked, Problem> {
    let meter = Arc::new(Meter::default());
    let swarm = args.backups.swarm()?;
    let (restore, orchestrator) = match &swarm {
        Some(_) => (document::read(path, Orchestrator::Swarm)?, Where::Beside),
        None => (document::read(path, Orchestrator::Local)?, Where::Here),
    };
    let metadata = args.metadata(orchestrator);
    let (command, confirmation) = document::next_step(&restore, time::now());
    let (dry_run, confirmed) = (args.dry_run || restore.dry_run, restore.confirmed);
    let ask = |carrier, place| {
        let meter = Arc::clone(&meter);
        Asked { carrier, meter, place, dry_run, confirmed, command, confirmation }
    };
    if let (RestoreSource::Policy(name), Some(site)) = (&restore.from, swarm) {
        let hands = block_on(async { Ok(site.hands(name.as_str()).await?) })?;
        let request = requested(&restore, Some(&hands.policy), &metadata)?;
        let place = Place::of(&hands.policy);
        let carrier = Beside::new(site, hands, request, Arc::clone(&meter))?;
        return Ok(ask(Box::new(carrier), place));
    }
    let host = args.backups.host()?;
    let own = document::own_policy(&restore, host.as_ref())?;
    let request = requested(&restore, own.as_deref(), &metadata)?;
    let backups = match (&restore.from, &own) {
        (RestoreSource::Place { location, instance, .. }, _) => Backups::at(location, instance)?,
        (RestoreSource::Policy(_), Some(own)) => Backups::of(own)?,
        (RestoreSource::Policy(name), None) => args.backups.find(Some(name))?,
    };
    let place = backups.place.clone();
    Ok(ask(Box::new(Here::new(host, backups, request, Arc::clone(&meter))), place))
}

fn requested(
    restore: &Restore,
    own: Option<&Policy>,
    metadata: &MetadataOptions,
) -> Result<RestoreRequest, Problem> {
    restoring::request(restore, own, metadata).map_err(|error| Problem::Usage(error.to_string()))
}

/// The sources are good as they are, says the person: runs need not wait any longer.
fn forget(args: &Args, id: &str) -> Result<Exit, Problem> {
    let needed = || Problem::Usage("--forget goes with a policy's name".to_owned());
    let name = &args.policy.as_ref().ok_or_else(needed)?.text;
    let id = Some(id).filter(|id| *id != args::ALL);
    let forgotten = if let Some(site) = args.backups.swarm()? {
        block_on(async {
            let policy = find(&site, name).await?.id;
            Ok(restores::forget(site.engine(), &policy, id, time::now()).await?)
        })?
    } else {
        let host = args
            .backups
            .host()?
            .ok_or_else(|| Problem::Usage("--forget needs the controller's state: --state DIR".to_owned()))?;
        let policy = host.find(name)?.id;
        host.state()?.forget_restores(&policy, id)?
    };
    for id in forgotten {
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

/// What a restore that was stopped has left.
fn left(failure: &Failure, ended: &Ended) -> Problem {
    let held: Vec<String> = ended.held.iter().map(ToString::to_string).collect();
    let what = match (ended.has_changed, held.first()) {
        (false, _) => "nothing was changed".to_owned(),
        (true, None) => "a part may be restored already; the same command goes on".to_owned(),
        (true, Some(first)) => format!(
            "a part may be restored already, so {} makes no backup until a restore succeeds (the same command goes on), or you say that all is well: backstay restore {first} --forget",
            held.join(" and ")
        ),
    };
    Problem::Interrupted(format!("{}; {what}", failure.message))
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
