//! What must be so after every point, whatever was done.

use super::{
    cases::{ALL, Case, Deed},
    faults::BUSY,
    stage::{Documents, POLICY, Stage, scratch},
};
use crate::{
    data,
    site::Outcome,
    support::{proxy::Trouble, tree},
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    time::Duration,
};

impl Stage {
    /// All of them; true when the run succeeded.
    pub fn judge(&mut self, case: &Case, hit: bool) -> bool {
        let status = self.status();
        let outcome = self.one_outcome(case, &status);
        let good = self.listed_as_good();
        let names: Vec<String> = self.new_slots().iter().map(|slot| format!("{POLICY}-{slot}")).collect();
        let is_success = outcome.as_deref() == Some("Succeeded");
        let is_listed = names.iter().any(|name| good.contains(name));
        // A remote that answers nothing any more may keep to itself that the manifest has arrived.
        let is_unheard = is_listed && matches!(case.deed, Deed::Network(_, ALL));
        assert!(
            is_success == is_listed || is_unheard,
            "the outcome is {outcome:?}, and {good:?} are listed as complete"
        );
        if hit && outcome.as_deref().is_some_and(|outcome| outcome != "Succeeded") {
            says_what_to_do(case, &status["lastRun"]);
        }
        self.nothing_earlier_is_touched();
        let may_be_damaged = case.deed == Deed::Network(Trouble::Flips, 1);
        for name in names.iter().filter(|name| good.contains(*name)) {
            self.restores(name, may_be_damaged);
            self.remember(name);
        }
        let slots = self.new_slots();
        self.slots.extend(slots);
        self.the_next_night_is_good();
        self.nothing_is_left();
        outcome.as_deref() == Some("Succeeded")
    }

    /// The outcome of the run that was asked for; none when the request was lost with the controller.
    fn one_outcome(&self, case: &Case, status: &Value) -> Option<String> {
        let slots = self.new_slots();
        let history = status["history"].as_array().unwrap();
        let mut of = BTreeMap::<&str, Vec<&str>>::new();
        for entry in history {
            of.entry(entry["slot"].as_str().unwrap()).or_default().push(entry["outcome"].as_str().unwrap());
        }
        assert!(of.values().all(|outcomes| outcomes.len() == 1), "a slot has two outcomes: {of:?}");
        let new: Vec<_> = of.iter().filter(|(slot, _)| !self.slots.contains(**slot)).collect();
        let claimed: BTreeSet<&str> = slots.iter().map(String::as_str).collect();
        assert_eq!(
            new.iter().map(|(slot, _)| **slot).collect::<BTreeSet<_>>(),
            claimed,
            "claimed, and with an outcome"
        );
        assert!(new.len() <= 1, "one run was asked for: {new:?}");
        let may_be_lost = matches!(case.deed.whom(), Some(super::cases::Whom::Controller));
        assert!(may_be_lost || new.len() == 1, "the run that was asked for has no outcome");
        Some(new.first()?.1[0].to_owned())
    }

    /// Nothing but complete snapshots that were good before, or that the caller tries now.
    fn listed_as_good(&self) -> BTreeSet<String> {
        let outcome = self.site.backstay(["list", "--from", &self.site.place(), "-o", "json"]).ok();
        let listing: Value = serde_json::from_str(&outcome.stdout).unwrap();
        assert_eq!(listing["damaged"], Value::Array(vec![]));
        let all = listing["snapshots"].as_array().unwrap().iter();
        let complete = all.filter(|snapshot| snapshot["complete"] == true);
        complete.map(|snapshot| snapshot["name"].as_str().unwrap().to_owned()).collect()
    }

    /// Takes note of a good snapshot's objects.
    pub fn remember(&mut self, name: &str) {
        let root = self.site.remote.root();
        let own = self.objects().filter(|path| path.contains(&format!("/{name}/")));
        let hashed: Vec<_> = own.map(|path| (hash(&root.join(&path)), path)).collect();
        assert!(!hashed.is_empty(), "{name} has no objects");
        self.kept.extend(hashed.into_iter().map(|(hash, path)| (path, hash)));
    }

