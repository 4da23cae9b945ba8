//! One simulation: a seed's world, its controllers and its faults, from the first list to the rest at the end.

use crate::{
    bugs::{self, Bug},
    clock::{Agenda, DAY, HOUR, MINUTE, Ms, SECOND, YEAR, ms, stamp},
    effort::Effort,
    faults::{Class, DEADLINE, Fate, Faults},
    orchestrator::{Caller, Flavour, News, Port, Subject, World},
    people::Later,
    policies,
    rng::Rng,
    site::Site,
    tasks::Act,
    trace::Trace,
};
use backstay::{
    controller::{
        machine::{Answer, Call, Machine},
        port::{PortError, Wake},
        run_loop,
        settings::Settings,
    },
    plan::{
        action::Action,
        observed::{Caps, Spec},
    },
};
use jiff::Timestamp;
use std::{
    collections::{BTreeMap, VecDeque},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, Waker},
    time::Duration,
};

/// After the last fault, at least this long.
const TAIL: Ms = 36 * DAY;
/// From then on nothing of the faults may be felt.
const SETTLED: Ms = 6 * DAY;
/// Rest must come within this time after the tail.
const PATIENCE: Ms = 6 * DAY;
/// 2026-01-05, a Monday.
const START: Ms = 1_767_571_200_000;
/// Events in an hour; more are a loop.
const BUSY: u64 = 5000;
/// Calls at one moment; more never end.
const ENOUGH: usize = 20_000;

/// What to simulate.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub seed: u64,
    pub bug: Option<Bug>,
    /// Otherwise nothing goes wrong, and nobody does anything.
    pub faults: bool,
    /// The faults are chosen for the bug.
    pub focus: bool,
    /// Keep the trace as text.
    pub readable: bool,
}

/// What came of it.
#[derive(Debug)]
pub struct Report {
    pub seed: u64,
    pub hash: u64,
    pub policies: u64,
    /// Policies times years.
    pub years: f64,
    /// Events.
    pub steps: u64,
    pub effort: Effort,
    pub injected: BTreeMap<&'static str, u64>,
    pub violations: Vec<String>,
    pub lines: Vec<String>,
}

/// What happens at a time.
#[derive(Debug)]
enum Event {
    Look(usize, u32),
    /// A call, and when it is answered.
    Effect(usize, u32, Box<Call>, Caller, Option<Ms>),
    Answer(usize, u32, Box<Answer>),
    Hint(usize, u32, Wake),
    Task(usize, String, Act),
    Later(usize, Later),
    Person(Class),
    Start(usize),
    Down,
    Jump,
    RemoteDown,
    Audit,
}

/// A controller.
#[derive(Default)]
struct Process {
    machine: Option<Machine>,
    incarnation: u32,
    /// What its clock shows more than the world's.
    offset: Ms,
    /// When it looks next.
    planned: Option<Ms>,
    /// When it looked at each policy last.
    looked: Vec<Ms>,
}

pub struct Simulation {
    plan: Plan,
    port: Port,
    agenda: Agenda<Event>,
    processes: [Process; 2],
    settings: Settings,
    trace: Trace,
    now: Ms,
    healed_at: Ms,
    settled: Option<Effort>,
    /// When each policy was found at rest after the tail.
    rested: Vec<Option<Ms>>,
    /// The hour, and what happened in it.
    busy: (Ms, u64),
    steps: u64,
}

/// Simulates.
pub fn simulate(plan: Plan) -> Report {
    Simulation::new(plan).run()
}

