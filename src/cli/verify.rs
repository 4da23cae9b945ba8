//! `backstay verify`: proves that a snapshot can be restored, and names what cannot.

use crate::{
    cli::{
        backups::{Backups, BackupsArgs, Meant},
        exit::Exit,
        output::{self, Format, Output, OutputArgs},
        problem::Problem,
        progress::Watch,
        runtime::{block_on, block_on_with},
        style::Style,
        table::printable,
        time,
    },
    domain::{policy::Policy, run::StepName, size::human, snapshot::AsOf, verification::Level},
    orchestrators::{
        random_number,
        stop::Stop,
        swarm::{errand::Errand, site::SwarmSite},
    },
    plan::task_spec::{VerifyWork, Work},
    storage::{catalog::Catalog, rclone::Mode, store::ObjectStore},
    task::{
        context::Meter,
        mongodb::tool::Tools,
        verify::{Verify, report::VerifyReport},
    },
};
use std::{fmt::Write as _, path::PathBuf, sync::Arc};

/// Memory for buffers, bytes: with the program's own part it stays below 128 MiB.
const MEMORY: u64 = 96 << 20;

/// Prove that a snapshot can be restored
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  backstay verify --from box:WT/production
  backstay verify nightly --level drill
  backstay verify nightly --from box:WT/production --as-of nightly-20261125T020000Z --level scrub --share 3/30")]
