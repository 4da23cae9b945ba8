//! The policies of a seed, and how people change them.

use crate::rng::Rng;
use backstay::domain::{
    location::Location,
    policy::{
        Guards, MemberPreference, MongoConnection, MongoUri, Mongodb, OplogMode, Policy, RestoreFrom,
        TaskSettings, Volume, VolumePlace,
    },
    retention::Retention,
    schedule::Schedule,
    snapshot::AsOf,
};
use std::{collections::BTreeMap, time::Duration};

/// Schedules with their weights.
const SCHEDULES: [(u64, &str); 9] = [
    (40, "0 2 * * *"),
    (40, "H H(1-4) * * *"),
    (100, "30 2 * * 1"),
    (80, "H H * * H"),
    (100, "0 3 1 * *"),
    (80, "H H(1-4) H * *"),
    (6, "15 */6 * * *"),
    (2, "0 * * * *"),
    (20, "0 2 * * 1-5"),
];

const ZONES: [&str; 4] = ["UTC", "Europe/Berlin", "America/Chicago", "Australia/Lord_Howe"];

pub fn schedule(rng: &mut Rng, name: &str) -> Schedule {
    let mut ticket = rng.below(SCHEDULES.iter().map(|(weight, _)| weight).sum());
    let (_, expression) = SCHEDULES
        .iter()
        .find(|(weight, _)| {
            let here = ticket < *weight;
            ticket = ticket.saturating_sub(*weight);
            here
        })
        .unwrap();
    let zone = if rng.below(2) == 0 { "UTC" } else { rng.pick(&ZONES) };
    Schedule::parse(expression, zone, &"site".parse().unwrap(), &name.parse().unwrap()).unwrap()
}

pub fn retention(rng: &mut Rng) -> Retention {
    let none = Retention { keep_within_days: 0, ..Retention::default() };
    match rng.below(4) {
        0 => Retention::default(),
        1 => Retention { keep_last: u32::try_from(rng.range(1, 5)).unwrap(), ..none },
        2 => Retention { keep_daily: 7, keep_weekly: 4, keep_monthly: 6, ..none },
        _ => Retention { keep_within_days: 3, keep_last: 2, keep_yearly: 1, ..none },
    }
}

pub fn location(rng: &mut Rng, path: &str) -> Location {
    let remote = if rng.below(3) == 0 { "vault" } else { "box" };
    let config = if rng.below(5) == 0 {
        serde_json::json!({"directory": "/etc/rclone"})
    } else {
        serde_json::json!({"secret": {"file": "/etc/rclone.conf"}})
    };
    serde_json::from_value(
        serde_json::json!({"remote": remote, "path": path, "config": config, "transfers": 4, "partSizeMib": 16}),
    )
    .unwrap()
}

fn database() -> Mongodb {
    let uri = MongoUri::Plain("mongodb://m/".to_owned());
    Mongodb {
        connection: MongoConnection {
            uri,
            username: None,
            password: None,
            tls_ca: None,
            tls_certificate: None,
        },
        include: vec![],
        exclude: vec![],
        oplog: OplogMode::Auto,
        member: MemberPreference::Primary,
        parallel_collections: 4,
    }
}

fn volume(name: &str, optional: bool) -> Volume {
    Volume {
        name: name.parse().unwrap(),
        place: VolumePlace::HostPath(format!("/mnt/{name}").into()),
        include: vec![],
        exclude: vec![],
        optional,
        allow_empty: false,
        node_selector: BTreeMap::new(),
        one_file_system: true,
    }
}

/// The policy `p<number>`.
pub fn policy(rng: &mut Rng, number: usize) -> Policy {
    let name = format!("p{number}");
    let (mongodb, volumes) = match rng.below(4) {
        0 => (Some(database()), vec![volume("a", false)]),
        1 => (Some(database()), vec![]),
        2 => (None, vec![volume("a", false), volume("b", true)]),
        _ => (None, vec![volume("a", false)]),
    };
    let mut policy = Policy {
        restore_from: None,
        schedule: schedule(rng, &name),
        starting_deadline: (rng.below(4) == 0)
            .then(|| Duration::from_secs(rng.wide(600, 86_400).unsigned_abs())),
        suspend: false,
        mongodb,
        volumes,
        destination: location(rng, &name),
        take_over: false,
        retention: retention(rng),
        guards: Guards { minimum_source_percent: 50 },
        fresh_within: None,
        task: TaskSettings {
            timeout: Duration::from_secs(rng.range(2, 6).unsigned_abs() * 3600),
            pending: Duration::from_secs(900),
            retries: u8::try_from(rng.below(4)).unwrap(),
            memory_mib: 128,
            placement: Default::default(),
        },
        name: name.parse().unwrap(),
        instance: "site".parse().unwrap(),
    };
    if rng.below(3) == 0 {
        policy.restore_from = Some(restore_from(rng, &policy));
    }
    policy
}

/// The policy's own place, or another one.
pub fn restore_from(rng: &mut Rng, policy: &Policy) -> RestoreFrom {
    let location = match rng.below(2) {
        0 => policy.destination.clone(),
        _ => location(rng, &format!("{}-before", policy.name)),
    };
    RestoreFrom {
        location,
        instance: policy.instance.clone(),
        policy: policy.name.clone(),
        as_of: AsOf::Latest,
        users: false,
    }
}