impl Simulation {
    fn new(plan: Plan) -> Self {
        let mut rng = Rng::new(plan.seed);
        let start = START + rng.range(0, 365) * DAY + rng.range(0, DAY);
        let mut faults = if plan.faults { Faults::of_seed(rng.fork()) } else { Faults::none(rng.fork()) };
        if let Some(bug) = plan.bug.filter(|_| plan.focus) {
            faults.focus(bug.needs());
        }
        let flavour = *rng.pick(&[Flavour::Host, Flavour::Cluster]);
        let total = usize::try_from(rng.range(1, 8)).unwrap();
        let per_remote = usize::try_from(rng.range(1, 4)).unwrap().min(total);
        let caps = Caps { total, per_remote };
        let chaos = rng.wide(10 * DAY, 200 * DAY);
        let mut world = World::new(start, flavour, caps, faults, plan.bug);
        for number in 0..usize::try_from(rng.range(1, 8)).unwrap() {
            let policy = policies::policy(&mut rng, number);
            let mut subject = Subject::new(number);
            subject.site = Site::of(&policy, &mut rng);
            world.subjects.push(subject);
            policy.restore_from.iter().for_each(|from| world.remote.leave(&policy, from, start));
            world.declare(number, Spec::Valid(Arc::new(policy)));
        }
        let settings = Settings {
            caps,
            call_deadline: Duration::from_secs(30),
            resync: Duration::from_secs(*rng.pick(&[1, 2, 4]) * 86_400),
            passes: usize::try_from(rng.range(1, 8)).unwrap(),
        };
        Self {
            plan,
            port: Port(Arc::new(Mutex::new(world))),
            agenda: Agenda::default(),
            processes: Default::default(),
            settings,
            trace: Trace::new(plan.readable),
            now: start,
            healed_at: start + if plan.faults { chaos } else { 30 * DAY },
            settled: None,
            rested: vec![],
            busy: (0, 0),
            steps: 0,
        }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.port.0.lock().unwrap()
    }

    fn run(mut self) -> Report {
        let start = self.now;
        self.prepare();
        while let Some((at, event)) = self.agenda.next(self.healed_at) {
            self.happen(at, event);
            if self.has_failed() {
                return self.report(start);
            }
        }
        self.heal();
        let end = self.healed_at + TAIL;
        while let Some((at, event)) = self.agenda.next(end + PATIENCE) {
            self.happen(at, event);
            if self.has_failed() || (at > end && self.is_at_rest()) {
                break;
            }
        }
        if !self.has_failed() {
            let rested = std::mem::take(&mut self.rested);
            self.world().check_end(&rested);
            self.check_silence();
        }
        self.report(start)
    }

    fn prepare(&mut self) {
        self.agenda.plan(self.now, Event::Start(0));
        let means = [
            (Class::Edits, World::mean_pause(Class::Edits)),
            (Class::Wishes, World::mean_pause(Class::Wishes)),
            (Class::Hands, World::mean_pause(Class::Hands)),
            (Class::Wipe, World::mean_pause(Class::Wipe)),
            (Class::Foreign, World::mean_pause(Class::Foreign)),
        ];
        for (class, mean) in means {
            self.plan_accident(class, mean, Event::Person(class));
        }
        self.plan_accident(Class::Twin, 3 * DAY, Event::Start(1));
        self.plan_accident(Class::Downtime, 30 * DAY, Event::Down);
        self.plan_accident(Class::Clock, 12 * DAY, Event::Jump);
        self.plan_accident(Class::Remote, 10 * DAY, Event::RemoteDown);
    }

    /// The next accident of a class that is on.
    fn plan_accident(&mut self, class: Class, mean: Ms, event: Event) {
        let mut world = self.world();
        if world.faults.has(class) {
            let at = self.now + world.faults.pause(mean);
            drop(world);
            self.agenda.plan(at, event);
        }
    }

    fn heal(&mut self) {
        self.now = self.healed_at;
        self.trace.note(self.now, &[1], format_args!("all faults are over"));
        let mut world = self.world();
        world.now = self.healed_at;
        world.faults.healed = true;
        world.faults.outage_until = 0;
        world.remote.down_until = 0;
        world.put_right();
        world.clock_is_set(0);
        drop(world);
        self.kill(1);
        self.processes[0].offset = 0;
        if self.processes[0].machine.is_none() {
            self.start(0);
        }
        self.follow_up();
        self.pump(0);
        self.agenda.plan(self.now + 5 * DAY, Event::Audit);
    }

