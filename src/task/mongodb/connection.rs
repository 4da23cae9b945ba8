//! From a policy's words to clients of the driver and to the configuration of mongodump and mongorestore.
//!
//! The tools get a connection string that is written here from its parts: they read the timeouts of a person's string
//! as seconds, and a database in it silently narrows what they do. It goes through a pipe, never on a command line.

use crate::{
    domain::{
        policy::{MongoConnection, MongoUri},
        verdict::{Failure, Verdict},
    },
    task::secret,
};
use mongodb::{
    Client,
    options::{AuthMechanism, ClientOptions, Credential, ServerAddress, Tls, TlsOptions},
};
use secrecy::{ExposeSecret, SecretString};
use std::{fmt::Write as _, time::Duration};

/// The driver's own limit for finding a server, and the tools': long enough for an election.
pub const SELECTION: Duration = Duration::from_secs(15);

/// A deployment, and how to sign in. Its debug form shows no password.
#[derive(Clone)]
pub struct Connection {
    options: ClientOptions,
    /// Which field of the policy it comes from, for messages.
    place: String,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Connection({})", self.hosts())
    }
}

/// What a tool talks to.
#[derive(Debug, Clone, Copy)]
pub enum Target<'a> {
    /// One member, whatever its role.
    Member(&'a ServerAddress),
    /// The whole deployment: a set's primary, found again when it changes.
    Deployment,
}

impl Connection {
    /// Reads the secrets and checks the connection string. `place` is the field it comes from, such as `mongodb`.
    ///
    /// # Errors
    /// Secrets that are not there, a string that is malformed, and one that names a database.
    pub async fn resolve(connection: &MongoConnection, place: &str) -> Result<Self, Failure> {
        let (uri, field) = match &connection.uri {
            MongoUri::Plain(uri) => (SecretString::from(uri.as_str()), format!("{place}.uri")),
            MongoUri::From(source) => {
                let field = format!("{place}.uriFrom");
                (secret::read(source, &field)?, field)
            }
        };
        let mut options = parse(uri.expose_secret(), &field).await?;
        sign_in(&mut options, connection, place)?;
        encrypt(&mut options, connection, place)?;
        Ok(Self { options, place: place.to_owned() })
    }

    /// A server on this machine without access control, at a unix socket or a port: a scratch server.
    pub fn local(address: ServerAddress) -> Self {
        let options = ClientOptions::builder().hosts(vec![address]).direct_connection(true).build();
        Self { options: tamed(options), place: "scratch".to_owned() }
    }

    /// The same, of one of its members: what fails then is said of that one.
    #[must_use]
    pub fn only(&self, address: &ServerAddress) -> Self {
        let mut one = self.clone();
        one.options.hosts = vec![address.clone()];
        one
    }

    /// The hosts of the connection string, for messages.
    pub fn hosts(&self) -> String {
        self.options.hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    }

    /// The addresses in the connection string.
    pub fn seeds(&self) -> &[ServerAddress] {
        &self.options.hosts
    }

    /// The set's name, when the connection string says it.
    pub fn set_name(&self) -> Option<&str> {
        self.options.repl_set_name.as_deref()
    }

    /// True when the connection string asks for exactly its one host.
    pub fn is_direct(&self) -> bool {
        self.options.direct_connection == Some(true)
    }

    /// The user that signs in, for messages.
    pub fn user(&self) -> Option<&str> {
        self.options.credential.as_ref()?.username.as_deref()
    }

    /// The field of the policy that this comes from.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// A client of the whole deployment: writes go to the primary.
    ///
    /// # Errors
    /// A certificate that cannot be used.
    pub fn client(&self) -> Result<Client, Failure> {
        self.open(self.options.clone())
    }

    /// A client of one member, whatever its role.
    ///
    /// # Errors
    /// As [`Connection::client`].
    pub fn member(&self, address: &ServerAddress) -> Result<Client, Failure> {
        let mut options = self.options.clone();
        options.hosts = vec![address.clone()];
        options.direct_connection = Some(true);
        options.repl_set_name = None;
        options.server_selection_timeout = Some(Duration::from_secs(5));
        self.open(options)
    }

    fn open(&self, options: ClientOptions) -> Result<Client, Failure> {
        Client::with_options(options).map_err(|e| {
            Failure::permanent("ConnectionOptions", format!("{}: {e}", self.place))
                .fix(format!("correct {}.uri and {}.tls", self.place, self.place))
        })
    }

    /// The content of a `--config` for mongodump and mongorestore: connection string and password.
    ///
    /// # Errors
    /// A way to sign in that the tools' connection string cannot say.
    pub fn tool_config(&self, target: Target<'_>) -> Result<SecretString, Failure> {
        let mut config = serde_json::Map::new();
        config.insert("uri".to_owned(), self.tool_uri(target)?.into());
        if let Some(password) = self.options.credential.as_ref().and_then(|c| c.password.as_ref()) {
            config.insert("password".to_owned(), password.as_str().into());
        }
        // JSON is YAML, which the tools read.
        Ok(serde_json::Value::Object(config).to_string().into())
    }

