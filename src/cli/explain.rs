//! `backstay explain`: what a policy means, before and without running it.

use crate::{
    cli::{
        backups::Backups,
        documents,
        exit::Exit,
        facts::{FactsArgs, place},
        output::{self, Format, Output, OutputArgs},
        policy_document::PolicyDocument,
        problem::Problem,
        prune::{kept_apart, run_deadline},
        runtime::block_on,
        site::DEFAULT_STATE,
        style::Style,
        time,
    },
    domain::{
        identity::PolicyId,
        policy::{MongoUri, Policy, Source, VolumePlace},
        retention::{Reason, Retention},
    },
    orchestrators::{local::state::StateDir, site::find},
    plan::{
        effective,
        validate::{self, Loaded},
    },
    storage::{catalog::Catalog, rclone::Mode},
    task::prune,
};
use anyhow::{Context as _, anyhow};
use jiff::{SignedDuration, Timestamp};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

/// Slots that are listed.
const SLOTS: usize = 3;

/// Say what a policy means: when it runs, what is kept, every value in force
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  backstay explain -f nightly.yaml
  backstay explain -f /etc/backstay/policies nightly
  backstay explain -f nightly.yaml --preview
  backstay explain nightly --orchestrator swarm
  backstay explain -f nightly.yaml -o yaml        # every value in force, as a document")]
