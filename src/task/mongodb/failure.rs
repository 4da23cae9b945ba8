//! What servers and tools say, as failures with a verdict and a next step.

use super::connection::Connection;
use crate::domain::verdict::{Failure, Verdict};
use mongodb::error::{Error, ErrorKind};

/// Reason of a dump that the oplog would not carry: trying again a little later may help.
pub const OPLOG_INTERRUPTED: &str = "OplogInterrupted";

/// Who needs which role.
#[derive(Debug, Clone, Copy)]
pub enum Needs {
    /// To dump.
    Backup,
    /// To restore.
    Restore,
}

impl Needs {
    fn roles(self) -> &'static str {
        match self {
            Self::Backup => r#"["backup"]"#,
            Self::Restore => r#"["restore", "readWriteAnyDatabase"]"#,
        }
    }
}

/// An error of the driver while it looks at a source.
pub fn from_driver(error: &Error, connection: &Connection) -> Failure {
    from_driver_for(error, connection, Needs::Backup)
}

/// An error of the driver, for a user that needs these roles.
pub fn from_driver_for(error: &Error, connection: &Connection, needs: Needs) -> Failure {
    let hosts = connection.hosts();
    match &*error.kind {
        ErrorKind::Authentication { .. } => refused(connection),
        ErrorKind::Command(command) if command.code == 18 => refused(connection),
        ErrorKind::Command(command) if command.code == 13 && connection.user().is_none() => {
            anonymous(connection)
        }
        ErrorKind::Command(command) if command.code == 13 => {
            unauthorized(&command.message, connection, needs)
        }
        ErrorKind::InvalidTlsConfig { message, .. } => {
            Failure::permanent("TlsConfiguration", format!("MongoDB at {hosts}: {message}"))
                .fix(format!("correct {}.tls", connection.place()))
        }
        ErrorKind::Command(command) => {
            Failure::temporary("DatabaseError", format!("MongoDB at {hosts}: {}", command.message))
        }
        kind @ (ErrorKind::ServerSelection { .. }
        | ErrorKind::Io(_)
        | ErrorKind::ConnectionPoolCleared { .. }) => {
            unreachable(connection, &each_said(&kind.to_string(), &hosts))
        }
        kind => Failure::temporary("DatabaseError", format!("MongoDB at {hosts}: {kind}")),
    }
}

const UNREACHABLE: &str = "MongoDB cannot be reached: ";

/// No answer: `said` is `host: clause` for each host, joined by `; `.
pub fn unreachable(connection: &Connection, said: &str) -> Failure {
    Failure::temporary("DatabaseUnreachable", format!("{UNREACHABLE}{said}")).fix(format!(
        "check that it runs, and that {}.uri names its hosts as they are seen from here",
        connection.place()
    ))
}

/// Of hosts that were asked, none of which can be read, one failure: the first that knows more than that one is out of
/// reach, or what each said.
pub fn together(connection: &Connection, mut failures: Vec<Failure>) -> Failure {
    if let Some(other) = failures.iter().position(|f| !f.message.starts_with(UNREACHABLE)) {
        return failures.swap_remove(other);
    }
    let said: Vec<_> = failures.iter().filter_map(|f| f.message.strip_prefix(UNREACHABLE)).collect();
    unreachable(connection, &said.join("; "))
}

/// What each server said, from the driver's words for a whole topology; or for `hosts`, from its words for one error.
fn each_said(words: &str, hosts: &str) -> String {
    let server = |words: &str| {
        let (address, words) = words.split_once(", Type: ")?;
        let said = match words.split_once(", Error: ") {
            Some((_, error)) => clause(error),
            None if words.starts_with("Unknown") => NO_ANSWER.to_owned(),
            None => "takes no writes now".to_owned(),
        };
        Some(format!("{address}: {said}"))
    };
    let servers: Vec<_> = words.split("{ Address: ").skip(1).filter_map(server).collect();
    if servers.is_empty() { format!("{hosts}: {}", clause(words)) } else { servers.join("; ") }
}

const NO_ANSWER: &str = "no answer";

/// One clause for what a driver or tool says in many words.
fn clause(words: &str) -> String {
    let known = [
        ("refused", "connection refused"),
        ("lookup", "unknown host"),
        ("timed out", NO_ANSWER),
        ("timeout", NO_ANSWER),
    ];
    if let Some((_, clause)) = known.iter().find(|(word, _)| words.contains(word)) {
        return (*clause).to_owned();
    }
    let plain = words.trim_start_matches("Kind: ").trim_start_matches("I/O error: ");
    let end = [" (os error", ", labels: ", ", current topology"].iter().filter_map(|mark| plain.find(mark));
    plain[..end.min().unwrap_or(plain.len())].to_owned()
}

fn refused(connection: &Connection) -> Failure {
    let user = connection.user().unwrap_or("the certificate's user");
    let place = connection.place();
    Failure::new(
        Verdict::Credentials,
        "AuthenticationFailed",
        format!("MongoDB at {} refused the user {user:?} or its password", connection.hosts()),
    )
    .fix(format!("correct {place}.username and {place}.passwordFrom (or the secret behind {place}.uriFrom); the user's database is authSource, admin by default"))
}

fn anonymous(connection: &Connection) -> Failure {
    let place = connection.place();
    Failure::new(
        Verdict::Credentials,
        "AuthenticationRequired",
        format!("MongoDB at {} wants a user, and {place} has none", connection.hosts()),
    )
    .fix(format!("set {place}.username and {place}.passwordFrom"))
}

