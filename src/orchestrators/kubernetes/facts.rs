//! What a task finds where it is to run: its claims, the nodes that have them, what its namespace allows.

use crate::{
    domain::{
        names::SourceName,
        policy::{Policy, VolumePlace},
    },
    orchestrators::kubernetes::{
        client::{Cluster, found},
        names,
    },
};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::ListParams;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// What stands for the node of a claim that nobody uses: wherever that is, no other claim need be there.
const ALONE: &str = "claim:";
/// What is known of a namespace is looked up again after this time.
const KNOWN: Duration = Duration::from_secs(60);
/// Pods that are read at once.
const PAGE: u32 = 500;

/// What is known of some claims.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claims {
    /// Where each is, of those that one node has.
    pub nodes: BTreeMap<String, String>,
    /// Why no task may mount them.
    pub unusable: Option<String>,
}

impl Claims {
    /// Looks them up.
    ///
    /// # Errors
    /// As all calls.
    pub async fn look(
        cluster: &Cluster,
        namespace: &str,
        wanted: &BTreeSet<String>,
    ) -> Result<Self, kube::Error> {
        if wanted.is_empty() {
            return Ok(Self::default());
        }
        let api = cluster.claims_in(namespace);
        let mut claims = BTreeMap::new();
        for name in wanted {
            claims.insert(name.clone(), found(api.get(name).await)?);
        }
        let needs_users = claims.values().flatten().any(is_of_one_node);
        let pods = if needs_users { users(cluster, namespace).await? } else { Vec::new() };
        Ok(Self::of(&claims, &pods))
    }

    fn of(claims: &BTreeMap<String, Option<PersistentVolumeClaim>>, pods: &[Pod]) -> Self {
        let (mut nodes, mut unusable) = (BTreeMap::new(), Vec::new());
        for (name, claim) in claims {
            let phase = claim.as_ref().and_then(|claim| claim.status.as_ref()?.phase.clone());
            match (claim, phase.as_deref()) {
                // The scheduler says so, and waits for it.
                (None, _) => _ = nodes.insert(name.clone(), format!("{ALONE}{name}")),
                (Some(claim), Some("Bound")) if is_of_one_node(claim) => {
                    let node = pods.iter().find_map(|pod| node_of_user(pod, name));
                    if node.is_some() && is_of_one_pod(claim) {
                        unusable.push(format!(
                            "claim {name} is ReadWriteOncePod and in use: it can be backed up only while nothing uses it"
                        ));
                    }
                    nodes.insert(name.clone(), node.unwrap_or_else(|| format!("{ALONE}{name}")));
                }
                (Some(_), Some("Bound")) => {}
                // A task would be its first user, and bind an empty volume to it.
                (Some(_), phase) => {
                    nodes.insert(name.clone(), format!("{ALONE}{name}"));
                    unusable.push(match phase {
                        Some("Lost") => format!("claim {name} has lost its volume"),
                        _ => format!(
                            "claim {name} has no volume yet: start what uses it first, so that there is something to back up"
                        ),
                    });
                }
            }
        }
        Self { nodes, unusable: (!unusable.is_empty()).then(|| unusable.join("; ")) }
    }

    /// The node on which a task that mounts them all must run.
    pub fn node(&self) -> Option<&str> {
        self.nodes.values().map(String::as_str).find(|node| !node.starts_with(ALONE))
    }

    /// The same by source of a policy.
    pub fn of_sources(&self, policy: &Policy) -> BTreeMap<SourceName, String> {
        let node = |place: &VolumePlace| self.nodes.get(claim(place)?).cloned();
        policy.volumes.iter().filter_map(|v| Some((v.name.clone(), node(&v.place)?))).collect()
    }
}

/// The claim that a volume is.
pub fn claim(place: &VolumePlace) -> Option<&str> {
    match place {
        VolumePlace::Claim(name) => Some(name),
        VolumePlace::Named(_) | VolumePlace::HostPath(_) | VolumePlace::Mounted { .. } => None,
    }
}

/// The claims of a policy.
pub fn claims_of(policy: &Policy) -> BTreeSet<String> {
    policy.volumes.iter().filter_map(|volume| claim(&volume.place)).map(str::to_owned).collect()
}

/// The Pods of a namespace; no field selector knows claims.
async fn users(cluster: &Cluster, namespace: &str) -> Result<Vec<Pod>, kube::Error> {
    let api = cluster.pods_in(Some(namespace));
    let (mut pods, mut page) = (Vec::new(), ListParams::default().limit(PAGE));
    loop {
        let list = api.list(&page).await?;
        pods.extend(list.items);
        match list.metadata.continue_ {
            Some(token) if !token.is_empty() => page = page.continue_token(&token),
            _ => return Ok(pods),
        }
    }
}

fn modes(claim: &PersistentVolumeClaim) -> Vec<String> {
    claim.status.as_ref().and_then(|status| status.access_modes.clone()).unwrap_or_default()
}

/// True for a claim that one Pod at a time can mount.
fn is_of_one_pod(claim: &PersistentVolumeClaim) -> bool {
    modes(claim).iter().any(|mode| mode == "ReadWriteOncePod")
}