pub struct Args {
    /// Only this policy
    policy: Option<String>,
    /// A file, a directory of files, or - for standard input; on a Swarm, what it declares when none is given
    #[arg(short = 'f', long = "filename", value_name = "PATH", required_unless_present = "orchestrator")]
    paths: Vec<PathBuf>,
    /// Read the remote too, and say what retention would delete
    #[arg(long)]
    preview: bool,
    /// The controller's state directory, which knows what is held (with --preview)
    #[arg(long, value_name = "DIR", env = "BACKSTAY_STATE", default_value = DEFAULT_STATE)]
    state: PathBuf,
    #[command(flatten)]
    facts: FactsArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Explains every policy that is meant.
///
/// # Errors
/// A file that cannot be read, a policy that is wrong or not there, a closed output.
pub fn run(args: &Args, out: &mut Output) -> Result<Exit, Problem> {
    let format = args.output.format;
    if args.preview && matches!(format, Format::Json | Format::Yaml) {
        return Err(Problem::Usage(
            "--preview is for people; -o json and -o yaml print the policy alone".to_owned(),
        ));
    }
    let policies = policies(args)?;
    let now = time::now();
    if format == Format::Json {
        let documents: Vec<_> = policies.iter().map(document).collect();
        match &documents[..] {
            [only] if names_one(args) => out.document(format, only)?,
            several => out.document(format, &several)?,
        }
        return Ok(Exit::Ok);
    }
    for (index, policy) in policies.iter().enumerate() {
        if format == Format::Yaml {
            out.bytes(format!("---\n{}", document(policy).to_yaml()?).as_bytes())?;
            continue;
        }
        if index > 0 {
            out.line("")?;
        }
        explain(policy, now, out)?;
        if args.preview {
            preview(policy, &args.state, now, out)?;
        }
    }
    Ok(Exit::Ok)
}

/// True when the command line can mean one policy only; otherwise JSON is a list, however many are found.
fn names_one(args: &Args) -> bool {
    args.policy.is_some() || matches!(&args.paths[..], [path] if !path.is_dir())
}

fn policies(args: &Args) -> Result<Vec<Policy>, Problem> {
    if args.paths.is_empty() {
        return declared(args);
    }
    let facts = args.facts.read()?;
    let mut found = Vec::new();
    for source in documents::read(&args.paths)? {
        let loaded = validate::load(&source.text, &facts)
            .map_err(|error| anyhow!("{} cannot be read\n{}", source.name, place(&source.name, &error)))?;
        let wanted = |loaded: &Loaded| args.policy.is_none() || args.policy == loaded.name;
        for Loaded { name, policy, line: _ } in loaded.into_iter().filter(wanted) {
            found.push(policy.map_err(|errors| {
                let lines: Vec<_> = errors.iter().map(|error| place(&source.name, error)).collect();
                anyhow!(
                    "{} is not valid\n{}",
                    name.unwrap_or_else(|| "the policy".to_owned()),
                    lines.join("\n")
                )
            })?);
        }
    }
    match &args.policy {
        Some(name) if found.is_empty() => Err(anyhow!("there is no policy {name} in the files given").into()),
        _ => Ok(found),
    }
}

/// The policies that a Swarm or a cluster declares.
fn declared(args: &Args) -> Result<Vec<Policy>, Problem> {
    let Some(site) = args.facts.site()? else {
        return Err(Problem::Usage("name a file, or a directory of files, with -f".to_owned()));
    };
    let chosen = block_on(async {
        Ok(match &args.policy {
            Some(name) => vec![find(&*site, name).await?],
            None => site.all().await?.0,
        })
    })?;
    Ok(chosen.iter().map(|known| known.valid().map(|policy| (**policy).clone())).collect::<Result<_, _>>()?)
}

fn document(policy: &Policy) -> PolicyDocument {
    PolicyDocument::new(policy.name.as_str(), effective::specification(policy))
}

fn explain(policy: &Policy, now: Timestamp, out: &mut Output) -> Result<(), Problem> {
    out.line(Style::Bold.paint(&format!("{}/{}", policy.instance, policy.name), out.color()))?;
    let schedule = &policy.schedule;
    let canonical = schedule.canonical();
    let hashed =
        if canonical == schedule.expression() { String::new() } else { format!(" = \"{canonical}\"") };
    let zone = schedule.time_zone_name();
    let mut lines =
        vec![("Schedule", format!("\"{}\"{hashed} {zone} = {}", schedule.expression(), schedule.describe()))];
    lines.push(("Next", next(policy, now)));
    lines.extend(clock_changes(policy, now).into_iter().map(|text| ("Clock", text)));
    lines.push(("Stale", stale(policy, now)));
    lines.push(("Keep", keep(&policy.retention)));
    lines.extend(policy.sources().iter().map(|source| ("Read", reads(source))));
    lines.push((
        "Store",
        format!("{}:{}", policy.destination.remote, policy.destination.instance_path(&policy.instance)),
    ));
    lines.push(("Guard", guard(policy)));
    for (label, text) in lines {
        out.line(format!("{label:<9} {text}"))?;
    }
    Ok(())
}

/// What retention makes of the snapshots that are there.
fn preview(policy: &Policy, state: &Path, now: Timestamp, out: &mut Output) -> Result<(), Problem> {
    let backups = Backups::of(policy)?;
    let catalog = block_on(async {
        let store = backups.open(Mode::Read).await?;
        let catalog = Catalog::load(&store).await;
        store.stop().await;
        Ok(catalog?)
    })?;
    let held = if StateDir::is_one(state) {
        let state = StateDir::open(state)?;
        let id = PolicyId::new(None, policy.name.clone());
        kept_apart(&state, &id).with_context(|| format!("{} cannot be read", state.root().display()))?
    } else {
        output::note("what is held is not known here: name the controller's state with --state");
        BTreeSet::new()
    };
    let deadline = run_deadline(policy);
    let decisions = prune::decide(&policy.name, &policy.retention, &held, deadline, &catalog, now);
    for decision in &decisions {
        let reasons: Vec<_> = decision.reasons.iter().map(ToString::to_string).collect();
        match decision.is_doomed() {
            true => out.line(format!(
                "{:<9} {}: no rule keeps it; the next run removes it, or backstay prune {}",
                "Drop", decision.name, policy.name
            ))?,
            false => out.line(format!("{:<9} {}: {}", "Kept", decision.name, reasons.join(", ")))?,
        }
    }
    if decisions.iter().any(|decision| decision.reasons.contains(&Reason::Grace)) {
        let span = time::span(prune::grace(deadline).unsigned_abs());
        out.line(format!("{:<9} {span}: two days, and the longest time that a run can take", "Grace"))?;
    }
    if decisions.is_empty() {
        out.line(format!("{:<9} no snapshot yet", "Kept"))?;
    }
    Ok(())
}

fn next(policy: &Policy, now: Timestamp) -> String {
    if policy.suspend {
        return "never: the policy is suspended".to_owned();
    }
    let zone = policy.schedule.time_zone();
    let slots: Vec<_> =
        std::iter::successors(policy.schedule.next_after(now), |slot| policy.schedule.next_after(*slot))
            .take(SLOTS)
            .map(|slot| slot.to_zoned(zone.clone()).strftime("%a %-d %b %H:%M").to_string())
            .collect();
    match (policy.schedule.next_after(now), slots.as_slice()) {
        (Some(first), [head, rest @ ..]) => {
            let rest: String = rest.iter().map(|slot| format!(" · {slot}")).collect();
            format!("{head} ({}){rest}", time::until(now, first))
        }
        _ => "never".to_owned(),
    }
}

/// What the changes of the clock in the coming year do to the slots.
fn clock_changes(policy: &Policy, now: Timestamp) -> Vec<String> {
    let year = now.saturating_add(SignedDuration::from_hours(24 * 366));
    let changes = year.map(|until| policy.schedule.clock_changes(now, until)).unwrap_or_default();
    let zone = policy.schedule.time_zone();
    let told = changes.iter().map(|change| {
        let slot = change.slot.to_zoned(zone.clone()).strftime("%H:%M %:z").to_string();
        let wall = change.wall.strftime("%-d %b %Y: %H:%M").to_string();
        match change.skipped {
            true => format!("{wall} is skipped; the run is at {slot}"),
            false => format!("{wall} comes twice; the run is at the first, {slot}"),
        }
    });
    told.collect()
}

fn stale(policy: &Policy, now: Timestamp) -> String {
    if let Some(within) = policy.fresh_within {
        return format!("{} after the last good run", time::span(within));
    }
    let slots: Vec<_> =
        std::iter::successors(policy.schedule.next_after(now), |slot| policy.schedule.next_after(*slot))
            .take(2)
            .collect();
    let deadline = slots.get(1).map(|slot| {
        slot.to_zoned(policy.schedule.time_zone().clone()).strftime("%a %-d %b %H:%M").to_string()
    });
    match deadline {
        Some(deadline) => format!(
            "after two missed runs and the time of a run, at least an hour: counted from now, an hour after {deadline}"
        ),
        None => "never".to_owned(),
    }
}

fn keep(retention: &Retention) -> String {
    let Retention { keep_within_days, keep_last, keep_daily, keep_weekly, keep_monthly, keep_yearly } =
        *retention;
    let rules = [
        (keep_within_days, "everything of the last {} days"),
        (keep_last, "the newest {}"),
        (keep_daily, "one of each of {} days"),
        (keep_weekly, "one of each of {} weeks"),
        (keep_monthly, "one of each of {} months"),
        (keep_yearly, "one of each of {} years"),
    ];
    let told: Vec<_> =
        rules.iter().filter(|(n, _)| *n > 0).map(|(n, text)| text.replace("{}", &n.to_string())).collect();
    format!("{}; never fewer than two", told.join(", "))
}

fn reads(source: &Source) -> String {
    match source {
        Source::Mongodb(mongodb) => {
            let uri = match &mongodb.connection.uri {
                MongoUri::Plain(uri) => uri.clone(),
                MongoUri::From(_) => "the URI of a secret".to_owned(),
            };
            format!("mongodb: {uri}")
        }
        Source::Volume(volume) => {
            let place = match &volume.place {
                VolumePlace::Claim(name) => format!("claim {name}"),
                VolumePlace::Named(name) => format!("volume {name}"),
                VolumePlace::HostPath(path) => path.display().to_string(),
                VolumePlace::Mounted { name, .. } => name.clone(),
            };
            format!("{}: {place}{}", volume.name, if volume.optional { " (optional)" } else { "" })
        }
    }
}

fn guard(policy: &Policy) -> String {
    match policy.guards.minimum_source_percent {
        0 => "none".to_owned(),
        percent => format!("a source below {percent} % of the last good run's size or count fails the run"),
    }
}
