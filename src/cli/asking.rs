//! Asking the controller for something, and hearing its answer.

use crate::{
    cli::{output, problem::Problem, time},
    domain::{identity::PolicyId, names::Slot, run::RunState, verdict::Failure},
    orchestrators::{
        site::{Controller, Site},
        stop::Stop,
    },
    plan::{action::Answer, observed::Wish},
};
use std::time::{Duration, Instant};

/// A controller that runs answers within this time, unless the request waits for something.
const ANSWERED: Duration = Duration::from_secs(5);
/// A controller that is started again is back within this time.
const AWAY: Duration = Duration::from_secs(10);
/// A request whose asker waits for the answer ends this long after the asker, should that be killed.
const PATIENT: Duration = Duration::from_secs(60);
/// How often such an asker says that it still waits.
const RENEWED: Duration = Duration::from_secs(10);
/// A request whose asker does not wait is given up after this time.
const QUEUED: Duration = Duration::from_secs(6 * 3600);

/// Asks, and waits for the answer. `None`: it is queued and what it waits for was said; with `patient` that is waited
/// for. A request that ends in an error, or that its asker is stopped from waiting for, is taken back.
///
/// # Errors
/// No controller runs or none looks at the policy, a signal, or the request cannot be left.
pub(super) async fn ask(
    site: &dyn Site,
    policy: &PolicyId,
    wish: Wish,
    patient: bool,
    stop: &Stop,
) -> Result<Option<Answer>, Problem> {
    need_controller(site).await?;
    let id = site.ask(policy, wish, if patient { PATIENT } else { QUEUED }, time::now()).await?;
    let heard = tokio::select! {
        heard = hear(site, policy, &id, patient) => heard,
        () = stop.asked() => Err(Problem::Interrupted("the request is taken back".to_owned())),
    };
    if heard.is_err() {
        site.withdraw(policy, &id).await?;
    }
    heard
}

async fn hear(
    site: &dyn Site,
    policy: &PolicyId,
    id: &str,
    patient: bool,
) -> Result<Option<Answer>, Problem> {
    let (asked, mut renewed) = (Instant::now(), Instant::now());
    let (mut told, mut presence) = (None, Presence::default());
    loop {
        if let Some(answer) = site.answer(policy, id).await? {
            return Ok(Some(answer));
        }
        presence.check(site).await?;
        if asked.elapsed() > ANSWERED {
            not_stuck(&site.controller().await?, policy)?;
            let waits = waits(site, policy).await?;
            if told != waits {
                let what = waits.as_deref().unwrap_or("the controller is busy");
                output::note(format!("the request waits: {what}"));
                told.clone_from(&waits);
            }
            if !patient {
                return waits.map(|_| None).ok_or_else(|| unanswered(policy));
            }
        }
        if patient && renewed.elapsed() > RENEWED {
            site.renew(policy, id, time::now()).await?;
            renewed = Instant::now();
        }
        tokio::time::sleep(site.pace()).await;
    }
}

/// Whether a controller runs, for somebody who waits for what it does.
#[derive(Debug, Default)]
pub(super) struct Presence {
    away_since: Option<Instant>,
}

impl Presence {
    /// Bears with a controller that is away for a moment.
    ///
    /// # Errors
    /// It stays away.
    pub(super) async fn check(&mut self, site: &dyn Site) -> Result<(), Problem> {
        let here = need_controller(site).await;
        if here.is_ok() {
            self.away_since = None;
            return Ok(());
        }
        if self.away_since.is_none() {
            output::note("the controller is gone; it may be back in a moment");
        }
        let since = self.away_since.get_or_insert_with(Instant::now);
        if since.elapsed() < AWAY { Ok(()) } else { here }
    }
}

/// How far a run is that is waited for.
///
/// # Errors
/// Its record is gone: its end will never be told.
pub(super) async fn need_run(site: &dyn Site, policy: &PolicyId, slot: Slot) -> Result<RunState, Problem> {
    let gone = || {
        let message = format!("nothing is left of the run {slot} of {policy}");
        Failure::permanent("RunGone", message).fix("backstay status tells how the policy is")
    };
    Ok(site.run(policy, slot).await?.ok_or_else(gone)?)
}

/// Fails unless a controller runs.
pub(super) async fn need_controller(site: &dyn Site) -> Result<(), Problem> {
    runs(site.controller().await?)
}

/// Fails unless this one runs.
pub(super) fn runs(controller: Controller) -> Result<(), Problem> {
    let Controller { runs, place, start, .. } = controller;
    if runs.is_some() {
        return Ok(());
    }
    let message = format!("no controller runs on {place}");
    Err(Failure::temporary("NoController", message).fix(format!("start it: {start}")).into())
}

/// Fails when the controller says that it cannot look at the policy.
fn not_stuck(controller: &Controller, policy: &PolicyId) -> Result<(), Problem> {
    let is_meant = |other: &Option<PolicyId>| other.as_ref().is_none_or(|id| id == policy);
    match controller.troubles.iter().find(|trouble| is_meant(&trouble.policy)) {
        None => Ok(()),
        Some(trouble) => {
            let message = format!("the controller cannot look at {policy}: {}", trouble.message);
            Err(Failure::temporary("ControllerStuck", message).fix("mend or remove what it names").into())
        }
    }
}

fn unanswered(policy: &PolicyId) -> Problem {
    let message =
        format!("the controller did not answer within {} s; the request is taken back", ANSWERED.as_secs());
    Failure::temporary("NotAnswered", message)
        .fix(format!("backstay status {policy}, and the controller's log"))
        .into()
}

async fn waits(site: &dyn Site, policy: &PolicyId) -> Result<Option<String>, Problem> {
    let status = site.status(policy).await?;
    Ok(status.and_then(|status| status.waiting.last().map(|waiting| waiting.message.clone())))
}
