//! How a deployment is reached, for a backup as for a restore.

use super::{destination, errors::Errors, mongo_uri, orchestrator::Orchestrator};
use crate::{
    api::{location::SecretSourceSpec, policy::TlsSpec},
    domain::{
        location::SecretSource,
        policy::{MongoConnection, MongoUri},
    },
};

/// What a document says of a connection, below its field `mongodb`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Given<'a> {
    pub(super) uri: Option<&'a str>,
    pub(super) uri_from: Option<&'a SecretSourceSpec>,
    pub(super) username: Option<&'a str>,
    pub(super) password_from: Option<&'a SecretSourceSpec>,
    pub(super) tls: Option<&'a TlsSpec>,
}

impl Given<'_> {
    /// True when nothing is said.
    pub(super) fn is_nothing(&self) -> bool {
        let Self { uri, uri_from, username, password_from, tls } = self;
        uri.is_none() && uri_from.is_none() && username.is_none() && password_from.is_none() && tls.is_none()
    }

    pub(super) fn connection(
        &self,
        orchestrator: Orchestrator,
        errors: &mut Errors,
    ) -> Option<MongoConnection> {
        let uri = self.uri(orchestrator, errors);
        self.check_credentials(errors);
        let mut secret = |field: &str, spec: Option<&SecretSourceSpec>, key: &str| -> Option<SecretSource> {
            errors.keep(&format!("mongodb.{field}"), destination::secret(spec?, key, orchestrator))
        };
        let password = secret("passwordFrom", self.password_from, "password");
        let tls_ca = secret("tls.caFrom", self.tls.and_then(|tls| tls.ca_from.as_ref()), "ca.crt");
        let certificate = self.tls.and_then(|tls| tls.certificate_from.as_ref());
        let tls_certificate = secret("tls.certificateFrom", certificate, "tls.pem");
        let username = self.username.map(str::to_owned);
        Some(MongoConnection { uri: uri?, username, password, tls_ca, tls_certificate })
    }

    fn uri(&self, orchestrator: Orchestrator, errors: &mut Errors) -> Option<MongoUri> {
        match (self.uri, self.uri_from) {
            (Some(uri), None) => {
                errors.keep("mongodb.uri", mongo_uri::check(uri))?;
                Some(MongoUri::Plain(uri.to_owned()))
            }
            (None, Some(from)) => errors
                .keep("mongodb.uriFrom", destination::secret(from, "uri", orchestrator))
                .map(MongoUri::From),
            (Some(_), Some(_)) => {
                errors.add("mongodb", "has both uri and uriFrom; leave one of them out");
                None
            }
            (None, None) => {
                errors.add("mongodb", "needs uri (without a password) or uriFrom (a secret)");
                None
            }
        }
    }

    /// A user without a password, or the reverse, is a slip wherever the URI can be seen.
    fn check_credentials(&self, errors: &mut Errors) {
        let uri = self.uri.unwrap_or_default();
        let user_in_uri = uri.contains('@');
        let password_in_uri = uri.rsplit_once('@').is_some_and(|(user, _)| user.matches(':').count() > 1);
        if password_in_uri {
            // That is told already, and the advice covers the rest.
            return;
        }
        if user_in_uri && self.username.is_some() {
            errors.add("mongodb.username", "is given, and the URI names a user too; leave one of them out");
        }
        let user = user_in_uri || self.username.is_some();
        let visible = self.uri_from.is_none();
        if visible && !user && self.password_from.is_some() {
            errors.add("mongodb.passwordFrom", "needs a user; write username");
        }
        // X.509 and Kerberos need no password.
        let other_mechanism = uri.to_ascii_lowercase().contains("authmechanism=");
        if user && self.password_from.is_none() && !other_mechanism && visible {
            errors.add(
                "mongodb",
                "names a user without a password; write passwordFrom, or uriFrom for the whole URI",
            );
        }
    }
}
