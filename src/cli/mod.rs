//! What people type: flags → verb → result on stdout, everything else on stderr → exit code.
//!
//! Each verb is a module with `Args` and `run(&Args, &mut Output) -> Result<Exit, Problem>`. To add one: the module, a
//! line in [`Command`], a line in [`Command::run`].

pub mod backups;
pub mod documents;
pub mod exit;
pub mod facts;
pub mod logging;
pub mod output;
pub mod place;
pub mod policy_document;
pub mod problem;
pub mod progress;
pub mod runtime;
pub mod site;
pub mod style;
pub mod table;
pub mod time;

mod asking;
mod cancel;
mod completions;
mod controller;
mod doctor;
mod explain;
mod health;
mod hold;
mod init;
mod list;
mod logs;
mod ls;
mod man;
mod patient;
mod prune;
mod restore;
mod run;
mod schema;
mod show;
mod status;
mod task;
mod validate;
mod verify;
mod wait;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use exit::Exit;
use logging::LogArgs;
use output::Output;
use problem::Problem;
use std::{ffi::OsString, process::ExitCode};
use tracing_subscriber::filter::LevelFilter;

/// Backups of MongoDB and home directories that are proven to restore
#[derive(Debug, Parser)]
#[command(name = "backstay", version, max_term_width = 100, propagate_version = true)]
struct Cli {
    #[command(flatten)]
    log: LogArgs,
    #[command(subcommand)]
    command: Command,
}

/// The verbs, in the order in which `--help` shows them.
#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "there is one in a process")]
enum Command {
    Controller(controller::Args),
    Status(status::Args),
    Run(run::Args),
    Cancel(cancel::Args),
    Logs(logs::Args),
    Wait(wait::Args),
    List(list::Args),
    Show(show::Args),
    Ls(ls::Args),
    Restore(restore::Args),
    Verify(verify::Args),
    Hold(hold::Args),
    Prune(prune::Args),
    Init(init::Args),
    Validate(validate::Args),
    Explain(explain::Args),
    Doctor(doctor::Args),
    Schema(schema::Args),
    Crds(schema::CrdsArgs),
    #[command(hide = true)]
    Task(task::Args),
    Completions(completions::Args),
    Man(man::Args),
}

impl Command {
    fn run(&self, out: &mut Output) -> Result<Exit, Problem> {
        match self {
            Self::Controller(args) => controller::run(args, out),
            Self::Status(args) => status::run(args, out),
            Self::Run(args) => run::run(args, out),
            Self::Cancel(args) => cancel::run(args, out),
            Self::Logs(args) => logs::run(args, out),
            Self::Wait(args) => wait::run(args, out),
            Self::List(args) => list::run(args, out),
            Self::Show(args) => show::run(args, out),
            Self::Ls(args) => ls::run(args, out),
            Self::Restore(args) => restore::run(args, out),
            Self::Verify(args) => verify::run(args, out),
            Self::Hold(args) => hold::run(args, out),
            Self::Prune(args) => prune::run(args, out),
            Self::Init(args) => init::run(args, out),
            Self::Validate(args) => validate::run(args, out),
            Self::Explain(args) => explain::run(args, out),
            Self::Doctor(args) => doctor::run(args, out),
            Self::Schema(args) => schema::run(args, out),
            Self::Crds(args) => schema::run_crds(args, out),
            Self::Task(args) => task::run(args, out),
            Self::Completions(args) => completions::run(args, command(), out),
            Self::Man(args) => man::run(args, command(), out),
        }
    }

    /// What is logged without `-v`: people get warnings; services that someone reads later say what they do.
    fn log_level(&self) -> LevelFilter {
        match self {
            Self::Controller(_) | Self::Task(_) => LevelFilter::INFO,
            _ => LevelFilter::WARN,
        }
    }
}

/// Help opens with what the verb is and how it is used in practice.
const HELP: &str = "{about-with-newline}\n{before-help}{usage-heading} {usage}\n\n{all-args}{after-help}";

/// The whole command line, as completions and manual pages need it.
fn command() -> clap::Command {
    Cli::command().help_template(HELP).mut_subcommands(|verb| verb.help_template(HELP))
}

/// Runs the program with this process's arguments.
pub fn main() -> ExitCode {
    run(std::env::args_os()).into()
}

fn run(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    let parsed = command().try_get_matches_from(arguments);
    let cli = match parsed.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to stdout with 0, wrong usage to stderr with 2. A closed output changes neither.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Ok };
        }
    };
    logging::init(&cli.log, cli.command.log_level());
    cli.command.run(&mut Output::stdout()).unwrap_or_else(|problem| {
        output::problem(&problem);
        problem.exit()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed_and_every_verb_opens_with_examples() {
        command().debug_assert();
        for verb in command().get_subcommands().filter(|verb| !verb.is_hide_set()) {
            let examples = verb.get_before_help().map(ToString::to_string).unwrap_or_default();
            assert!(examples.starts_with("Examples:\n  backstay "), "{} has no examples", verb.get_name());
            assert!(verb.get_about().is_some(), "{} says nothing about itself", verb.get_name());
        }
    }
}
