//! `backstay status`: how all policies are, the worst first.
//!
//! [`verdict`] says how bad it is, [`view`] holds what is shown, [`screen`] draws it.

mod screen;
mod verdict;
mod view;

use crate::{
    cli::{
        exit::Exit,
        output::{Format, Output, OutputArgs},
        patient::Patient,
        problem::Problem,
        runtime::block_on,
        site::SiteArgs,
        time,
    },
    orchestrators::site::{Controller, Site, choose},
};
use std::time::Duration;
use verdict::{Severity, State};
use view::{Row, View};

/// Show how all policies are, the worst first
///
/// Runs: ● succeeded, ◐ active, ◑ partial, ✗ failed, ○ missed, ⊘ cancelled, · suspended; the newest on the right.
///
/// With --check the exit code is that of a monitoring plugin: 0 good, 1 warning, 2 critical, 3 unknown.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  backstay status
  backstay status nightly
  backstay status -w
  backstay status --check
  backstay status -o json")]
pub struct Args {
    /// The policy; all when it is not given
    policy: Option<String>,
    /// Go on showing it
    #[arg(short, long, conflicts_with_all = ["check", "format"])]
    watch: bool,
    /// End with the exit code of a monitoring plugin, 0 to 3
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    site: SiteArgs,
}

/// How often a watched screen is drawn.
const REDRAWN: Duration = Duration::from_secs(2);

/// Prints the screen, or the same as a document.
///
/// # Errors
/// Nothing says where the policies are, or they cannot be read; a check says so on stdout instead, as UNKNOWN.
pub fn run(args: &Args, out: &mut Output) -> Result<Exit, Problem> {
    match shown(args, out) {
        Err(problem) if args.check && !matches!(problem, Problem::OutputClosed) => {
            out.line(format!("UNKNOWN {problem}"))?;
            Ok(Exit::Code(Severity::Unknown.code()))
        }
        result => result,
    }
}

fn shown(args: &Args, out: &mut Output) -> Result<Exit, Problem> {
    let site = args.site.site()?;
    block_on(show(args, &*site, out))
}

async fn show(args: &Args, site: &dyn Site, out: &mut Output) -> Result<Exit, Problem> {
    if args.watch {
        return watch(args, &Patient::new(site, None), out).await;
    }
    let view = view(args, site).await?;
    let now = time::now();
    match args.output.format {
        Format::Table | Format::Wide => {
            out.bytes(screen::draw(&view, args.output.format == Format::Wide, out.color(), now).as_bytes())?;
        }
        Format::Json | Format::Yaml => out.result(args.output.format, &view, |_| Default::default())?,
    }
    Ok(if args.check { Exit::Code(view.severity().code()) } else { Exit::Ok })
}

/// Draws again and again; where there is no terminal, only what is new.
async fn watch(args: &Args, site: &dyn Site, out: &mut Output) -> Result<Exit, Problem> {
    let mut drawn = String::new();
    loop {
        let text = screen::draw(&view(args, site).await?, false, out.color(), time::now());
        if out.is_terminal() {
            out.bytes(format!("\x1b[H\x1b[2J{text}").as_bytes())?;
        } else if text != drawn {
            out.bytes(text.as_bytes())?;
            drawn = text;
        }
        tokio::time::sleep(REDRAWN).await;
    }
}

async fn view(args: &Args, site: &dyn Site) -> Result<View, Problem> {
    let now = time::now();
    let (all, mut problems) = site.all().await?;
    let chosen = match &args.policy {
        Some(name) => {
            let one = choose(name, all, &problems)?;
            problems.clear();
            vec![one]
        }
        None => all,
    };
    let Controller { runs: controller, since, mut troubles, .. } = site.controller().await?;
    let since = since.filter(|_| controller.is_some());
    troubles.retain(|trouble| {
        trouble.policy.as_ref().is_none_or(|id| chosen.iter().any(|known| known.id == *id))
    });
    let mut policies: Vec<Row> = chosen
        .into_iter()
        .map(|known| {
            let is_stuck = troubles.iter().any(|trouble| trouble.policy.as_ref() == Some(&known.id));
            let state = verdict::of(&known, since, is_stuck, now);
            let invalid = known.policy.err().filter(|_| state == State::Invalid);
            Row { policy: known.id, state, invalid: invalid.map(|e| e.to_string()), status: known.status }
        })
        .collect();
    policies.sort_by(|a, b| a.state.cmp(&b.state).then_with(|| a.policy.cmp(&b.policy)));
    Ok(View { controller, policies, problems, troubles })
}
