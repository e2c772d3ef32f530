//! The lexemes of IMAP (RFC 9051 9): atoms, numbers, strings, in borrowed form.

use std::borrow::Cow;

use super::fault::Fault;

const ATOM: u8 = 1;
const ASTRING: u8 = 2;
const LIST: u8 = 4;
const TAG: u8 = 8;
const CLASSES: [u8; 256] = classes();

/// Which of the character classes of RFC 9051 9 a byte is in.
const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut b = 0x21;
    while b < 0x7f {
        // atom-specials; SP and CTL are outside the loop.
        let atom = !matches!(b, b'(' | b')' | b'{' | b'%' | b'*' | b'"' | b'\\' | b']');
        let resp = b == b']';
        let wild = b == b'%' || b == b'*';
        table[b as usize] = (atom as u8 * (ATOM | ASTRING | LIST | TAG))
            | (resp as u8 * (ASTRING | LIST | TAG))
            | (wild as u8 * LIST);
        b += 1;
    }
    table[b'+' as usize] &= !TAG;
    table
}

pub(super) fn is_astring_char(b: u8) -> bool {
    CLASSES[b as usize] & ASTRING != 0
}

/// A place in a command. Every reader either takes a lexeme or fails and leaves no promise about
/// where it stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(text: &'a [u8]) -> Self {
        Cursor { text, at: 0 }
    }

    pub fn at(&self) -> usize {
        self.at
    }

    /// The text from an earlier [`Cursor::at`] up to here.
    pub fn since(&self, start: usize) -> &'a [u8] {
        &self.text[start..self.at]
    }

    pub fn rest(&self) -> &'a [u8] {
        &self.text[self.at..]
    }

    pub fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    pub fn eat(&mut self, b: u8) -> bool {
        let found = self.peek() == Some(b);
        self.at += usize::from(found);
        found
    }

    /// Takes `word` if it stands here in any case. Ends of words are the caller's affair.
    pub fn eat_word(&mut self, word: &[u8]) -> bool {
        let found = self
            .rest()
            .get(..word.len())
            .is_some_and(|here| here.eq_ignore_ascii_case(word));
        if found {
            self.at += word.len();
        }
        found
    }

    pub fn space(&mut self) -> Result<(), Fault> {
        match self.peek() {
            Some(b' ') => {
                self.at += 1;
                Ok(())
            }
            Some(_) => Err(Fault::MissingSpace),
            None => Err(Fault::MissingArgument),
        }
    }

    pub fn open(&mut self) -> Result<(), Fault> {
        self.eat(b'(').then_some(()).ok_or(Fault::MissingOpen)
    }

    pub fn close(&mut self) -> Result<(), Fault> {
        self.eat(b')').then_some(()).ok_or(Fault::MissingClose)
    }

    /// Nothing may follow but spaces, which some old clients leave there.
    pub fn end(&mut self) -> Result<(), Fault> {
        match self.rest().iter().all(|b| *b == b' ') {
            true => Ok(()),
            false => Err(Fault::ExtraText),
        }
    }

    fn run(&mut self, class: u8) -> &'a str {
        let rest = self.rest();
        let length = rest
            .iter()
            .position(|b| CLASSES[*b as usize] & class == 0)
            .unwrap_or(rest.len());
        self.at += length;
        std::str::from_utf8(&rest[..length]).expect("the classes are ASCII")
    }

    fn word(&mut self, class: u8, fault: Fault) -> Result<&'a str, Fault> {
        match self.run(class) {
            "" if self.at == self.text.len() => Err(Fault::MissingArgument),
            "" => Err(fault),
            word => Ok(word),
        }
    }

    pub fn tag(&mut self) -> Result<&'a str, Fault> {
        self.word(TAG, Fault::NoTag).map_err(|_| Fault::NoTag)
    }

    pub fn atom(&mut self) -> Result<&'a str, Fault> {
        self.word(ATOM, Fault::BadAtom)
    }

    /// `number` (RFC 9051 9): 32 bits, and leading zeros as clients send them.
    pub fn number(&mut self) -> Result<u32, Fault> {
        u32::try_from(self.number64()?).map_err(|_| Fault::NumberTooLarge)
    }

    pub fn number64(&mut self) -> Result<u64, Fault> {
        let start = self.at;
        let mut n = 0u64;
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            n = n
                .checked_mul(10)
                .and_then(|n| n.checked_add(u64::from(digit - b'0')))
                .ok_or(Fault::NumberTooLarge)?;
            self.at += 1;
        }
        match self.at == start {
            true => Err(Fault::BadNumber),
            false => Ok(n),
        }
    }

    pub fn nz_number(&mut self) -> Result<u32, Fault> {
        match self.number()? {
            0 => Err(Fault::ZeroNumber),
            n => Ok(n),
        }
    }

    /// `quoted`. Octets above 127 are let through (RFC 9051 4.3.1); whoever wants text checks.
    pub fn quoted(&mut self) -> Result<Cow<'a, [u8]>, Fault> {
        if !self.eat(b'"') {
            return Err(Fault::BadString);
        }
        let start = self.at;
        let mut escaped = false;
        loop {
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    self.at += 1;
                    if !matches!(self.peek(), Some(b'"' | b'\\')) {
                        return Err(Fault::BadEscape);
                    }
                }
                None | Some(b'\r' | b'\n' | 0) => return Err(Fault::UnclosedQuote),
                Some(_) => {}
            }
            self.at += 1;
        }
        let inner = self.since(start);
        self.at += 1;
        Ok(match escaped {
            true => Cow::Owned(unescape(inner)),
            false => Cow::Borrowed(inner),
        })
    }

    /// `literal` or `literal8`, which the framer left in the command.
    pub fn literal(&mut self) -> Result<&'a [u8], Fault> {
        let binary = self.eat(b'~');
        if !self.eat(b'{') {
            return Err(Fault::BadString);
        }
        let bytes = self.number64()?;
        self.eat(b'+');
        if !self.eat(b'}') {
            return Err(Fault::BadLiteral);
        }
        self.eat(b'\r');
        if !self.eat(b'\n') {
            return Err(Fault::BadLiteral);
        }
        let bytes = usize::try_from(bytes).map_err(|_| Fault::CutLiteral)?;
        let body = self.rest().get(..bytes).ok_or(Fault::CutLiteral)?;
        // CHAR8 is any octet but NUL (RFC 9051 9); literal8 may hold it (RFC 3516 4.4).
        if !binary && memchr::memchr(0, body).is_some() {
            return Err(Fault::BadLiteral);
        }
        self.at += bytes;
        Ok(body)
    }

    pub fn string(&mut self) -> Result<Cow<'a, [u8]>, Fault> {
        match self.peek() {
            Some(b'"') => self.quoted(),
            Some(b'{' | b'~') => self.literal().map(Cow::Borrowed),
            Some(_) => Err(Fault::BadString),
            None => Err(Fault::MissingArgument),
        }
    }

    /// `nstring`: `NIL` is `None`.
    pub fn nstring(&mut self) -> Result<Option<Cow<'a, [u8]>>, Fault> {
        match self.eat_word(b"NIL") {
            true => Ok(None),
            false => self.string().map(Some),
        }
    }

    pub fn astring(&mut self) -> Result<Cow<'a, [u8]>, Fault> {
        self.word_or_string(ASTRING)
    }

    /// `list-mailbox` (RFC 9051 9): an astring in which `%` and `*` need no quotes.
    pub fn list_mailbox(&mut self) -> Result<Cow<'a, [u8]>, Fault> {
        self.word_or_string(LIST)
    }

    fn word_or_string(&mut self, class: u8) -> Result<Cow<'a, [u8]>, Fault> {
        match self.peek() {
            // `~` is an atom character, so `~peter` is a word and `~{5}` a literal8.
            Some(b'~') if self.rest().get(1) == Some(&b'{') => self.string(),
            Some(b'"' | b'{') => self.string(),
            _ => self
                .word(class, Fault::BadAtom)
                .map(|word| Cow::Borrowed(word.as_bytes())),
        }
    }

    /// An astring that must be UTF-8, such as a search text.
    pub fn text(&mut self) -> Result<Cow<'a, str>, Fault> {
        utf8(self.astring()?)
    }

    /// `"(" item *(SP item) ")"`; `()` is for the caller to allow or not.
    pub fn list(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<(), Fault>,
    ) -> Result<usize, Fault> {
        self.open()?;
        let mut count = 0;
        while !self.eat(b')') {
            if count > 0 {
                self.space().map_err(|_| Fault::MissingClose)?;
            }
            item(self)?;
            count += 1;
        }
        Ok(count)
    }
}

pub(super) fn utf8(bytes: Cow<'_, [u8]>) -> Result<Cow<'_, str>, Fault> {
    match bytes {
        Cow::Borrowed(bytes) => std::str::from_utf8(bytes)
            .map(Cow::Borrowed)
            .map_err(|_| Fault::NotUtf8),
        Cow::Owned(bytes) => String::from_utf8(bytes)
            .map(Cow::Owned)
            .map_err(|_| Fault::NotUtf8),
    }
}

fn unescape(inner: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(b) = bytes.next() {
        // A `\` never ends `inner`: the reader saw what stands behind it.
        out.push(if *b == b'\\' {
            *bytes.next().unwrap_or(b)
        } else {
            *b
        });
    }
    out
}
