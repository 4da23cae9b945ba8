//! `backstay man`: the manual pages.

use crate::cli::{exit::Exit, output, output::Output, problem::Problem};
use anyhow::Context as _;
use std::path::PathBuf;

/// Print the manual page, or write the pages of all commands into a directory
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  backstay man | man -l -
  backstay man --directory /usr/local/share/man/man1")]
pub struct Args {
    /// Write one file for each command here
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

/// Prints or writes the pages of `command`, the whole command line.
///
/// # Errors
/// A directory that cannot be written, a closed output.
pub fn run(args: &Args, command: clap::Command, out: &mut Output) -> Result<Exit, Problem> {
    let pages = pages(command)?;
    let Some(directory) = &args.directory else {
        out.bytes(&pages[0].1)?;
        return Ok(Exit::Ok);
    };
    std::fs::create_dir_all(directory).with_context(|| format!("{} cannot be made", directory.display()))?;
    for (name, page) in &pages {
        let file = directory.join(name);
        std::fs::write(&file, page).with_context(|| format!("{} cannot be written", file.display()))?;
    }
    output::note(format!("{} pages in {}", pages.len(), directory.display()));
    Ok(Exit::Ok)
}

/// File name and text of each page: the program's own first, then one a verb.
fn pages(mut command: clap::Command) -> Result<Vec<(String, Vec<u8>)>, Problem> {
    command.build();
    let verbs: Vec<_> = command.get_subcommands().filter(|verb| !verb.is_hide_set()).cloned().collect();
    let mut pages = vec![page(command, "backstay")?];
    for verb in verbs {
        let name = format!("backstay-{}", verb.get_name());
        pages.push(page(verb, &name)?);
    }
    Ok(pages)
}

fn page(command: clap::Command, name: &str) -> Result<(String, Vec<u8>), Problem> {
    // A page has its examples at the end; only `--help` has them first.
    let examples = command.get_before_help().cloned().unwrap_or_default();
    let mut page = Vec::new();
    clap_mangen::Man::new(command.after_help(examples)).render(&mut page)?;
    Ok((format!("{name}.1"), page))
}
