//! Doing what a case says, at its point, and undoing it.

use super::{
    cases::{Change, Deed, Dumps, Point, Whom},
    stage::{Documents, LOOK, Stage},
};
use crate::{
    data,
    support::{children::signal_pid, tree},
};
use mongodb::{
    Client,
    bson::{Binary, Document, doc, spec::BinarySubtype},
};
use rustix::process::Signal;
use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    path::PathBuf,
    thread::sleep,
    time::{Duration, Instant},
};

/// The database that changes.
pub const BUSY: &str = "busy";
/// How long a paused process stands still.
const PAUSE: Duration = Duration::from_millis(700);
/// The moments in which a run writes what the rest depends on: an object of this name appears.
const MARKS: [&str; 5] = [".archive.zst.", ".tar.zst.", ".parts.", "RESTORE.txt", "manifest.json"];

impl Deed {
    /// Whose life the points are spread over.
    fn during(self) -> Whom {
        match self {
            Self::Kill(whom) | Self::Pause(whom) | Self::Freeze(whom) => whom,
            Self::StepDown | Self::Change(..) => Whom::Mongodump,
            Self::Fill | Self::Network(..) => Whom::Task,
        }
    }
}

impl Stage {
    /// Before the run.
    pub fn prepare(&self, deed: Deed) {
        if let Deed::Change(..) = deed {
            let before = self.runtime.block_on(make_busy(&self.client()));
            *self.busy.borrow_mut() = vec![before];
        }
    }

    fn client(&self) -> Client {
        self.runtime.block_on(self.mongo.client())
    }

    /// Waits for the point and does it. True when there still was something to do it to.
    pub fn inflict(&self, deed: Deed, point: Point) -> bool {
        if let Deed::Network(trouble, count) = deed {
            let network = self.network.as_ref().unwrap();
            let usual = network.usual[usize::from(trouble.is_of_uploads())];
            #[expect(
                clippy::cast_precision_loss,
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "some hundred requests"
            )]
            let first = (point.share() * usual as f64) as usize;
            network.proxy.arm(trouble, first..first.saturating_add(count));
            self.wait_until(|| self.is_over());
            return network.proxy.hits() > 0;
        }
        if let Deed::Change(change, Dumps::Each) = deed {
            return self.change_each(change, point);
        }
        self.wait_for(deed.during(), point) && self.do_it(deed)
    }

    /// Changes the database at the same point of each dump, until the run is over.
    fn change_each(&self, change: Change, point: Point) -> bool {
        let mut hit = false;
        while self.wait_for(Whom::Mongodump, point) {
            let dump = self.find(Whom::Mongodump);
            hit |= self.change(change);
            self.wait_until(|| dump.is_none() || self.find(Whom::Mongodump) != dump);
        }
        hit
    }

    /// True when a dump was under way.
    fn change(&self, change: Change) -> bool {
        let client = self.client();
        // The server forgets in its own time, longer than a dump takes.
        let holds = change == Change::RollOver && self.signal(Whom::Mongodump, Signal::STOP);
        let has_changed = self.runtime.block_on(do_change(&client, change));
        if holds {
            self.signal(Whom::Mongodump, Signal::CONT);
        }
        let after = self.runtime.block_on(data::read(&client, BUSY));
        self.busy.borrow_mut().push(after);
        has_changed && self.find(Whom::Mongodump).is_some()
    }

    /// True unless the run was over before.
    fn wait_for(&self, whom: Whom, point: Point) -> bool {
        if let Some(mark) = point.mark(&MARKS).filter(|_| whom != Whom::Mongodump) {
            let before: BTreeSet<String> = self.objects().collect();
            return self.wait_until(|| self.objects().any(|o| o.contains(mark) && !before.contains(&o)));
        }
        let is_there = || matches!(whom, Whom::Controller) || self.find(whom).is_some();
        let appears = whom == Whom::Mongod || self.wait_until(is_there);
        if appears {
            sleep(self.usual.life(whom).mul_f64(point.share()));
        }
        appears
    }

    /// Waits for something; false when the run is over before.
    fn wait_until(&self, is_so: impl Fn() -> bool) -> bool {
        let begin = Instant::now();
        while !is_so() {
            if self.is_over() {
                return false;
            }
            assert!(
                begin.elapsed() < Duration::from_secs(150),
                "the moment never comes: {}",
                self.site.log()
            );
            sleep(LOOK);
        }
        true
    }

    fn do_it(&self, deed: Deed) -> bool {
        match deed {
            Deed::Kill(whom) => self.signal(whom, Signal::KILL),
            Deed::Freeze(whom) => {
                let hit = self.signal(whom, Signal::STOP);
                if whom == Whom::Controller {
                    sleep(PAUSE);
                }
                hit
            }
            Deed::Pause(whom) => {
                let hit = self.signal(whom, Signal::STOP);
                sleep(PAUSE);
                self.signal(whom, Signal::CONT);
                hit
            }
            Deed::StepDown => {
                let admin = self.client().database("admin");
                let step_down = doc! {"replSetStepDown": 2, "force": true};
                self.runtime.block_on(async { admin.run_command(step_down).await }).unwrap();
                true
            }
            Deed::Change(change, _) => self.change(change),
            Deed::Fill => {
                let mut file = fs::File::create(self.filler()).unwrap();
                let piece = vec![0; 64 << 10];
                while file.write_all(&piece).is_ok() {}
                true
            }
            Deed::Network(..) => unreachable!("armed before"),
        }
    }

    fn signal(&self, whom: Whom, signal: Signal) -> bool {
        if whom == Whom::Mongod {
            self.mongo.signal(0, signal);
            return self.find(Whom::Task).is_some();
        }
        let found = self.find(whom);
        if let Some(pid) = found {
            signal_pid(pid, signal);
        }
        found.is_some()
    }

    fn filler(&self) -> PathBuf {
        self.site.remote.root().join("filler")
    }

    /// Makes all well again, once the run is over; without a controller it never is.
    pub fn heal(&mut self, deed: Deed) {
        if let Deed::Kill(Whom::Controller) | Deed::Freeze(Whom::Controller) = deed {
            self.site.kill_controller();
            self.site.start_controller();
        }
        self.settle();
        match deed {
            Deed::Kill(Whom::Mongod) => self.runtime.clone().block_on(self.mongo.restart(0)),
            Deed::Freeze(Whom::Mongod) => self.mongo.signal(0, Signal::CONT),
            Deed::StepDown => self.runtime.block_on(self.mongo.wait_for_primary()),
            Deed::Fill => _ = fs::remove_file(self.filler()),
            Deed::Network(..) => self.network.as_ref().unwrap().proxy.heal(),
            _ => {}
        }
    }
}

