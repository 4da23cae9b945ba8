//! Secrets as a task finds them: files that the orchestrator put in place.

use crate::domain::{
    location::SecretSource,
    verdict::{Failure, Verdict},
};
use secrecy::SecretString;
use std::path::Path;

/// Longest secret, bytes: the largest that an orchestrator keeps.
const MAX_BYTES: u64 = 1 << 20;

/// Reads a secret's text, without one newline at its end. `what` names it in an error, such as `mongodb.passwordFrom`.
///
/// # Errors
/// A file that is missing, unreadable, too long or not UTF-8; a key, which only an orchestrator can turn into a file.
pub fn read(source: &SecretSource, what: &str) -> Result<SecretString, Failure> {
    let path = file(source, what)?;
    let wrong = |problem: String| {
        Failure::new(
            Verdict::Credentials,
            "SecretUnreadable",
            format!("{what}: {}: {problem}", path.display()),
        )
        .fix(format!("put the secret into {} or correct {what}", path.display()))
    };
    let size = std::fs::metadata(path).map_err(|e| wrong(e.to_string()))?.len();
    if size > MAX_BYTES {
        return Err(wrong(format!("{size} bytes are too many for a secret")));
    }
    let mut text = std::fs::read_to_string(path).map_err(|e| wrong(e.to_string()))?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    if text.is_empty() {
        return Err(wrong("it is empty".to_owned()));
    }
    Ok(text.into())
}

/// The file of a secret, for what reads it by itself.
///
/// # Errors
/// A key, which only an orchestrator can turn into a file.
pub fn file<'a>(source: &'a SecretSource, what: &str) -> Result<&'a Path, Failure> {
    match source {
        SecretSource::File(path) => Ok(path),
        SecretSource::Key { name, key } => Err(Failure::permanent(
            "SecretNotMounted",
            format!("{what} names the key {key:?} of the secret {name:?}, which is no file here"),
        )
        .fix(format!("write {what} as a file: {{file: /path/to/secret}}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    #[test]
    fn one_newline_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        for (text, expected) in [("a b\n", "a b"), ("a\n\n", "a\n"), ("a\r\n", "a"), ("a", "a")] {
            std::fs::write(&path, text).unwrap();
            let secret = read(&SecretSource::File(path.clone()), "passwordFrom").unwrap();
            assert_eq!(secret.expose_secret(), expected);
        }
    }

    #[test]
    fn what_cannot_be_read_says_where() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let message = |source: &SecretSource| read(source, "mongodb.passwordFrom").unwrap_err().message;
        assert!(message(&SecretSource::File(path.clone())).contains("mongodb.passwordFrom"));
        std::fs::write(&path, "\n").unwrap();
        assert!(message(&SecretSource::File(path)).contains("empty"));
        let key = SecretSource::Key { name: "mongo".into(), key: "uri".into() };
        assert!(message(&key).contains("no file here"));
    }
}
