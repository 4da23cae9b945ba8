//! What of an archive is kept, and under which name.

use crate::{
    domain::{error::Invalid, policy::NamespacePattern},
    storage::archive::namespace::Namespace,
};

/// Collection of `admin` into which the users of an archive are restored before they are merged. Restoring them under
/// their own name would make mongorestore delete every user that is not in the archive, the restoring one too.
pub const RESTORED_USERS: &str = "backstay_restored_users";
/// As [`RESTORED_USERS`], the roles.
pub const RESTORED_ROLES: &str = "backstay_restored_roles";

/// A new name for a database or for one collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rename {
    /// All collections of a database.
    Database {
        /// The name in the archive.
        from: String,
        /// The new name.
        to: String,
    },
    /// One collection, also into another database.
    Collection {
        /// The name in the archive.
        from: Namespace,
        /// The new name.
        to: Namespace,
    },
}

impl Rename {
    /// Reads a pair of names: two databases (`girder`, `girder_test`) or two collections (`a.b`, `c.d`).
    ///
    /// # Errors
    /// Names that are not such a pair, patterns, and the server's own databases.
    pub fn parse(from: &str, to: &str) -> Result<Self, Invalid> {
        for name in [from, to] {
            let database = name.split('.').next().unwrap_or_default();
            if database.is_empty() || name.contains(['*', '\0']) || name.ends_with('.') || name.len() > 255 {
                return Err(Invalid::new(format!(
                    "{name:?} is not the name of a database (girder) or of a collection (girder.file)"
                )));
            }
            if matches!(database, "admin" | "config" | "local") {
                return Err(Invalid::new(format!("{name:?} belongs to the server and cannot be renamed")));
            }
        }
        match (Namespace::split(from), Namespace::split(to)) {
            (None, None) => Ok(Self::Database { from: from.to_owned(), to: to.to_owned() }),
            (Some(from), Some(to)) if !is_system(&from) && !is_system(&to) => {
                Ok(Self::Collection { from, to })
            }
            (Some(_), Some(_)) => {
                Err(Invalid::new(format!("{from:?} to {to:?}: system collections cannot be renamed")))
            }
            _ => Err(Invalid::new(format!(
                "{from:?} to {to:?}: write two databases or two collections, not one of each"
            ))),
        }
    }
}

fn is_system(namespace: &Namespace) -> bool {
    namespace.collection.starts_with("system.")
}

/// What happens to the server's own databases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Internal {
    /// `admin` and `config` are databases like others: a dump.
    AsAnyOther,
    /// Only what was asked for: a restore.
    OnRequest {
        /// Users and roles, as [`RESTORED_USERS`] and [`RESTORED_ROLES`].
        users: bool,
        /// `config.*`.
        config: bool,
    },
}

/// What of an archive is kept, and under which name. One filter serves dumps and restores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// Namespaces to keep; empty: all.
    pub include: Vec<NamespacePattern>,
    /// Namespaces to leave out; wins over `include`.
    pub exclude: Vec<NamespacePattern>,
    /// New names; the first that fits is taken, collections before databases.
    pub renames: Vec<Rename>,
    /// The server's own databases.
    pub internal: Internal,
    /// False: the oplog is left out.
    pub oplog: bool,
}

impl Filter {
    /// Keeps all, as it is.
    pub fn everything() -> Self {
        Self {
            include: Vec::new(),
            exclude: Vec::new(),
            renames: Vec::new(),
            internal: Internal::AsAnyOther,
            oplog: true,
        }
    }

    /// True when nothing is left out and nothing renamed.
    pub fn is_everything(&self) -> bool {
        let Self { include, exclude, renames, internal, oplog } = self;
        include.is_empty()
            && exclude.is_empty()
            && renames.is_empty()
            && *internal == Internal::AsAnyOther
            && *oplog
    }

