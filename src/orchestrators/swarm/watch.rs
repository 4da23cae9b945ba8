//! Hints: events of the engine, and a look at the tasks every other second while one of ours goes on, since there is no
//! event when a task ends.

use crate::{
    controller::port::Wake,
    domain::identity::PolicyId,
    orchestrators::swarm::{
        engine::{
            Engine,
            model::{Event, Node, Task},
            refusal::Refusal,
        },
        names::{self, kind},
        state,
    },
};
use futures_util::StreamExt as _;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};
use tokio::sync::{Notify, mpsc};
use tracing::debug;

/// Hints that may wait for the loop; more say nothing new.
const WAKES: usize = 1024;
/// How often tasks are looked at while one of ours goes on.
const POLL: Duration = Duration::from_millis(1500);
/// After the end of the last task, so many looks more: a task that was made a moment ago may not be listed yet.
const LOOKS_AFTER: u32 = 5;
/// While nothing goes on, it is seen this often whether anybody is left to be told.
const TURN: Duration = Duration::from_secs(60);
/// Events that come faster than this are taken together, so many at most: a rollout has many.
const QUIET: Duration = Duration::from_millis(200);
const TOGETHER: usize = 256;
/// The longest pause before the events are listened to again.
const PAUSE: Duration = Duration::from_secs(15);

/// What is known about policies for hints, and the way to the controller.
#[derive(Debug)]
pub(super) struct Hints {
    wakes: mpsc::Sender<Wake>,
    /// Something may have begun.
    begun: Notify,
    policies: Mutex<HashMap<String, Noted>>,
    /// Policies, by identity, of which a report may still come.
    awaiting: Mutex<Vec<String>>,
}

#[derive(Debug)]
struct Noted {
    id: PolicyId,
    /// When anything of it was changed last; what was seen before that is old.
    touched: Option<Instant>,
}

impl Hints {
    pub(super) fn new() -> (Arc<Self>, mpsc::Receiver<Wake>) {
        let (wakes, receiver) = mpsc::channel(WAKES);
        (
            Arc::new(Self {
                wakes,
                begun: Notify::new(),
                policies: Mutex::default(),
                awaiting: Mutex::default(),
            }),
            receiver,
        )
    }

    fn policies(&self) -> MutexGuard<'_, HashMap<String, Noted>> {
        self.policies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The policies that there are.
    pub(super) fn know<'a>(&self, policies: impl Iterator<Item = &'a PolicyId>) {
        let mut known = self.policies();
        let mut kept = HashMap::new();
        for id in policies {
            let identity = names::identity(id);
            let touched = known.remove(&identity).and_then(|noted| noted.touched);
            kept.insert(identity, Noted { id: id.clone(), touched });
        }
        *known = kept;
    }

    /// Something of the policy is about to change, or has changed.
    pub(super) fn touch(&self, policy: &PolicyId) {
        let noted = Noted { id: policy.clone(), touched: Some(Instant::now()) };
        self.policies().insert(names::identity(policy), noted);
    }

    pub(super) fn touched(&self, policy: &PolicyId) -> Option<Instant> {
        self.policies().get(&names::identity(policy)).and_then(|noted| noted.touched)
    }

    /// A task goes on.
    pub(super) fn poll(&self) {
        self.begun.notify_one();
    }

    /// The report of a task may still come: the policy is looked at again soon.
    pub(super) fn await_report(&self, policy: &PolicyId) {
        self.awaiting.lock().unwrap_or_else(PoisonError::into_inner).push(names::identity(policy));
        self.poll();
    }

    fn take_awaiting(&self) -> Vec<String> {
        std::mem::take(&mut *self.awaiting.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn wake(&self, identity: &str) {
        let id = self.policies().get_mut(identity).map(|noted| {
            noted.touched = Some(Instant::now());
            noted.id.clone()
        });
        // One that is not known yet comes with the next list.
        self.send(id.map_or(Wake::Policies, Wake::Policy));
    }

    fn send(&self, wake: Wake) {
        // A full queue wakes the loop as well.
        let _ = self.wakes.try_send(wake);
    }
}

/// Listens and looks until nobody is left to be told.
pub(super) fn start(engine: &Arc<Engine>, hints: &Arc<Hints>) {
    tokio::spawn(listen(Arc::clone(engine), Arc::downgrade(hints)));
    tokio::spawn(poll(Arc::clone(engine), Arc::downgrade(hints), TURN));
}

async fn listen(engine: Arc<Engine>, hints: Weak<Hints>) {
    let mut pause = Duration::from_secs(1);
    loop {
        match engine.events().await {
            Ok(events) => {
                pause = Duration::from_secs(1);
                let events = events.ready_chunks(TOGETHER);
                tokio::pin!(events);
                // What happened while nobody listened is found by a list.
                let mut told = BTreeSet::from([Told::Policies]);
                loop {
                    let Some(hints) = hints.upgrade() else { return };
                    told.into_iter().for_each(|told| told.tell(&hints));
                    drop(hints);
                    tokio::time::sleep(QUIET).await;
                    let Some(several) = events.next().await else { break };
                    told = several.iter().filter_map(meaning).collect();
                }
            }
            Err(refusal) => debug!(%refusal, "no events"),
        }
        if hints.upgrade().is_none() {
            return;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE);
    }
}

/// What an event means to the controller.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Told {
    Policies,
    Policy(String),
}