    fn tool_uri(&self, target: Target<'_>) -> Result<String, Failure> {
        let mut uri = "mongodb://".to_owned();
        if let Some(user) = self.user() {
            uri.push_str(&encode(user));
            uri.push('@');
        }
        let hosts = match target {
            Target::Member(address) => vec![address],
            Target::Deployment => self.options.hosts.iter().collect(),
        };
        uri.push_str(&hosts.into_iter().map(host).collect::<Vec<_>>().join(","));
        uri.push_str("/?");
        match target {
            Target::Member(_) => uri.push_str("directConnection=true"),
            Target::Deployment if self.is_direct() => uri.push_str("directConnection=true&retryWrites=true"),
            Target::Deployment => {
                uri.push_str("retryWrites=true");
                if let Some(name) = self.set_name() {
                    let _ = write!(uri, "&replicaSet={}", encode(name));
                }
            }
        }
        self.sign_in_options(&mut uri)?;
        if let Some(Tls::Enabled(tls)) = &self.options.tls {
            tls_options(tls, &mut uri);
        }
        Ok(uri)
    }

    fn sign_in_options(&self, uri: &mut String) -> Result<(), Failure> {
        let Some(credential) = &self.options.credential else { return Ok(()) };
        if let Some(source) = &credential.source {
            let _ = write!(uri, "&authSource={}", encode(source));
        }
        match &credential.mechanism {
            None => Ok(()),
            Some(
                mechanism @ (AuthMechanism::ScramSha1
                | AuthMechanism::ScramSha256
                | AuthMechanism::MongoDbX509
                | AuthMechanism::Plain),
            ) => {
                let _ = write!(uri, "&authMechanism={}", mechanism.as_str());
                Ok(())
            }
            Some(other) => Err(Failure::permanent(
                "AuthMechanism",
                format!("{}: the mechanism {} is not supported", self.place, other.as_str()),
            )
            .fix("use SCRAM-SHA-256, SCRAM-SHA-1, MONGODB-X509 or PLAIN")),
        }
    }
}

async fn parse(uri: &str, field: &str) -> Result<ClientOptions, Failure> {
    let options = ClientOptions::parse(uri).await.map_err(|error| {
        if let mongodb::error::ErrorKind::DnsResolve { message, .. } = &*error.kind {
            return Failure::temporary("DatabaseUnreachable", format!("{field}: {message}"));
        }
        // A password that is not escaped ends up in the driver's words.
        let detail = if uri.contains('@') { String::new() } else { format!(": {error}") };
        Failure::permanent("ConnectionString", format!("{field} is not a MongoDB connection string{detail}"))
            .fix("write mongodb://host1,host2/?replicaSet=name; in a user or password, write %40 for @, %3A for :, %2F for / and %25 for %")
    })?;
    if let Some(database) = &options.default_database {
        return Err(Failure::permanent(
            "DatabaseInConnectionString",
            format!("{field} names the database {database:?} after the hosts: the tools would silently do that database only"),
        )
        .fix(format!(
            "write /?… instead of /{database}?…; for the database of the user add authSource={database}, to choose what is taken use include: [{database}]"
        )));
    }
    Ok(tamed(options))
}

/// Our own limits instead of a person's, which are meant for an application.
fn tamed(mut options: ClientOptions) -> ClientOptions {
    options.app_name = Some("backstay".to_owned());
    options.server_selection_timeout = Some(SELECTION);
    options.connect_timeout = Some(Duration::from_secs(10));
    options.max_idle_time = None;
    options.max_pool_size = Some(4);
    options.selection_criteria = None;
    options.write_concern = None;
    options.read_concern = None;
    options
}

fn sign_in(options: &mut ClientOptions, connection: &MongoConnection, place: &str) -> Result<(), Failure> {
    if let Some(username) = &connection.username {
        let source = options.credential.as_ref().and_then(|c| c.source.clone());
        options.credential = Some(
            Credential::builder()
                .username(username.clone())
                .source(source.or_else(|| Some("admin".to_owned())))
                .build(),
        );
    }
    if let Some(source) = &connection.password {
        let password = secret::read(source, &format!("{place}.passwordFrom"))?;
        let Some(credential) = &mut options.credential else {
            return Err(Failure::permanent("NoUser", format!("{place}.passwordFrom is set, but no user is"))
                .fix(format!("set {place}.username")));
        };
        credential.password = Some(password.expose_secret().to_owned());
    }
    let x509 = |c: &Credential| matches!(c.mechanism, Some(AuthMechanism::MongoDbX509));
    match &options.credential {
        Some(c) if c.password.is_none() && !x509(c) => Err(Failure::new(
            Verdict::Credentials,
            "NoPassword",
            format!("{place} has the user {:?} but no password", c.username.as_deref().unwrap_or_default()),
        )
        .fix(format!("set {place}.passwordFrom"))),
        _ => Ok(()),
    }
}

