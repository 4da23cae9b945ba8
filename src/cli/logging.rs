//! What the program says about its own doings: on stderr, quiet for people, a line an event for services.

use tracing_subscriber::{EnvFilter, filter::LevelFilter, fmt};

/// Flags of every verb.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct LogArgs {
    /// Say more on stderr (repeat for still more)
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub verbose: u8,
    /// Write what is said on stderr as lines of JSON
    #[arg(long, global = true)]
    pub log_json: bool,
}

/// Starts logging; `base` is the level without `-v`. `BACKSTAY_LOG` (`debug`, `backstay::storage=trace`) overrides both.
pub fn init(args: &LogArgs, base: LevelFilter) {
    let ladder = [LevelFilter::WARN, LevelFilter::INFO, LevelFilter::DEBUG, LevelFilter::TRACE];
    let start = ladder.iter().position(|level| *level == base).unwrap_or(0);
    let level = ladder[(start + usize::from(args.verbose)).min(ladder.len() - 1)];
    // Other crates speak from INFO on only at the last rung: their words are not ours to vouch for.
    let others = if level == LevelFilter::TRACE { level } else { LevelFilter::WARN };
    let filter = EnvFilter::try_from_env("BACKSTAY_LOG")
        .unwrap_or_else(|_| EnvFilter::new(format!("{others},kube_client=off,backstay={level}")));
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    // A second start (tests in one process) keeps the first one's settings.
    let _ = if args.log_json {
        builder.json().try_init()
    } else {
        builder.with_ansi(super::output::color_on_stderr()).try_init()
    };
}
