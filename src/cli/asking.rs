//! Asking the controller of this host for something, and hearing its answer.

use crate::{
    cli::{output, problem::Problem, runtime::block_on, time},
    domain::status::Status,
    domain::{identity::PolicyId, verdict::Failure},
    orchestrators::local::{files, lookup::Host, state::StateDir},
    plan::{action::Answer, observed::Wish},
};
use anyhow::Context as _;
use std::{
    path::Path,
    time::{Duration, Instant},
};
use tokio::signal::unix::{SignalKind, signal};

/// A controller that runs answers within this time, unless the request waits for something.
const ANSWERED: Duration = Duration::from_secs(5);
/// How often to look.
pub(super) const LOOK: Duration = Duration::from_millis(100);
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
/// No controller runs or none looks at the policy, a signal, or the state cannot be written.
pub(super) fn ask(
    host: &Host,
    policy: &PolicyId,
    wish: Wish,
    patient: bool,
) -> Result<Option<Answer>, Problem> {
    let state = host.state()?;
    need_controller(state)?;
    let id = state.ask(policy, wish, if patient { PATIENT } else { QUEUED }, time::now())?;
    let heard = block_on(async {
        tokio::select! {
            heard = hear(state, policy, &id, patient) => heard,
            stopped = stopped() => Err(stopped),
        }
    });
    if heard.is_err() {
        state.withdraw(policy, &id)?;
    }
    heard
}

async fn hear(
    state: &StateDir,
    policy: &PolicyId,
    id: &str,
    patient: bool,
) -> Result<Option<Answer>, Problem> {
    let (asked, mut renewed) = (Instant::now(), Instant::now());
    let (mut told, mut presence) = (None, Presence::default());
    loop {
        if let Some(answer) = state.answer(policy, id)? {
            return Ok(Some(answer));
        }
        presence.check(state)?;
        if asked.elapsed() > ANSWERED {
            not_stuck(state, policy)?;
            let waits = waits(state, policy);
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
            state.renew(policy, id)?;
            renewed = Instant::now();
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Ends when a person or the system wants this process to end.
async fn stopped() -> Problem {
    let listen = |kind| signal(kind).context("signals cannot be handled");
    match (listen(SignalKind::interrupt()), listen(SignalKind::terminate())) {
        (Ok(mut interrupt), Ok(mut terminate)) => {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            Problem::Interrupted("the request is taken back".to_owned())
        }
        (Err(error), _) | (_, Err(error)) => error.into(),
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
    pub(super) fn check(&mut self, state: &StateDir) -> Result<(), Problem> {
        let here = need_controller(state);
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

/// Fails when the record of a run that is waited for is gone: its end will never be told.
pub(super) fn need_record(run: &Path) -> Result<(), Problem> {
    if run.join("plan.json").exists() {
        return Ok(());
    }
    let message = format!("nothing is left of the run: {} is gone", run.display());
    Err(Failure::permanent("RunGone", message).fix("backstay status tells how the policy is").into())
}

/// Fails unless a controller runs.
pub(super) fn need_controller(state: &StateDir) -> Result<(), Problem> {
    if state.controller().is_some() {
        return Ok(());
    }
    let message = format!("no controller runs on {}", state.root().display());
    let fix = format!("start it: backstay controller --state {}", state.root().display());
    Err(Failure::temporary("NoController", message).fix(fix).into())
}

/// Fails when the controller says that it cannot look at the policy.
fn not_stuck(state: &StateDir, policy: &PolicyId) -> Result<(), Problem> {
    let troubles = state.info()?.troubles;
    match troubles.iter().find(|trouble| trouble.policy.as_ref().is_none_or(|id| id == policy)) {
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

fn waits(state: &StateDir, policy: &PolicyId) -> Option<String> {
    let status: Option<Status> = files::read_json(&state.status_file(policy)).ok().flatten();
    status.and_then(|status| status.waiting.last().map(|waiting| waiting.message.clone()))
}