/// Two collections of the same documents, and one that `$out` replaces.
async fn make_busy(client: &Client) -> Documents {
    let db = client.database(BUSY);
    db.drop().await.unwrap();
    for (name, count) in [("first", 900), ("second", 300)] {
        let documents: Vec<Document> = (0..count).map(|n| doc! {"_id": n, "of": name}).collect();
        db.collection(name).insert_many(documents).await.unwrap();
    }
    data::read(client, BUSY).await
}

/// A second rename takes back the first.
async fn do_change(client: &Client, change: Change) -> bool {
    let db = client.database(BUSY);
    match change {
        Change::Rename => {
            let names = db.list_collection_names().await.unwrap();
            let (from, to) =
                if names.iter().any(|n| n == "first") { ("first", "renamed") } else { ("renamed", "first") };
            let rename = doc! {"renameCollection": format!("{BUSY}.{from}"), "to": format!("{BUSY}.{to}")};
            client.database("admin").run_command(rename).await.unwrap();
        }
        Change::Drop => db.collection::<Document>("first").drop().await.unwrap(),
        Change::Out => {
            let out = [doc! {"$out": "second"}];
            db.collection::<Document>("first").aggregate(out).await.unwrap();
        }
        Change::RollOver => return roll_over(client).await,
    }
    true
}

/// Writes until the oldest entry is younger than the newest was; the server forgets in its own time, and false says
/// that it did not. Changes nothing that is compared.
async fn roll_over(client: &Client) -> bool {
    let oplog = client.database("local").collection::<Document>("oplog.rs");
    let end = |order: i32| {
        let oplog = oplog.clone();
        async move {
            let entry = oplog.find_one(doc! {}).sort(doc! {"$natural": order}).await.unwrap();
            entry.unwrap().get_timestamp("ts").unwrap()
        }
    };
    let newest = end(-1).await;
    let noise = client.database("noise").collection::<Document>("noise");
    for round in 0..200_u64 {
        let bytes = Binary { subtype: BinarySubtype::Generic, bytes: tree::noise(round, 1 << 20) };
        noise.replace_one(doc! {"_id": 1}, doc! {"_id": 1, "bytes": bytes}).upsert(true).await.unwrap();
        if end(1).await > newest {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    false
}
