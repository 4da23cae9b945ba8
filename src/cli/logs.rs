//! `backstay logs`: what the tasks of a run said.

use crate::{
    cli::{
        asking::{self, Presence},
        exit::Exit,
        output::Output,
        problem::Problem,
        site::SiteArgs,
        style::Style,
        table::printable,
    },
    domain::{names::Slot, run::RunState, verdict::Failure},
    orchestrators::local::{files, state::StateDir, tasks},
};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead as _, BufReader, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    thread::sleep,
};

/// Show what the tasks of a run said
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  backstay logs nightly                       # the newest run
  backstay logs nightly -f                    # until it is over
  backstay logs nightly 20261125T020000Z
  backstay logs nightly --preflight")]
pub struct Args {
    /// The policy
    policy: String,
    /// The run; the newest when it is not given
    #[arg(conflicts_with = "preflight")]
    slot: Option<Slot>,
    /// Go on until the run is over
    #[arg(short, long)]
    follow: bool,
    /// What the look at remote and sources said
    #[arg(long)]
    preflight: bool,
    #[command(flatten)]
    site: SiteArgs,
}

/// Prints the logs of all attempts, oldest first.
///
/// # Errors
/// No such policy or run.
pub fn run(args: &Args, out: &mut Output) -> Result<Exit, Problem> {
    let host = args.site.host()?;
    let known = host.find(&args.policy)?;
    let state = host.state()?;
    let folder = if args.preflight {
        state.preflights_of(&known.id)
    } else {
        run_folder(state, &state.runs_of(&known.id), args.slot)?
    };
    let (mut printed, mut presence) = (BTreeMap::new(), Presence::default());
    loop {
        let is_over = args.preflight || is_over(&folder)?;
        for (name, task) in files::entries(&folder)? {
            print(&name, &task.join(tasks::names::LOG), &mut printed, out)?;
        }
        if !args.follow || is_over {
            break;
        }
        asking::need_record(&folder)?;
        presence.check(state)?;
        sleep(asking::LOOK);
    }
    if printed.is_empty() {
        crate::cli::output::note("no task has said anything yet");
    }
    Ok(Exit::Ok)
}

fn run_folder(state: &StateDir, runs: &Path, slot: Option<Slot>) -> Result<PathBuf, Problem> {
    let slots: Vec<String> = files::entries(runs)?.into_iter().map(|(name, _)| name).collect();
    let wanted = slot.map(|slot| slot.to_string());
    let found = match &wanted {
        Some(wanted) => slots.iter().find(|slot| *slot == wanted),
        None => {
            slots.iter().filter_map(|slot| slot.parse::<Slot>().ok().map(|s| (s, slot))).max().map(|(_, s)| s)
        }
    };
    let Some(found) = found else {
        let message = match (&wanted, slots.as_slice()) {
            (Some(wanted), [_, ..]) => {
                format!("nothing is kept of run {wanted}; there are {}", slots.join(", "))
            }
            _ => format!("no run is kept in {}", state.root().display()),
        };
        return Err(Failure::permanent("NoSuchRun", message).into());
    };
    Ok(runs.join(found))
}

fn is_over(folder: &Path) -> Result<bool, Problem> {
    let run: RunState = files::read_json(&folder.join("state.json"))?.unwrap_or_default();
    Ok(run.end.is_some())
}

/// Prints what is new in a log.
fn print(
    name: &str,
    log: &Path,
    printed: &mut BTreeMap<String, u64>,
    out: &mut Output,
) -> Result<(), Problem> {
    let Ok(file) = File::open(log) else { return Ok(()) };
    let is_first = !printed.contains_key(name);
    let from = printed.entry(name.to_owned()).or_default();
    let mut reader = BufReader::new(file);
    reader.seek(SeekFrom::Start(*from))?;
    if is_first {
        out.line(Style::Bold.paint(&format!("== {name}"), out.color()))?;
    }
    let mut line = Vec::new();
    loop {
        line.clear();
        let length = reader.read_until(b'\n', &mut line)?;
        if length == 0 {
            return Ok(());
        }
        *from += length as u64;
        out.line(printable(String::from_utf8_lossy(&line).trim_end()))?;
    }
}
