//! Errors in the file, as the operator sees them: the line, what is wrong, the remedy.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::PathBuf;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

/// One thing that is wrong in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The key's full name, such as `listener[1].address`; empty for a fault of syntax.
    pub path: String,
    /// Bytes of the text at fault.
    pub span: Range<usize>,
    /// What is wrong, in a few words.
    pub what: String,
    /// What to write instead.
    pub remedy: String,
}

/// Why there is no [`super::Config`].
#[derive(Debug)]
pub enum ConfigErrors {
    /// The file could not be read.
    Unreadable { path: PathBuf, error: io::Error },
    /// The file was read; each fault has its place. Never empty, in the order of the text.
    Faults {
        name: String,
        text: String,
        faults: Vec<Fault>,
    },
}

impl ConfigErrors {
    /// All errors for a person to read; `colour` for a terminal.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let renderer = match colour {
            true => Renderer::styled(),
            false => Renderer::plain(),
        };
        match self {
            ConfigErrors::Unreadable { path, error } => {
                let title = format!("{} can not be read: {error}", path.display());
                let help = Level::HELP.message("name the file with --config FILE");
                renderer.render(&[Level::ERROR.primary_title(title).element(help)])
            }
            ConfigErrors::Faults { name, text, faults } => {
                let each = faults.iter().map(|fault| {
                    let group = Level::ERROR.primary_title(fault.what.as_str()).element(
                        Snippet::source(text.as_str())
                            .path(name.as_str())
                            .annotation(AnnotationKind::Primary.span(clamped(text, &fault.span))),
                    );
                    renderer.render(&[group.element(Level::HELP.message(fault.remedy.as_str()))])
                });
                each.collect::<Vec<_>>().join("\n\n")
            }
        }
    }

    /// The faults with their 1-based line numbers.
    pub fn lines(&self) -> impl Iterator<Item = (usize, &Fault)> {
        let (text, faults) = match self {
            ConfigErrors::Unreadable { .. } => ("", &[][..]),
            ConfigErrors::Faults { text, faults, .. } => (text.as_str(), &faults[..]),
        };
        faults.iter().map(move |fault| {
            let before = &text.as_bytes()[..fault.span.start.min(text.len())];
            (1 + memchr::memchr_iter(b'\n', before).count(), fault)
        })
    }
}

/// Spans come from the TOML parser; one that is empty or splits a character is moved, not trusted.
fn clamped(text: &str, span: &Range<usize>) -> Range<usize> {
    let mut start = span.start.min(text.len());
    while !text.is_char_boundary(start) {
        start -= 1;
    }
    let mut end = span.end.clamp(start, text.len());
    while !text.is_char_boundary(end) {
        end += 1;
    }
    start..end
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for ConfigErrors {}
