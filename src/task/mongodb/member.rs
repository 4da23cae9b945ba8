//! Which member of a deployment is read.
//!
//! One member, read directly: through a set's connection string each query may go to another member, and oplog and
//! documents would not belong together (measured: inconsistent, exit code 0).

use super::{connection::Connection, failure};
use crate::domain::{
    policy::MemberPreference,
    verdict::{Failure, Verdict},
};
use futures_util::future::join_all;
use mongodb::{
    Client,
    bson::{Bson, Document, Timestamp, doc},
    error::{Error, ErrorKind},
    options::ServerAddress,
};
use std::time::Duration;

/// A secondary that is further behind the newest write is not read.
const MAX_LAG: Duration = Duration::from_secs(10);
/// No question here takes a healthy server so long, not even a catalog of ten thousand collections.
const ANSWER: Duration = Duration::from_secs(60);

/// What kind of deployment it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topology {
    /// One server without an oplog.
    Standalone,
    /// A replica set.
    ReplicaSet,
    /// Reached through mongos.
    Sharded,
}

impl Topology {
    /// The word in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Standalone => "standalone",
            Self::ReplicaSet => "replicaSet",
            Self::Sharded => "sharded",
        }
    }
}

/// A server that answered.
#[derive(Debug, Clone)]
pub struct Member {
    /// Where it is.
    pub address: ServerAddress,
    /// What it belongs to.
    pub topology: Topology,
    /// It takes writes.
    pub primary: bool,
    /// It follows a primary and may be read.
    pub secondary: bool,
    /// Its set's name.
    pub set_name: Option<String>,
    /// Its last write, milliseconds since 1970; `None` outside a set.
    last_write: Option<i64>,
    /// The other members that it knows.
    hosts: Vec<ServerAddress>,
}

impl Member {
    /// `primary`, `secondary`, or what a server alone is.
    pub fn role(&self) -> &'static str {
        match (self.topology, self.primary) {
            (Topology::Sharded, _) => "mongos",
            (_, true) => "primary",
            (_, false) => "secondary",
        }
    }
}

/// Finds the member to read; and remarks for a person: a member that refuses the credentials, such as one that does not
/// know the users yet, is none to read.
///
/// # Errors
/// None that answers, refused credentials, or none of the wanted role that is not behind.
pub async fn choose(
    connection: &Connection,
    preference: MemberPreference,
) -> Result<(Member, Vec<String>), Failure> {
    let (members, refused) = all(connection).await?;
    let newest = members.iter().filter_map(|m| m.last_write).max().unwrap_or(0);
    let lag =
        |m: &Member| Duration::from_millis(u64::try_from(newest - m.last_write.unwrap_or(0)).unwrap_or(0));
    let fresh = |m: &&Member| m.secondary && lag(m) <= MAX_LAG;
    let secondary = || members.iter().filter(fresh).min_by_key(|m| lag(m));
    let primary = || members.iter().find(|m| m.primary || m.topology == Topology::Sharded);
    // A single address that was asked for is the person's choice.
    let chosen = if connection.is_direct() {
        members.iter().find(|m| m.primary || m.secondary || m.topology == Topology::Sharded)
    } else {
        match preference {
            MemberPreference::PreferSecondary => secondary().or_else(primary),
            MemberPreference::Primary => primary(),
            MemberPreference::Secondary => secondary(),
        }
    };
    if let Some(chosen) = chosen {
        let remark = |f: Failure| format!("{}; {} is read", f.message, chosen.address);
        return Ok((chosen.clone(), refused.into_iter().map(remark).collect()));
    }
    Err(refused.into_iter().next().unwrap_or_else(|| {
        let seen: Vec<_> = members
            .iter()
            .map(|m| format!("{} is {}, {} s behind", m.address, state(m), lag(m).as_secs()))
            .collect();
        Failure::temporary(
            "NoMemberToRead",
            format!(
                "no member of the MongoDB deployment can be read now ({preference:?} wanted): {}",
                seen.join("; ")
            ),
        )
        .fix("wait for an election or for the secondaries to catch up, or change mongodb.member")
    }))
}

fn state(member: &Member) -> &'static str {
    match (member.primary, member.secondary) {
        (true, _) => "primary",
        (_, true) => "secondary",
        _ => "neither primary nor secondary",
    }
}