impl Told {
    fn tell(self, hints: &Hints) {
        match self {
            Self::Policies => hints.send(Wake::Policies),
            Self::Policy(identity) => hints.wake(&identity),
        }
    }
}

/// What is of our own making is no news but where people make it too; of the rest, what may change a policy.
fn meaning(event: &Event) -> Option<Told> {
    let name = event.actor.attributes.get("name").map_or("", String::as_str);
    match (event.kind.as_str(), event.action.as_str()) {
        ("config", action) => match names::identity_in(name) {
            None => Some(Told::Policies),
            Some(identity) => {
                let by_people = [kind::REQUEST, kind::HOLD, kind::DRILL];
                let is_theirs = by_people.iter().any(|kind| name.starts_with(&format!("backstay-{kind}-")));
                (is_theirs && action != "update" || name.contains(kind::DRILL))
                    .then(|| Told::Policy(identity.to_owned()))
            }
        },
        // The poll sees what becomes of our services.
        ("service", _) if name.starts_with("backstay-") => None,
        ("service" | "secret" | "node", _) => Some(Told::Policies),
        _ => None,
    }
}

/// How a policy's tasks are: for each, its identity, its state, and whether its node is away.
type Picture = BTreeMap<String, (String, bool)>;

async fn poll(engine: Arc<Engine>, hints: Weak<Hints>, pause: Duration) {
    let mut before: HashMap<String, Picture> = HashMap::new();
    loop {
        {
            let Some(hints) = hints.upgrade() else { return };
            // After a turn of waiting there is nothing to look at.
            if tokio::time::timeout(pause, hints.begun.notified()).await.is_err() {
                continue;
            }
        }
        let mut idle = 0;
        while idle <= LOOKS_AFTER {
            tokio::time::sleep(POLL).await;
            let Some(hints) = hints.upgrade() else { return };
            let awaiting = hints.take_awaiting();
            awaiting.iter().for_each(|identity| hints.wake(identity));
            let Ok((now, goes_on)) = look(&engine).await else { continue };
            let both = now.keys().chain(before.keys()).collect::<BTreeSet<_>>();
            both.into_iter().filter(|id| now.get(*id) != before.get(*id)).for_each(|id| hints.wake(id));
            idle = if goes_on || !awaiting.is_empty() { 0 } else { idle + 1 };
            before = now;
        }
    }
}

/// How the tasks of each policy are, and whether one goes on.
async fn look(engine: &Engine) -> Result<(HashMap<String, Picture>, bool), Refusal> {
    let (tasks, nodes) = tokio::try_join!(engine.tasks(names::KIND), engine.nodes())?;
    let mut pictures: HashMap<String, Picture> = HashMap::new();
    for task in &tasks {
        let Some(identity) = task.spec.container.labels.get(names::IDENTITY) else { continue };
        let picture = (task.status.state.clone(), is_away(task, &nodes));
        pictures.entry(identity.clone()).or_default().insert(task.id.clone(), picture);
    }
    Ok((pictures, tasks.iter().any(|task| !state::is_over(task))))
}

fn is_away(task: &Task, nodes: &[Node]) -> bool {
    state::is_away(nodes.iter().find(|node| node.id == task.node_id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn events_wake_what_they_may_concern_and_our_own_writes_wake_nobody() {
        let policy: PolicyId = "wt/nightly".parse().unwrap();
        let own = Some(Told::Policy(names::identity(&policy)));
        let config = |kind, which| names::config(kind, &policy, which);
        let table = [
            ("config", "create", config(kind::REQUEST, Some("ab")), own.clone()),
            ("config", "update", config(kind::REQUEST, Some("ab")), None),
            ("config", "update", config(kind::STATUS, None), None),
            ("config", "create", config(kind::RUN, Some("x")), None),
            ("config", "remove", config(kind::HOLD, Some("x")), own.clone()),
            ("config", "update", config(kind::DRILL, None), own),
            ("config", "create", "nightly-1".to_owned(), Some(Told::Policies)),
            ("service", "update", "wt_mongo1".to_owned(), Some(Told::Policies)),
            ("service", "create", "backstay-nightly-x".to_owned(), None),
            ("node", "update", "store".to_owned(), Some(Told::Policies)),
            ("image", "pull", "x".to_owned(), None),
        ];
        for (kind, action, name, expected) in table {
            let event: Event = serde_json::from_value(
                json!({"Type": kind, "Action": action, "Actor": {"Attributes": {"name": name}}}),
            )
            .unwrap();
            assert_eq!(meaning(&event), expected, "{kind} {action} {name}");
        }
    }

    #[tokio::test]
    async fn nobody_is_asked_about_tasks_while_none_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let (hints, _wakes) = Hints::new();
        let engine = Arc::new(Engine::at(&socket).unwrap());
        tokio::spawn(poll(engine, Arc::downgrade(&hints), Duration::from_millis(10)));
        let asked = tokio::time::timeout(POLL * 3 / 2, listener.accept()).await;
        assert!(asked.is_err(), "the engine was asked");
        hints.poll();
        tokio::time::timeout(POLL * 3, listener.accept()).await.expect("a task may go on").unwrap();
    }
}