pub struct Args {
    /// Only snapshots of this policy; without --from, one of this host's
    policy: Option<Meant>,
    #[command(flatten)]
    backups: BackupsArgs,
    /// Which snapshot: latest, the newest not after a time or by the end of a day (UTC), or a name
    #[arg(long, value_name = "WHEN", default_value = "latest", value_parser = time::as_of)]
    as_of: AsOf,
    /// How deep to look
    #[arg(long, value_enum, default_value_t = Depth::Open)]
    level: Depth,
    /// With scrub: read only share N of M of the parts, such as 3/30
    #[arg(long, value_name = "N/M", value_parser = share)]
    share: Option<(u64, u64)>,
    /// Where there is disk for a drill, and for an index
    #[arg(long, value_name = "DIRECTORY", env = "TMPDIR", default_value = "/tmp")]
    scratch: PathBuf,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Depth {
    /// Every object is there, with its size and, where the remote has one, its hash
    Listing,
    /// The bits are those that were stored
    Scrub,
    /// Everything can be decoded, and every file and collection is what was backed up
    Open,
    /// It is restored into a scratch directory and a scratch server, and compared
    Drill,
}

fn share(text: &str) -> Result<(u64, u64), String> {
    let wrong = || format!("{text:?} is not a share: write 3/30 for the third of thirty");
    let (n, of) = text.split_once('/').ok_or_else(wrong)?;
    match (n.parse::<u64>(), of.parse::<u64>()) {
        (Ok(n), Ok(of)) if (1..=of).contains(&n) => Ok((n - 1, of)),
        _ => Err(wrong()),
    }
}

/// Verifies one snapshot. Exit code 1 when anything is missing or damaged.
///
/// # Errors
/// The remote does not answer, there is no such snapshot, no scratch space: nothing is known then.
pub fn run(args: &Args, out: &mut Output) -> Result<Exit, Problem> {
    if args.share.is_some() && args.level != Depth::Scrub {
        return Err(Problem::Usage("--share goes with --level scrub".to_owned()));
    }
    let (n, of) = args.share.unwrap_or((0, 1));
    let level = match args.level {
        Depth::Listing => Level::Listing,
        Depth::Scrub => Level::Scrub { n, of },
        Depth::Open => Level::Open,
        Depth::Drill => Level::Drill,
    };
    let policy = args.policy.as_ref().map(|meant| &meant.name);
    if let (Some(Meant { text: name, .. }), Some(site)) = (&args.policy, args.backups.swarm()?) {
        let report = block_on_with(async |stop| beside(args, &site, name, level, &stop).await)?;
        return told(args, &report, out);
    }
    let backups = args.backups.find(policy)?;
    let report = block_on(async {
        let store: Arc<dyn ObjectStore> = Arc::new(backups.open(Mode::Read).await?);
        let meter = Arc::new(Meter::default());
        let quiet = !matches!(args.output.format, Format::Table | Format::Wide);
        let _watch = Watch::start(Arc::clone(&meter), quiet);
        meter.begin("looking at the backups", None);
        let catalog = Catalog::load(&*store).await?;
        let manifest = catalog.find(&args.as_of, policy, true)?.clone();
        let scratch = args.scratch.clone();
        let verify =
            Verify { store, manifest, level, memory_bytes: MEMORY, scratch, tools: Tools::default(), meter };
        Ok(verify.run().await?)
    })?;
    if args.level == Depth::Drill {
        record(args, &backups, &report)?;
    }
    told(args, &report, out)
}

/// By a task of a Swarm, which has the remote's secret.
async fn beside(
    args: &Args,
    site: &SwarmSite,
    name: &str,
    level: Level,
    stop: &Stop,
) -> Result<VerifyReport, Problem> {
    if level == Level::Drill {
        return Err(Problem::Usage(
            "a drill needs disk and a mongod, which tasks of a Swarm have not: run it with --from on a machine that has them".to_owned(),
        ));
    }
    let hands = site.hands(name).await?;
    let meter = Arc::new(Meter::default());
    let quiet = !matches!(args.output.format, Format::Table | Format::Wide);
    let _watch = Watch::start(Arc::clone(&meter), quiet);
    let policy = Some(hands.policy.name.clone());
    let work = Work::Verify(VerifyWork { policy, as_of: args.as_of.clone(), level });
    let errand = Errand {
        step: StepName::verify(),
        number: random_number()?,
        node: hands.facts.files_on.clone(),
        work,
        hours: 24,
    };
    Ok(hands.carry_out(errand, &move |progress| meter.show(&progress), stop).await?.told()?)
}

fn told(args: &Args, report: &VerifyReport, out: &mut Output) -> Result<Exit, Problem> {
    match args.output.format {
        Format::Table | Format::Wide => out.bytes(screen(report, out.color()).as_bytes())?,
        format => out.bytes(output::to_document(format, report)?.as_bytes())?,
    }
    Ok(if report.is_good() { Exit::Ok } else { Exit::Failed })
}

/// Tells the controller of this host, when one of its policies made the snapshot: its status says when a backup was
/// last restored for real, and pruning keeps that one.
fn record(args: &Args, backups: &Backups, report: &VerifyReport) -> Result<(), Problem> {
    let Some(host) = args.backups.host()? else { return Ok(()) };
    let Ok(known) = host.find(report.snapshot.policy().as_str()) else { return Ok(()) };
    let is_its_own = |policy: &Policy| Backups::of(policy).is_ok_and(|own| own.place == backups.place);
    let (Some(state), Ok(policy)) = (&host.state, &known.policy) else { return Ok(()) };
    if is_its_own(policy) {
        let message = match report.damage.first() {
            None => "restored into scratch places and compared".to_owned(),
            Some(damage) => format!("{}: {}", damage.object, damage.what),
        };
        state.record_drill(&known.id, &report.snapshot, report.is_good(), &message, time::now())?;
    }
    Ok(())
}

fn screen(report: &VerifyReport, color: bool) -> String {
    let mut text = String::new();
    let (mark, style) = if report.is_good() { ("✓", Style::Green) } else { ("✗", Style::Red) };
    let found = match report.damage.len() {
        0 => "nothing is missing or damaged".to_owned(),
        1 => "1 object is missing or damaged".to_owned(),
        n => format!("{n} objects are missing or damaged"),
    };
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{} {} ({}): {found}", style.paint(mark, color), report.snapshot, report.level);
    for proof in &report.sources {
        let what = match (proof.namespaces, proof.files) {
            (0, files) => format!("{files} files, {} other entries", proof.entries),
            (namespaces, _) => format!("{namespaces} collections, {} documents", proof.documents),
        };
        let _ = writeln!(text, "  {:<12} proven: {what}, {}", proof.source, human(proof.bytes));
    }
    for damage in &report.damage {
        let _ = writeln!(text, "  {}: {}", printable(&damage.object), printable(&damage.what));
        for name in &damage.examples {
            let _ = writeln!(text, "    hit: {}", printable(name));
        }
        if damage.affected > damage.examples.len() as u64 {
            let _ = writeln!(text, "    and {} more", damage.affected - damage.examples.len() as u64);
        }
    }
    for remark in &report.remarks {
        let _ = writeln!(text, "  {}", Style::Dim.paint(remark, color));
    }
    text
}
