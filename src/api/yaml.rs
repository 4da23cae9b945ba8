//! Text to trees. Keys that come twice are refused, and so are texts that grow beyond measure.

use crate::{api::tree::Node, domain::error::Invalid};

/// Most bytes of one text.
pub const LONGEST_TEXT: usize = 1 << 20;
/// Most documents in one text.
pub const MOST_DOCUMENTS: usize = 256;

/// An error and the line it stands on; 0 where there is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct Located {
    /// Line in the text, from 1; 0 where there is none.
    pub line: u64,
    /// What is wrong.
    #[source]
    pub error: Invalid,
}

/// The documents of a text; empty ones are left out. JSON is YAML too.
///
/// # Errors
/// What makes the text no YAML, with its line.
pub fn read(text: &str) -> Result<Vec<Node>, Located> {
    if text.len() > LONGEST_TEXT {
        return Err(located(
            0,
            format!("the text has {} bytes; at most {LONGEST_TEXT} are read", text.len()),
        ));
    }
    let options = serde_saphyr::options! {
        strict_booleans: true,
        with_snippet: false,
        merge_keys: serde_saphyr::options::MergeKeyPolicy::Error,
        budget: budget(),
    };
    serde_saphyr::from_multiple_with_options(text, options).map_err(|error| {
        let line = error.location().map_or(0, |location| location.line());
        located(line, format!("this is not readable YAML: {}", message(&error)))
    })
}

/// What a policy can need many times over, and no more.
fn budget() -> Option<serde_saphyr::Budget> {
    serde_saphyr::budget! {
        max_events: 200_000,
        max_nodes: 100_000,
        max_depth: 32,
        flow_nesting_limit: 32,
        max_aliases: 256,
        max_anchors: 256,
        max_documents: MOST_DOCUMENTS,
    }
}

/// The parser's words without the place, which is told separately.
fn message(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    let first = text.lines().next().unwrap_or_default();
    let words = first.split_once(" at line ").map_or(first, |(words, _)| words);
    if let Some(key) = words.strip_prefix("duplicate mapping key: ") {
        let key = key.split_once(", set ").map_or(key, |(key, _)| key);
        return format!("the key {key} comes twice");
    }
    if words.contains("budget") || words.contains("recursion limit") {
        return "it is nested too deeply or has too many values".to_owned();
    }
    words.to_owned()
}

fn located(line: u64, message: String) -> Located {
    Located { line, error: Invalid::new(message) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_know_their_lines() {
        let text = "a: 1\nb:\n  - name: x\n    c: [true, ~, 1.5]\n  - d: 'no'\n---\n---\n{\"e\": \"1\"}\n";
        let trees = read(text).unwrap();
        assert_eq!(trees.len(), 2);
        assert_eq!(
            trees[0].to_json().to_string(),
            r#"{"a":1,"b":[{"name":"x","c":[true,null,1.5]},{"d":"no"}]}"#
        );
        for (field, line) in
            [("a", 1), ("b", 2), ("b[x]", 3), ("b[x].c", 4), ("b[x].z", 3), ("b[1].d", 5), ("q", 1)]
        {
            assert_eq!(trees[0].line_of(field), line, "{field}");
        }
        assert_eq!(trees[1].line_of("e"), 8);
    }

    #[test]
    fn what_is_no_yaml_is_told_with_its_line() {
        let wrong = [
            "a: 1\na: 2\n",
            "a: [1\n",
            "a: b: c\n",
            "\ta: 1\n",
            "a: &x [*x]\n",
            "a: *nobody\n",
            "a: 1\n<<: {b: 1}\n",
            "[]: 1\n",
            "? {a: 1}\n: 2\n",
            "a: !!binary x\n",
            "a: \"\\q\"\n",
            &"[".repeat(100),
            &format!("a: {}", "{b: ".repeat(100)),
        ];
        let told: Vec<_> = wrong
            .iter()
            .map(|text| match read(text) {
                Ok(trees) => format!(
                    "{text:.20?} is read as {:?}",
                    trees.iter().map(|t| t.to_json().to_string()).collect::<Vec<_>>()
                ),
                Err(error) => format!("{}: {error}", error.line),
            })
            .collect();
        insta::assert_snapshot!(told.join("\n"));
    }

    #[test]
    fn a_text_that_grows_is_refused() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for n in 1..9 {
            let items = format!("*a{}, ", n - 1).repeat(10);
            bomb.push_str(&format!("a{n}: &a{n} [{items}]\n"));
        }
        assert!(read(&bomb).is_err());
        assert!(read(&"a".repeat(LONGEST_TEXT + 1)).is_err());
    }
}
