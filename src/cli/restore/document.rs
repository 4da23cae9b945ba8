//! `backstay restore -f`: the same request, from a `Restore` document.

use crate::{
    api::document,
    cli::{documents, facts, problem::Problem, restore::screen, time},
    domain::{
        names::PolicyName,
        policy::Policy,
        restore::{Restore, RestoreSource},
    },
    orchestrators::local::lookup::Host,
    plan::validate::{self, Orchestrator},
};
use jiff::{SignedDuration, Timestamp};
use std::{path::Path, sync::Arc};

/// The one restore in a file, as of now.
///
/// # Errors
/// The file cannot be read, holds something else, or what it says is wrong.
pub fn read(path: &Path, orchestrator: Orchestrator) -> Result<Restore, Problem> {
    let wrong = |file: &str, lines: &[String]| {
        Problem::Other(anyhow::anyhow!("{file} cannot be carried out\n{}", lines.join("\n")))
    };
    let sources = documents::read(&[path.to_owned()])?;
    let [source] = &sources[..] else {
        return Err(Problem::Usage(format!("{} is no single file", path.display())));
    };
    let located = |errors: Vec<_>| {
        let lines: Vec<_> = errors.iter().map(|error| facts::place(&source.name, error)).collect();
        wrong(&source.name, &lines)
    };
    let mut documents = document::read(&source.text).map_err(|error| located(vec![error]))?;
    match (documents.pop(), documents.len()) {
        (Some(Ok(document)), 0) => validate::restore(&document, orchestrator, time::now()).map_err(located),
        (Some(Err(rejected)), 0) => Err(located(rejected.errors)),
        (_, others) => {
            let count = format!("  it holds {others} documents; one Restore is carried out at a time");
            Err(wrong(&source.name, &[count]))
        }
    }
}

/// The policy of this host whose backups are meant, if one is.
///
/// # Errors
/// It is not declared here, or is wrong.
pub fn own_policy(restore: &Restore, host: Option<&Host>) -> Result<Option<Arc<Policy>>, Problem> {
    let RestoreSource::Policy(name) = &restore.from else { return Ok(None) };
    let host = host.ok_or_else(|| {
        Problem::Usage(format!(
            "policy {name} is one of this host's: say where they are with --policies or --state, or write from.location"
        ))
    })?;
    Ok(Some(Arc::clone(host.find(name.as_str())?.valid()?)))
}

/// How to carry the restore out after a dry run: as the document is, and where something that exists is replaced.
pub fn next_step(restore: &Restore, now: Timestamp) -> (String, String) {
    let command = screen::command(None);
    let command = match restore.dry_run {
        true => format!("{command}  # without dryRun in the document"),
        false => command,
    };
    let policy = restore.from.policy().map_or("POLICY", PolicyName::as_str);
    let end = now.saturating_add(SignedDuration::from_hours(1)).unwrap_or(now);
    let end = end.strftime("%Y-%m-%dT%H:%M:%SZ");
    let replace = match &restore.mongodb {
        Some(target) if !target.replace => ", and mongodb.replace: true",
        _ => "",
    };
    let confirmation =
        format!("{command}  # with confirm: {{policy: {policy}, notAfter: {end}}}{replace} in the document");
    (command, confirmation)
}
