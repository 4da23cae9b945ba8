//! `backstay cancel`: the end of a run that is active.

use crate::{
    cli::{
        asking, exit::Exit, output::Output, patient::Patient, problem::Problem, runtime::block_on_with,
        site::SiteArgs,
    },
    domain::{names::Slot, verdict::Failure},
    orchestrators::site::find,
    plan::{action::Answer, observed::Wish},
};

/// Stop the active run of a policy
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  backstay cancel nightly
  backstay cancel nightly 20261125T020000Z")]
pub struct Args {
    /// The policy
    policy: String,
    /// The run, where another may have begun meanwhile
    slot: Option<Slot>,
    #[command(flatten)]
    site: SiteArgs,
}

/// Asks the controller to stop the run, and says that it does.
///
/// # Errors
/// No such policy, no controller, no active run.
pub fn run(args: &Args, out: &mut Output) -> Result<Exit, Problem> {
    let site = args.site.site()?;
    let (known, answer) = block_on_with(|stop| async move {
        let site = Patient::new(&*site, None);
        let known = find(&site, &args.policy).await?;
        let answer = asking::ask(&site, &known.id, Wish::Cancel { slot: args.slot }, true, &stop).await?;
        Ok((known, answer))
    })?;
    match answer {
        Some(Answer::Accepted(slot)) => {
            out.line(format!("run {slot} of {} is being stopped", known.id))?;
            Ok(Exit::Ok)
        }
        Some(Answer::Refused(why)) => Err(Failure::permanent("Refused", why).into()),
        None => Ok(Exit::Ok),
    }
}
