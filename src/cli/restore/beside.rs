//! A restore by tasks of a Swarm, each on the node that has what it fills: from a machine that has nothing but the engine.

use super::{
    carrier::{Carrier, Ended},
    claim,
};
use crate::{
    cli::{problem::Problem, time},
    domain::{
        names::SourceName,
        policy::{Policy, Source, VolumePlace},
        restore::{RestoreRequest, VolumeTarget},
        run::StepName,
        snapshot::AsOf,
        verdict::Failure,
    },
    orchestrators::{
        random_number,
        stop::Stop,
        swarm::{
            discover::Found,
            errand::{Errand, Hands},
            restores::Claim,
            site::SwarmSite,
        },
    },
    plan::task_spec::{RestoreMode, RestoreWork, TaskReport, Work},
    task::{
        context::Meter,
        restore::{RestoreReport, plan::RestorePlan, work::RestoreOutcome},
    },
};
use async_trait::async_trait;
use std::{collections::BTreeSet, sync::Arc};

/// A look may take so long.
const HOURS_TO_PLAN: i64 = 1;
/// A restore may take so long.
const HOURS_TO_RESTORE: i64 = 7 * 24;

/// Tasks of a Swarm.
pub struct Beside {
    site: SwarmSite,
    hands: Hands,
    request: RestoreRequest,
    meter: Arc<Meter>,
    /// Number of this restore, which all its tasks and records carry.
    number: i64,
    claims: Vec<Claim>,
    has_changed: bool,
}

/// What one task does.
struct Part {
    node: Option<String>,
    request: RestoreRequest,
}

impl Beside {
    /// # Errors
    /// No random number is to be had.
    pub fn new(
        site: SwarmSite,
        hands: Hands,
        request: RestoreRequest,
        meter: Arc<Meter>,
    ) -> Result<Self, Failure> {
        let number = random_number()?;
        Ok(Self { site, hands, request, meter, number, claims: Vec::new(), has_changed: false })
    }

    /// The database, then the volumes of each node.
    fn parts(&self) -> Vec<Part> {
        let facts = &self.hands.facts;
        let mut parts: Vec<Part> = Vec::new();
        if self.request.mongodb.is_some() {
            let request = RestoreRequest { volumes: Vec::new(), ..self.request.clone() };
            parts.push(Part { node: facts.files_on.clone(), request });
        }
        for target in &self.request.volumes {
            let node = facts.nodes.get(&target.name).cloned();
            let is_there =
                |part: &&mut Part| part.node == node && (node.is_some() || part.request.mongodb.is_none());
            let own = parts.iter_mut().find(is_there);
            match own {
                Some(part) => part.request.volumes.push(target.clone()),
                None => {
                    let volumes = vec![target.clone()];
                    let request = RestoreRequest { mongodb: None, volumes, ..self.request.clone() };
                    parts.push(Part { node, request });
                }
            }
        }
        parts
    }

    async fn carry_out(
        &self,
        n: usize,
        part: Part,
        mode: RestoreMode,
        stop: &Stop,
    ) -> Result<TaskReport, Failure> {
        let errand = Errand {
            step: StepName::restore(n),
            number: self.number,
            node: part.node,
            work: Work::Restore(Box::new(RestoreWork { request: part.request, mode })),
            hours: if mode == RestoreMode::Plan { HOURS_TO_PLAN } else { HOURS_TO_RESTORE },
        };
        let meter = Arc::clone(&self.meter);
        self.hands.carry_out(errand, &move |progress| meter.show(&progress), stop).await
    }

    /// Policies whose sources this restore writes into.
    async fn concerned(&self) -> Result<Vec<Found>, Failure> {
        let target = match &self.request.mongodb {
            Some(target) => claim::hosts(&target.connection).await,
            None => BTreeSet::new(),
        };
        let mut concerned = Vec::new();
        for found in self.site.declared().await? {
            let Ok(policy) = &found.policy else { continue };
            let shares_network = found.facts.networks.is_empty()
                || self.hands.facts.networks.iter().any(|network| found.facts.networks.contains(network));
            let shares_server = shares_network && claim::shares_server(&target, &policy.sources()).await;
            // A secret that names the server is not read here.
            let own = found.id == self.hands.id && self.request.mongodb.is_some();
            if own || shares_server || self.writes_files(policy, &found) {
                concerned.push(found);
            }
        }
        Ok(concerned)
    }

