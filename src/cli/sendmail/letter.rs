//! A message as a program writes it: with or without a header, with whatever line ends.

use data_encoding::BASE64;

use crate::wire::address::{ListEntry, Mailbox, Path, parse_address_list};
use crate::wire::mime::{Field, Fields};

/// A longer name is left out rather than made two encoded words (RFC 2047 2).
const NAME_BYTES_MAX: usize = 45;

/// Without its end.
const LINE_BYTES_MAX: usize = 998;

/// What was read. Line ends are as they came.
pub struct Letter {
    bytes: Vec<u8>,
    /// It begins with a header, or the empty line of one.
    has_header: bool,
}

impl Letter {
    /// `is_dot_end`: a line of one dot ends it.
    pub fn read(input: &[u8], is_dot_end: bool) -> Letter {
        let mut bytes: Vec<u8> = without_separator(input).to_vec();
        // RFC 5322 2.2 and 2.3 have no NUL.
        bytes.retain(|byte| *byte != 0);
        if is_dot_end && let Some(end) = dot(&bytes) {
            bytes.truncate(end);
        }
        let is_empty = matches!(bytes.first(), Some(b'\n') | None) || bytes.starts_with(b"\r\n");
        let first = Fields::new(&bytes).next();
        let has_header = is_empty || first.is_some_and(|field| is_field(&field));
        Letter { bytes, has_header }
    }

    fn fields(&self) -> impl Iterator<Item = Field<'_>> {
        let header = if self.has_header {
            &self.bytes[..]
        } else {
            &[]
        };
        Fields::new(header)
    }

    /// Those of To, Cc and Bcc; of a message that is sent on by hand those of its Resent fields.
    pub fn recipients(&self, domain: &str) -> Result<Vec<Path>, String> {
        let named = |names: [&[u8]; 3]| {
            let fields = self.fields();
            let fields = fields.filter(|field| names.iter().any(|name| field.is(name)));
            fields.map(|field| field.value).collect::<Vec<_>>()
        };
        let mut values = named([b"Resent-To", b"Resent-Cc", b"Resent-Bcc"]);
        if values.is_empty() {
            values = named([b"To", b"Cc", b"Bcc"]);
        }
        let mut all = Vec::new();
        for value in values {
            all.extend(addresses(value, domain)?);
        }
        Ok(all)
    }

    /// The content, with a From where it has none: of `sender`, or, where that is nobody, of `own`.
    pub fn content(&self, name: &str, sender: &Path, own: Option<&Path>) -> Vec<u8> {
        let mut content = Vec::with_capacity(self.bytes.len() + 128);
        let from = match sender {
            Path::Mailbox(_) => Some(sender),
            _ => own,
        };
        let is_from = |field: Field<'_>| field.is(b"From") || field.is(b"Resent-From");
        if let Some(Path::Mailbox(from)) = from
            && !self.fields().any(is_from)
        {
            content.extend_from_slice(format!("From: {}<{from}>\r\n", phrase(name)).as_bytes());
        }
        if !self.has_header {
            content.extend_from_slice(b"\r\n");
        }
        put_short_lines(&self.bytes, &mut content);
        content
    }
}

/// RFC 5322 2.1.1: longer lines are refused on the way. Such a one goes on in the next, behind a
/// blank, as other mail servers have it.
fn put_short_lines(mut rest: &[u8], out: &mut Vec<u8>) {
    let mut room = LINE_BYTES_MAX;
    while !rest.is_empty() {
        let end = memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
        let line = rest[..end].strip_suffix(b"\n").unwrap_or(&rest[..end]);
        let text = line.strip_suffix(b"\r").unwrap_or(line).len();
        if text <= room {
            out.extend_from_slice(&rest[..end]);
            (rest, room) = (&rest[end..], LINE_BYTES_MAX);
            continue;
        }
        // Not within a character of UTF-8.
        let is_inside = |at: &usize| rest[*at] & 0b1100_0000 == 0b1000_0000;
        let cut = (room - 3..=room).rev().find(|at| !is_inside(at));
        let cut = cut.unwrap_or(room);
        out.extend_from_slice(&rest[..cut]);
        out.extend_from_slice(b"\r\n ");
        (rest, room) = (&rest[cut..], LINE_BYTES_MAX - 1);
    }
}

/// The line with which an mbox begins a message is no part of it.
fn without_separator(input: &[u8]) -> &[u8] {
    match input.starts_with(b"From ") || input.starts_with(b">From ") {
        true => memchr::memchr(b'\n', input).map_or(&[], |at| &input[at + 1..]),
        false => input,
    }
}

/// Where a line of one dot begins.
fn dot(bytes: &[u8]) -> Option<usize> {
    let mut begin = 0;
    while begin < bytes.len() {
        let end = memchr::memchr(b'\n', &bytes[begin..]).map_or(bytes.len(), |at| begin + at + 1);
        if matches!(&bytes[begin..end], b"." | b".\n" | b".\r\n") {
            return Some(begin);
        }
        begin = end;
    }
    None
}

fn is_field(field: &Field<'_>) -> bool {
    let name = field.name.trim_ascii_end();
    !name.is_empty() && name.iter().all(|byte| (33..=126).contains(byte))
}

