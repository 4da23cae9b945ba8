//! `backstay init`: a first policy, from flags or from the answers to questions.

use crate::{
    api::{
        document::Defaults,
        location::{ConfigSourceSpec, LocationSpec, SecretSourceSpec},
        policy::{BackupPolicySpec, MongodbSpec, RetentionSpec, VolumeSpec},
    },
    cli::{exit::Exit, output, output::Output, policy_document::PolicyDocument, problem::Problem},
    plan::validate::{self, Facts, Orchestrator},
};
use anyhow::{Context as _, anyhow};
use std::{
    io::{self, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
};

/// Print a policy for this host, from flags or from the answers to questions
#[derive(Debug, Clone, clap::Args)]
#[command(before_help = "Examples:
  backstay init > nightly.yaml                    # asks on a terminal
  backstay init --instance production --mongodb-uri 'mongodb://db1,db2/?replicaSet=rs1' \\
      --volume homes=/srv/homes --remote box --path WT > nightly.yaml")]
pub struct Args {
    /// Name of the policy
    #[arg(long, default_value = "nightly")]
    name: String,
    /// Whose data it is: part of the path on the remote
    #[arg(long)]
    instance: Option<String>,
    /// URI of the MongoDB deployment, without a password
    #[arg(long, value_name = "URI")]
    mongodb_uri: Option<String>,
    /// File that holds the URI, password included
    #[arg(long, value_name = "FILE", conflicts_with = "mongodb_uri")]
    mongodb_uri_file: Option<PathBuf>,
    /// User of the MongoDB deployment
    #[arg(long, value_name = "NAME", requires = "mongodb_password_file")]
    mongodb_username: Option<String>,
    /// File that holds the user's password
    #[arg(long, value_name = "FILE", requires = "mongodb_uri")]
    mongodb_password_file: Option<PathBuf>,
    /// A directory to back up, under a name of its own; may be repeated
    #[arg(long = "volume", value_name = "NAME=PATH", value_parser = parse_volume)]
    volumes: Vec<(String, String)>,
    /// The rclone remote
    #[arg(long)]
    remote: Option<String>,
    /// Folder on the remote
    #[arg(long)]
    path: Option<String>,
    /// The rclone configuration: a file, or a directory with an rclone.conf that rclone may renew
    #[arg(long, value_name = "PATH", env = "RCLONE_CONFIG")]
    rclone_config: Option<PathBuf>,
    /// When: five-field cron, or @daily, @weekly …
    #[arg(long, value_name = "CRON")]
    schedule: Option<String>,
    /// Time zone of the schedule
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<String>,
    /// Keep everything of this many days
    #[arg(long, value_name = "DAYS")]
    keep_days: Option<i64>,
}

fn parse_volume(text: &str) -> Result<(String, String), String> {
    let (name, path) = text.split_once('=').ok_or("write NAME=PATH, such as homes=/srv/homes")?;
    Ok((name.to_owned(), path.to_owned()))
}

/// Prints the policy. Nothing is printed when it would not be valid.
///
/// # Errors
/// A value that is missing where there is nobody to ask, or wrong.
pub fn run(args: &Args, out: &mut Output) -> Result<Exit, Problem> {
    let mut args = args.clone();
    let missing = missing(&args);
    if !missing.is_empty() {
        if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
            return Err(Problem::Usage(format!("say what to back up and where to: {}", missing.join(", "))));
        }
        ask_for_all(&mut args)?;
    }
    let text = PolicyDocument::new(&args.name, specification(&args)).to_yaml()?;
    check(&text)?;
    out.bytes(text.as_bytes())?;
    output::note(format!(
        "\nPut it into a directory of its own as {}.yaml, then:\n  backstay controller --orchestrator local --policies DIRECTORY",
        args.name
    ));
    Ok(Exit::Ok)
}

/// The flags without which there is no policy.
fn missing(args: &Args) -> Vec<&'static str> {
    let source = args.mongodb_uri.is_some() || args.mongodb_uri_file.is_some() || !args.volumes.is_empty();
    let needed = [
        ("--instance", args.instance.is_some()),
        ("--mongodb-uri, --mongodb-uri-file or --volume", source),
        ("--remote", args.remote.is_some()),
        ("--rclone-config", args.rclone_config.is_some()),
    ];
    needed.into_iter().filter(|(_, given)| !given).map(|(flag, _)| flag).collect()
}