    fn writes_files(&self, policy: &Policy, found: &Found) -> bool {
        let targets = &self.request.volumes;
        policy.sources().iter().any(|source| {
            let Source::Volume(volume) = source else { return false };
            let node = found.facts.nodes.get(&volume.name);
            let is_there = |target: &&VolumeTarget| self.hands.facts.nodes.get(&target.name) == node;
            targets.iter().filter(is_there).any(|target| overlap(&target.place, &volume.place))
        })
    }
}

fn overlap(a: &VolumePlace, b: &VolumePlace) -> bool {
    match (a, b) {
        (VolumePlace::HostPath(a), VolumePlace::HostPath(b)) => a.starts_with(b) || b.starts_with(a),
        (a, b) => a == b,
    }
}

fn unexpected() -> Failure {
    Failure::permanent("ReportUnreadable", "the task did something else than it was asked for")
}

#[async_trait(?Send)]
impl Carrier for Beside {
    async fn plan(&mut self, stop: &Stop) -> Result<RestorePlan, Problem> {
        let mut whole: Option<RestorePlan> = None;
        for (n, part) in (1..).zip(self.parts()) {
            let report = self.carry_out(n, part, RestoreMode::Plan, stop).await?;
            let RestoreOutcome::Planned(plan) = report.told()? else {
                return Err(unexpected().into());
            };
            // The others speak of the same snapshot, whatever is stored meanwhile.
            self.request.as_of = AsOf::Name(plan.snapshot.name.clone());
            whole = Some(match whole {
                None => plan,
                Some(before) => joined(before, plan),
            });
        }
        whole.ok_or_else(|| Failure::permanent("NothingToDo", "nothing is to be restored").into())
    }

    async fn claim(&mut self) -> Result<(), Problem> {
        for found in self.concerned().await? {
            let (engine, id) = (self.site.engine(), self.number.to_string());
            match Claim::begin(engine, &found.id, &id, "backstay restore", time::now()).await {
                Ok(claim) => self.claims.push(claim),
                Err(failure) => {
                    for claim in self.claims.drain(..) {
                        claim.unchanged().await?;
                    }
                    return Err(failure.into());
                }
            }
        }
        Ok(())
    }

    async fn execute(&mut self, _plan: &RestorePlan, stop: &Stop) -> Result<RestoreReport, Failure> {
        let mut whole: Option<RestoreReport> = None;
        for (n, part) in (1..).zip(self.parts()) {
            let report = self.carry_out(n, part, RestoreMode::Execute, stop).await;
            // One that was refused, or never began, says that it has changed nothing; one without a word may have.
            self.has_changed |= report.as_ref().map_or(true, |report| report.outcome.is_some());
            let RestoreOutcome::Done(done) = report?.told()? else {
                return Err(unexpected());
            };
            let whole = whole.get_or_insert_with(|| RestoreReport {
                snapshot: done.snapshot.clone(),
                mongodb: None,
                volumes: Vec::new(),
            });
            whole.mongodb = whole.mongodb.take().or(done.mongodb);
            whole.volumes.extend(done.volumes);
        }
        whole.ok_or_else(|| Failure::permanent("NothingToDo", "nothing is to be restored"))
    }

    async fn end(&mut self, result: &Result<RestoreReport, Failure>) -> Result<Ended, Problem> {
        let end = claim::End::of(result, self.has_changed, claim::is_whole(&self.request));
        let mut ended = Ended { has_changed: self.has_changed, held: Vec::new() };
        for claim in self.claims.drain(..) {
            match &end {
                claim::End::Succeeded => claim.succeeded().await?,
                claim::End::Unchanged => claim.unchanged().await?,
                claim::End::Failed(why) => {
                    ended.held.push(claim.policy().clone());
                    claim.failed(why).await?;
                }
            }
        }
        Ok(ended)
    }
}

/// The plans of two tasks as one.
fn joined(mut a: RestorePlan, b: RestorePlan) -> RestorePlan {
    let left_out: BTreeSet<SourceName> = b.left_out.into_iter().collect();
    a.left_out.retain(|name| left_out.contains(name));
    a.mongodb = a.mongodb.or(b.mongodb);
    a.volumes.extend(b.volumes);
    a
}
