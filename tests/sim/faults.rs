//! What goes wrong in a simulation. Each class is off in half of the seeds.

use crate::{
    clock::{DAY, HOUR, MINUTE, Ms, SECOND},
    rng::Rng,
};
use std::collections::BTreeMap;

/// A class of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// The controller dies before or after an effect and is started again.
    Crash,
    /// It stays away for days.
    Downtime,
    /// An effect is done, its answer lost.
    LostReply,
    /// An effect is done long after the controller gave up waiting.
    LateEffect,
    /// Calls are refused for a while.
    Unavailable,
    /// A write meets a conflict.
    Conflict,
    /// Calls take their time, and others come in between.
    Slow,
    /// A look shows the past.
    Stale,
    /// Hints are lost, repeated or late.
    Hints,
    /// Two controllers at once.
    Twin,
    /// The controller's clock is wrong.
    Clock,
    /// Tasks fail, hang, lose their report, are killed, vanish.
    Tasks,
    /// The remote fails, its listings too.
    Remote,
    /// People edit, suspend, delete and make policies.
    Edits,
    /// People ask for runs, cancel, hold, test, restore.
    Wishes,
    /// People delete tasks.
    Hands,
    /// A status is wiped.
    Wipe,
    /// Things that are not ours have our names.
    Foreign,
}

impl Class {
    pub const ALL: [Self; 18] = [
        Self::Crash,
        Self::Downtime,
        Self::LostReply,
        Self::LateEffect,
        Self::Unavailable,
        Self::Conflict,
        Self::Slow,
        Self::Stale,
        Self::Hints,
        Self::Twin,
        Self::Clock,
        Self::Tasks,
        Self::Remote,
        Self::Edits,
        Self::Wishes,
        Self::Hands,
        Self::Wipe,
        Self::Foreign,
    ];
}

/// The faults of one seed.
#[derive(Debug, Clone)]
pub struct Faults {
    on: [bool; Class::ALL.len()],
    /// All faults are over.
    pub healed: bool,
    /// The orchestrator refuses everything until then.
    pub outage_until: Ms,
    rng: Rng,
    /// What was injected.
    pub injected: BTreeMap<&'static str, u64>,
}

/// What becomes of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Done and answered at once.
    Fine,
    /// Done after the first time, answered after the second.
    Slow(Ms, Ms),
    /// Not done, and said so.
    Refused,
    /// Not done: somebody else wrote.
    Conflict,
    /// Done after this time; the answer is lost. Nothing at all was done when absent.
    Lost(Option<Ms>),
    /// The controller dies before it is done.
    CrashBefore,
    /// The controller dies after it is done.
    CrashAfter,
}

/// How long the shell waits for an answer.
pub const DEADLINE: Ms = 30 * SECOND;

impl Faults {
    pub fn none(rng: Rng) -> Self {
        let injected = BTreeMap::new();
        Self { on: [false; Class::ALL.len()], healed: false, outage_until: 0, rng, injected }
    }

    pub fn of_seed(mut rng: Rng) -> Self {
        let mut faults = Self::none(rng.fork());
        faults.on = std::array::from_fn(|_| rng.below(2) == 0);
        faults
    }

    /// For the hunt of one bug: what it needs is on, what may excuse it is off.
    pub fn focus(&mut self, needed: &[Class]) {
        let excuses = [Class::LateEffect, Class::Stale, Class::Twin, Class::Clock, Class::Wipe];
        excuses.iter().for_each(|class| self.on[*class as usize] = false);
        needed.iter().for_each(|class| self.on[*class as usize] = true);
    }

    /// Whether a class is on and its time is not over.
    pub fn has(&self, class: Class) -> bool {
        !self.healed && self.is_of(class)
    }

    /// Whether the seed has the class at all.
    pub fn is_of(&self, class: Class) -> bool {
        self.on[class as usize]
    }

    pub fn count(&mut self, what: &'static str) {
        *self.injected.entry(what).or_default() += 1;
    }

    /// True in `n` of a thousand cases of a class that is on; counted as `what`.
    pub fn strikes(&mut self, class: Class, n: u64, what: &'static str) -> bool {
        let struck = self.has(class) && self.rng.permille(n);
        if struck {
            self.count(what);
        }
        struck
    }

    /// What becomes of a call; `effect` when it changes something.
    pub fn fate(&mut self, now: Ms, effect: bool) -> Fate {
        if self.healed {
            return Fate::Fine;
        }
        if now < self.outage_until {
            self.count("call during an outage");
            return if self.rng.below(4) == 0 { Fate::Lost(None) } else { Fate::Refused };
        }
        if self.strikes(Class::Unavailable, 4, "outage begins") {
            self.outage_until = now + self.rng.wide(SECOND, 6 * HOUR);
            return Fate::Refused;
        }
        if effect && self.strikes(Class::Crash, 15, "crash before an effect") {
            return Fate::CrashBefore;
        }
        if self.strikes(Class::Crash, 15, "crash after a call") {
            return Fate::CrashAfter;
        }
        if self.strikes(Class::LostReply, 20, "reply lost") {
            let done = self.rng.below(4) > 0;
            return Fate::Lost(done.then(|| self.rng.range(0, DEADLINE - 1)));
        }
        if effect && self.strikes(Class::LateEffect, 15, "effect after its deadline") {
            return Fate::Lost(Some(DEADLINE + self.rng.wide(SECOND, 10 * MINUTE)));
        }
        if effect && self.strikes(Class::Conflict, 15, "conflict") {
            return Fate::Conflict;
        }
        if self.strikes(Class::Slow, 200, "slow call") {
            let first = self.rng.wide(1, DEADLINE - 2);
            return Fate::Slow(first, self.rng.wide(1, DEADLINE - first - 1));
        }
        Fate::Fine
    }

    /// How long a controller that died stays away.
    pub fn absence(&mut self) -> Ms {
        if self.strikes(Class::Downtime, 120, "downtime of days") {
            return self.rng.range(6 * HOUR, 12 * DAY);
        }
        self.rng.wide(SECOND, 20 * MINUTE)
    }

    /// When a hint arrives: not at all, at once, late, or twice.
    pub fn hint(&mut self, arrivals: &mut Vec<Ms>) {
        if self.strikes(Class::Hints, 150, "hint lost") {
            return;
        }
        arrivals.push(if self.strikes(Class::Hints, 150, "hint late") {
            self.rng.wide(SECOND, 2 * HOUR)
        } else {
            self.rng.range(0, 50)
        });
        if self.strikes(Class::Hints, 150, "hint repeated") {
            arrivals.push(self.rng.wide(1, 10 * MINUTE));
        }
    }

    /// A pause before the next accident of a class that happens about so often.
    pub fn pause(&mut self, mean: Ms) -> Ms {
        self.rng.range(mean / 4, mean * 7 / 4)
    }

    pub fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }
}
