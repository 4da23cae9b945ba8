//! As much of a Rust file as the rules need: its lines of code without tests, and the paths it names.

/// The text with comments and the contents of literals blanked; line breaks stay.
pub fn strip(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (skipped, kept) = literal_or_comment(rest, out.chars().next_back());
        if skipped == 0 {
            out.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            out.push_str(kept);
            out.extend(rest[..skipped].chars().filter(|c| *c == '\n'));
            rest = &rest[skipped..];
        }
    }
    out
}

/// How many bytes at the start of `rest` are a comment or a literal, and what stands for them; 0 for code.
fn literal_or_comment(rest: &str, before: Option<char>) -> (usize, &'static str) {
    if rest.starts_with("//") {
        return (rest.find('\n').unwrap_or(rest.len()), "");
    }
    if rest.starts_with("/*") {
        return (block_comment(rest), " ");
    }
    if !before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
        for prefix in ["br", "cr", "r"] {
            if let Some(length) = rest.strip_prefix(prefix).and_then(raw_string) {
                return (prefix.len() + length, "\"\"");
            }
        }
    }
    if rest.starts_with('"') {
        return (quoted(rest, '"'), "\"\"");
    }
    match rest.strip_prefix('\'').map(|inner| (inner, inner.chars().next())) {
        Some((_, Some('\\'))) => (quoted(rest, '\''), "''"),
        Some((inner, Some(c))) if inner[c.len_utf8()..].starts_with('\'') => (c.len_utf8() + 2, "''"),
        _ => (0, ""),
    }
}

fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        let tail = &rest.as_bytes()[at..];
        match tail {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

/// The length of a raw string after its prefix, if there is one.
fn raw_string(rest: &str) -> Option<usize> {
    let hashes = rest.len() - rest.trim_start_matches('#').len();
    let body = rest[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    Some(hashes + 1 + body.find(&end)? + end.len())
}

fn quoted(rest: &str, mark: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == mark => return at + c.len_utf8(),
            _ => {}
        }
    }
    rest.len()
}

/// Stripped text without its `#[cfg(test)]` modules.
pub fn without_tests(stripped: &str) -> String {
    let mut out = String::new();
    let mut rest = stripped;
    while let Some(at) = rest.find("#[cfg(test)]") {
        out.push_str(&rest[..at]);
        let item = &rest[at..];
        let body = item.find(['{', ';']).unwrap_or(item.len());
        rest =
            if item[body..].starts_with('{') { &item[body + braces(&item[body..])..] } else { &item[body..] };
    }
    out.push_str(rest);
    out
}

/// The length of the block in braces at the start.
fn braces(text: &str) -> usize {
    let mut depth = 0_usize;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    text.len()
}

/// Every path of two or more segments that stripped text names, with groups of `use` written out.
pub fn paths(stripped: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let tokens = tokens(stripped);
    let mut at = 0;
    while at < tokens.len() {
        if is_name(tokens[at]) {
            at = path(&tokens, at, &[], &mut found);
        } else {
            at += 1;
        }
    }
    found
}

/// Reads one path, or one branch of a group, that begins with a name at `at`; returns where it ends.
fn path(tokens: &[&str], mut at: usize, prefix: &[String], found: &mut Vec<Vec<String>>) -> usize {
    let mut whole = prefix.to_vec();
    loop {
        whole.push(tokens[at].to_owned());
        at += 1;
        match (tokens.get(at), tokens.get(at + 1)) {
            (Some(&"::"), Some(next)) if is_name(next) => at += 1,
            (Some(&"::"), Some(&"{")) => return group(tokens, at + 2, &whole, found),
            _ => break,
        }
    }
    if whole.len() > 1 {
        found.push(whole);
    }
    at
}

fn group(tokens: &[&str], mut at: usize, prefix: &[String], found: &mut Vec<Vec<String>>) -> usize {
    while let Some(token) = tokens.get(at) {
        match *token {
            "}" => return at + 1,
            "self" => found.push(prefix.to_vec()),
            "as" => at += 1,
            token if is_name(token) => {
                at = path(tokens, at, prefix, found);
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    at
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Names, `::`, and single other characters.
fn tokens(stripped: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = stripped.trim_start();
    while let Some(first) = rest.chars().next() {
        let name = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let length = if rest.starts_with("::") { 2 } else { name.max(first.len_utf8()) };
        found.push(&rest[..length]);
        rest = rest[length..].trim_start();
    }
    found
}

#[test]
fn comments_literals_and_tests_are_no_code() {
    let text = r##"
//! use crate::a::A;
/* use crate::b /* nested */ ::B; */
use crate::{c::{self, D as E}, f::g::h as _, i};
fn x<'a>(y: &'a str) { let _ = ('"', '\'', "crate::j::K \" //", r#"crate::l"#, b"crate::m", std::fs::read(y)); }
#[cfg(test)]
mod tests { use crate::n::O; fn p() { { "}" } } }
type Q = crate::r::S;
"##;
    let named: Vec<String> = paths(&without_tests(&strip(text))).iter().map(|path| path.join("::")).collect();
    assert_eq!(
        named,
        ["crate::c", "crate::c::D", "crate::f::g::h", "crate::i", "std::fs::read", "crate::r::S"]
    );
    assert_eq!(strip(text).lines().count(), text.lines().count());
}
