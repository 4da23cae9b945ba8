//! `backstay wait`: until something can be said of a policy.

use crate::{
    cli::{
        asking, exit::Exit, output::Output, patient::Patient, problem::Problem, runtime::block_on,
        site::SiteArgs, time,
    },
    domain::{
        status::{ConditionType, Truth},
        verdict::Failure,
    },
    orchestrators::site::{Known, Site, find},
};
use jiff::{SignedDuration, Timestamp};
use std::time::Duration;

/// Wait until a condition of a policy is true
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  backstay wait nightly --for Ready
  backstay wait nightly --for Fresh --timeout 3600
  backstay wait nightly --for LastRunSucceeded && deploy")]
pub struct Args {
    /// The policy
    policy: String,
    /// What to wait for
    #[arg(long = "for", value_name = "CONDITION", value_enum)]
    condition: Condition,
    /// Give up after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    timeout: u32,
    #[command(flatten)]
    site: SiteArgs,
}

/// `--for`
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
#[value(rename_all = "PascalCase")]
enum Condition {
    /// The policy is accepted and its runs will start
    Ready,
    /// The newest complete snapshot is young enough
    Fresh,
    /// The newest run made a complete snapshot
    LastRunSucceeded,
    /// A snapshot was restored and compared
    RestoreTested,
    /// Remote and sources let the tasks in
    CredentialsValid,
    /// An empty site was filled from its backups, or had data
    Bootstrapped,
}

impl From<Condition> for ConditionType {
    fn from(condition: Condition) -> Self {
        match condition {
            Condition::Ready => Self::Ready,
            Condition::Fresh => Self::Fresh,
            Condition::LastRunSucceeded => Self::LastRunSucceeded,
            Condition::RestoreTested => Self::RestoreTested,
            Condition::CredentialsValid => Self::CredentialsValid,
            Condition::Bootstrapped => Self::Bootstrapped,
        }
    }
}

/// Ends with 0 once a controller that runs says so of the policy as it is now, with 1 when the time is over.
///
/// # Errors
/// No such policy, one that is wrong, or the time is over; the message says how it stands.
pub fn run(args: &Args, out: &mut Output) -> Result<Exit, Problem> {
    let site = args.site.site()?;
    let limit = Duration::from_secs(u64::from(args.timeout));
    block_on(async { wait(args, &Patient::new(&*site, Some(limit)), out).await })
}

async fn wait(args: &Args, site: &dyn Site, out: &mut Output) -> Result<Exit, Problem> {
    let kind = ConditionType::from(args.condition);
    let deadline = time::now().saturating_add(SignedDuration::from_secs(i64::from(args.timeout)));
    loop {
        let known = find(site, &args.policy).await?;
        let controller = site.controller().await?;
        if !controller.is_unheard {
            known.valid()?;
        }
        let here = asking::runs(controller);
        if here.is_ok() && is_true(&known, kind, time::now()) {
            out.line(format!("{}: {} is true", known.id, kind.as_str()))?;
            return Ok(Exit::Ok);
        }
        if deadline.as_ref().is_ok_and(|deadline| time::now() >= *deadline) {
            here?;
            let is_told = tells(&known);
            let status = known.status.unwrap_or_default();
            let (truth, why) = match status.condition(kind).filter(|_| is_told) {
                Some(condition) => (condition.status, format!("{}: {}", condition.reason, condition.message)),
                None => {
                    (Truth::Unknown, "the controller has not looked at the policy as it is now".to_owned())
                }
            };
            let message =
                format!("{}: {} is {truth:?} after {} s; {why}", known.id, kind.as_str(), args.timeout);
            return Err(Failure::temporary("TimedOut", message).into());
        }
        tokio::time::sleep(site.pace()).await;
    }
}

/// True when the status speaks of the policy as it is declared now.
fn tells(known: &Known) -> bool {
    known.status.as_ref().is_some_and(|status| Some(status.observed_generation) == known.generation)
}

/// What is said of an earlier specification says nothing of this one, but of its runs; freshness passes with time.
fn is_true(known: &Known, kind: ConditionType, now: Timestamp) -> bool {
    let Some(status) = known.status.as_ref().filter(|_| tells(known)) else { return false };
    let said = status.condition(kind).filter(|condition| condition.status == Truth::True);
    said.is_some_and(|condition| match kind {
        ConditionType::Ready | ConditionType::CredentialsValid => {
            Some(condition.observed_generation) == known.generation
        }
        ConditionType::Fresh => status.fresh_until_time.is_none_or(|until| now < until),
        ConditionType::LastRunSucceeded | ConditionType::RestoreTested | ConditionType::Bootstrapped => true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        error::Invalid,
        status::{Condition, Status},
    };

    #[test]
    fn only_what_is_said_of_the_policy_as_it_is_now_is_true() {
        let now = Timestamp::UNIX_EPOCH;
        let known = |declared, observed, said, until| Known {
            id: "nightly".parse().unwrap(),
            generation: declared,
            changed_at: None,
            policy: Err(Invalid::new("not looked at here")),
            status: Some(Status {
                observed_generation: observed,
                fresh_until_time: Some(now + SignedDuration::from_secs(until)),
                conditions: ConditionType::ALL
                    .map(|kind| Condition {
                        kind,
                        status: Truth::True,
                        reason: String::new(),
                        message: String::new(),
                        last_transition_time: now,
                        observed_generation: said,
                    })
                    .into_iter()
                    .collect(),
                ..Status::default()
            }),
        };
        let (of_this, of_runs) = ([true, true], [true, true, true]);
        let table = [
            (known(Some(2), 2, 2, 9), of_this, of_runs),
            (known(Some(2), 2, 1, 9), [false, false], of_runs),
            (known(Some(2), 1, 1, 9), [false, false], [false, false, false]),
            (known(None, 2, 2, 9), [false, false], [false, false, false]),
            (known(Some(2), 2, 2, -9), of_this, [false, true, true]),
        ];
        for (known, of_this, of_runs) in table {
            use ConditionType::{CredentialsValid, Fresh, LastRunSucceeded, Ready, RestoreTested};
            assert_eq!(
                [Ready, CredentialsValid].map(|kind| is_true(&known, kind, now)),
                of_this,
                "{known:?}"
            );
            let found = [Fresh, LastRunSucceeded, RestoreTested].map(|kind| is_true(&known, kind, now));
            assert_eq!(found, of_runs, "{known:?}");
        }
    }
}
