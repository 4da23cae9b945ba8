//! `backstay controller`: the service that makes backups happen.

use crate::{
    cli::{exit::Exit, facts, health, output::Output, problem::Problem, site::DEFAULT_STATE, time},
    controller::{
        clock::SystemClock,
        port::{Orchestrator, PortError},
        run_loop::{self, Health},
        settings::Settings,
    },
    domain::verdict::Failure,
    orchestrators::{
        kubernetes::{client::Cluster, lease::Leadership, port::Kubernetes},
        local::{policies::Directory, port::Local, state::StateDir, tasks::Launcher},
        stop::Stop,
        swarm::{discover::Rules, engine::Engine, facts::Grants, image, notice::Notice, port::Swarm},
    },
    plan::{
        observed::Caps,
        validate::{self, Orchestrator as Runs},
    },
};
use anyhow::Context as _;
use std::{
    future::pending,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tracing::{info, warn};

/// Carry out the policies of a directory: launch backups when they are due and record what became of them
///
/// Policies are read only. Tasks are processes that outlive the controller: stop it, upgrade it and start it again at
/// any time. Under systemd, set KillMode=process.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  backstay controller --orchestrator local --policies /etc/backstay --state /var/lib/backstay
  backstay controller --orchestrator swarm --allow-path /mnt/homes
  backstay controller --orchestrator kubernetes --namespace wholetale
  backstay controller --policies ./policies --state ./state --defaults defaults.yaml -v")]
pub struct Args {
    /// What runs the tasks
    #[arg(long, value_enum, default_value_t)]
    orchestrator: OrchestratorArg,
    /// The image of tasks; on Swarm the controller's own is known, on Kubernetes it must be named
    #[arg(long, value_name = "IMAGE", env = "BACKSTAY_IMAGE")]
    image: Option<String>,
    #[command(flatten)]
    swarm: SwarmArgs,
    #[command(flatten)]
    kubernetes: KubernetesArgs,
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
    #[command(flatten)]
    probe: ProbeArgs,
}

/// What only Swarm needs.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Docker Swarm")]
struct SwarmArgs {
    /// A path on nodes that every policy may read, with all below it
    #[arg(long = "allow-path", value_name = "PATH")]
    allow_paths: Vec<PathBuf>,
    /// A Docker secret that every policy may use
    #[arg(long = "allow-secret", value_name = "NAME")]
    allow_secrets: Vec<String>,
    /// A named volume that every policy may read
    #[arg(long = "allow-volume", value_name = "NAME")]
    allow_volumes: Vec<String>,
}

/// What only Kubernetes needs.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Kubernetes")]
struct KubernetesArgs {
    /// A namespace whose policies are carried out; may be given again. Without it, those of all namespaces
    #[arg(long = "namespace", value_name = "NAMESPACE", env = "BACKSTAY_NAMESPACES", value_delimiter = ',')]
    namespaces: Vec<String>,
    /// The context of the kubectl configuration; within a cluster, that cluster is used
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// The Lease that controllers of the same policies share, NAMESPACE/NAME. Default: backstay, in the first namespace
    /// that is named, else in the controller's own
    #[arg(long, value_name = "NAMESPACE/NAME", env = "BACKSTAY_LEASE")]
    lease: Option<String>,
}

/// Probes of the controller: a container's health check, a Kubernetes probe.
#[derive(Debug, clap::Args)]
struct ProbeArgs {
    /// Where the controller answers probes, a unix socket; none: it does not
    #[arg(long, value_name = "FILE", env = "BACKSTAY_HEALTH_SOCKET")]
    health_socket: Option<PathBuf>,
    /// Ask the controller that answers there whether it lives, instead of being one
    #[arg(long, requires = "health_socket")]
    health: bool,
}

/// `--orchestrator`
#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
enum OrchestratorArg {
    /// This host alone: policies are files, tasks are processes
    #[default]
    Local,
    /// Docker Swarm: policies are labels of services or configs, tasks are services
    Swarm,
    /// Kubernetes: policies are resources, tasks are Jobs
    Kubernetes,
}

/// Everything is looked at again after this time: events of a Swarm are lost easily.
const SWARM_RESYNC: Duration = Duration::from_secs(45);

fn default_caps() -> (NonZeroUsize, NonZeroUsize) {
    let Caps { total, per_remote } = Caps::default();
    let least_one = |n| NonZeroUsize::new(n).unwrap_or(NonZeroUsize::MIN);
    (least_one(total), least_one(per_remote))
}

/// Runs until SIGTERM or SIGINT; a second one ends it at once.
///
/// # Errors
/// Directories that cannot be used, or another controller on the same state.
pub fn run(args: &Args, out: &mut Output) -> Result<Exit, Problem> {
    let socket = args.probe.health_socket.as_deref();
    if let (true, Some(socket)) = (args.probe.health, socket) {
        return health::ask(socket, out);
    }
    let caps = Caps { total: args.max_runs.get(), per_remote: args.max_runs_per_remote.get() };
    // One thread decides; calls that may block have a few of their own, which end when idle.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(8)
        .build()
        .context("the async runtime could not be started")?;
    let settings = Settings { caps, ..Settings::default() };
    match args.orchestrator {
        OrchestratorArg::Local => {
            let state = StateDir::create(&args.state).map_err(|error| {
                let message = format!("{} cannot be used: {error}", args.state.display());
                Failure::permanent("StateUnusable", message)
                    .fix("name another directory with --state or BACKSTAY_STATE")
            })?;
            let _lock = state.lock()?;
            runtime
                .block_on(async {
                    serve(Arc::new(local(args, state)?), settings, socket, listen()?, pending()).await
                })
                .map(|_| Exit::Ok)
        }
        OrchestratorArg::Swarm => runtime.block_on(async {
            let settings = Settings { resync: SWARM_RESYNC, ..settings };
            serve(Arc::new(swarm(args).await?), settings, socket, listen()?, pending())
                .await
                .map(|_| Exit::Ok)
        }),
        OrchestratorArg::Kubernetes => runtime.block_on(kubernetes(args, settings, socket)),
    }
}

fn local(args: &Args, state: StateDir) -> Result<Local, Problem> {
    let defaults = args.defaults.as_deref().map(absolute).transpose()?;
    let directory = Directory { policies: absolute(&args.policies)?, defaults };
    let launcher = Launcher { program: own_program()?, arguments: vec!["task".into()] };
    info!(policies = %directory.policies.display(), state = %state.root().display(), "the controller runs");
    Ok(Local::start(state, directory, launcher, Arc::new(SystemClock))?)
}

async fn swarm(args: &Args) -> Result<Swarm, Problem> {
    let SwarmArgs { allow_paths, allow_secrets, allow_volumes } = &args.swarm;
    let defaults = facts::defaults(args.defaults.as_ref())?;
    let grants = Grants {
        paths: allow_paths.clone(),
        secrets: allow_secrets.iter().cloned().collect(),
        volumes: allow_volumes.iter().cloned().collect(),
    };
    let engine = Engine::from_environment().map_err(unusable)?;
    let own = image::own(&engine).await.map_err(|refusal| unusable(refusal.into()))?;
    let Some(image) = args.image.clone().or_else(|| own.as_ref().map(|own| own.image.clone())) else {
        let message =
            "the controller runs in no container of this engine, so the image of its tasks is not known";
        return Err(Failure::permanent("NoImage", message)
            .fix("name it with --image or BACKSTAY_IMAGE")
            .into());
    };
    info!(socket = %engine.socket().display(), image, "the controller runs");
    let rules = Rules { grants: grants.with(&defaults), defaults };
    let service = own.and_then(|own| own.service);
    Notice::put_up(&engine, &rules, service, &image, time::now()).await.map_err(unusable)?;
    Ok(Swarm::start(engine, rules, image, Arc::new(SystemClock)))
}

async fn kubernetes(args: &Args, settings: Settings, socket: Option<&Path>) -> Result<Exit, Problem> {
    let KubernetesArgs { namespaces, context, lease } = &args.kubernetes;
    let facts = validate::Facts {
        orchestrator: Runs::Kubernetes,
        defaults: facts::defaults(args.defaults.as_ref())?,
    };
    let Some(image) = args.image.clone() else {
        return Err(Failure::permanent("NoImage", "the image of tasks is not known")
            .fix("name it with --image or BACKSTAY_IMAGE")
            .into());
    };
    let cluster = Cluster::connect(context.as_deref(), None).await?;
    info!(cluster = cluster.name, image, "the controller runs");
    let clock = Arc::new(SystemClock);
    let start =
        || Kubernetes::start(cluster.clone(), namespaces, facts.clone(), image.clone(), clock.clone());
    let own = namespaces.first().unwrap_or(&cluster.namespace);
    let (namespace, name) = match lease.as_deref().map(|lease| lease.split_once('/').ok_or(lease)) {
        None => (own.as_str(), "backstay"),
        Some(Ok(lease)) => lease,
        Some(Err(lease)) => {
            let message = format!("--lease {lease:?}: write NAMESPACE/NAME, such as backstay/backstay");
            return Err(Problem::Usage(message));
        }
    };
    let leadership = Leadership::new(&cluster, namespace, name, clock.clone());
    let stop = listen()?;
    loop {
        // It answers probes while it waits: it lives.
        socket.map_or(Ok(()), |socket| health::answer(socket, Arc::new(Health::default())))?;
        tokio::select! {
            () = leadership.acquire() => {}
            () = stop.asked() => return Ok(Exit::Ok),
        }
        match serve(Arc::new(start()), settings.clone(), socket, stop.clone(), leadership.hold()).await? {
            Ended::Stopped => break,
            // Whatever it was about to do, the one that leads now does.
            Ended::Lost => warn!(lease = name, "this controller leads no more"),
        }
    }
    leadership.release().await;
    Ok(Exit::Ok)
}

fn unusable(error: PortError) -> Problem {
    Failure::permanent("EngineUnusable", error.to_string()).into()
}

fn listen() -> Result<Stop, Problem> {
    Ok(Stop::listen().context("signals cannot be handled")?)
}

async fn serve(
    port: Arc<dyn Orchestrator>,
    settings: Settings,
    health_socket: Option<&Path>,
    stop: Stop,
    lost: impl Future<Output = ()>,
) -> Result<Ended, Problem> {
    let probed = Arc::new(Health::default());
    if let Some(socket) = health_socket {
        health::answer(socket, Arc::clone(&probed))?;
    }
    let asked = async move {
        stop.asked().await;
        // From now on they are fatal again by our own hand.
        tokio::spawn(async move {
            stop.again().await;
            std::process::exit(i32::from(Exit::Interrupted.code()));
        });
    };
    let running = run_loop::run(port, Arc::new(SystemClock), settings, probed, asked);
    Ok(tokio::select! {
        () = running => Ended::Stopped,
        () = lost => Ended::Lost,
    })
}

/// Why a controller decides no more.
enum Ended {
    /// It was told to.
    Stopped,
    /// It leads no more.
    Lost,
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