/// All members that answer: first those of the connection string, then those that they know; and who refused the
/// credentials.
async fn all(connection: &Connection) -> Result<(Vec<Member>, Vec<Failure>), Failure> {
    let ask = |address: ServerAddress| async move {
        let answer = hello(&connection.only(&address), &address).await;
        (address, answer)
    };
    let mut answers = join_all(connection.seeds().iter().cloned().map(ask)).await;
    if !connection.is_direct() {
        let known = |address: &ServerAddress| answers.iter().any(|(a, _)| a == address);
        let mut others: Vec<ServerAddress> = Vec::new();
        for host in answers.iter().filter_map(|(_, a)| a.as_ref().ok()).flat_map(|m| &m.hosts) {
            if !known(host) && !others.contains(host) {
                others.push(host.clone());
            }
        }
        answers.extend(join_all(others.into_iter().map(ask)).await);
    }
    let mut failures = Vec::new();
    let mut members: Vec<Member> = Vec::new();
    for (_, answer) in answers {
        match answer {
            Ok(member) => members.push(member),
            Err(failure) => failures.push(failure),
        }
    }
    let (mut refused, others): (Vec<_>, Vec<_>) =
        failures.into_iter().partition(|f| f.verdict == Verdict::Credentials);
    if members.is_empty() {
        return Err(refused.pop().unwrap_or_else(|| failure::together(connection, others)));
    }
    same_set(connection, &members)?;
    Ok((members, refused))
}

fn same_set(connection: &Connection, members: &[Member]) -> Result<(), Failure> {
    let Some(wanted) = connection.set_name() else { return Ok(()) };
    match members.iter().find(|m| m.set_name.as_deref() != Some(wanted)) {
        None => Ok(()),
        Some(other) => Err(Failure::permanent(
            "WrongReplicaSet",
            format!(
                "{} belongs to {}, not to the replica set {wanted:?}",
                other.address,
                other
                    .set_name
                    .as_ref()
                    .map_or("no replica set".to_owned(), |name| format!("the set {name:?}"))
            ),
        )
        .fix(format!("correct replicaSet= in {}.uri", connection.place()))),
    }
}

async fn hello(connection: &Connection, address: &ServerAddress) -> Result<Member, Failure> {
    let client = connection.member(address)?;
    let reply = command(connection, &client, doc! {"hello": 1}).await?;
    let set_name = reply.get_str("setName").ok().map(str::to_owned);
    let flag = |key| reply.get_bool(key).unwrap_or(false);
    let topology = match (reply.get_str("msg"), &set_name) {
        (Ok("isdbgrid"), _) => Topology::Sharded,
        (_, Some(_)) => Topology::ReplicaSet,
        _ => Topology::Standalone,
    };
    let hosts = ["hosts", "passives"].iter().filter_map(|key| reply.get_array(key).ok()).flatten();
    Ok(Member {
        address: address.clone(),
        topology,
        primary: flag("isWritablePrimary"),
        secondary: flag("secondary"),
        set_name,
        last_write: reply
            .get_document("lastWrite")
            .and_then(|last| last.get_datetime("lastWriteDate"))
            .map(|date| date.timestamp_millis())
            .ok(),
        hosts: hosts.filter_map(|h| ServerAddress::parse(h.as_str()?).ok()).collect(),
    })
}

/// Runs a command of `admin` that must be answered soon.
///
/// # Errors
/// As the driver says, or no answer.
pub async fn command(
    connection: &Connection,
    client: &Client,
    command: Document,
) -> Result<Document, Failure> {
    timely(connection, client.database("admin").run_command(command)).await
}

/// Waits for an answer, not without end: a server that is stopped keeps its connections and says nothing.
///
/// # Errors
/// As the driver says, or no answer.
pub async fn timely<T>(
    connection: &Connection,
    question: impl IntoFuture<Output = Result<T, Error>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(ANSWER, question.into_future()).await {
        Ok(answer) => answer.map_err(|e| failure::from_driver(&e, connection)),
        Err(_) => {
            let said = format!("{}: no answer in {} s", connection.hosts(), ANSWER.as_secs());
            Err(failure::unreachable(connection, &said))
        }
    }
}

/// First and last entry of a member's oplog; `None` where there is none.
///
/// # Errors
/// As the driver says.
pub async fn oplog_window(
    connection: &Connection,
    client: &Client,
) -> Result<Option<(Timestamp, Timestamp)>, Failure> {
    let oplog = client.database("local").collection::<Document>("oplog.rs");
    let end = async |order: i32| {
        let find = oplog.find_one(doc! {}).sort(doc! {"$natural": order}).projection(doc! {"ts": 1});
        timely(connection, find).await.map(|entry| match entry?.get("ts") {
            Some(Bson::Timestamp(ts)) => Some(*ts),
            _ => None,
        })
    };
    Ok(end(1).await?.zip(end(-1).await?))
}

/// The feature compatibility version; empty where it is not told.
///
/// # Errors
/// What the driver says, but for a missing right.
pub async fn feature_version(connection: &Connection, client: &Client) -> Result<String, Failure> {
    let versions = client.database("admin").collection::<Document>("system.version");
    let find = versions.find_one(doc! {"_id": "featureCompatibilityVersion"});
    let found = match tokio::time::timeout(ANSWER, find.into_future()).await {
        Ok(Err(e)) if matches!(&*e.kind, ErrorKind::Command(c) if c.code == 13) => None,
        Ok(answer) => answer.map_err(|e| failure::from_driver(&e, connection))?,
        Err(_) => None,
    };
    Ok(found.and_then(|d| d.get_str("version").ok().map(str::to_owned)).unwrap_or_default())
}
