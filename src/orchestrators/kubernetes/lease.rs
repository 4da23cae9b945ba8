//! Who leads, of several controllers: the holder of a Lease. It saves work; nothing's safety depends on it.

use crate::{
    controller::{clock::Clock, port::PortError},
    orchestrators::{
        kubernetes::{
            client::{Cluster, code, found, unread, unwritten, within},
            events, names,
        },
        random_number,
    },
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{
    Api,
    api::{ListParams, PostParams},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tracing::{info, warn};

/// A holder that says nothing for so long has lost it.
const DURATION: SignedDuration = SignedDuration::from_secs(15);
/// A holder that could not say so for so long stops, before another one begins.
const GIVEN_UP: Duration = Duration::from_secs(10);
/// A holder says so often that it lives; who waits looks as often.
const PACE: Duration = Duration::from_secs(3);
/// A call that takes longer has failed.
const CALL: Duration = Duration::from_secs(5);

/// Label of a lease: whose it is.
const PART_OF: &str = "app.kubernetes.io/part-of";

/// Who leads in a cluster, as far as its leases tell, and since when.
///
/// # Errors
/// As all calls.
pub async fn holder(cluster: &Cluster, now: Timestamp) -> Result<Option<(String, Timestamp)>, kube::Error> {
    let leases: Api<Lease> = Api::all(cluster.client());
    let listed =
        leases.list(&ListParams::default().labels(&format!("{PART_OF}={}", names::BACKSTAY))).await?;
    Ok(listed.items.into_iter().filter_map(|lease| lease.spec).find_map(|spec| {
        let holder = spec.holder_identity.filter(|holder| !holder.is_empty())?;
        let renewed = spec.renew_time.as_ref()?.0;
        // Clocks differ.
        let is_held = now.duration_since(renewed) <= DURATION * 4;
        is_held.then(|| (holder, spec.acquire_time.map_or(renewed, |time| time.0)))
    }))
}

/// The lease of the controllers of one place.
pub struct Leadership {
    api: Api<Lease>,
    name: String,
    holder: String,
    clock: Arc<dyn Clock>,
}

impl Leadership {
    /// The lease `name` in the namespace of the controller.
    pub fn new(cluster: &Cluster, namespace: &str, name: &str, clock: Arc<dyn Clock>) -> Self {
        let api = Api::namespaced(cluster.client(), namespace);
        // Two of one name are told apart, as those of one node that use its network.
        let holder =
            format!("{}_{:x}", events::instance(), random_number().unwrap_or(i64::from(std::process::id())));
        Self { api, name: name.to_owned(), holder, clock }
    }

    /// Waits until this controller leads.
    pub async fn acquire(&self) {
        let mut told = false;
        // By our own clock, since when the same state of the lease has been seen: other clocks may be wrong.
        let mut seen: Option<(String, Instant)> = None;
        loop {
            match within(CALL, self.try_once(&mut seen)).await {
                Ok(true) => return info!(lease = self.name, holder = self.holder, "this controller leads"),
                Ok(false) if !told => {
                    info!(lease = self.name, "another controller leads");
                    told = true;
                }
                Ok(false) => {}
                Err(error) => warn!(lease = self.name, %error, "the lease cannot be had"),
            }
            tokio::time::sleep(PACE).await;
        }
    }

    async fn try_once(&self, seen: &mut Option<(String, Instant)>) -> Result<bool, PortError> {
        let Some(lease) = self.read().await? else { return self.write(None).await };
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.unwrap_or_default();
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        let since = match seen {
            Some((known, since)) if *known == version => *since,
            _ => seen.insert((version, Instant::now())).1,
        };
        let is_free = holder.is_empty() || holder == self.holder;
        if !is_free && since.elapsed() < DURATION.unsigned_abs() {
            return Ok(false);
        }
        self.write(Some(lease)).await
    }

    /// Goes on saying that this controller lives; returns once it leads no more.
    pub async fn hold(&self) {
        let mut last = Instant::now();
        loop {
            tokio::time::sleep(PACE).await;
            let asked = Instant::now();
            match within(CALL, self.renew()).await {
                Ok(true) => last = asked,
                Ok(false) => return,
                Err(error) => warn!(lease = self.name, %error, "the lease cannot be renewed"),
            }
            // Whoever stood still for so long is about to be replaced, or has been.
            if last.elapsed() > GIVEN_UP {
                return;
            }
        }
    }

    async fn renew(&self) -> Result<bool, PortError> {
        match self.read().await? {
            Some(lease) if self.is_held(&lease) => self.write(Some(lease)).await,
            Some(_) => Ok(false),
            None => self.write(None).await,
        }
    }

    /// Lets the next one lead at once.
    pub async fn release(&self) {
        let Ok(Some(mut lease)) = within(CALL, self.read()).await else { return };
        if !self.is_held(&lease) {
            return;
        }
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = Some(String::new());
        }
        let _ =
            tokio::time::timeout(CALL, self.api.replace(&self.name, &PostParams::default(), &lease)).await;
    }

    fn is_held(&self, lease: &Lease) -> bool {
        lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_ref()) == Some(&self.holder)
    }

    async fn read(&self) -> Result<Option<Lease>, PortError> {
        found(self.api.get(&self.name).await).map_err(unread)
    }

    /// Takes or renews it; false when another one was faster.
    async fn write(&self, there: Option<Lease>) -> Result<bool, PortError> {
        let now = self.clock.now();
        let written = match there {
            None => {
                let labels = Some([(PART_OF.to_owned(), names::BACKSTAY.to_owned())].into());
                let metadata = ObjectMeta { name: Some(self.name.clone()), labels, ..ObjectMeta::default() };
                let lease = Lease { metadata, spec: Some(self.spec(None, now)) };
                self.api.create(&PostParams::default(), &lease).await
            }
            Some(mut lease) => {
                lease.spec = Some(self.spec(lease.spec.as_ref(), now));
                self.api.replace(&self.name, &PostParams::default(), &lease).await
            }
        };
        match written {
            Ok(_) => Ok(true),
            Err(error) if code(&error) == Some(409) => Ok(false),
            Err(error) => Err(unwritten(error)),
        }
    }

    fn spec(&self, before: Option<&LeaseSpec>, now: Timestamp) -> LeaseSpec {
        let held = before.filter(|spec| spec.holder_identity.as_ref() == Some(&self.holder));
        let transitions = before.and_then(|spec| spec.lease_transitions).unwrap_or(-1);
        LeaseSpec {
            holder_identity: Some(self.holder.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: held.and_then(|spec| spec.acquire_time.clone()).or(Some(MicroTime(now))),
            renew_time: Some(MicroTime(now)),
            lease_transitions: Some(if held.is_some() { transitions } else { transitions.saturating_add(1) }),
            ..LeaseSpec::default()
        }
    }
}
