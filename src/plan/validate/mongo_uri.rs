//! A MongoDB URI that may stand in a policy: it carries no password, no database, and nothing that the policy decides.

use crate::domain::error::Invalid;

/// Options that hold a secret.
const SECRETS: &[&str] =
    &["tlscertificatekeyfilepassword", "sslclientcertificatekeypassword", "authmechanismproperties"];

/// Checks the form. What the options mean is the driver's business. Never shows the URI: it may hold a password.
///
/// # Errors
/// What it must not carry, and where to write that instead.
pub(super) fn check(uri: &str) -> Result<(), Invalid> {
    let wrong = |message: &str| Err(Invalid::new(message));
    let Some(rest) = uri.strip_prefix("mongodb://").or_else(|| uri.strip_prefix("mongodb+srv://")) else {
        return wrong("does not start with mongodb:// or mongodb+srv://");
    };
    if uri.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return wrong("contains a space or a control character");
    }
    let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (user, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
    if user.contains(':') {
        return wrong(
            "carries a password, and a policy is no place for one; take it out and write username and passwordFrom, or put the whole URI into a secret and write uriFrom",
        );
    }
    if hosts.is_empty() || hosts.split(',').any(|host| !is_host(host)) {
        return wrong(
            "names no host, or one that cannot be read; write mongodb://host1,host2:27017/?replicaSet=rs1",
        );
    }
    let (path, options) = rest.split_once('?').unwrap_or((rest, ""));
    let database = path.trim_start_matches('/');
    if !database.is_empty() {
        return Err(Invalid::new(format!(
            "names the database {database:?}, and would be read as a wish to back up only that; take it out, write include: [{database}] for a part of the deployment, and ?authSource= for the database to log in to"
        )));
    }
    options.split('&').filter(|option| !option.is_empty()).try_for_each(check_option)
}

fn is_host(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !name.ends_with(':') && !port.contains(']') => (name, Some(port)),
        _ => (host, None),
    };
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '[' | ']' | ':' | '%');
    !name.is_empty()
        && name.chars().all(known)
        && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

fn check_option(option: &str) -> Result<(), Invalid> {
    let Some((name, _)) = option.split_once('=') else {
        return Err(Invalid::new("has an option without a value; options are name=value, joined by &"));
    };
    match name.to_ascii_lowercase().as_str() {
        secret if SECRETS.contains(&secret) => Err(Invalid::new(format!(
            "carries {name}, which holds a secret; put the whole URI into a secret and write uriFrom"
        ))),
        "readpreference" | "readpreferencetags" => Err(Invalid::new(format!(
            "carries {name}; write member: Primary, Secondary or PreferSecondary instead"
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_policy_may_carry() {
        for good in [
            "mongodb://localhost",
            "mongodb://wt_mongo1/?replicaSet=rs1",
            "mongodb://user@a,b:27018/?authSource=admin&tls=true",
            "mongodb+srv://cluster.example.org",
            "mongodb://[::1]:27017/",
            "mongodb://127.0.0.1:41001/?directConnection=true",
            "mongodb://a?replicaSet=x",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        let wrong = [
            "",
            "localhost",
            "http://a",
            "mongodb://",
            "mongodb:///girder",
            "mongodb://u:secret@a",
            "mongodb://a/girder",
            "mongodb://a/girder?authSource=admin",
            "mongodb://a b",
            "mongodb://a:0",
            "mongodb://a,",
            "mongodb://a/?readPreference=secondary",
            "mongodb://a/?tlsCertificateKeyFilePassword=secret",
            "mongodb://a/?x",
        ];
        let told: Vec<_> =
            wrong.iter().map(|uri| format!("{uri}\n    {}", check(uri).unwrap_err())).collect();
        assert!(!told.iter().any(|text| text.lines().nth(1).is_some_and(|line| line.contains("secret@"))));
        insta::assert_snapshot!(told.join("\n"));
    }
}
