//! `backstay logs`: what the tasks of a run said.

use crate::{
    cli::{
        asking::{self, Presence},
        exit::Exit,
        output::Output,
        patient::Patient,
        problem::Problem,
        runtime::block_on,
        site::SiteArgs,
        style::Style,
        table::printable,
    },
    domain::{identity::PolicyId, names::Slot, verdict::Failure},
    orchestrators::site::{Read, Site, TaskLog, find},
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
    let site = args.site.site()?;
    block_on(async {
        if args.follow {
            show(args, &Patient::new(&*site, None), out).await
        } else {
            show(args, &*site, out).await
        }
    })
}

async fn show(args: &Args, site: &dyn Site, out: &mut Output) -> Result<Exit, Problem> {
    let policy = find(site, &args.policy).await?.id;
    let slot = if args.preflight { None } else { Some(chosen(site, &policy, args.slot).await?) };
    let (mut read, mut presence) = (Read::new(), Presence::default());
    loop {
        let is_over = match slot.filter(|_| args.follow) {
            Some(slot) => asking::need_run(site, &policy, slot).await?.end.is_some(),
            None => true,
        };
        while print(&site.logs(&policy, slot, &read).await?, &mut read, out)? {}
        if is_over {
            break;
        }
        presence.check(site).await?;
        tokio::time::sleep(site.pace()).await;
    }
    if read.is_empty() {
        crate::cli::output::note("no task has said anything, or nothing of it is kept");
    }
    Ok(Exit::Ok)
}

/// The run that is meant: the newest, when none is.
async fn chosen(site: &dyn Site, policy: &PolicyId, wanted: Option<Slot>) -> Result<Slot, Problem> {
    let mut slots = site.runs(policy).await?;
    slots.sort_unstable();
    let found = match wanted {
        Some(wanted) => slots.iter().find(|slot| **slot == wanted),
        None => slots.last(),
    };
    let message = || match (wanted, slots.as_slice()) {
        (Some(wanted), [_, ..]) => {
            let kept: Vec<String> = slots.iter().map(ToString::to_string).collect();
            format!("nothing is kept of run {wanted}; there are {}", kept.join(", "))
        }
        _ => format!("no run of {policy} is kept"),
    };
    Ok(*found.ok_or_else(|| Failure::permanent("NoSuchRun", message()))?)
}

/// Prints what is new in the logs; false when nothing was.
fn print(logs: &[TaskLog], read: &mut Read, out: &mut Output) -> Result<bool, Problem> {
    let mut is_new = false;
    for log in logs {
        if !read.contains_key(&log.task) {
            out.line(Style::Bold.paint(&format!("== {}", log.task), out.color()))?;
        }
        is_new |= read.insert(log.task.clone(), log.end) != Some(log.end);
        for line in log.text.lines() {
            out.line(printable(line.trim_end()))?;
        }
    }
    Ok(is_new)
}
