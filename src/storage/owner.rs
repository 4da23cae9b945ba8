//! Who may write one policy's snapshots into a place: two sites must never mix theirs.
//!
//! A claim is a small object that is written once. The earliest claim that no other one supersedes owns the place; its
//! site is compared with our own. Taking over is a new claim that names what it supersedes. Stores have no
//! compare-and-set, so nothing is committed until a new claim is [`SETTLE`] old and was looked at again. A race that is
//! lost all the same does no harm to data: attempts never share objects.

use crate::{
    domain::{
        error::Invalid,
        location::Location,
        names::{InstanceName, PolicyName},
        verdict::{Failure, Verdict},
    },
    storage::{
        document::{self, Document, DocumentError, FORMAT},
        layout::ClaimName,
        store::{ObjectStore, StoreError},
    },
};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, time::Duration};
use tokio::time::Instant;

/// How long after a claim another one that was made at the same time may become visible.
pub const SETTLE: Duration = Duration::from_secs(10);

/// The text of a claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Claim {
    format: String,
    policy: PolicyName,
    instance: InstanceName,
    site: String,
    claimed_at: Timestamp,
    /// Names of the claims that it takes over from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    supersedes: Vec<String>,
    #[serde(rename = "self")]
    self_hash: String,
}

impl Document for Claim {
    fn self_hash(&mut self) -> &mut String {
        &mut self.self_hash
    }

    fn check(&self) -> Result<(), Invalid> {
        Ok(())
    }
}

/// Who asks, and for what.
#[derive(Debug, Clone)]
pub struct Claimant<'a> {
    /// The policy whose snapshots are meant.
    pub policy: &'a PolicyName,
    /// Whose data.
    pub instance: &'a InstanceName,
    /// Our own site.
    pub site: &'a str,
    /// The place, for messages.
    pub destination: &'a Location,
    /// Least age of a new claim before anything is committed: [`SETTLE`].
    pub settle: Duration,
}

/// When a place that is not ours already may become it.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// Also when it is another site's.
    pub take_over: bool,
    /// Our snapshots are known to be there: that nobody owns it means that they are gone, or that it is another place.
    pub known: bool,
}

/// A claim that was written just now, or a moment ago. Nothing may be committed before it was confirmed.
#[must_use]
#[derive(Debug, Clone, Copy)]
pub struct NewClaim(Instant);

