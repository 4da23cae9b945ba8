//! A `Backup` as the record of a run, and as a request for one: what its status says.

use crate::{
    domain::run::Run,
    orchestrators::kubernetes::objects::BackupSeen,
    plan::observed::{Recorded, Request, Wish},
};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::sync::Arc;

/// The phase of a request that is not done.
pub const REFUSED: &str = "Refused";

/// The run whose record it is.
pub fn run(backup: &BackupSeen) -> Option<Result<Recorded<Run>, String>> {
    let unreadable = |error: &String| format!("Backup {} is no record of a run: {error}", backup.meta.name);
    Some(match backup.run.as_ref()? {
        Ok(run) => Ok(Recorded { value: Arc::clone(run), revision: backup.meta.version.to_string() }),
        Err(error) => Err(unreadable(error)),
    })
}

/// What it asks for and nobody has answered; or why that is refused.
pub fn request(backup: &BackupSeen, now: Timestamp) -> Option<Result<Request, String>> {
    let id = backup.meta.uid.clone();
    if let Some(Ok(run)) = &backup.run {
        let is_asked =
            backup.asked.cancel == Some(true) && run.state.cancel.is_none() && run.state.end.is_none();
        let wish = Wish::Cancel { slot: Some(run.slot) };
        return is_asked.then_some(Ok(Request { id, requested_at: now, wish }));
    }
    // A record that a controller has begun asks for nothing.
    if backup.run.is_some() || backup.slot.is_some() || backup.phase.is_some() {
        return None;
    }
    if backup.asked.cancel == Some(true) {
        return Some(Err("it was cancelled before it began".to_owned()));
    }
    if backup.patience.is_some_and(|until| until < now) {
        return Some(Err("nobody has waited for an answer any more".to_owned()));
    }
    let wish = Wish::Run {
        accept_shrink: backup.asked.accept_shrink.unwrap_or(false),
        wait_turn: backup.asked.wait_turn.unwrap_or(false),
    };
    Some(Ok(Request { id, requested_at: backup.meta.created_at, wish }))
}

/// What is written where a run goes on or has ended.
pub fn begun(run: &Run) -> Value {
    let mut status = summary(run);
    status["plan"] = serde_json::to_value(&run.plan).unwrap_or_default();
    status["state"] = serde_json::to_value(&run.state).unwrap_or_default();
    status
}

/// What is written of a request that is not done.
pub fn refused(why: &str) -> Value {
    json!({"phase": REFUSED, "message": why})
}

/// What a person reads of a run; all that stays of one whose record a person made.
pub fn summary(run: &Run) -> Value {
    let mut status = json!({"slot": run.slot, "startTime": run.plan.claimed_at});
    match &run.state.end {
        Some(end) => {
            status["phase"] = json!(end.outcome);
            status["message"] = json!(end.message);
            status["completionTime"] = json!(end.at);
            if let Some(fix) = &end.fix {
                status["fix"] = json!(fix);
            }
        }
        None => status["phase"] = json!("Running"),
    }
    if let Some(snapshot) = run.state.snapshot() {
        status["snapshot"] = json!(snapshot.name);
    }
    status
}