    fn happen(&mut self, at: Ms, event: Event) {
        self.now = at;
        self.steps += 1;
        self.world().now = at;
        self.busy = if self.busy.0 == at / HOUR { (self.busy.0, self.busy.1 + 1) } else { (at / HOUR, 0) };
        if self.busy.1 > if self.processes[1].machine.is_some() { 10 * BUSY } else { BUSY } {
            self.world().violated(0, format_args!("more than {BUSY} events in an hour"));
        }
        if self.settled.is_none() && at > self.healed_at + SETTLED {
            let effort = self.world().effort;
            self.settled = Some(effort);
        }
        let accident = matches!(event, Event::Person(_) | Event::Down | Event::Jump | Event::RemoteDown);
        if accident && at > self.healed_at {
            return;
        }
        match event {
            Event::Look(who, incarnation) => {
                let process = &mut self.processes[who];
                if process.incarnation == incarnation {
                    process.planned = process.planned.filter(|planned| *planned > at);
                    self.pump(who);
                }
            }
            Event::Effect(who, incarnation, call, caller, answer_at) => {
                let late = answer_at.is_none();
                if !late {
                    self.looks(who, &call);
                }
                let answer = self.perform(&call, Caller { late, ..caller });
                if let Some(at) = answer_at {
                    self.agenda.plan(at, Event::Answer(who, incarnation, Box::new(answer)));
                }
            }
            Event::Answer(who, incarnation, answer) => self.answered(who, incarnation, *answer),
            Event::Hint(who, incarnation, wake) => self.hear(who, incarnation, &wake),
            Event::Task(number, uid, act) => self.task(number, uid, act),
            Event::Later(number, later) => self.later(number, &later),
            Event::Person(class) => self.person(class),
            Event::Start(who) => self.begin(who),
            Event::Down => self.down(),
            Event::Jump => self.jump(),
            Event::RemoteDown => self.remote_down(),
            Event::Audit => {
                self.world().check_punctual();
                self.agenda.plan(at + 7 * HOUR + 13 * MINUTE, Event::Audit);
            }
        }
        self.follow_up();
    }

    fn task(&mut self, number: usize, uid: String, act: Act) {
        self.world().effort.causes += 1;
        self.trace.note(
            self.now,
            &[2, number as u64, act as u64],
            format_args!("p{number}: task #{uid}: {act:?}"),
        );
        let next = self.world().act_of_task(number, &uid, act);
        if let Some((at, act)) = next {
            self.agenda.plan(at, Event::Task(number, uid, act));
        }
    }

    fn person(&mut self, class: Class) {
        self.trace.note(self.now, &[3, class as u64], format_args!("a person: {class:?}"));
        let later = self.world().person(class);
        if let Some((at, number, later)) = later {
            self.agenda.plan(at, Event::Later(number, later));
        }
        self.plan_accident(class, World::mean_pause(class), Event::Person(class));
    }

    fn later(&mut self, number: usize, later: &Later) {
        self.trace.note(self.now, &[4, number as u64], format_args!("p{number}: a person: {later:?}"));
        let next = self.world().later(number, later);
        if let Some((at, number, later)) = next {
            self.agenda.plan(at, Event::Later(number, later));
        }
    }

    /// A controller starts; the second one for a while only.
    fn begin(&mut self, who: usize) {
        if who == 1 && !self.world().faults.has(Class::Twin) {
            return;
        }
        if who == 1 && self.processes[1].machine.is_some() {
            self.kill(1);
            // What two made of an hour is no measure for one.
            self.busy.1 = 0;
            return self.plan_accident(Class::Twin, 3 * DAY, Event::Start(1));
        }
        if self.processes[who].machine.is_none() {
            self.start(who);
        }
        if who == 1 {
            self.world().faults.count("twin controller");
            // As long as a controller can believe in a lease that it has lost.
            self.plan_accident(Class::Twin, 20 * MINUTE, Event::Start(1));
        }
        self.pump(who);
    }

    fn start(&mut self, who: usize) {
        self.trace.note(self.now, &[5, who as u64], format_args!("controller {who} starts"));
        let clock = self.clock(who);
        self.world().effort.causes += 1;
        let process = &mut self.processes[who];
        process.incarnation += 1;
        process.planned = None;
        process.machine =
            Some(Machine::new(self.settings.clone(), bugs::deciding(self.plan.bug, clock), clock));
    }

    fn kill(&mut self, who: usize) {
        if self.processes[who].machine.take().is_some() {
            self.trace.note(self.now, &[6, who as u64], format_args!("controller {who} is gone"));
        }
        self.processes[who].incarnation += 1;
    }

    fn down(&mut self) {
        self.world().faults.count("downtime of days");
        self.crash(0);
        self.plan_accident(Class::Downtime, 30 * DAY, Event::Down);
    }

    fn crash(&mut self, who: usize) {
        self.kill(who);
        let absence = self.world().faults.absence();
        let absence = if self.world().faults.has(Class::Downtime) { absence * 3 } else { absence };
        if who == 0 {
            self.agenda.plan(self.now + absence, Event::Start(0));
        }
    }

