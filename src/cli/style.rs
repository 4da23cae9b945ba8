//! How words stand out on a terminal.

use std::borrow::Cow;

/// How a word stands out on a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// As it is.
    Plain,
    /// A heading.
    Bold,
    /// Of little weight.
    Dim,
    /// Good.
    Green,
    /// Take note.
    Yellow,
    /// Bad.
    Red,
}

impl Style {
    /// `text` in this style when `color` is on.
    pub fn paint(self, text: &str, color: bool) -> Cow<'_, str> {
        let code = match self {
            Self::Plain => return Cow::Borrowed(text),
            Self::Bold => "1",
            Self::Dim => "2",
            Self::Green => "32",
            Self::Yellow => "33",
            Self::Red => "31",
        };
        if color { Cow::Owned(format!("\x1b[{code}m{text}\x1b[0m")) } else { Cow::Borrowed(text) }
    }
}
