//! The policies that services and configs declare: a pure function of one complete look at the cluster.
//!
//! ```text
//! labels of services, data of configs → documents → policies → what their service does not have is refused → nodes
//! ```

use crate::{
    api::{
        document::{self, Defaults, Document},
        labels::{self, Labelled},
        yaml::Located,
    },
    domain::{error::Invalid, identity::PolicyId, names::PolicyName, policy::Policy},
    orchestrators::{
        checksum,
        site::Problem,
        swarm::{
            engine::model::{Config, STACK, Service},
            facts::{Cluster, Facts, Grants},
            names,
            place::Surroundings,
        },
    },
    plan::validate::{self, Facts as Known, Loaded, Orchestrator},
};
use jiff::Timestamp;
use std::{collections::BTreeMap, sync::Arc};

/// What the controller is told about all policies.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// A partial policy that lies below each.
    pub defaults: Defaults,
    /// What the administrator allows.
    pub grants: Grants,
}

/// A policy that is declared.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Which.
    pub id: PolicyId,
    /// Number of what it says.
    pub generation: i64,
    /// When what declares it was made.
    pub created_at: Option<Timestamp>,
    /// The service or config, for people.
    pub place: String,
    /// What it says, or what is wrong with it.
    pub policy: Result<Arc<Policy>, Invalid>,
    /// What is known about its surroundings.
    pub facts: Facts,
}

/// True for a service that declares policies.
pub fn is_carrier(service: &Service) -> bool {
    let labels = &service.spec.labels;
    !labels.contains_key(names::KIND)
        && labels.keys().any(|key| key.to_lowercase().starts_with(labels::PREFIX))
}

/// A declaration before it is known which others there are.
struct Candidate<'a> {
    id: PolicyId,
    place: String,
    created_at: Option<Timestamp>,
    generation: i64,
    carrier: Option<&'a Service>,
    mirrors: bool,
    loaded: Loaded,
}

/// All policies, by identity, and what declares none.
pub fn discover(cluster: &Cluster, rules: &Rules) -> (Vec<Found>, Vec<Problem>) {
    let known = Known { orchestrator: Orchestrator::Swarm, defaults: rules.defaults.clone() };
    let (mut candidates, mut problems) = (Vec::new(), Vec::new());
    for service in cluster.services.iter().filter(|service| is_carrier(service)) {
        let place = format!("service {}", service.spec.name);
        let pairs = service.spec.labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        for labelled in labels::policies(pairs) {
            match from_labels(service, &labelled, &known) {
                Ok(candidate) => candidates.push(candidate),
                Err(message) => problems.push(Problem { place: place.clone(), message }),
            }
        }
        problems.extend(misplaced(service, &place));
    }
    for config in newest(&cluster.configs) {
        match from_config(config, &known) {
            Ok(candidate) => candidates.push(candidate),
            Err(message) => problems.push(Problem { place: format!("config {}", config.spec.name), message }),
        }
    }
    validate::refuse_twins(candidates.iter_mut().map(|candidate| &mut candidate.loaded));
    problems.sort();
    (settle(candidates, cluster, rules), problems)
}

/// Labels of the container, where nobody looks.
fn misplaced(service: &Service, place: &str) -> Option<Problem> {
    let label = service.spec.task.container.labels.keys().find(|key| {
        key.to_lowercase().starts_with(labels::PREFIX)
            && !service.spec.task.container.labels.contains_key(names::KIND)
    })?;
    let message =
        format!("{label} is a label of the container and declares nothing; put it under deploy: labels:");
    Some(Problem { place: place.to_owned(), message })
}

fn from_labels<'a>(
    service: &'a Service,
    labelled: &Labelled,
    known: &Known,
) -> Result<Candidate<'a>, String> {
    let told = |errors: &[Invalid]| errors.first().map(ToString::to_string).unwrap_or_default();
    if labelled.spec.entries().is_empty() && !labelled.errors.is_empty() {
        return Err(told(&labelled.errors));
    }
    let stack = service.stack();
    let id = identity(Some(stack.unwrap_or(&service.spec.name)), &labelled.name)?;
    let document = Document::policy(&labelled.name, stack, labelled.spec.clone());
    let by_label = |located: Located| Located {
        line: 0,
        error: Invalid { field: labels::label_of(&labelled.name, &located.error.field), ..located.error },
    };
    let wrong = labelled.errors.iter().map(|error| Located { line: 0, error: error.clone() });
    let policy = match validate::policy(&document, known) {
        Ok(policy) if labelled.errors.is_empty() => Ok(policy),
        Ok(_) => Err(wrong.collect()),
        Err(errors) => Err(wrong.chain(errors.into_iter().map(by_label)).collect()),
    };
    Ok(Candidate {
        id,
        place: format!("service {}", service.spec.name),
        created_at: service.created_at,
        generation: generation(&labelled.spec.to_json().to_string(), known),
        carrier: Some(service),
        mirrors: labelled.mirrors_status,
        loaded: Loaded { name: Some(labelled.name.clone()), line: 0, policy },
    })
}

