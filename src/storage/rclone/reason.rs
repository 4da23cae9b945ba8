//! rclone's words → why. Backends have no common codes, so their texts must do.

use crate::storage::store::StoreError;

/// Words of a credential that is wrong, expired or revoked.
const CREDENTIALS: &[&str] = &[
    "invalid_grant",
    "invalid_client",
    "unauthorized",
    "error 401",
    "status code: 401",
    "statuscode: 401",
    "couldn't fetch token",
    "failed to fetch token",
    "token expired",
    "token has been expired or revoked",
    "empty token found",
    "invalidaccesskeyid",
    "signaturedoesnotmatch",
    "expiredtoken",
    "accessdenied",
    "access denied",
    "accountdisabled",
    "unable to authenticate",
    "login incorrect",
    "authentication failed",
    "login authentication failed",
    "couldn't decrypt configuration",
    "unable to decrypt configuration",
];

/// Words of a place that is full.
const FULL: &[&str] = &[
    "no space left on device",
    "disk quota exceeded",
    "disk full",
    "file too big for remaining disk space",
    "quotaexceeded",
    "quota exceeded",
    "quota has been exceeded",
    "storage_limit_exceeded",
    "storage limit exceeded",
    "insufficient storage",
    "insufficient_space",
    "insufficient space",
    "not enough space",
    "over quota",
    "out of space",
    "status code: 507",
    "error 507",
];

/// A quota of requests, which is full again a minute later, is none of space.
const RATE: &[&str] =
    &["per minute", "rate limit", "ratelimit", "too many requests", "queries per", "quota metric"];

/// Words of a configuration or a place that must be changed first.
const UNUSABLE: &[&str] = &[
    "didn't find section in config file",
    "didn't find backend called",
    "permission denied",
    "read-only file system",
    "operation not permitted",
    "nosuchbucket",
    "not a directory",
    "file name too long",
    "invalid argument",
];

/// What `words` of rclone, said about `operation`, mean.
pub(super) fn of(operation: &str, words: &str) -> StoreError {
    let lower = words.to_ascii_lowercase();
    let any = |list: &[&str]| list.iter().any(|piece| lower.contains(piece));
    let detail = short(words);
    // The same words also come from an S3 that does not answer when it is asked for a folder.
    let unsure = lower.contains("is a file not a directory");
    if any(CREDENTIALS) {
        StoreError::Credentials { detail }
    } else if any(FULL) && !any(RATE) {
        StoreError::Full { detail }
    } else if any(UNUSABLE) && !unsure {
        StoreError::Unusable { detail }
    } else {
        StoreError::Unavailable { operation: operation.to_owned(), detail }
    }
}

/// Without rclone's own prefixes, which say nothing to a person.
fn short(words: &str) -> String {
    const PREFIXES: &[&str] = &[
        "Post request rcat error: ",
        "Post request: failed to check whether file exists: ",
        "Post request put error: ",
        "error in ListJSON: ",
    ];
    let mut words = words.trim();
    while let Some(rest) = PREFIXES.iter().find_map(|prefix| words.strip_prefix(prefix)) {
        words = rest;
    }
    words.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_rclone() {
        let kind = |words: &str| match of("op", words) {
            StoreError::Credentials { .. } => "credentials",
            StoreError::Full { .. } => "full",
            StoreError::Unusable { .. } => "unusable",
            StoreError::Unavailable { .. } => "unavailable",
            _ => "other",
        };
        for (words, expected) in [
            ("couldn't fetch token: invalid_grant: maybe token expired?", "credentials"),
            (
                "operation error S3: PutObject, https response error StatusCode: 403, api error AccessDenied: no",
                "credentials",
            ),
            ("Post request rcat error: write /mnt/b/x: no space left on device", "full"),
            (
                "googleapi: Error 403: The user's Drive storage quota has been exceeded., storageQuotaExceeded",
                "full",
            ),
            (
                "googleapi: Error 403: Quota exceeded for quota metric 'Queries' and limit 'Queries per minute'",
                "unavailable",
            ),
            ("preallocate: file too big for remaining disk space", "full"),
            ("storage_limit_exceeded: Account storage limit reached", "full"),
            ("didn't find section in config file (\"boxx\")", "unusable"),
            ("mkdir /mnt/b/WT: read-only file system", "unusable"),
            ("open /mnt/b/x: permission denied", "unusable"),
            ("mkdir /mnt/file/WT: not a directory", "unusable"),
            ("is a file not a directory", "unavailable"),
            ("dial tcp 127.0.0.1:1: connect: connection refused", "unavailable"),
            ("googleapi: Error 503: Backend Error", "unavailable"),
        ] {
            assert_eq!(kind(words), expected, "{words}");
        }
        let StoreError::Full { detail } = of("op", "Post request put error: no space left on device\n")
        else {
            panic!()
        };
        assert_eq!(detail, "no space left on device");
    }
}
