//! The watches: what they tell goes into the stores, and becomes hints for the controller.

use crate::{
    controller::port::Wake,
    domain::identity::PolicyId,
    orchestrators::kubernetes::{
        client::Cluster,
        names,
        objects::{self, BackupSeen, JobSeen, PodSeen, PolicySeen, Seen},
        restores::{self, RestoreSeen},
        store::{Change, Store},
    },
    plan::validate::Facts,
};
use futures_util::StreamExt as _;
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use kube::{
    Api,
    core::DynamicObject,
    runtime::{WatchStreamExt as _, watcher},
};
use serde::de::DeserializeOwned;
use std::{
    collections::HashMap,
    fmt::Debug,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::{
    sync::{Notify, mpsc},
    task::JoinSet,
};
use tracing::{error, warn};

/// Hints that may wait for the loop; more say nothing new.
const WAKES: usize = 4096;
/// A watch that goes on failing is told of this often.
const TOLD_AGAIN: Duration = Duration::from_secs(60);

/// All that is watched.
#[derive(Debug)]
pub struct Stores {
    pub policies: Store<PolicySeen>,
    pub backups: Store<BackupSeen>,
    pub jobs: Store<JobSeen>,
    pub pods: Store<PodSeen>,
    pub restores: Store<RestoreSeen>,
    /// Something about a restore may have changed.
    pub restoring: Notify,
}

impl Stores {
    /// For so many namespaces, or one look at all of them.
    fn new(scopes: usize) -> Self {
        Self {
            policies: Store::new(scopes),
            backups: Store::new(scopes),
            jobs: Store::new(scopes),
            pods: Store::new(scopes),
            restores: Store::new(scopes),
            restoring: Notify::new(),
        }
    }

    /// True once everything is known.
    pub fn are_complete(&self) -> bool {
        let Self { policies, backups, jobs, pods, restores, restoring: _ } = self;
        let tasks = jobs.is_complete() && pods.is_complete();
        policies.is_complete() && backups.is_complete() && restores.is_complete() && tasks
    }
}

/// Watches that run, and end when this is dropped.
#[derive(Debug)]
pub struct Watches {
    pub stores: Arc<Stores>,
    hints: mpsc::Sender<Wake>,
    /// When each policy is looked at again anyway.
    planned: Arc<Mutex<HashMap<PolicyId, Instant>>>,
    tasks: JoinSet<()>,
}

impl Watches {
    /// Watches the namespaces, or all where none is named.
    pub fn start(cluster: &Cluster, namespaces: &[String], facts: Facts) -> (Self, mpsc::Receiver<Wake>) {
        let scopes: Vec<Option<&str>> = match namespaces {
            [] => vec![None],
            some => some.iter().map(|namespace| Some(namespace.as_str())).collect(),
        };
        let (hints, wakes) = mpsc::channel(WAKES);
        let stores = Arc::new(Stores::new(scopes.len()));
        let mut watches = Self { stores, hints, planned: Arc::default(), tasks: JoinSet::new() };
        let facts = Arc::new(facts);
        for scope in scopes {
            let facts = Arc::clone(&facts);
            let read = move |object: DynamicObject| objects::policy(&object, &facts);
            watches.follow(cluster.policies_in(scope), "", scope, read, |stores| &stores.policies, of_policy);
            let read = |object: DynamicObject| objects::backup(&object);
            watches.follow(cluster.backups_in(scope), "", scope, read, |stores| &stores.backups, of_run);
            let read = |object: DynamicObject| restores::seen(&object);
            watches.follow(cluster.restores_in(scope), "", scope, read, |stores| &stores.restores, of_task);
            let read = |job: Job| objects::job(&job);
            watches.follow(cluster.jobs_in(scope), names::TASKS, scope, read, |stores| &stores.jobs, of_task);
            let read = |pod: Pod| objects::pod(&pod);
            watches.follow(cluster.pods_in(scope), names::TASKS, scope, read, |stores| &stores.pods, of_task);
        }
        (watches, wakes)
    }

    /// Does something as long as the watches run.
    pub fn also(&mut self, work: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(work);
    }

    /// Looks at a policy again after a while.
    pub fn later(&self, policy: &PolicyId, pause: Duration) {
        let due = Instant::now() + pause;
        {
            let mut planned = self.planned.lock().unwrap_or_else(PoisonError::into_inner);
            if planned.get(policy).is_some_and(|known| *known <= due) {
                return;
            }
            planned.insert(policy.clone(), due);
        }
        let (hints, policy, all) = (self.hints.clone(), policy.clone(), Arc::clone(&self.planned));
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            all.lock().unwrap_or_else(PoisonError::into_inner).remove(&policy);
            let _ = hints.try_send(Wake::Policy(policy));
        });
    }

    fn follow<K, T>(
        &mut self,
        api: Api<K>,
        labels: &str,
        scope: Option<&str>,
        read: impl Fn(K) -> Option<T> + Send + 'static,
        store: fn(&Stores) -> &Store<T>,
        meaning: fn(&Change<T>) -> Option<Wake>,
    ) where
        K: kube::Resource + Clone + DeserializeOwned + Debug + Send + 'static,
        T: Seen + Clone + PartialEq + Send + Sync + 'static,
    {
        let (stores, hints, scope) = (Arc::clone(&self.stores), self.hints.clone(), scope.map(str::to_owned));
        let config = watcher::Config::default().labels(labels);
        // One object that cannot be read must not end the watch of all others.
        let read = move |object: K| {
            let what = object.meta().name.clone();
            std::panic::catch_unwind(AssertUnwindSafe(|| read(object))).unwrap_or_else(|_| {
                error!(kind = std::any::type_name::<T>(), name = what, "an object cannot be read");
                None
            })
        };
        self.tasks.spawn(async move {
            let mut events = std::pin::pin!(watcher(api, config).default_backoff());
            let (mut listed, mut begun, mut is_known) = (Vec::new(), Instant::now(), false);
            let mut told: Option<Instant> = None;
            while let Some(event) = events.next().await {
                let store = store(&stores);
                let changes = match event {
                    Ok(watcher::Event::Init) => {
                        (listed, begun) = (Vec::new(), Instant::now());
                        continue;
                    }
                    Ok(watcher::Event::InitApply(object)) => {
                        listed.extend(read(object));
                        continue;
                    }
                    Ok(watcher::Event::InitDone) => {
                        let changes = store.replace(std::mem::take(&mut listed), scope.as_deref(), begun);
                        if !std::mem::replace(&mut is_known, true) {
                            store.told_everything();
                            let _ = hints.try_send(Wake::Policies);
                        }
                        changes
                    }
                    Ok(watcher::Event::Apply(object)) => {
                        read(object).and_then(|value| store.apply(value)).into_iter().collect()
                    }
                    Ok(watcher::Event::Delete(object)) => {
                        let uid = object.meta().uid.clone().unwrap_or_default();
                        store.remove(&uid).into_iter().collect()
                    }
                    Err(error) => {
                        if told.is_none_or(|at| at.elapsed() > TOLD_AGAIN) {
                            warn!(kind = std::any::type_name::<T>(), %error, "a watch fails and is tried again");
                            told = Some(Instant::now());
                        }
                        continue;
                    }
                };
                stores.restoring.notify_one();
                // A full queue wakes the loop as well.
                changes.iter().filter_map(meaning).for_each(|wake| drop(hints.try_send(wake)));
            }
        });
    }
}

/// What is declared, or what people say about it.
fn of_policy(change: &Change<PolicySeen>) -> Option<Wake> {
    match change {
        Change::New(_) | Change::Gone(_) => Some(Wake::Policies),
        Change::Other { before, now } if before.generation != now.generation => Some(Wake::Policies),
        Change::Other { before, now } => {
            let is_news = before.status != now.status || before.holds != now.holds;
            is_news.then(|| Wake::Policy(now.id.clone()))
        }
    }
}

fn of_run(change: &Change<BackupSeen>) -> Option<Wake> {
    match change {
        // A record of a policy that is declared no more is listed with the policies.
        Change::New(now) if now.run.is_some() => Some(Wake::Policies),
        change => of_task(change),
    }
}

fn of_task<T: Seen>(change: &Change<T>) -> Option<Wake> {
    let (Change::New(value) | Change::Gone(value) | Change::Other { now: value, .. }) = change;
    Some(Wake::Policy(value.policy().clone()))
}