    fn jump(&mut self) {
        let mut world = self.world();
        world.effort.causes += 1;
        world.faults.count("clock jump");
        // Of two controllers whose clocks are days apart each would take the other's word back for ever: a lease's matter.
        let most = if world.faults.is_of(Class::Twin) { 20 * MINUTE } else { 3 * DAY };
        let rng = world.faults.rng();
        let offset = match rng.below(3) {
            0 => 0,
            1 => rng.wide(SECOND, most),
            _ => -rng.wide(SECOND, most),
        };
        world.clock_is_set(offset);
        drop(world);
        self.trace.note(
            self.now,
            &[7, offset.cast_unsigned()],
            format_args!("the clock is off by {} s", offset / 1000),
        );
        self.processes[0].offset = offset;
        // A clock that was set is noticed within a minute.
        let incarnation = self.processes[0].incarnation;
        self.agenda.plan(self.now + MINUTE, Event::Look(0, incarnation));
        self.plan_accident(Class::Clock, 12 * DAY, Event::Jump);
    }

    fn remote_down(&mut self) {
        let mut world = self.world();
        world.faults.count("remote down");
        let until = world.now + world.faults.rng().wide(10 * MINUTE, 2 * DAY);
        world.remote.down_until = until;
        drop(world);
        self.plan_accident(Class::Remote, 10 * DAY, Event::RemoteDown);
    }

    fn clock(&self, who: usize) -> Timestamp {
        stamp(self.now + self.processes[who].offset)
    }

    fn hear(&mut self, who: usize, incarnation: u32, wake: &Wake) {
        if self.processes[who].incarnation != incarnation {
            return;
        }
        let clock = self.clock(who);
        if let Some(machine) = &mut self.processes[who].machine {
            machine.hear(wake, clock);
            self.world().effort.causes += 1;
            self.pump(who);
        }
    }

    fn answered(&mut self, who: usize, incarnation: u32, answer: Answer) {
        if self.processes[who].incarnation != incarnation {
            return;
        }
        let clock = self.clock(who);
        let next = self.processes[who].machine.as_mut().and_then(|machine| machine.answer(answer, clock));
        self.make_all(who, next.into_iter().collect());
    }

    /// Makes every call that is due, and plans the next look.
    fn pump(&mut self, who: usize) {
        self.make_all(who, VecDeque::new());
    }

    fn make_all(&mut self, who: usize, mut calls: VecDeque<Call>) {
        let clock = self.clock(who);
        for made in 0.. {
            let Some(machine) = &mut self.processes[who].machine else { return };
            if calls.is_empty() {
                calls.extend(machine.due(clock));
            }
            let Some(call) = calls.pop_front() else { break };
            let Some(answer) = self.make(who, &call) else { continue };
            let (answer, further) = bugs::answered(self.plan.bug, &call, answer);
            if let Some(further) = further {
                let caller = self.caller(who, &further);
                self.perform(&further, caller);
            }
            let next = self.processes[who].machine.as_mut().and_then(|m| m.answer(answer, clock));
            calls.extend(next);
            if made > ENOUGH {
                return self.world().violated(0, format_args!("the controller never comes to rest"));
            }
        }
        self.plan_look(who, clock);
    }

    fn plan_look(&mut self, who: usize, clock: Timestamp) {
        let process = &mut self.processes[who];
        let Some(next) = process.machine.as_ref().and_then(|m| m.next_look(clock)) else { return };
        let at = (ms(next) - process.offset).max(self.now + 1);
        if process.planned.is_none_or(|planned| at < planned) {
            process.planned = Some(at);
            self.agenda.plan(at, Event::Look(who, process.incarnation));
        }
    }

    /// Notes that a controller sees a policy now.
    fn looks(&mut self, who: usize, call: &Call) {
        if let Call::Observe(id) = call {
            let looked = &mut self.processes[who].looked;
            looked.resize(looked.len().max(World::number(id) + 1), 0);
            looked[World::number(id)] = self.now;
        }
    }

    fn caller(&self, who: usize, call: &Call) -> Caller {
        let looked = match call {
            Call::List | Call::Observe(_) => self.now,
            Call::Act(id, _) => self.processes[who].looked[World::number(id)],
        };
        Caller { clock: self.clock(who), late: false, looked }
    }

