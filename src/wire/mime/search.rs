//! Substring search in text, without regard to case (RFC 9051 6.4.4, i;unicode-casemap in its
//! simple form: one character to one).

use memchr::memmem;

/// A string to look for, folded once.
#[derive(Clone, Debug)]
pub struct Needle {
    finder: memmem::Finder<'static>,
}

/// A search through one text that comes in pieces.
#[derive(Clone, Debug)]
pub struct Search<'n> {
    needle: &'n Needle,
    /// Folded text: the last bytes of what came before, and the new piece.
    window: Vec<u8>,
    found: bool,
}

impl Needle {
    /// Prepares a search for `text`. The empty string is in everything.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let mut folded = Vec::with_capacity(text.len());
        fold(text, &mut folded);
        Needle {
            finder: memmem::Finder::new(&folded).into_owned(),
        }
    }

    /// True when `text` has it.
    #[must_use]
    pub fn is_in(&self, text: &str) -> bool {
        let mut search = self.search();
        search.feed(text);
        search.found()
    }

    /// Begins a search through a text in pieces.
    #[must_use]
    pub fn search(&self) -> Search<'_> {
        Search {
            needle: self,
            window: Vec::new(),
            found: self.finder.needle().is_empty(),
        }
    }
}

impl Search<'_> {
    /// Looks at the next piece. Once found, the rest need not be fed.
    pub fn feed(&mut self, text: &str) {
        /// Text folded at once, so that the window stays in the cache.
        const PIECE: usize = 16 << 10;
        let mut rest = text;
        while !self.found && !rest.is_empty() {
            let mut cut = rest.len().min(PIECE);
            while !rest.is_char_boundary(cut) {
                cut += 1;
            }
            let (piece, tail) = rest.split_at(cut);
            rest = tail;
            fold(piece, &mut self.window);
            self.found = self.needle.finder.find(&self.window).is_some();
            let keep = self.needle.finder.needle().len().saturating_sub(1);
            let drop = self.window.len().saturating_sub(keep);
            self.window.drain(..drop);
        }
    }

    /// True once the needle was seen.
    #[must_use]
    pub fn found(&self) -> bool {
        self.found
    }
}

fn fold(text: &str, out: &mut Vec<u8>) {
    if text.is_ascii() {
        let from = out.len();
        out.extend_from_slice(text.as_bytes());
        out[from..].make_ascii_lowercase();
        return;
    }
    let mut utf8 = [0; 4];
    for c in text.chars() {
        out.extend_from_slice(fold_char(c).encode_utf8(&mut utf8).as_bytes());
    }
}

/// Simple folding: a lower case of several characters is not taken, the final sigma is a sigma.
fn fold_char(c: char) -> char {
    let mut lower = c.to_lowercase();
    match (lower.next(), lower.next()) {
        (Some('ς'), None) => 'σ',
        (Some(one), None) => one,
        _ => c,
    }
}