fn ask_for_all(args: &mut Args) -> Result<(), Problem> {
    if args.instance.is_none() {
        args.instance =
            ask("Whose data is this, in one word (production)?")?.or(Some("production".to_owned()));
    }
    let no_database = args.mongodb_uri.is_none() && args.mongodb_uri_file.is_none();
    if no_database && args.volumes.is_empty() {
        args.mongodb_uri = ask("URI of the MongoDB deployment, without a password (empty: none)?")?;
        while let Some(path) = ask("A directory to back up (empty: no more)?")? {
            args.volumes.push((name_of(&path), path));
        }
    }
    if args.remote.is_none() {
        args.remote = ask("Name of the rclone remote (see \"rclone listremotes\")?")?;
        args.path = args.path.take().or(ask("Folder on it (empty: none)?")?);
    }
    if args.rclone_config.is_none() {
        let usual = std::env::home_dir().unwrap_or_default().join(".config/rclone");
        let answer = ask(&format!("The rclone configuration ({})?", usual.display()))?;
        args.rclone_config = Some(answer.map_or(usual, PathBuf::from));
    }
    Ok(())
}

/// A name for the volume at `path`: its last part, as far as that can be one.
fn name_of(path: &str) -> String {
    let last = path.rsplit('/').find(|part| !part.is_empty()).unwrap_or("files").to_lowercase();
    let name: String = last.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    Some(name.trim_matches('-').to_owned())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "files".to_owned())
}

/// Asks on stderr, so that stdout stays the policy's.
fn ask(question: &str) -> Result<Option<String>, Problem> {
    write!(io::stderr(), "{question} ")?;
    let mut answer = String::new();
    if io::stdin().read_line(&mut answer).context("the answer cannot be read")? == 0 {
        return Err(anyhow!("the questions were not answered").into());
    }
    Ok(Some(answer.trim().to_owned()).filter(|answer| !answer.is_empty()))
}

fn specification(args: &Args) -> BackupPolicySpec {
    let file = |path: &Path| SecretSourceSpec { file: Some(absolute(path)), secret_key_ref: None };
    let database = args.mongodb_uri.is_some() || args.mongodb_uri_file.is_some();
    let mongodb = database.then(|| MongodbSpec {
        uri: args.mongodb_uri.clone(),
        uri_from: args.mongodb_uri_file.as_deref().map(file),
        username: args.mongodb_username.clone(),
        password_from: args.mongodb_password_file.as_deref().map(file),
        ..MongodbSpec::default()
    });
    let volume = |(name, path): &(String, String)| VolumeSpec {
        name: name.clone(),
        host_path: Some(absolute(Path::new(path))),
        ..VolumeSpec::default()
    };
    let config = args.rclone_config.as_deref().unwrap_or(Path::new(""));
    let (file, directory) =
        if config.is_dir() { (None, Some(absolute(config))) } else { (Some(absolute(config)), None) };
    BackupPolicySpec {
        instance: args.instance.clone(),
        schedule: args.schedule.clone(),
        time_zone: args.time_zone.clone(),
        mongodb,
        volumes: args.volumes.iter().map(volume).collect(),
        destination: LocationSpec {
            remote: args.remote.clone().unwrap_or_default(),
            path: args.path.clone(),
            config_from: ConfigSourceSpec { file, directory, secret_key_ref: None },
            ..LocationSpec::default()
        },
        retention: args
            .keep_days
            .map(|days| RetentionSpec { keep_within_days: Some(days), ..RetentionSpec::default() }),
        ..BackupPolicySpec::default()
    }
}

fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

fn check(text: &str) -> Result<(), Problem> {
    let facts = Facts { orchestrator: Orchestrator::Local, defaults: Defaults::default() };
    let loaded =
        validate::load(text, &facts).map_err(|error| anyhow!("the policy cannot be read: {error}"))?;
    let errors: Vec<_> = loaded
        .into_iter()
        .filter_map(|loaded| loaded.policy.err())
        .flatten()
        .map(|error| format!("  {error}"))
        .collect();
    if errors.is_empty() {
        return Ok(());
    }
    Err(anyhow!("with these answers the policy would not be valid\n{}", errors.join("\n")).into())
}
