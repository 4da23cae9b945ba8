//! Verbs that need neither controller nor remote.

use crate::site::Site;

#[test]
fn help_shows_every_verb_and_wrong_usage_ends_with_2() {
    let site = Site::new();
    site.backstay(["--help"]).ok().says(["Usage: backstay"]);
    site.backstay(["no-such-verb"]).ends(2).says(["no-such-verb"]);
    site.backstay(["completions", "bash"]).ok().says(["backstay"]);
}