/// The addresses of a list, each name without a domain completed.
pub fn addresses(list: &[u8], domain: &str) -> Result<Vec<Path>, String> {
    let mut all = Vec::new();
    for entry in parse_address_list(list) {
        let ListEntry::Mailbox {
            local, domain: of, ..
        } = entry
        else {
            continue;
        };
        let text = |bytes: Vec<u8>| {
            String::from_utf8(bytes).map_err(|_| "an address is not UTF-8".to_owned())
        };
        let local = text(local)?;
        let of = of.map_or_else(|| Ok(domain.to_owned()), text)?;
        let quoted = || {
            format!(
                "\"{}\"@{of}",
                local.replace('\\', "\\\\").replace('"', "\\\"")
            )
        };
        let mailbox = Mailbox::parse(&format!("{local}@{of}"));
        let mailbox = mailbox.or_else(|_| Mailbox::parse(&quoted()));
        let mailbox = mailbox.map_err(|_| format!("{local}@{of} is no address"))?;
        all.push(Path::Mailbox(mailbox));
    }
    Ok(all)
}

/// Who a message is from; nobody, where that is what is said.
pub fn path(text: &str, domain: &str) -> Result<Path, String> {
    if matches!(text.trim(), "" | "<>") {
        return Ok(Path::Null);
    }
    let found = addresses(text.as_bytes(), domain)?;
    let [path] = <[Path; 1]>::try_from(found).map_err(|_| format!("{text} is no address"))?;
    Ok(path)
}

/// RFC 5322 3.2.5, with a blank behind it; nothing for a name that cannot stand there.
fn phrase(name: &str) -> String {
    let name = name.trim();
    let is_plain =
        |c: char| c == ' ' || c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c);
    match name {
        "" => String::new(),
        name if name.chars().any(char::is_control) || name.len() > NAME_BYTES_MAX => String::new(),
        name if name.chars().all(is_plain) => format!("{name} "),
        name if name.is_ascii() => {
            format!("\"{}\" ", name.replace('\\', "\\\\").replace('"', "\\\""))
        }
        name => format!("=?utf-8?B?{}?= ", BASE64.encode(name.as_bytes())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(input: &str, is_dot_end: bool) -> String {
        let letter = Letter::read(input.as_bytes(), is_dot_end);
        let sender = path("ana", "play.test").expect("an address");
        String::from_utf8(letter.content("Ana Pérez", &sender, None)).expect("text")
    }

    #[test]
    fn what_is_missing_is_added() {
        let from = "From: =?utf-8?B?QW5hIFDDqXJleg==?= <ana@play.test>\r\n";
        let check = |input: &str, is_dot_end: bool, want: &str| {
            assert_eq!(content(input, is_dot_end), want, "{input:?}");
        };
        check(
            "Subject: x\n\nBody\n",
            true,
            &format!("{from}Subject: x\n\nBody\n"),
        );
        check("from: b@x\n\nBody\n", true, "from: b@x\n\nBody\n");
        check(
            "A text.\nMore: it\n",
            true,
            &format!("{from}\r\nA text.\nMore: it\n"),
        );
        check("A text: it\n", true, &format!("{from}\r\nA text: it\n"));
        check("\nBody\n", true, &format!("{from}\nBody\n"));
        check("", true, from);
        check(
            "From ana Mon\nSubject: x\n\n",
            true,
            &format!("{from}Subject: x\n\n"),
        );
        check("a: b\n\n1\n.\n2\n", true, &format!("{from}a: b\n\n1\n"));
        check("a: b\n\n1\r\n.\r\n2", true, &format!("{from}a: b\n\n1\r\n"));
        check("a: b\n\n1\n.\n2", false, &format!("{from}a: b\n\n1\n.\n2"));
        check("a: b\n\n\0x", false, &format!("{from}a: b\n\nx"));
    }

    #[test]
    fn long_lines_go_on_in_the_next() {
        let check = |text: String, want: &[usize]| {
            let mut out = Vec::new();
            put_short_lines(text.as_bytes(), &mut out);
            let out = String::from_utf8(out).expect("whole characters");
            let lines: Vec<usize> = out.lines().map(str::len).collect();
            assert_eq!(lines, want);
            assert_eq!(out.replace("\r\n ", ""), text);
        };
        check(
            format!("{}\n{}\n", "a".repeat(998), "b".repeat(3)),
            &[998, 3],
        );
        check(format!("{}\r\nb\r\n", "a".repeat(999)), &[998, 2, 1]);
        check("a".repeat(2_996), &[998, 998, 998, 5]);
        check(format!("a{}", "é".repeat(600)), &[997, 205]);
        check(String::new(), &[]);
    }

    #[test]
    fn recipients_of_a_message() {
        let check = |input: &str, want: &str| {
            let found = Letter::read(input.as_bytes(), true).recipients("play.test");
            let found = found.map(|all| all.iter().map(Path::to_string).collect::<String>());
            assert_eq!(found.unwrap_or_else(|why| why), want, "{input:?}");
        };
        check(
            "To: root, \"B, ea\" <bea@x.test>\nCc: them: a@x.test, b@x.test;\nBCC: eva@x.test\n\nTo: no\n",
            "<root@play.test><bea@x.test><a@x.test><b@x.test><eva@x.test>",
        );
        check("To: a@x.test\nResent-To: b@x.test\n\n", "<b@x.test>");
        check("To: a@x.test,\n  b@x.test\n\n", "<a@x.test><b@x.test>");
        check("To: \"two words\"@x.test\n\n", "<\"two words\"@x.test>");
        check("Subject: nobody\n\n", "");
        check("A text.\nTo: a@x.test\n", "");
        check("To: a@x_\u{1}.test\n\n", "a@x_\u{1}.test is no address");
    }

    #[test]
    fn senders() {
        let check = |text: &str, want: Option<&str>| {
            let got = path(text, "play.test").ok().map(|path| path.to_string());
            assert_eq!(got.as_deref(), want, "{text}");
        };
        check("ana", Some("<ana@play.test>"));
        check("<ana@x.test>", Some("<ana@x.test>"));
        check("www-data", Some("<www-data@play.test>"));
        check("", Some("<>"));
        check("<>", Some("<>"));
        check("a@x.test, b@x.test", None);
    }
}