/// Of the configs that declare the same policy, the one that was made last.
fn newest(configs: &[Config]) -> Vec<&Config> {
    let mut found: BTreeMap<(Option<&str>, &str), &Config> = BTreeMap::new();
    for config in configs.iter().filter(|config| config.label(names::KIND).is_none()) {
        let Some(policy) = config.label(names::POLICY) else { continue };
        let kept = found.entry((scope_of(config), policy)).or_insert(config);
        if config.version.index > kept.version.index {
            *kept = config;
        }
    }
    found.into_values().collect()
}

fn scope_of(config: &Config) -> Option<&str> {
    config.label(names::INSTANCE).or_else(|| config.label(STACK))
}

fn from_config<'a>(config: &Config, known: &Known) -> Result<Candidate<'a>, String> {
    let (scope, name) = (scope_of(config), config.label(names::POLICY).unwrap_or_default());
    let id = identity(scope, name)?;
    let text = String::from_utf8_lossy(&config.bytes()).into_owned();
    let mut documents = document::read(&text).map_err(|error| error.to_string())?;
    let (Some(document), true) = (documents.pop(), documents.is_empty()) else {
        return Err("a config holds one policy; this one holds another number of documents".to_owned());
    };
    let loaded = validate::loaded(document.map(|document| document.within(scope)), known);
    if let Some(other) = loaded.name.as_deref().filter(|other| *other != name) {
        return Err(format!("its label says {}={name}, and its document is called {other}", names::POLICY));
    }
    Ok(Candidate {
        id,
        place: format!("config {}", config.spec.name),
        created_at: config.created_at,
        generation: generation(&text, known),
        carrier: None,
        mirrors: false,
        loaded,
    })
}

fn identity(scope: Option<&str>, name: &str) -> Result<PolicyId, String> {
    let name: PolicyName = name.parse().map_err(|error: Invalid| error.to_string())?;
    let scope = scope.map(str::parse).transpose().map_err(|error: Invalid| error.to_string())?;
    Ok(PolicyId::new(scope, name))
}

fn generation(text: &str, known: &Known) -> i64 {
    checksum(&[text, &known.defaults.to_text()])
}

/// One policy for each identity: one that comes twice is wrong in both places.
fn settle(candidates: Vec<Candidate<'_>>, cluster: &Cluster, rules: &Rules) -> Vec<Found> {
    let mut found: BTreeMap<PolicyId, Found> = BTreeMap::new();
    for candidate in candidates {
        let Candidate { id, place, created_at, generation, carrier, mirrors, loaded } = candidate;
        if let Some(twin) = found.get_mut(&id) {
            let message = format!("{id} is declared twice, by {} and by {place}; remove one", twin.place);
            twin.policy = Err(Invalid::new(message));
            continue;
        }
        let surroundings = Surroundings::new(cluster, carrier, &rules.grants);
        let settled = loaded.policy.map_err(|errors| told(&errors)).and_then(|policy| {
            surroundings.settle(policy).map_err(|errors| {
                let by_label = |error: Invalid| match carrier {
                    Some(_) => Invalid { field: labels::label_of(id.name().as_str(), &error.field), ..error },
                    None => error,
                };
                told(&errors.into_iter().map(|e| Located { line: 0, error: by_label(e) }).collect::<Vec<_>>())
            })
        });
        let (policy, mut facts) = match settled {
            Ok((policy, facts)) => (Ok(Arc::new(policy)), facts),
            // Runs that were claimed before go on with what is known without a policy.
            Err(error) => (Err(error), surroundings.facts()),
        };
        facts.mirrors = mirrors;
        let new = Found { id: id.clone(), generation, created_at, place, policy, facts };
        found.insert(id, new);
    }
    found.into_values().collect()
}

/// The first error in full, and how many more there are.
fn told(errors: &[Located]) -> Invalid {
    let first = errors.first().map(|located| {
        let line = if located.line > 0 { format!("line {}: ", located.line) } else { String::new() };
        format!("{line}{located}")
    });
    let more = match errors.len() {
        0 | 1 => String::new(),
        n => format!(" (and {} more)", n - 1),
    };
    Invalid::new(format!("{}{more}", first.unwrap_or_default()))
}

#[cfg(test)]
mod tests;
