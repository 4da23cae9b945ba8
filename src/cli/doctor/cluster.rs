//! A Swarm as it is seen from a manager: what its controller and its preflights have found, where no secret can be read.

use super::report::{Finding, Report, drill};
use crate::{
    cli::{asking, problem::Problem},
    domain::{
        status::{ConditionType, Truth},
        verdict::Failure,
    },
    orchestrators::site::{Known, Problem as Unusable, Site, find},
};

/// Looks at the controller, then at each policy, or at the one that `name` means.
pub(super) async fn look(
    site: &dyn Site,
    name: Option<&str>,
    report: &mut Report<'_>,
) -> Result<(), Problem> {
    report.add(match asking::need_controller(site).await {
        Ok(()) => {
            let runs = site.controller().await?.runs.unwrap_or_default();
            Finding::good("controller", format!("{runs} runs"))
        }
        Err(Problem::Failure(failure)) => Finding::bad("controller", failure),
        Err(problem) => return Err(problem),
    })?;
    let (policies, unusable) = match name {
        Some(name) => (vec![find(site, name).await?], Vec::new()),
        None => site.all().await?,
    };
    for Unusable { place, message } in unusable {
        let failure = Failure::permanent("Unusable", format!("it declares nothing: {message}"));
        report.add(Finding::bad(place, failure.fix("correct it, and deploy it again")))?;
    }
    for known in &policies {
        for finding in policy(known) {
            report.add(finding)?;
        }
    }
    Ok(())
}

fn policy(known: &Known) -> Vec<Finding> {
    if let Err(failure) = known.valid() {
        return vec![Finding::bad(known.id.to_string(), failure)];
    }
    let wanted = [ConditionType::Ready, ConditionType::CredentialsValid, ConditionType::Fresh];
    let told = |kind| known.status.as_ref().and_then(|status| status.condition(kind));
    let findings = wanted.into_iter().filter_map(|kind| {
        let condition = told(kind)?;
        let what = format!("{}: {}", known.id, kind.as_str());
        Some(match condition.status {
            Truth::True => Finding::good(what, condition.message.clone()),
            Truth::Unknown if kind != ConditionType::CredentialsValid => {
                Finding::good(what, condition.message.clone())
            }
            _ => {
                let fix = format!("backstay logs {} --preflight shows what was looked at", known.id);
                Finding::bad(what, Failure::permanent(&condition.reason, &condition.message).fix(fix))
            }
        })
    });
    findings.chain(drill(known)).collect()
}
