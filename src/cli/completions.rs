//! `backstay completions`: the script that completes commands in a shell.

use crate::cli::{exit::Exit, output::Output, problem::Problem};

/// Print the completion script of a shell
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  backstay completions bash > /etc/bash_completion.d/backstay
  backstay completions zsh > \"${fpath[1]}/_backstay\"
  backstay completions fish > ~/.config/fish/completions/backstay.fish")]
pub struct Args {
    /// The shell
    shell: clap_complete::Shell,
}

/// Prints the script for `command`, the whole command line.
///
/// # Errors
/// A closed output.
pub fn run(args: &Args, mut command: clap::Command, out: &mut Output) -> Result<Exit, Problem> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "backstay", &mut script);
    out.bytes(&script)?;
    Ok(Exit::Ok)
}
