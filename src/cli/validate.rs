//! `backstay validate`: what is wrong with documents, before anything runs.

use crate::{
    api::{document, schema::Kind, yaml::Located},
    cli::{
        documents::{self, Source},
        exit::Exit,
        facts::FactsArgs,
        output::{Format, Output, OutputArgs},
        problem::Problem,
        style::Style,
        time,
    },
    plan::validate::{self, Facts, Loaded, Orchestrator},
};
use serde::Serialize;
use std::path::PathBuf;

/// Check policies, and say everything that is wrong with them
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  backstay validate -f nightly.yaml
  backstay validate -f /etc/backstay/policies --defaults /etc/backstay/defaults.yaml
  backstay init … | backstay validate -f -")]
pub struct Args {
    /// A file, a directory of files, or - for standard input
    #[arg(short = 'f', long = "filename", value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    facts: FactsArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// What is found about one document.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Finding {
    file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    valid: bool,
    errors: Vec<ErrorView>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ErrorView {
    line: u64,
    field: String,
    message: String,
}

/// Checks every document; prints one line for each that is right and one for each error.
///
/// # Errors
/// A file that cannot be read, a closed output.
pub fn run(args: &Args, out: &mut Output) -> Result<Exit, Problem> {
    let facts = args.facts.read()?;
    let sources = documents::read(&args.paths)?;
    if sources.is_empty() {
        return Err(Problem::Usage("there is no .yaml or .yml file to check".to_owned()));
    }
    let findings = check(&sources, &facts);
    match args.output.format {
        Format::Table | Format::Wide => print(&findings, out)?,
        document => out.document(document, &findings)?,
    }
    Ok(if findings.iter().all(|finding| finding.valid) { Exit::Ok } else { Exit::Failed })
}

fn check(sources: &[Source], facts: &Facts) -> Vec<Finding> {
    let mut all: Vec<(&str, Loaded)> = Vec::new();
    let mut findings = Vec::new();
    for source in sources {
        match document::read(&source.text) {
            Err(error) => findings.push(finding(&source.name, None, vec![error])),
            Ok(documents) => {
                for document in documents {
                    match document {
                        Ok(document) if document.kind == Kind::Restore => {
                            let restore = validate::restore(&document, facts.orchestrator, time::now());
                            let errors = restore.err().unwrap_or_default();
                            findings.push(finding(&source.name, Some(document.name), errors));
                        }
                        document => all.push((&source.name, validate::loaded(document, facts))),
                    }
                }
            }
        }
    }
    match facts.orchestrator {
        Orchestrator::Local => {
            validate::refuse_namesakes(all.iter_mut().map(|(file, loaded)| ((*file).to_owned(), loaded)));
        }
        Orchestrator::Swarm | Orchestrator::Kubernetes => {
            validate::refuse_twins(all.iter_mut().map(|(_, loaded)| loaded));
        }
    }
    let policies = all
        .into_iter()
        .map(|(file, loaded)| finding(file, loaded.name, loaded.policy.err().unwrap_or_default()));
    findings.extend(policies);
    findings
}

fn finding(file: &str, name: Option<String>, errors: Vec<Located>) -> Finding {
    let view = |error: Located| ErrorView {
        line: error.line,
        field: error.error.field,
        message: error.error.message,
    };
    Finding {
        file: file.to_owned(),
        name,
        valid: errors.is_empty(),
        errors: errors.into_iter().map(view).collect(),
    }
}

fn print(findings: &[Finding], out: &mut Output) -> Result<(), Problem> {
    for Finding { file, name, valid, errors } in findings {
        let name = name.as_deref().unwrap_or("document");
        if *valid {
            out.line(format!("{} {file}: {name} is valid", Style::Green.paint("✓", out.color())))?;
            continue;
        }
        out.line(format!("{} {file}: {name} is not valid", Style::Red.paint("✗", out.color())))?;
        for ErrorView { line, field, message } in errors {
            let at = if *line > 0 { format!("{file}:{line}: ") } else { String::new() };
            let field = if field.is_empty() { String::new() } else { format!("{field}: ") };
            out.line(format!("  {at}{}{message}", Style::Bold.paint(&field, out.color())))?;
        }
    }
    Ok(())
}