    /// Makes one call; the answer, if it comes at once.
    fn make(&mut self, who: usize, call: &Call) -> Option<Answer> {
        let is_effect = matches!(call, Call::Act(..));
        let fate = self.world().faults.fate(self.now, is_effect);
        self.note(who, call, fate);
        if fate != Fate::Fine {
            self.world().effort.causes += 1;
        }
        let incarnation = self.processes[who].incarnation;
        if matches!(fate, Fate::Fine) {
            self.looks(who, call);
        }
        let caller = self.caller(who, call);
        match fate {
            Fate::Fine => Some(self.perform(call, caller)),
            Fate::Refused => Some(call.failed(PortError::Unavailable("not now".to_owned()))),
            Fate::Conflict => Some(call.failed(PortError::Conflict("somebody else wrote".to_owned()))),
            Fate::Slow(first, second) => {
                let answer_at = self.now + first + second;
                let effect = Event::Effect(who, incarnation, Box::new(call.clone()), caller, Some(answer_at));
                self.agenda.plan(self.now + first, effect);
                None
            }
            Fate::Lost(done) => {
                let lost = call.failed(PortError::MaybeDone("no answer".to_owned()));
                self.agenda.plan(self.now + DEADLINE, Event::Answer(who, incarnation, Box::new(lost)));
                if let Some(after) = done {
                    let effect = Event::Effect(who, incarnation, Box::new(call.clone()), caller, None);
                    self.agenda.plan(self.now + after, effect);
                }
                None
            }
            Fate::CrashBefore => {
                self.crash(who);
                None
            }
            Fate::CrashAfter => {
                self.perform(call, caller);
                self.crash(who);
                None
            }
        }
    }

    /// Has the real loop's call done by the port, which is never in a hurry to answer later.
    fn perform(&mut self, call: &Call, caller: Caller) -> Answer {
        let mut world = self.world();
        world.caller = caller;
        world.in_call = true;
        drop(world);
        let spoilt = bugs::forgetting_holds(self.plan.bug, call);
        let call = spoilt.as_ref().unwrap_or(call);
        let done = pin!(run_loop::perform(&self.port, call)).poll(&mut Context::from_waker(Waker::noop()));
        let Poll::Ready(answer) = done else { unreachable!("the port in memory waits for nothing") };
        self.world().in_call = false;
        self.follow_up();
        answer
    }

    /// Everything that follows from what has changed.
    fn follow_up(&mut self) {
        let mut news = std::mem::take(&mut self.world().news);
        news.dedup();
        for news in news {
            match news {
                News::Made(number, uid) => {
                    let starts = self.world().fate_of_task(number, &uid);
                    if let Some(at) = starts {
                        self.agenda.plan(at, Event::Task(number, uid, Act::Starts));
                    }
                }
                News::Stopping(number, uid) => {
                    let after = self.world().faults.rng().wide(SECOND, 40 * SECOND);
                    self.agenda.plan(self.now + after, Event::Task(number, uid, Act::IsStopped));
                }
                News::Changed(number) => {
                    let id = self.world().subjects[number].id.clone();
                    self.hint(&Wake::Policy(id));
                }
                News::Policies => self.hint(&Wake::Policies),
                News::Incomplete(number) => {
                    let after = self.world().faults.rng().wide(HOUR, 2 * DAY);
                    self.agenda.plan(self.now + after, Event::Later(number, Later::TakesOver));
                }
            }
        }
    }

    fn hint(&mut self, wake: &Wake) {
        if self.plan.bug == Some(Bug::HintsUnheard) && matches!(wake, Wake::Policy(_)) {
            return;
        }
        let mut arrivals = Vec::new();
        for who in 0..self.processes.len() {
            if self.processes[who].machine.is_some() {
                self.world().faults.hint(&mut arrivals);
                let incarnation = self.processes[who].incarnation;
                for after in arrivals.drain(..) {
                    self.agenda.plan(self.now + after, Event::Hint(who, incarnation, wake.clone()));
                }
            }
        }
    }

    fn note(&mut self, who: usize, call: &Call, fate: Fate) {
        let (number, code) = match call {
            Call::List => (99, 0),
            Call::Observe(id) => (World::number(id) as u64, 1),
            Call::Act(id, action) => (World::number(id) as u64, 2 + kind(action)),
        };
        let fate_code = match fate {
            Fate::Fine => 0,
            Fate::Slow(first, second) => (first + second).cast_unsigned(),
            Fate::Refused => 1,
            Fate::Conflict => 2,
            Fate::Lost(_) => 3,
            Fate::CrashBefore => 4,
            Fate::CrashAfter => 5,
        };
        self.trace.note(
            self.now,
            &[8, who as u64, number, code, fate_code],
            format_args!("controller {who}: {} {fate:?}", Line(call)),
        );
    }

