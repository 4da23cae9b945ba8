//! `backstay wait`: until something can be said of a policy.

use crate::{
    cli::{exit::Exit, output::Output, problem::Problem, site::SiteArgs, time},
    domain::{
        status::{ConditionType, Status, Truth},
        verdict::Failure,
    },
};
use jiff::SignedDuration;
use std::{thread::sleep, time::Duration};

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
}

impl From<Condition> for ConditionType {
    fn from(condition: Condition) -> Self {
        match condition {
            Condition::Ready => Self::Ready,
            Condition::Fresh => Self::Fresh,
            Condition::LastRunSucceeded => Self::LastRunSucceeded,
            Condition::RestoreTested => Self::RestoreTested,
            Condition::CredentialsValid => Self::CredentialsValid,
        }
    }
}

/// Ends with 0 once the condition is true, with 1 when the time is over.
///
/// # Errors
/// No such policy, or the time is over; the message says how it stands.
pub fn run(args: &Args, out: &mut Output) -> Result<Exit, Problem> {
    let kind = ConditionType::from(args.condition);
    let host = args.site.host()?;
    let deadline = time::now().saturating_add(SignedDuration::from_secs(i64::from(args.timeout)));
    loop {
        let known = host.find(&args.policy)?;
        if known.status.as_ref().is_some_and(|status| is_true(status, kind)) {
            out.line(format!("{}: {} is true", known.id, kind.as_str()))?;
            return Ok(Exit::Ok);
        }
        if deadline.as_ref().is_ok_and(|deadline| time::now() >= *deadline) {
            let status = known.status.unwrap_or_default();
            let (truth, why) = match status.condition(kind) {
                Some(condition) => (condition.status, format!("{}: {}", condition.reason, condition.message)),
                None => (Truth::Unknown, "no controller has seen the policy".to_owned()),
            };
            let message =
                format!("{}: {} is {truth:?} after {} s; {why}", known.id, kind.as_str(), args.timeout);
            return Err(Failure::temporary("TimedOut", message).into());
        }
        sleep(Duration::from_millis(250));
    }
}

/// Freshness passes with time, whether or not a controller runs to say so.
fn is_true(status: &Status, kind: ConditionType) -> bool {
    let in_time = status.fresh_until_time.is_none_or(|until| time::now() < until);
    status.is(kind) && (kind != ConditionType::Fresh || in_time)
}