impl Claimant<'_> {
    /// Makes sure that the place is ours, claiming it when `terms` let us. Gives our claim when it is so young that it
    /// must be confirmed, whoever of this site wrote it.
    ///
    /// # Errors
    /// `OwnedElsewhere`, `RemoteLost`, or the store's failure.
    pub async fn acquire(
        &self,
        store: &dyn ObjectStore,
        terms: Terms,
        now: Timestamp,
    ) -> Result<Option<NewClaim>, Failure> {
        let claims = self.claims(store).await?;
        let supersedes = match owner(&claims) {
            Some(owner) if owner.site == self.site => {
                let is_young = after(owner.at.time(), self.settle) >= now;
                return Ok(is_young.then(|| NewClaim(Instant::now())));
            }
            Some(owner) if !terms.take_over => return Err(self.refusal(owner)),
            Some(_) => claims.iter().map(|claim| claim.name.to_string()).collect(),
            None if terms.known => return Err(self.lost()),
            None => vec![],
        };
        self.write(store, supersedes, now).await?;
        Ok(Some(NewClaim(Instant::now())))
    }

    /// Waits until a new claim is old enough, and looks whether it won.
    ///
    /// # Errors
    /// As [`Claimant::check`].
    pub async fn confirm(&self, store: &dyn ObjectStore, claim: Option<NewClaim>) -> Result<(), Failure> {
        let Some(NewClaim(written)) = claim else { return Ok(()) };
        tokio::time::sleep_until(written + self.settle).await;
        self.check(store).await
    }

    /// Looks whether the place is (still) ours.
    ///
    /// # Errors
    /// `OwnedElsewhere`, `OwnerClaimMissing`, or the store's failure.
    pub async fn check(&self, store: &dyn ObjectStore) -> Result<(), Failure> {
        match owner(&self.claims(store).await?) {
            Some(owner) if owner.site == self.site => Ok(()),
            Some(owner) => Err(self.refusal(owner)),
            None => Err(Failure::temporary(
                "OwnerClaimMissing",
                format!("{} shows no claim of policy {}, not even our own", self.place(), self.policy),
            )),
        }
    }

    /// Looks whether somebody owns a place where our snapshots are known to be.
    ///
    /// # Errors
    /// `RemoteLost`, or the store's failure.
    pub async fn refuse_lost(&self, store: &dyn ObjectStore) -> Result<(), Failure> {
        owner(&self.claims(store).await?).map(|_| ()).ok_or_else(|| self.lost())
    }

    /// Looks whether another site owns the place; that nobody does is fine.
    ///
    /// # Errors
    /// `OwnedElsewhere`, or the store's failure.
    pub async fn refuse_other(&self, store: &dyn ObjectStore) -> Result<(), Failure> {
        match owner(&self.claims(store).await?) {
            Some(owner) if owner.site != self.site => Err(self.refusal(owner)),
            _ => Ok(()),
        }
    }

    async fn claims(&self, store: &dyn ObjectStore) -> Result<Vec<Found>, Failure> {
        let listed = match store.list("", false, false).await {
            Err(StoreError::NotFound { .. }) => vec![],
            listed => listed?,
        };
        let names = listed.iter().filter(|entry| !entry.is_dir).filter_map(|entry| entry.path.parse().ok());
        let mut claims = Vec::new();
        for name in names.filter(|name: &ClaimName| name.policy == *self.policy) {
            match document::open::<Claim>(&store.get(&name.to_string()).await?) {
                Ok(claim) => claims.push(Found { name, supersedes: claim.supersedes }),
                // Its writer never saw it confirmed, or it rotted: it claims nothing.
                Err(DocumentError::Truncated | DocumentError::Damaged(_)) => {}
                Err(error @ DocumentError::Newer(_)) => {
                    return Err(Failure::permanent("OwnerClaimNewer", format!("{name}: {error}")));
                }
            }
        }
        Ok(claims)
    }

    async fn write(
        &self,
        store: &dyn ObjectStore,
        supersedes: Vec<String>,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let name = ClaimName::new(self.policy.clone(), now, self.site)
            .map_err(|error| Failure::permanent("SpecInvalid", error.to_string()))?;
        let (_, text) = document::seal(Claim {
            format: FORMAT.to_owned(),
            policy: self.policy.clone(),
            instance: self.instance.clone(),
            site: self.site.to_owned(),
            claimed_at: name.at.time(),
            supersedes,
            self_hash: String::new(),
        });
        let failed = match store.put(&name.to_string(), vec![text.clone()]).await {
            Ok(()) => return Ok(()),
            Err(failed) => failed,
        };
        // A reply that was lost; or a twin of ours in the same second, whose claim is as good.
        match store.get(&name.to_string()).await {
            Ok(found) if found == text => Ok(()),
            _ => Err(failed.into()),
        }
    }

    fn place(&self) -> String {
        format!("{}/{}", self.destination, self.instance)
    }

    /// An empty folder under a mount point looks like this.
    fn lost(&self) -> Failure {
        Failure::new(
            Verdict::Guard,
            "RemoteLost",
            format!(
                "{} holds no owner claim of policy {} any more, though this site has backed up there: the snapshots are gone, or it is another place than it was",
                self.place(),
                self.policy
            ),
        )
        .fix(format!(
            "is the remote mounted, and is it the right one? Only if it was emptied on purpose: backstay run {} --accept-shrink claims it anew",
            self.policy
        ))
    }

    fn refusal(&self, owner: &ClaimName) -> Failure {
        Failure::permanent(
            "OwnedElsewhere",
            format!(
                "{} belongs to another site for policy {}: site {} since {} (this is site {})",
                self.place(),
                self.policy,
                owner.site,
                owner.at.time(),
                self.site
            ),
        )
        .fix("if that site is gone for good, take the place over with this line in the policy: destination.takeOver: true")
    }
}

/// `time + duration`, and the rest of that second: names of claims tell whole seconds.
fn after(time: Timestamp, duration: Duration) -> Timestamp {
    let duration = SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
    time.saturating_add(duration.saturating_add(SignedDuration::from_secs(1))).unwrap_or(Timestamp::MAX)
}

/// A whole claim on the remote.
struct Found {
    name: ClaimName,
    supersedes: Vec<String>,
}

/// The earliest claim that no other one supersedes.
fn owner(claims: &[Found]) -> Option<&ClaimName> {
    let superseded: BTreeSet<&str> =
        claims.iter().flat_map(|claim| &claim.supersedes).map(String::as_str).collect();
    claims
        .iter()
        .map(|claim| &claim.name)
        .filter(|name| !superseded.contains(name.to_string().as_str()))
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::memory::MemoryStore;

    #[tokio::test]
    async fn a_claim_is_confirmed_until_it_is_old_also_by_those_who_did_not_write_it() {
        let location = serde_json::json!({
            "remote": "box", "path": "WT", "config": {"directory": "/etc/rclone"}, "transfers": 4, "partSizeMib": 16
        });
        let (policy, instance) = ("nightly".parse().unwrap(), "production".parse().unwrap());
        let claimant = Claimant {
            policy: &policy,
            instance: &instance,
            site: "here",
            destination: &serde_json::from_value(location).unwrap(),
            settle: SETTLE,
        };
        let store = MemoryStore::default();
        let free = Terms { take_over: false, known: false };
        let start: Timestamp = "2026-11-25T02:00:00.7Z".parse().unwrap();
        for (seconds, must_be_confirmed) in [(0, true), (1, true), (10, true), (12, false), (-3600, true)] {
            let now = start + SignedDuration::from_secs(seconds);
            let claim = claimant.acquire(&store, free, now).await.unwrap();
            assert_eq!(claim.is_some(), must_be_confirmed, "{seconds} s after the claim");
        }
    }
}
