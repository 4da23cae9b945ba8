//! Asking the controller of this host for something, and hearing its answer.

use crate::{
    cli::{output, problem::Problem, time},
    domain::status::Status,
    domain::{identity::PolicyId, verdict::Failure},
    orchestrators::local::{files, lookup::Host, state::StateDir},
    plan::{action::Answer, observed::Wish},
};
use std::{
    thread::sleep,
    time::{Duration, Instant},
};

/// A controller that runs answers within this time, unless the request waits for something.
const ANSWERED: Duration = Duration::from_secs(5);
/// How often to look.
pub(super) const LOOK: Duration = Duration::from_millis(100);

/// Asks, and waits for the answer. `None`: it waits for something, which was said; with `patient` that is waited for.
///
/// # Errors
/// No controller runs, or the state cannot be written.
pub(super) fn ask(
    host: &Host,
    policy: &PolicyId,
    wish: Wish,
    patient: bool,
) -> Result<Option<Answer>, Problem> {
    let state = host.state()?;
    need_controller(state)?;
    let id = state.ask(policy, wish, time::now())?;
    let (asked, mut told) = (Instant::now(), None);
    loop {
        if let Some(answer) = state.answer(policy, &id)? {
            return Ok(Some(answer));
        }
        if let Err(error) = need_controller(state) {
            state.withdraw(policy, &id)?;
            return Err(error);
        }
        if asked.elapsed() > ANSWERED {
            let waits = waits(state, policy);
            if told != waits {
                let what = waits.as_deref().unwrap_or("the controller is busy");
                output::note(format!("the request waits: {what}"));
                told = waits;
            }
            if !patient {
                return Ok(None);
            }
        }
        sleep(LOOK);
    }
}

fn need_controller(state: &StateDir) -> Result<(), Problem> {
    if state.controller().is_some() {
        return Ok(());
    }
    let message = format!("no controller runs on {}", state.root().display());
    let fix = format!("start it: backstay controller --state {}", state.root().display());
    Err(Failure::temporary("NoController", message).fix(fix).into())
}

fn waits(state: &StateDir, policy: &PolicyId) -> Option<String> {
    let status: Option<Status> = files::read_json(&state.status_file(policy)).ok().flatten();
    status.and_then(|status| status.waiting.last().map(|waiting| waiting.message.clone()))
}
