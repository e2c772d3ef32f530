//! The demo's mail: what people really send. Alphabets, a thread, an attachment, an alternative
//! in HTML, a forwarded message, a list, a header that is folded many times.

use std::fmt::Write as _;

use data_encoding::{BASE64, BASE64_MIME};
use jiff::{ToSpan as _, Zoned};

/// One message and how it comes in.
#[derive(Debug)]
pub struct Letter {
    pub way: Way,
    /// Envelope recipients; none for mail that is only kept.
    pub to: &'static [&'static str],
    pub hours_ago: i64,
    pub raw: String,
}

#[derive(Clone, Copy, Debug)]
pub enum Way {
    /// From another server, over SMTP.
    FromOutside { from: &'static str },
    /// Submitted after a log-in.
    FromUser { name: &'static str },
    /// Put into a mailbox over IMAP, as clients keep what they sent.
    Kept {
        name: &'static str,
        mailbox: &'static str,
        flags: &'static str,
    },
}

/// Header fields that differ, before they are written.
struct Draft {
    id: &'static str,
    from: (&'static str, &'static str),
    to: (&'static str, &'static str),
    subject: &'static str,
    hours_ago: i64,
    /// More fields, each with its CRLF.
    fields: String,
    /// Content-Type and what follows, the blank line and the body among it.
    content: String,
}

const ANA: (&str, &str) = ("Ana García", "ana@demo.test");
const BEN: (&str, &str) = ("Ben Okafor", "ben@demo.test");
const TO_ANA: &[&str] = &["ana@demo.test"];
const TO_BEN: &[&str] = &["ben@demo.test"];
const TO_BOTH: &[&str] = &["ana@demo.test", "ben@demo.test"];

/// A red dot: 1 x 1 pixel.
const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJ\
                   RU5ErkJggg==";

const SENT: Way = Way::Kept {
    name: "ana",
    mailbox: "Sent",
    flags: "\\Seen",
};

/// Every letter in the order of delivery. The order is never changed: a folder remembers how many
/// it has.
pub fn all(now: &Zoned) -> Vec<Letter> {
    let mut letters = vec![
        outside("hello@palomar.test", TO_BOTH, now, welcome()),
        outside("j.mueller@sternwarte.test", TO_ANA, now, german()),
        outside("tanaka@tenmondai.test", TO_ANA, now, japanese()),
    ];
    letters.extend(thread(now));
    letters.push(outside(
        "library@university.test",
        TO_BOTH,
        now,
        alternative(),
    ));
    letters.push(user("ben", TO_ANA, now, attachment()));
    letters.push(outside(
        "bounces@lists.university.test",
        &["ana+lists@demo.test"],
        now,
        list(),
    ));
    letters.push(outside("office@university.test", TO_BEN, now, folded()));
    letters.push(user("ana", TO_BEN, now, forwarded()));
    letters.push(written(
        Way::Kept {
            name: "ana",
            mailbox: "Archive",
            flags: "\\Seen \\Flagged",
        },
        &[],
        now,
        archived(),
    ));
    letters
}

pub fn hours_before(now: &Zoned, hours: i64) -> Zoned {
    now.checked_sub(hours.hours())
        .unwrap_or_else(|_| now.clone())
}

fn outside(from: &'static str, to: &'static [&'static str], now: &Zoned, draft: Draft) -> Letter {
    written(Way::FromOutside { from }, to, now, draft)
}

fn user(name: &'static str, to: &'static [&'static str], now: &Zoned, draft: Draft) -> Letter {
    written(Way::FromUser { name }, to, now, draft)
}

fn written(way: Way, to: &'static [&'static str], now: &Zoned, draft: Draft) -> Letter {
    let date = hours_before(now, draft.hours_ago)
        .strftime("%a, %d %b %Y %H:%M:%S %z")
        .to_string();
    let mut raw = String::new();
    let _ = write!(
        raw,
        "Date: {date}\r\nFrom: {}\r\nTo: {}\r\nMessage-ID: <{}>\r\nSubject: {}\r\n{}\
         MIME-Version: 1.0\r\n{}",
        mailbox(draft.from),
        mailbox(draft.to),
        draft.id,
        encoded(draft.subject),
        draft.fields,
        draft.content
    );
    Letter {
        way,
        to,
        hours_ago: draft.hours_ago,
        raw,
    }
}

fn mailbox((name, address): (&str, &str)) -> String {
    format!("{} <{address}>", encoded(name))
}

/// RFC 2047: encoded words of at most 75 characters, each of whole characters.
pub(super) fn encoded(text: &str) -> String {
    if text.is_ascii() {
        return text.to_owned();
    }
    let mut words = vec![String::new()];
    for c in text.chars() {
        let full = words
            .last()
            .is_none_or(|word| word.len() + c.len_utf8() > 45);
        if full {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut() {
            word.push(c);
        }
    }
    let words = words.iter().filter(|word| !word.is_empty());
    let words = words.map(|word| format!("=?UTF-8?B?{}?=", BASE64.encode(word.as_bytes())));
    words.collect::<Vec<_>>().join("\r\n ")
}

fn plain(text: &str) -> String {
    let text = text.replace('\n', "\r\n");
    format!(
        "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n{text}"
    )
}

fn welcome() -> Draft {
    Draft {
        id: "welcome@palomar.test",
        from: ("Palomar", "hello@palomar.test"),
        to: ("Everybody", "everybody@demo.test"),
        subject: "Welcome to the dovecote",
        hours_ago: 72,
        fields: String::new(),
        content: plain(
            "Hello,\n\nthis mail came in over SMTP and was on the disk before the sender heard \
             250.\nAsk what became of it: palomar explain ID, with the ID of its Received line.\n\
             \n.\nThe line above is one dot, which SMTP doubles on the way.\n",
        ),
    }
}

fn german() -> Draft {
    Draft {
        id: "gruss@sternwarte.test",
        from: ("Jürgen Müller", "j.mueller@sternwarte.test"),
        to: ANA,
        subject: "Grüße aus der Sternwarte: schöne Bilder der Perseïden für die Öffentlichkeit",
        hours_ago: 60,
        fields: "Reply-To: =?utf-8?Q?B=C3=BCro?= <buero@sternwarte.test>\r\n".to_owned(),
        content: plain(
            "Liebe Ana,\n\ndie Bilder sind da. Größe: ungefähr 3 m² Papier …\n\nJürgen\n",
        ),
    }
}

fn japanese() -> Draft {
    Draft {
        id: "kansoku@tenmondai.test",
        from: ("田中 宏", "tanaka@tenmondai.test"),
        to: ANA,
        subject: "観測スケジュールの確認 🔭",
        hours_ago: 50,
        fields: "Importance: high\r\n".to_owned(),
        content: format!(
            "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\
             \r\n{}",
            wrapped("ガルシア様\n\n来週の観測は火曜日の夜に決まりました。\n\n田中\n".as_bytes())
        ),
    }
}

/// Four messages; Ana keeps hers in Sent.
fn thread(now: &Zoned) -> Vec<Letter> {
    const IDS: [&str; 4] = [
        "run-1@demo.test",
        "run-2@demo.test",
        "run-3@demo.test",
        "run-4@demo.test",
    ];
    let says = [
        "Ana,\n\ndo we have the telescope on the 14th?\n\nBen\n",
        "Ben,\n\nyes, from 20:00. Who calibrates?\n\n> do we have the telescope on the 14th?\n",
        "I do. What about the flat fields?\n\n> yes, from 20:00. Who calibrates?\n>\n\
         >> do we have the telescope on the 14th?\n",
        "Taken at dusk. See you there.\n\n> I do. What about the flat fields?\n",
    ];
    let mut letters = Vec::new();
    for (n, text) in says.into_iter().enumerate() {
        let by_ana = n % 2 == 1;
        let draft = || Draft {
            id: IDS[n],
            from: if by_ana { ANA } else { BEN },
            to: if by_ana { BEN } else { ANA },
            subject: if n == 0 {
                "Observing run in March"
            } else {
                "Re: Observing run in March"
            },
            hours_ago: 40 - 3 * n as i64,
            fields: match IDS[..n].last() {
                None => String::new(),
                Some(last) => {
                    let all: Vec<String> = IDS[..n].iter().map(|id| format!("<{id}>")).collect();
                    format!(
                        "In-Reply-To: <{last}>\r\nReferences: {}\r\n",
                        all.join("\r\n ")
                    )
                }
            },
            content: plain(text),
        };
        let (name, to) = if by_ana {
            ("ana", TO_BEN)
        } else {
            ("ben", TO_ANA)
        };
        letters.push(user(name, to, now, draft()));
        if by_ana {
            letters.push(written(SENT, &[], now, draft()));
        }
    }
    letters
}

fn alternative() -> Draft {
    Draft {
        id: "loans@university.test",
        from: ("University Library", "library@university.test"),
        to: ("Readers", "readers@university.test"),
        subject: "Two of your loans are due on Friday",
        hours_ago: 24,
        fields: "List-Unsubscribe: <https://university.test/unsubscribe>\r\n\
                 Auto-Submitted: auto-generated\r\n"
            .to_owned(),
        content: "Content-Type: multipart/alternative; boundary=\"=_two_forms\"\r\n\r\n\
                  --=_two_forms\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n\
                  Due on Friday:\r\n\r\n- Kepler, Astronomia nova\r\n- Leavitt, 1777 variables\r\n\
                  --=_two_forms\r\nContent-Type: text/html; charset=us-ascii\r\n\
                  Content-Transfer-Encoding: quoted-printable\r\n\r\n\
                  <html><body style=3D\"font-family: sans-serif\"><p>Due on <b>Friday</b>:</p>\r\n\
                  <ul><li>Kepler, <i>Astronomia nova</i><li>Leavitt, <i>1777 variables</i></ul>=\r\n\
                  </body></html>\r\n--=_two_forms--\r\n"
            .to_owned(),
    }
}

fn attachment() -> Draft {
    let mut table = String::from("star;magnitude\r\n");
    for n in 1..=200 {
        let _ = write!(table, "HD {};{}.{}\r\n", 1000 + n * 17, n % 12, n % 10);
    }
    Draft {
        id: "table@demo.test",
        from: BEN,
        to: ANA,
        subject: "Tabla de magnitudes, versión final",
        hours_ago: 20,
        fields: "X-Mailer: pencil 2\r\n".to_owned(),
        content: format!(
            "Content-Type: multipart/mixed; boundary=mixed-1\r\n\r\nFor old readers.\r\n\
             --mixed-1\r\n{}\r\n--mixed-1\r\nContent-Type: text/csv; charset=utf-8\r\n\
             Content-Disposition: attachment; filename*=utf-8''Magnitudes%20espa%C3%B1olas.csv\r\n\
             Content-Transfer-Encoding: base64\r\n\r\n{}\
             --mixed-1\r\nContent-Type: image/png; name=dot.png\r\n\
             Content-Disposition: inline; filename=dot.png\r\nContent-ID: <dot@demo.test>\r\n\
             Content-Transfer-Encoding: base64\r\n\r\n{PNG}\r\n--mixed-1--\r\n",
            plain("Ana,\n\nla tabla y un punto rojo.\n\nBen\n"),
            wrapped(table.as_bytes())
        ),
    }
}

fn list() -> Draft {
    Draft {
        id: "list-77@lists.university.test",
        from: ("Vera Rubin", "vera@university.test"),
        to: ("Astro list", "astro@lists.university.test"),
        subject: "[astro] Colloquium on Thursday: rotation curves",
        hours_ago: 10,
        fields: "List-Id: Astronomy <astro.lists.university.test>\r\n\
                 List-Post: <mailto:astro@lists.university.test>\r\nPrecedence: list\r\n\
                 Sender: astro-owner@lists.university.test\r\n"
            .to_owned(),
        content: "Content-Type: text/plain; charset=utf-8; format=flowed\r\n\
                  Content-Transfer-Encoding: 8bit\r\n\r\n\
                  Thursday at 12:00 in the large hall. Everybody is welcome, and there will be \r\n\
                  coffee afterwards.\r\n\r\n-- \r\nVera\r\n"
            .to_owned(),
    }
}

fn folded() -> Draft {
    let ids = (1..=40).map(|n| format!("<minutes.{n:03}.of.the.faculty@university.test>"));
    let people = (1..=30).map(|n| format!("\"Professor, No. {n}\" <prof{n}@university.test>"));
    let joined =
        |each: &mut dyn Iterator<Item = String>, with: &str| each.collect::<Vec<_>>().join(with);
    Draft {
        id: "minutes@university.test",
        from: ("Faculty Office", "office@university.test"),
        to: BEN,
        subject: "Minutes of the meeting, with all that it refers to and a title that goes on and \
                  on\r\n until it is folded",
        hours_ago: 8,
        fields: format!(
            "Cc: {}\r\nReferences: {}\r\n",
            joined(&mut { people }, ",\r\n\t"),
            joined(&mut { ids }, "\r\n ")
        ),
        content: plain("The minutes are on the shelf.\n"),
    }
}

fn forwarded() -> Draft {
    Draft {
        id: "forward@demo.test",
        from: ANA,
        to: BEN,
        subject: "Fwd: Power cut on Sunday",
        hours_ago: 5,
        fields: String::new(),
        content: format!(
            "Content-Type: multipart/mixed; boundary=outer\r\n\r\n--outer\r\n{}\r\n\
             --outer\r\nContent-Type: message/rfc822\r\nContent-Disposition: inline\r\n\r\n\
             From: House Services <house@university.test>\r\nTo: all@university.test\r\n\
             Subject: Power cut on Sunday\r\nDate: Mon, 02 Feb 2026 08:00:00 +0000\r\n\
             Message-ID: <power@university.test>\r\n\r\n\
             Please shut your machines down by 09:00.\r\n--outer--\r\n",
            plain("Ben, do we care? The mail server should not.\n")
        ),
    }
}

fn archived() -> Draft {
    Draft {
        id: "first-light@sternwarte.test",
        from: ("Jürgen Müller", "j.mueller@sternwarte.test"),
        to: ANA,
        subject: "First light!",
        hours_ago: 24 * 400,
        fields: String::new(),
        content: plain("We saw M31 tonight. Keep this one.\n"),
    }
}

/// Base 64 in lines of 76, each with its CRLF (RFC 2045 6.8).
fn wrapped(bytes: &[u8]) -> String {
    BASE64_MIME.encode(bytes)
}