    fn has_failed(&self) -> bool {
        let mut world = self.world();
        let Effort { observes, lists, causes, .. } = world.effort;
        let (effects, policies) = (world.effort.effects(), world.subjects.len() as u64);
        if observes > 8 * causes + 2 * policies * lists + 500 {
            world.violated(0, format_args!("{observes} looks for {causes} causes and {lists} lists"));
        }
        if effects > 8 * causes + 200 {
            world.violated(0, format_args!("{effects} effects for {causes} causes"));
        }
        !world.violations.is_empty()
    }

    /// True once every policy has been at rest after the tail.
    fn is_at_rest(&mut self) -> bool {
        let world = self.port.0.lock().unwrap();
        self.rested.resize(world.subjects.len(), None);
        for (number, rested) in self.rested.iter_mut().enumerate() {
            if rested.is_none() && world.unrest(number).is_empty() {
                *rested = Some(self.now);
            }
        }
        self.rested.iter().all(Option::is_some)
    }

    /// Once the faults are forgotten, each run costs what a run costs, and nothing else happens.
    fn check_silence(&mut self) {
        let Some(before) = self.settled else { return };
        let mut world = self.world();
        let Effort {
            observes, lists, creates, run_writes, status_writes, deletes, runs, attempts, told, ..
        } = world.effort - before;
        let policies = world.subjects.len() as u64;
        let bounds = [
            ("looks", observes, 16 * attempts + 8 * runs + 3 * told + policies * (lists + 8)),
            ("creations", creates, runs + attempts + policies),
            ("writes of runs", run_writes, runs + attempts + policies),
            ("writes of the status", status_writes, 6 * runs + 2 * attempts + told + 4 * policies),
            ("deletions", deletes, 3 * attempts + 2 * runs + 2 * policies),
        ];
        for (what, seen, allowed) in bounds {
            if seen > allowed {
                world.violated(0, format_args!("{seen} {what} for {runs} runs in peace, at most {allowed}"));
            }
        }
    }

    fn report(self, start: Ms) -> Report {
        let mut world = self.world();
        let span = self.now - start;
        #[expect(clippy::cast_precision_loss, reason = "a few years")]
        let years = (span * Ms::try_from(world.subjects.len()).unwrap()) as f64 / YEAR as f64;
        Report {
            seed: self.plan.seed,
            hash: self.trace.hash(),
            policies: world.subjects.len() as u64,
            years,
            steps: self.steps,
            effort: world.effort,
            injected: std::mem::take(&mut world.faults.injected),
            violations: std::mem::take(&mut world.violations),
            lines: self.trace.lines.clone().unwrap_or_default(),
        }
    }
}

fn kind(action: &Action) -> u64 {
    match action {
        Action::CreateRun(run) => 10 + (run.slot.time().as_second().cast_unsigned() << 8),
        Action::CreateTask(task) => 11 + (task.name.attempt.cast_unsigned() << 8),
        Action::RecordRun { slot, .. } => 12 + (slot.time().as_second().cast_unsigned() << 8),
        Action::AnswerRequest { .. } => 13,
        Action::DeleteTask { .. } => 14,
        Action::DeleteRun { .. } => 15,
        Action::RecordStatus { .. } => 16,
    }
}

/// A call in a line.
struct Line<'a>(&'a Call);

impl std::fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (id, action) = match self.0 {
            Call::List => return f.write_str("list"),
            Call::Observe(id) => return write!(f, "{id}: observe"),
            Call::Act(id, action) => (id, action),
        };
        match &**action {
            Action::CreateRun(run) => write!(f, "{id}: create run {}", run.slot),
            Action::CreateTask(task) => write!(f, "{id}: create task {}", task.name),
            Action::RecordRun { slot, state, .. } => {
                write!(f, "{id}: record run {slot}, {} attempts", state.attempts.len())?;
                match &state.end {
                    Some(end) => write!(f, ", {:?} ({})", end.outcome, end.reason),
                    None => Ok(()),
                }
            }
            Action::AnswerRequest { id: request, answer } => write!(f, "{id}: answer {request}: {answer:?}"),
            Action::DeleteTask { name, uid, why, .. } => write!(f, "{id}: delete task {name} #{uid}: {why}"),
            Action::DeleteRun { slot } => write!(f, "{id}: delete run {slot}"),
            Action::RecordStatus { status, .. } => {
                let newest = status.history.first().map(|h| format!("{} {:?}", h.slot, h.outcome));
                let conditions: Vec<String> = status
                    .conditions
                    .iter()
                    .map(|c| format!("{:?}={:?}/{}", c.kind, c.status, c.reason))
                    .collect();
                write!(f, "{id}: record status: {newest:?} {conditions:?}")
            }
        }
    }
}
