//! `backstay controller`: the service that makes backups happen.

use crate::{
    cli::{exit::Exit, output::Output, problem::Problem, site::DEFAULT_STATE},
    controller::{
        clock::SystemClock,
        run_loop::{self, Health},
        settings::Settings,
    },
    domain::verdict::Failure,
    orchestrators::local::{policies::Directory, port::Local, state::StateDir, tasks::Launcher},
    plan::observed::Caps,
};
use anyhow::Context as _;
use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;

/// Carry out the policies of a directory: launch backups when they are due and record what became of them
///
/// Policies are read only. Tasks are processes that outlive the controller: stop it, upgrade it and start it again at
/// any time. Under systemd, set KillMode=process.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  backstay controller --orchestrator local --policies /etc/backstay --state /var/lib/backstay
  backstay controller --policies ./policies --state ./state --defaults defaults.yaml -v")]
pub struct Args {
    /// What runs the tasks
    #[arg(long, value_enum, default_value_t)]
    orchestrator: Orchestrator,
    /// The directory of the policies: *.yaml, several documents a file
    #[arg(long, value_name = "DIR", env = "BACKSTAY_POLICIES", default_value = "/etc/backstay/policies")]
    policies: PathBuf,
    /// The directory for the controller's own state; made when it is not there
    #[arg(long, value_name = "DIR", env = "BACKSTAY_STATE", default_value = DEFAULT_STATE)]
    state: PathBuf,
    /// A partial policy that lies below each
    #[arg(long, value_name = "FILE", env = "BACKSTAY_DEFAULTS")]
    defaults: Option<PathBuf>,
    /// Runs that may be active at once
    #[arg(long, value_name = "N", default_value_t = default_caps().0)]
    max_runs: NonZeroUsize,
    /// Runs to one remote that may be active at once
    #[arg(long, value_name = "N", default_value_t = default_caps().1)]
    max_runs_per_remote: NonZeroUsize,
}

/// `--orchestrator`
#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
enum Orchestrator {
    /// This host alone: policies are files, tasks are processes
    #[default]
    Local,
}

fn default_caps() -> (NonZeroUsize, NonZeroUsize) {
    let Caps { total, per_remote } = Caps::default();
    let least_one = |n| NonZeroUsize::new(n).unwrap_or(NonZeroUsize::MIN);
    (least_one(total), least_one(per_remote))
}

/// Runs until SIGTERM or SIGINT; a second one ends it at once.
///
/// # Errors
/// Directories that cannot be used, or another controller on the same state.
pub fn run(args: &Args, _out: &mut Output) -> Result<Exit, Problem> {
    let Args { orchestrator: Orchestrator::Local, policies, state, defaults, max_runs, max_runs_per_remote } =
        args;
    let directory =
        Directory { policies: absolute(policies)?, defaults: defaults.as_deref().map(absolute).transpose()? };
    let state = StateDir::create(state).map_err(|error| {
        Failure::permanent("StateUnusable", format!("{} cannot be used: {error}", state.display()))
            .fix("name another directory with --state or BACKSTAY_STATE")
    })?;
    let _lock = state.lock()?;
    let launcher = Launcher { program: own_program()?, arguments: vec!["task".into()] };
    let caps = Caps { total: max_runs.get(), per_remote: max_runs_per_remote.get() };
    let settings = Settings { caps, ..Settings::default() };
    // One thread decides; calls that may block have a few of their own, which end when idle.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(8)
        .build()
        .context("the async runtime could not be started")?;
    runtime.block_on(serve(state, directory, launcher, settings))
}

async fn serve(
    state: StateDir,
    directory: Directory,
    launcher: Launcher,
    settings: Settings,
) -> Result<Exit, Problem> {
    info!(policies = %directory.policies.display(), state = %state.root().display(), "the controller runs");
    let mut terminate = signal(SignalKind::terminate()).context("signals cannot be handled")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("signals cannot be handled")?;
    let clock = Arc::new(SystemClock);
    let local = Local::start(state, directory, launcher, Arc::<SystemClock>::clone(&clock))?;
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        // From now on they are fatal again by our own hand.
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            std::process::exit(i32::from(Exit::Interrupted.code()));
        });
    };
    run_loop::run(Arc::new(local), clock, settings, Arc::new(Health::default()), stop).await;
    Ok(Exit::Ok)
}

fn absolute(path: &Path) -> Result<PathBuf, Problem> {
    let path = std::path::absolute(path).with_context(|| format!("{} cannot be used", path.display()))?;
    Ok(std::fs::canonicalize(&path).unwrap_or(path))
}

/// The file of this program: after an upgrade in place, the new one.
fn own_program() -> Result<PathBuf, Problem> {
    let path = std::env::current_exe().context("the program's own file cannot be found")?;
    let text = path.to_string_lossy();
    Ok(text.strip_suffix(" (deleted)").map_or_else(|| path.clone(), PathBuf::from))
}
