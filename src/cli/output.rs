//! The one place that prints: results on stdout, everything else on stderr.

use crate::cli::{problem::Problem, style::Style, table::Table};
use serde::Serialize;
use std::{
    fmt::Write as _,
    io::{self, IsTerminal, Write},
};

/// `-o`: how results are printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Columns for a person.
    #[default]
    Table,
    /// The same with more columns.
    Wide,
    /// One JSON document.
    Json,
    /// One YAML document.
    Yaml,
}

/// The `-o` flag, for the verbs that print results.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct OutputArgs {
    /// How to print the result
    #[arg(short = 'o', long = "output", value_name = "FORMAT", value_enum, default_value_t)]
    pub format: Format,
}

/// Where results go.
pub struct Output {
    to: Box<dyn Write>,
    color: bool,
    terminal: bool,
}

impl Output {
    /// The process's stdout; in colour on a terminal, unless `NO_COLOR` is set.
    pub fn stdout() -> Self {
        let terminal = io::stdout().is_terminal();
        Self { to: Box::new(io::stdout()), color: terminal && color_wanted(), terminal }
    }

    /// True when a person is likely to look at stdout right now.
    pub fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// True when styles show.
    pub fn color(&self) -> bool {
        self.color
    }

    /// Prints one line.
    ///
    /// # Errors
    /// [`Problem::OutputClosed`] when nobody reads any more, or the write error.
    pub fn line(&mut self, text: impl AsRef<str>) -> Result<(), Problem> {
        writeln!(self.to, "{}", text.as_ref())?;
        Ok(())
    }

    /// Prints bytes as they are: generated documents, contents of files.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        self.to.write_all(bytes)?;
        self.to.flush()?;
        Ok(())
    }

    /// Prints `result` as `format` asks: as a document, or through `table` (called with true for the wide form).
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn result<T: Serialize>(
        &mut self,
        format: Format,
        result: &T,
        table: impl FnOnce(bool) -> Table,
    ) -> Result<(), Problem> {
        match format {
            Format::Table | Format::Wide => {
                let text = table(format == Format::Wide).render(self.color);
                self.bytes(text.as_bytes())
            }
            document => self.document(document, result),
        }
    }

    /// Prints `result` as a document, for verbs whose other form is no table.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn document<T: Serialize>(&mut self, format: Format, result: &T) -> Result<(), Problem> {
        self.bytes(to_document(format, result)?.as_bytes())
    }
}

/// `result` as JSON or, for any other format, YAML; ends with a newline.
///
/// # Errors
/// A value that the format cannot hold, which no type of this crate has.
pub fn to_document<T: Serialize>(format: Format, result: &T) -> Result<String, Problem> {
    let mut text = match format {
        Format::Json => serde_json::to_string_pretty(result).map_err(anyhow::Error::from)?,
        _ => serde_saphyr::to_string(result).map_err(anyhow::Error::from)?,
    };
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

/// Tells a person something beside the result: on stderr.
pub fn note(text: impl AsRef<str>) {
    say(text.as_ref());
}

/// A warning, on stderr.
pub fn warn(text: impl AsRef<str>) {
    say(&format!("{} {}", Style::Yellow.paint("warning:", color_on_stderr()), text.as_ref()));
}

/// Why the verb ended, and the next step, on stderr.
pub fn problem(problem: &Problem) {
    if matches!(problem, Problem::OutputClosed) {
        return;
    }
    let mut text = format!("{} {problem}", Style::Red.paint("error:", color_on_stderr()));
    if let Some(fix) = problem.fix() {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n  fix: {fix}");
    }
    say(&text);
}

/// stderr may be closed; there is nobody left to tell then.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

fn color_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// True when stderr shows colours.
pub fn color_on_stderr() -> bool {
    io::stderr().is_terminal() && color_wanted()
}
