//! `backstay schema` and `backstay crds`: the contract for machines, and for people.

use crate::{
    api::{API_VERSION, crd, reference, schema::Kind},
    cli::{
        exit::Exit,
        output::{self, Format, Output},
        problem::Problem,
    },
};
use serde_json::{Value, json};

/// Print the JSON schema of the resources, for editors and checkers
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  backstay schema > backstay.schema.json      # then, in a policy: # yaml-language-server: $schema=backstay.schema.json
  backstay schema --markdown > resources.md")]
pub struct Args {
    /// Print the reference for people instead
    #[arg(long)]
    markdown: bool,
}

/// Prints one schema that fits any resource, or the reference.
///
/// # Errors
/// A closed output.
pub fn run(args: &Args, out: &mut Output) -> Result<Exit, Problem> {
    if args.markdown {
        out.bytes(reference::markdown().as_bytes())?;
    } else {
        out.document(Format::Json, &whole())?;
    }
    Ok(Exit::Ok)
}

fn whole() -> Value {
    let one = |kind: Kind| {
        json!({
            "type": "object",
            "required": ["apiVersion", "kind", "metadata", "spec"],
            "properties": {
                "apiVersion": {"const": API_VERSION},
                "kind": {"const": kind.as_str()},
                "metadata": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}},
                "spec": kind.spec_schema(),
            },
        })
    };
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Backstay",
        "oneOf": Kind::ALL.map(one),
    })
}

/// Print the custom resource definitions, for kubectl apply
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  backstay crds | kubectl apply -f -")]
pub struct CrdsArgs {}

/// Prints the definitions as YAML documents.
///
/// # Errors
/// A closed output.
pub fn run_crds(_: &CrdsArgs, out: &mut Output) -> Result<Exit, Problem> {
    out.bytes(definitions()?.as_bytes())?;
    Ok(Exit::Ok)
}

fn definitions() -> Result<String, Problem> {
    let document = |kind| output::to_document(Format::Yaml, &crd::definition(kind));
    Kind::ALL.into_iter().map(|kind| Ok(format!("---\n{}", document(kind)?))).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_definitions_in_the_repository_are_these() {
        assert!(
            super::definitions().unwrap() == include_str!("../../crds/backstay.yaml"),
            "the types have changed: run backstay crds > crds/backstay.yaml"
        );
    }
}