    /// The name under which `namespace` is passed on; `None` when it is left out.
    pub fn target(&self, namespace: &Namespace) -> Option<Namespace> {
        if namespace.is_oplog() {
            return self.oplog.then(|| namespace.clone());
        }
        let logical = namespace.logical();
        let target = match (self.internal, logical.database.as_str()) {
            (Internal::OnRequest { users, .. }, "admin") => self.admin(&logical, users)?,
            (Internal::OnRequest { config, .. }, "config") => config.then_some(logical)?,
            _ => self.selects(&logical).then(|| self.rename(logical))?,
        };
        Some(if namespace.is_buckets() { target.buckets() } else { target })
    }

    /// Users and roles go into collections of their own; other collections of `admin` only when `include` asks.
    fn admin(&self, namespace: &Namespace, users: bool) -> Option<Namespace> {
        match namespace.collection.as_str() {
            "system.users" => users.then(|| Namespace::new("admin", RESTORED_USERS)),
            "system.roles" => users.then(|| Namespace::new("admin", RESTORED_ROLES)),
            other if other.starts_with("system.") => None,
            _ => (!self.include.is_empty() && self.selects(namespace)).then(|| namespace.clone()),
        }
    }

    fn selects(&self, namespace: &Namespace) -> bool {
        let name = namespace.to_string();
        let included = self.include.is_empty() || self.include.iter().any(|p| p.matches(&name));
        included && !self.exclude.iter().any(|p| p.matches(&name))
    }

    fn rename(&self, namespace: Namespace) -> Namespace {
        let collection = self.renames.iter().find_map(|rename| match rename {
            Rename::Collection { from, to } if *from == namespace => Some(to.clone()),
            _ => None,
        });
        let database = || {
            self.renames.iter().find_map(|rename| match rename {
                Rename::Database { from, to } if *from == namespace.database => {
                    Some(Namespace::new(to, &namespace.collection))
                }
                _ => None,
            })
        };
        collection.or_else(database).unwrap_or(namespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(list: &[&str]) -> Vec<NamespacePattern> {
        list.iter().map(|p| p.parse().unwrap()).collect()
    }

    fn restore() -> Filter {
        Filter {
            include: patterns(&["girder", "logs.*"]),
            exclude: patterns(&["*.tmp"]),
            renames: vec![
                Rename::parse("girder", "copy").unwrap(),
                Rename::parse("girder.file", "other.files").unwrap(),
            ],
            internal: Internal::OnRequest { users: true, config: false },
            oplog: true,
        }
    }

    #[test]
    fn selection_and_names() {
        let filter = restore();
        for (from, to) in [
            ("girder.user", Some("copy.user")),
            ("girder.file", Some("other.files")),
            ("girder.tmp", None),
            ("girder2.user", None),
            ("logs.a.b", Some("logs.a.b")),
            ("girder.system.buckets.ts", Some("copy.system.buckets.ts")),
            ("girder.system.buckets.tmp", None),
            ("girder.system.buckets.file", Some("other.system.buckets.files")),
            ("girder.system.js", Some("copy.system.js")),
            ("admin.system.users", Some("admin.backstay_restored_users")),
            ("admin.system.version", None),
            ("admin.own", None),
            ("config.system.sessions", None),
            (".oplog", Some(".oplog")),
        ] {
            let target = filter.target(&Namespace::split(from).unwrap());
            assert_eq!(target.map(|t| t.to_string()).as_deref(), to, "{from}");
        }
        assert!(Filter::everything().is_everything() && !filter.is_everything());
    }

    #[test]
    fn renames_that_make_no_sense_say_why() {
        for (from, to, word) in [
            ("a", "b.c", "not one of each"),
            ("a.b", "c", "not one of each"),
            ("admin", "b", "belongs to the server"),
            ("a", "local", "belongs to the server"),
            ("a.*", "b.*", "is not the name"),
            ("", "b", "is not the name"),
            ("a.system.js", "b.c", "system collections"),
        ] {
            let error = Rename::parse(from, to).unwrap_err().to_string();
            assert!(error.contains(word), "{from} {to}: {error}");
        }
    }
}