/// True for a claim that Pods of one node at a time can mount.
fn is_of_one_node(claim: &PersistentVolumeClaim) -> bool {
    !modes(claim).iter().any(|mode| matches!(mode.as_str(), "ReadWriteMany" | "ReadOnlyMany"))
}

/// The node of a Pod that mounts a claim and has not ended.
fn node_of_user(pod: &Pod, claim: &str) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let is_over = |phase: &String| matches!(phase.as_str(), "Succeeded" | "Failed");
    if pod.status.as_ref().and_then(|status| status.phase.as_ref()).is_some_and(is_over) {
        return None;
    }
    let mounts = |name: Option<&String>| name.is_some_and(|name| name == claim);
    let volumes = spec.volumes.iter().flatten();
    let uses = volumes
        .into_iter()
        .any(|volume| mounts(volume.persistent_volume_claim.as_ref().map(|source| &source.claim_name)));
    if uses { spec.node_name.clone() } else { None }
}

/// What is known of namespaces.
#[derive(Debug, Default)]
pub struct Namespaces(Mutex<HashMap<String, (Instant, Place)>>);

/// A namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The identity of the site, which is the namespace's: it outlives every installation of Backstay.
    pub site: String,
    /// Tasks may read files of all users, as root.
    pub allows_root: bool,
    /// It is being removed.
    pub is_ending: bool,
}

impl Namespaces {
    /// What is known of one.
    ///
    /// # Errors
    /// As all calls.
    pub async fn get(&self, cluster: &Cluster, name: &str) -> Result<Place, kube::Error> {
        if let Some((at, place)) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name)
            && at.elapsed() < KNOWN
        {
            return Ok(place.clone());
        }
        let namespace = cluster.namespaces().get(name).await?;
        let annotations = namespace.metadata.annotations.unwrap_or_default();
        let place = Place {
            site: namespace.metadata.uid.unwrap_or_default().replace('-', ""),
            allows_root: annotations.get(names::ALLOW_ROOT).is_some_and(|value| value == "true"),
            is_ending: namespace.metadata.deletion_timestamp.is_some(),
        };
        let known = (Instant::now(), place.clone());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), known);
        Ok(place)
    }
}

/// What events say of an object that does not start: the newest warning. Where they cannot be read, words are missing and
/// nothing else.
pub async fn last_warning(cluster: &Cluster, namespace: &str, uid: &str) -> Option<String> {
    let selector = format!("involvedObject.uid={uid},type=Warning");
    let events =
        cluster.events_in(namespace).list(&ListParams::default().fields(&selector)).await.ok()?.items;
    let newest = events.into_iter().max_by_key(|event| {
        let last = event.last_timestamp.as_ref().or(event.first_timestamp.as_ref()).map(|time| time.0);
        last.max(event.event_time.as_ref().map(|time| time.0))
            .max(event.metadata.creation_timestamp.as_ref().map(|time| time.0))
    });
    newest.map(|event| {
        let (reason, message) = (event.reason.unwrap_or_default(), event.message.unwrap_or_default());
        format!("{reason}: {message}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn claim_in(mode: &str, phase: &str) -> Option<PersistentVolumeClaim> {
        let status = json!({"phase": phase, "accessModes": [mode]});
        Some(serde_json::from_value(json!({"status": status})).unwrap())
    }

    fn pod(claim: &str, node: &str, phase: &str) -> Pod {
        let volume = json!({"name": "v", "persistentVolumeClaim": {"claimName": claim}});
        let spec = json!({"containers": [], "nodeName": node, "volumes": [volume]});
        serde_json::from_value(json!({"spec": spec, "status": {"phase": phase}})).unwrap()
    }

    #[test]
    fn a_claim_of_one_node_is_found_beside_its_users_and_one_without_a_volume_is_not_touched() {
        let claims = BTreeMap::from([
            ("homes".to_owned(), claim_in("ReadWriteOnce", "Bound")),
            ("idle".to_owned(), claim_in("ReadWriteOnce", "Bound")),
            ("shared".to_owned(), claim_in("ReadWriteMany", "Bound")),
            ("gone".to_owned(), None),
        ]);
        let pods = [
            pod("homes", "node9", "Succeeded"),
            pod("homes", "node1", "Running"),
            pod("idle", "node2", "Failed"),
        ];
        let looked = Claims::of(&claims, &pods);
        let expected = [("homes", "node1"), ("idle", "claim:idle"), ("gone", "claim:gone")]
            .map(|(a, b)| (a.to_owned(), b.to_owned()));
        assert_eq!(looked, Claims { nodes: expected.into(), unusable: None });
        assert_eq!(looked.node(), Some("node1"));
        let pending = BTreeMap::from([("new".to_owned(), claim_in("ReadWriteOnce", "Pending"))]);
        let unusable = Claims::of(&pending, &[]).unusable.unwrap();
        assert!(unusable.starts_with("claim new has no volume yet"), "{unusable}");
    }
}
