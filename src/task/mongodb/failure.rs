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
        ErrorKind::ServerSelection { .. } | ErrorKind::Io(_) | ErrorKind::ConnectionPoolCleared { .. } => {
            unreachable(connection, &error.to_string())
        }
        _ => Failure::temporary("DatabaseError", format!("MongoDB at {hosts}: {error}")),
    }
}

/// No answer.
pub fn unreachable(connection: &Connection, detail: &str) -> Failure {
    let hosts = connection.hosts();
    Failure::temporary("DatabaseUnreachable", format!("MongoDB at {hosts} cannot be reached: {detail}")).fix(
        format!(
            "check that it runs, and that {}.uri names its hosts as they are seen from here",
            connection.place()
        ),
    )
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

fn unauthorized(message: &str, connection: &Connection, needs: Needs) -> Failure {
    let user = connection.user().unwrap_or("the user");
    Failure::new(
        Verdict::Credentials,
        "RoleMissing",
        format!("MongoDB at {}: the user {user:?} may not do this: {message}", connection.hosts()),
    )
    .fix(format!("in mongosh: db.getSiblingDB(\"admin\").grantRolesToUser({user:?}, {})", needs.roles()))
}

/// What mongodump says when the oplog cannot carry the dump: renames, `$out`, a changed version, a roll-over.
const OPLOG: &[&str] = &[
    "oplog overflow",
    "CappedPositionLost",
    "renames occur",
    "renameCollection",
    "convertToCapped",
    "oplog",
    "is modified",
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
        return unreachable(connection, &message);
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
