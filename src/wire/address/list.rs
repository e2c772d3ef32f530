//! RFC 5322 address lists, read leniently: whatever comes in, something can be shown.

/// One element of an address list, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListEntry {
    /// A mailbox.
    Mailbox {
        /// Display name without quoting; encoded words stay (RFC 9051 7.5.2).
        name: Option<Vec<u8>>,
        /// The obsolete source route of RFC 5322 4.4.
        route: Option<Vec<u8>>,
        /// Local part without quoting.
        local: Vec<u8>,
        /// `None` where there was no `@`.
        domain: Option<Vec<u8>>,
    },
    /// `name:`; the members follow.
    GroupStart(Vec<u8>),
    /// `;`.
    GroupEnd,
}

/// Entries read from one value; a longer list is shown cut.
const ENTRIES_MAX: usize = 10_000;

/// Reads an address list value; folds need not be removed.
#[must_use]
pub fn parse_address_list(value: &[u8]) -> Vec<ListEntry> {
    let mut scan = Scan {
        bytes: value,
        at: 0,
        comment: Vec::new(),
    };
    let mut entries = Vec::new();
    let mut in_group = false;
    while scan.peek().is_some() && entries.len() < ENTRIES_MAX {
        scan.comment.clear();
        let words = scan.words(b"<@:,;");
        match scan.next() {
            Some(b':') if !in_group => {
                in_group = true;
                entries.push(ListEntry::GroupStart(words));
            }
            Some(b':') => {}
            Some(b'<') => entries.push(scan.angle(words)),
            Some(b'@') => {
                let domain = scan.domain();
                entries.push(scan.mailbox(None, None, words, Some(domain)));
            }
            end => {
                if !words.is_empty() {
                    entries.push(scan.mailbox(None, None, words, None));
                }
                if end == Some(b';') && in_group {
                    in_group = false;
                    entries.push(ListEntry::GroupEnd);
                }
            }
        }
    }
    if in_group {
        entries.push(ListEntry::GroupEnd);
    }
    entries
}

struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The last comment; some put the name there (RFC 5322 A.5 knows the habit).
    comment: Vec<u8>,
}

impl Scan<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek();
        self.at += usize::from(byte.is_some());
        byte
    }

    /// Words up to one of `stops`, unquoted, one blank where there were some.
    fn words(&mut self, stops: &[u8]) -> Vec<u8> {
        let mut words = Vec::new();
        let mut blank = false;
        while let Some(byte) = self.peek() {
            if stops.contains(&byte) {
                break;
            }
            self.at += 1;
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' => blank = true,
                b'(' => {
                    self.comment();
                    blank = true;
                }
                _ => {
                    if blank && !words.is_empty() {
                        words.push(b' ');
                    }
                    blank = false;
                    match byte {
                        b'"' => self.quoted(&mut words),
                        b'[' => self.literal(&mut words),
                        _ => words.push(byte),
                    }
                }
            }
        }
        words
    }

    fn quoted(&mut self, words: &mut Vec<u8>) {
        while let Some(byte) = self.next() {
            match byte {
                b'"' => return,
                b'\\' => words.extend(self.next()),
                b'\r' | b'\n' => {}
                _ => words.push(byte),
            }
        }
    }

    fn literal(&mut self, words: &mut Vec<u8>) {
        words.push(b'[');
        while let Some(byte) = self.next() {
            words.push(byte);
            if byte == b']' {
                return;
            }
        }
    }

    fn comment(&mut self) {
        self.comment.clear();
        let mut depth = 1usize;
        while let Some(byte) = self.next() {
            match byte {
                b'(' => depth += 1,
                b')' => depth -= 1,
                b'\\' => {
                    let escaped = self.next();
                    self.comment.extend(escaped);
                    continue;
                }
                b'\r' | b'\n' => continue,
                _ => {}
            }
            if depth == 0 {
                return;
            }
            self.comment.push(byte);
        }
    }

    fn domain(&mut self) -> Vec<u8> {
        let mut domain = self.words(b"<,;>");
        domain.retain(|&b| b != b' ');
        // `a@b <c@d>` and `a@b>` are broken; what follows up to the comma belongs to nobody.
        if matches!(self.peek(), Some(b'<' | b'>')) {
            self.words(b",;");
        }
        self.skip_comma();
        domain
    }

    fn skip_comma(&mut self) {
        if self.peek() == Some(b',') {
            self.at += 1;
        }
    }

    /// After `<`: an optional route, the address, `>`.
    fn angle(&mut self, name: Vec<u8>) -> ListEntry {
        let mut words = self.words(b"@>:,");
        let mut route = None;
        if words.is_empty() && self.peek() == Some(b'@') {
            // RFC 5322 4.4, obs-route: `@one,@two:local@domain`.
            let rest = &self.bytes[self.at..];
            let colon = rest.iter().position(|b| matches!(b, b':' | b'>' | b'<'));
            if let Some(colon) = colon.filter(|&at| rest[at] == b':') {
                let kept = rest[..colon].iter().copied();
                route = Some(kept.filter(|b| !b.is_ascii_whitespace()).collect());
                self.at += colon + 1;
                words = self.words(b"@>,");
            }
        }
        let domain = (self.peek() == Some(b'@')).then(|| {
            self.at += 1;
            let mut domain = self.words(b">,;");
            domain.retain(|&b| b != b' ');
            domain
        });
        if self.peek() == Some(b'>') {
            self.at += 1;
        }
        self.words(b",;");
        self.skip_comma();
        self.mailbox((!name.is_empty()).then_some(name), route, words, domain)
    }

    fn mailbox(
        &mut self,
        name: Option<Vec<u8>>,
        route: Option<Vec<u8>>,
        local: Vec<u8>,
        domain: Option<Vec<u8>>,
    ) -> ListEntry {
        let comment = std::mem::take(&mut self.comment);
        let comment = comment.trim_ascii();
        let name = name.or_else(|| (!comment.is_empty()).then(|| comment.to_vec()));
        ListEntry::Mailbox {
            name,
            route,
            local: join_dots(local),
            domain,
        }
    }
}

/// Blanks around dots go (RFC 5322 4.4, obs-local-part).
fn join_dots(mut local: Vec<u8>) -> Vec<u8> {
    if local.contains(&b' ') && local.contains(&b'.') {
        let old = std::mem::take(&mut local);
        for (i, &b) in old.iter().enumerate() {
            let dot_after = old.get(i + 1) == Some(&b'.');
            if b != b' ' || !(dot_after || local.last() == Some(&b'.')) {
                local.push(b);
            }
        }
    }
    local
}