fn encrypt(options: &mut ClientOptions, connection: &MongoConnection, place: &str) -> Result<(), Failure> {
    let MongoConnection { tls_ca, tls_certificate, .. } = connection;
    if tls_ca.is_none() && tls_certificate.is_none() {
        return Ok(());
    }
    let mut tls = match options.tls.take() {
        Some(Tls::Enabled(tls)) => tls,
        _ => TlsOptions::default(),
    };
    if let Some(source) = tls_ca {
        tls.ca_file_path = Some(secret::file(source, &format!("{place}.tls.caFrom"))?.to_owned());
    }
    if let Some(source) = tls_certificate {
        let path = secret::file(source, &format!("{place}.tls.certificateFrom"))?;
        tls.cert_key_file_path = Some(path.to_owned());
    }
    options.tls = Some(Tls::Enabled(tls));
    Ok(())
}

fn tls_options(tls: &TlsOptions, uri: &mut String) {
    uri.push_str("&tls=true");
    let path = |path: &Option<std::path::PathBuf>| path.as_ref().map(|p| encode(&p.to_string_lossy()));
    if let Some(ca) = path(&tls.ca_file_path) {
        let _ = write!(uri, "&tlsCAFile={ca}");
    }
    if let Some(certificate) = path(&tls.cert_key_file_path) {
        let _ = write!(uri, "&tlsCertificateKeyFile={certificate}");
    }
    if tls.allow_invalid_certificates == Some(true) {
        uri.push_str("&tlsInsecure=true");
    }
}

fn host(address: &ServerAddress) -> String {
    match address {
        ServerAddress::Unix { path } => encode(&path.to_string_lossy()),
        other => other.to_string(),
    }
}

/// Percent-encodes all but the unreserved characters.
fn encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, c| {
        if c.is_ascii_alphanumeric() || b"-._~".contains(&c) {
            out.push(char::from(c));
        } else {
            let _ = write!(out, "%{c:02X}");
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::location::SecretSource;

    fn plain(uri: &str) -> MongoConnection {
        MongoConnection {
            uri: MongoUri::Plain(uri.to_owned()),
            username: None,
            password: None,
            tls_ca: None,
            tls_certificate: None,
        }
    }

    #[tokio::test]
    async fn the_tools_get_a_string_of_our_own() {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("password");
        std::fs::write(&secret, "p@ss:w/rd%\"\n").unwrap();
        let mut policy = plain(
            "mongodb://a:1,b:2/?replicaSet=rs1&serverSelectionTimeoutMS=2000&readPreference=secondaryPreferred&tls=true",
        );
        policy.username = Some("back@up".to_owned());
        policy.password = Some(SecretSource::File(secret));
        policy.tls_ca = Some(SecretSource::File("/etc/ca.pem".into()));
        let connection = Connection::resolve(&policy, "mongodb").await.unwrap();
        assert_eq!(connection.hosts(), "a:1,b:2");
        let member = connection.seeds()[1].clone();
        for (target, expected) in [
            (
                Target::Member(&member),
                "mongodb://back%40up@b:2/?directConnection=true&authSource=admin&tls=true&tlsCAFile=%2Fetc%2Fca.pem",
            ),
            (
                Target::Deployment,
                "mongodb://back%40up@a:1,b:2/?retryWrites=true&replicaSet=rs1&authSource=admin&tls=true&tlsCAFile=%2Fetc%2Fca.pem",
            ),
        ] {
            let config = connection.tool_config(target).unwrap();
            let config: serde_json::Value = serde_json::from_str(config.expose_secret()).unwrap();
            assert_eq!(config, serde_json::json!({"uri": expected, "password": "p@ss:w/rd%\""}));
        }
        assert!(!format!("{connection:?}").contains("p@ss"));
    }

    #[tokio::test]
    async fn wrong_strings_say_what_to_write_and_no_secret() {
        for (uri, word) in [
            ("mongodb://h/girder?replicaSet=rs", "girder"),
            ("http://h", "not a MongoDB connection string"),
            ("mongodb://u:p@ss:w/rd@h/", "not a MongoDB connection string"),
            ("mongodb://u@h/", "no password"),
            ("mongodb://h:port/", "not a MongoDB connection string"),
            ("", "not a MongoDB connection string"),
        ] {
            let failure = Connection::resolve(&plain(uri), "mongodb").await.unwrap_err();
            assert!(failure.message.contains(word), "{uri}: {failure:?}");
            assert!(failure.fix.is_some() && !format!("{failure:?}").contains("ss:w"), "{failure:?}");
        }
        let mut lonely = plain("mongodb://h/");
        lonely.password = Some(SecretSource::File("/nowhere".into()));
        assert_eq!(Connection::resolve(&lonely, "mongodb").await.unwrap_err().reason, "SecretUnreadable");
    }
}