/// A user that lacks a role.
pub fn unauthorized(message: &str, connection: &Connection, needs: Needs) -> Failure {
    let user = connection.user().unwrap_or("the user");
    Failure::new(
        Verdict::Credentials,
        "RoleMissing",
        format!("MongoDB at {}: the user {user:?} may not do this: {message}", connection.hosts()),
    )
    .fix(format!("in mongosh: db.getSiblingDB(\"admin\").grantRolesToUser({user:?}, {})", needs.roles()))
}

/// What mongodump says when the oplog cannot carry the dump: renames, `$out`, a changed version, a roll-over; the last two
/// when the very collection that it reads is renamed or dropped.
const OPLOG: &[&str] = &[
    "oplog overflow",
    "CappedPositionLost",
    "renames occur",
    "renameCollection",
    "convertToCapped",
    "oplog",
    "is modified",
    "collection renamed",
    "collection dropped",
];

/// A failed run of mongodump or mongorestore, from what it last said.
pub fn from_tool(tool: &str, said: &str, ended: &str, connection: &Connection, needs: Needs) -> Failure {
    let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
    if has(&["AuthenticationFailed", "Authentication failed", "auth error"]) {
        return refused(connection);
    }
    if has(&["requires authentication"]) && connection.user().is_none() {
        return anonymous(connection);
    }
    if has(&["not authorized", "Unauthorized", "requires authentication"]) {
        return unauthorized(said, connection, needs);
    }
    let message = if said.is_empty() {
        format!("{tool} ended with {ended} and said nothing")
    } else {
        format!("{tool} ended with {ended}: {said}")
    };
    if has(&["server selection error", "connection refused", "no reachable servers"]) {
        return unreachable(connection, &format!("{}: {tool}: {}", connection.hosts(), clause(said)));
    }
    if matches!(needs, Needs::Backup) && has(OPLOG) {
        return Failure::temporary(OPLOG_INTERRUPTED, message);
    }
    Failure::temporary(if matches!(needs, Needs::Backup) { "DumpFailed" } else { "RestoreFailed" }, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mongodb::options::ServerAddress;

    #[test]
    fn each_host_has_one_clause() {
        let error = "Kind: I/O error: Connection refused (os error 111), labels: {}, source: None, server response: None";
        let words = format!(
            "Server selection timeout: No available servers. Topology: {{ Type: Unknown, Servers: [ \
             {{ Address: a:1, Type: Unknown, Error: {error} }}, {{ Address: b:2, Type: Unknown }}, \
             {{ Address: c:3, Type: RsSecondary, Average RTT: 1ms }}, ] }}"
        );
        assert_eq!(
            each_said(&words, "a:1,b:2,c:3"),
            "a:1: connection refused; b:2: no answer; c:3: takes no writes now"
        );
        for (words, said) in [
            ("I/O error: failed to lookup address information: Name or service not known", "unknown host"),
            (
                "Kind: I/O error: Connection reset by peer (os error 104), labels: {}",
                "Connection reset by peer",
            ),
            ("server selection error: server selection timeout, current topology: { Type: …", "no answer"),
        ] {
            assert_eq!(each_said(words, "h:1"), format!("h:1: {said}"));
        }
    }

    #[test]
    fn of_several_hosts_what_tells_most_is_said() {
        let connection = Connection::local(ServerAddress::parse("h:1").unwrap());
        let [a, b] = ["a:1: unknown host", "b:2: no answer"].map(|said| unreachable(&connection, said));
        let tls = Failure::permanent("TlsConfiguration", "MongoDB at c:3: no certificate");
        assert_eq!(
            together(&connection, vec![a.clone(), b.clone()]).message,
            "MongoDB cannot be reached: a:1: unknown host; b:2: no answer"
        );
        assert_eq!(together(&connection, vec![a, tls.clone(), b]), tls);
    }

    #[test]
    fn what_tools_say_has_a_verdict_and_a_next_step() {
        let connection = Connection::local(ServerAddress::parse("h:1").unwrap());
        for (needs, said, verdict, reason) in [
            (
                Needs::Backup,
                "Failed: can't create session: … AuthenticationFailed",
                Verdict::Credentials,
                "AuthenticationFailed",
            ),
            (
                Needs::Backup,
                "Failed: not authorized on local to execute command",
                Verdict::Credentials,
                "RoleMissing",
            ),
            (
                Needs::Backup,
                "Failed: … Command listDatabases requires authentication",
                Verdict::Credentials,
                "AuthenticationRequired",
            ),
            (
                Needs::Backup,
                "Failed: oplog overflow: mongodump was unable to capture all new oplog entries",
                Verdict::Temporary,
                OPLOG_INTERRUPTED,
            ),
            (
                Needs::Backup,
                "Failed: error reading collection: (QueryPlanKilled) collection renamed from 'a.b' to 'a.c'",
                Verdict::Temporary,
                OPLOG_INTERRUPTED,
            ),
            (
                Needs::Backup,
                "Failed: server selection error: context deadline exceeded",
                Verdict::Temporary,
                "DatabaseUnreachable",
            ),
            (Needs::Backup, "", Verdict::Temporary, "DumpFailed"),
            (
                Needs::Restore,
                "Failed: restore error: error applying oplog: …",
                Verdict::Temporary,
                "RestoreFailed",
            ),
        ] {
            let failure = from_tool("mongodump", said, "exit code 1", &connection, needs);
            assert_eq!((failure.verdict, failure.reason.as_str()), (verdict, reason), "{said}");
        }
    }
}