    fn nothing_earlier_is_touched(&self) {
        let root = self.site.remote.root();
        let touched: Vec<_> =
            self.kept.iter().filter(|(path, was)| hash(&root.join(path)) != **was).collect();
        assert!(touched.is_empty(), "objects of good snapshots changed: {touched:?}");
    }

    /// Byte for byte, or, where damage cannot be seen when it is written, with a refusal that names what is damaged.
    fn restores(&self, name: &str, may_be_damaged: bool) {
        self.empty_target();
        let folder = scratch();
        let volume = format!("homes={}", folder.display());
        let outcome =
            self.site.restore(["--mongodb", &self.target.uri(), "--volume", &volume, "--as-of", name]);
        if may_be_damaged && outcome.code != 0 {
            let restored = tree::differences(&self.files, &tree::digest(&folder));
            assert!(restored.iter().all(|line| !line.contains(": content was")), "{restored:?}");
            return self.is_found(name, &outcome);
        }
        outcome.ok();
        tree::assert_same(&self.files, &tree::digest(&folder));
        let (documents, mut busy) = self.runtime.block_on(async {
            let client = self.target.client().await;
            (data::read(&client, "girder").await, data::read(&client, BUSY).await)
        });
        data::assert_same(&self.documents, &documents);
        // A point in time in the middle of a $out has what the server had then.
        busy.retain(|name, _| !name.starts_with("tmp.agg_out."));
        let allowed = self.busy.borrow();
        assert!(allowed.contains(&busy), "{BUSY} is as it never was: {:?}", counts(&busy));
    }

    fn is_found(&self, name: &str, refused: &Outcome) {
        let said = format!("{}{}", refused.stdout, refused.stderr);
        assert!(said.contains(&format!("{name}/")), "the damaged object is not named: {refused:?}");
        let verified = self.site.backstay(["verify", "--from", &self.site.place(), "--as-of", name]);
        assert_ne!(verified.code, 0, "verify does not see the damage: {verified:?}");
    }

    fn empty_target(&self) {
        self.runtime.block_on(async {
            let client = self.target.client().await;
            for database in ["girder", BUSY, "noise"] {
                client.database(database).drop().await.unwrap();
            }
        });
    }

    fn the_next_night_is_good(&mut self) {
        // What a killed task left is swept when it is old enough to be nobody's.
        for left in self.site.leftovers() {
            #[expect(clippy::disallowed_methods, reason = "two minutes before the real now")]
            let old = std::time::SystemTime::now() - Duration::from_secs(120);
            fs::File::open(left).unwrap().set_modified(old).unwrap();
        }
        let mut busy = self.busy.borrow_mut();
        let earlier = busy.len() - 1;
        busy.drain(..earlier);
        drop(busy);
        self.run_well();
        let newest = self.site.snapshots().pop().unwrap();
        self.restores(&newest, false);
        self.nothing_earlier_is_touched();
    }

    fn nothing_is_left(&self) {
        self.settle();
        let running = self.site.processes("").len();
        assert_eq!(running, 1, "only the controller runs");
        assert_eq!(self.site.leftovers(), [""; 0].map(std::path::PathBuf::from));
    }
}

fn says_what_to_do(case: &Case, run: &Value) {
    let text = |field: &str| run[field].as_str().unwrap_or_default();
    let (message, fix) = (text("message"), text("fix"));
    let said =
        case.says.is_empty() || case.says.iter().any(|word| message.contains(word) || fix.contains(word));
    assert!(said && !message.is_empty(), "none of {:?} is said: {run}", case.says);
    assert!(!fix.is_empty(), "what to do is not said: {run}");
}

fn hash(path: &Path) -> String {
    fs::read(path).map_or_else(|error| error.to_string(), |bytes| blake3::hash(&bytes).to_hex().to_string())
}

fn counts(documents: &Documents) -> Vec<String> {
    documents.iter().map(|(name, text)| format!("{name}: {} lines", text.lines().count())).collect()
}
