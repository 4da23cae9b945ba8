//! Columns for a person.

use crate::cli::style::Style;

/// One cell.
#[derive(Debug, Clone)]
pub struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// A cell in a style.
    pub fn styled(text: impl Into<String>, style: Style) -> Self {
        Self { text: printable(&text.into()), style }
    }

    /// What it says.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::styled(text, Style::Plain)
    }
}

/// A table: headings, rows, and lines below it. A column whose heading starts with `>` is aligned right.
#[derive(Debug, Clone, Default)]
pub struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// An empty table; `>SIZE` aligns a column to the right.
    pub fn new(headings: &[&'static str]) -> Self {
        Self { headings: headings.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; missing cells are empty, surplus ones are dropped.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().take(self.headings.len()).collect());
    }

    /// True without rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The text, each line ended, without spaces at the end of lines.
    pub fn render(&self, color: bool) -> String {
        let widths = self.widths();
        let heading = |h: &&'static str| Cell::styled(h.trim_start_matches('>'), Style::Bold);
        let head: Vec<Cell> = self.headings.iter().map(heading).collect();
        let lines = std::iter::once(&head).chain(&self.rows);
        lines.map(|cells| self.line(cells, &widths, color)).collect()
    }

    fn widths(&self) -> Vec<usize> {
        let width = |(column, heading): (usize, &&str)| {
            let cells =
                self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.text.chars().count());
            cells.max().unwrap_or(0).max(heading.trim_start_matches('>').chars().count())
        };
        self.headings.iter().enumerate().map(width).collect()
    }

    fn line(&self, cells: &[Cell], widths: &[usize], color: bool) -> String {
        let mut line = String::new();
        let mut gap = 0;
        for ((cell, width), heading) in cells.iter().zip(widths).zip(&self.headings) {
            let pad = width - cell.text.chars().count().min(*width);
            let before = if heading.starts_with('>') { pad } else { 0 };
            if !cell.text.is_empty() {
                line.extend(std::iter::repeat_n(' ', gap + before));
                line.push_str(&cell.style.paint(&cell.text, color));
                gap = 0;
            }
            // What is owed to the next cell that has text: nothing trails on the line.
            gap += if cell.text.is_empty() { *width } else { pad - before } + 2;
        }
        line.push('\n');
        line
    }
}

/// Text that cannot move the cursor or hide in a line: control characters are escaped.
pub fn printable(text: &str) -> String {
    if !text.chars().any(char::is_control) {
        return text.to_owned();
    }
    text.chars()
        .map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_and_nothing_trails() {
        let mut table = Table::new(&["NAME", ">SIZE", "NOTE"]);
        table.row(["nightly".into(), "1.0 GiB".into(), Cell::styled("good", Style::Green)]);
        table.row(["a".into(), "12 B".into()]);
        table.row(["b".into(), "".into(), "x\x1b[2J".into()]);
        insta::assert_snapshot!(table.render(false), @r"
        NAME        SIZE  NOTE
        nightly  1.0 GiB  good
        a           12 B
        b                 x\u{1b}[2J
        ");
        assert!(table.render(true).contains("\x1b[32mgood\x1b[0m\n"));
    }
}
