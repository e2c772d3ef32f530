//! Quota warnings: one ordinary message in the INBOX for each mark that is crossed.
//!
//! Runs on: every shard, for the accounts of that shard.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::or;

use crate::base::{ByteSize, TraceId, UnixMs};
use crate::directory::{Account, Directory};
use crate::observe::{event, log_event};
use crate::runtime::{self, Gate};
use crate::store::{AccountRef, Message, Quota, QuotaDue, Remote, StoreError, Warned};
use crate::wire::dates::{DateTime, format_date};
use crate::wire::plain::paragraph;

const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Between looks whether limits are others than they were.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Accounts looked at before others have their turn.
const LOOKED_AT_ONCE: usize = 100;

/// Looks at accounts of this shard whose limits changed, until the gate closes: what is used may be
/// above a mark of the new ones. At the start at all of them, for changes that nobody saw.
pub async fn watch_limits(remote: Remote, directory: Directory, gate: Gate) {
    let mut seen = directory.snapshot();
    let all = seen.accounts().filter(|account| account.removed.is_none());
    let mut due: Due = all.map(|account| (seen.reference(account), None)).collect();
    while !gate.is_closed() {
        due = look(&remote, due).await;
        or(runtime::sleep(LOOK_EVERY), gate.closing()).await;
        let now = directory.snapshot();
        if !Arc::ptr_eq(&now, &seen) {
            due.extend(now.limits_changed(&seen));
            seen = now;
        }
    }
}

/// Accounts, with the limits that they had.
type Due = Vec<(AccountRef, Option<Quota>)>;

/// Answers those that have to be looked at again.
async fn look(remote: &Remote, accounts: Due) -> Due {
    let mut again = Vec::new();
    for (n, (account, before)) in accounts.into_iter().enumerate() {
        if remote.is_mine(account.partition) && !remote.look_at_quota(account, before) {
            again.push((account, before));
        }
        if n % LOOKED_AT_ONCE == 0 {
            runtime::yield_if_needed().await;
        }
    }
    again
}

/// Writes the warnings that are due, until the gate closes. One that cannot be placed now is still
/// due: then, or after the next start.
pub async fn warn_of_quotas(remote: Remote, directory: Directory, gate: Gate) {
    let mut pause = PAUSE_MIN;
    loop {
        let due = async { Some(remote.quota_due().await) };
        let closing = async {
            gate.closing().await;
            None
        };
        let Some(due) = or(due, closing).await else {
            return;
        };
        // An account that was removed has nobody who would read it.
        let owner = directory.snapshot().account(due.account).cloned();
        let Some(owner) = owner.filter(|owner| owner.removed.is_none()) else {
            continue;
        };
        let due = QuotaDue {
            usage: crate::store::QuotaUsage {
                limit: directory.snapshot().quota(&owner),
                ..due.usage
            },
            ..due
        };
        match warn(&remote, &owner, &due).await {
            Ok(_) => pause = PAUSE_MIN,
            Err(why) => {
                tracing::warn!(?why, account = %due.account, "quota warning put off");
                remote.quota_still_due(&due);
                or(runtime::sleep(pause), gate.closing()).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }
}

async fn warn(remote: &Remote, owner: &Account, due: &QuotaDue) -> Result<(), StoreError> {
    let trace = runtime::trace_id();
    let mut due = due.clone();
    // A warning takes room, too: one that crosses a mark itself tells of that one.
    loop {
        let text = compose(owner, &due, runtime::unix_now(), trace);
        let mut incoming = remote.incoming();
        incoming.write(text.as_bytes()).await?;
        let message: Arc<Message> = incoming.finish().await?;
        match remote.warn_of_quota(&due, message).await? {
            Warned::Told => break,
            Warned::Superseded => return Ok(()),
            Warned::Crosses(usage) => (due.percent, due.usage) = (usage.mark(), usage),
        }
    }
    log_event!(
        INFO,
        event::QUOTA_CROSSED,
        message = %trace,
        account = %due.account,
        user = owner.address.as_str(),
        percent = u64::from(due.percent)
    );
    Ok(())
}

/// What a warning says, in one language. Subjects are ASCII, so that they need no encoding.
struct Words {
    language: &'static str,
    subject: &'static str,
    full: &'static str,
    /// `{}` is how large a message was, in brackets and behind a blank, or nothing.
    refused: &'static str,
    filling: &'static str,
    of: &'static str,
    messages: &'static str,
    largest: &'static str,
    advice: &'static str,
}

/// English first: it is for everybody whose language is not here.
const LANGUAGES: [Words; 5] = [
    Words {
        language: "en",
        subject: "Your mailbox is {} % full",
        full: "Your mailbox is full. New mail for you is refused until there is room again.",
        refused: "A message{} for you was refused, since your mailbox has no room for it.",
        filling: "Your mailbox is filling up. When it is full, new mail for you is refused.",
        of: "of",
        messages: "messages",
        largest: "The largest folders:",
        advice: "Delete what you no longer need and empty the Trash, which counts too. If you \
                 need more room, write to the postmaster by answering this message.",
    },
    Words {
        language: "es",
        subject: "Su correo ocupa el {} % de su cuota",
        full: "Su buzón está lleno. El correo nuevo se rechaza hasta que vuelva a haber sitio.",
        refused: "Se ha rechazado un mensaje{} para usted, porque no cabe en su buzón.",
        filling: "Su buzón se está llenando. Cuando esté lleno, se rechazará el correo nuevo.",
        of: "de",
        messages: "mensajes",
        largest: "Las carpetas más grandes:",
        advice: "Borre lo que ya no necesite y vacíe la papelera, que también cuenta. Si necesita \
                 más espacio, escriba al administrador respondiendo a este mensaje.",
    },
    Words {
        language: "ca",
        subject: "El seu correu ocupa el {} % de la seva quota",
        full: "La seva bústia és plena. El correu nou es rebutja fins que torni a haver-hi lloc.",
        refused: "S'ha rebutjat un missatge{} per a vostè, perquè no cap a la seva bústia.",
        filling: "La seva bústia s'està omplint. Quan sigui plena, es rebutjarà el correu nou.",
        of: "de",
        messages: "missatges",
        largest: "Les carpetes més grans:",
        advice: "Esborri el que ja no necessiti i buidi la paperera, que també compta. Si \
                 necessita més espai, escrigui a l'administrador responent aquest missatge.",
    },
    Words {
        language: "de",
        subject: "Ihr Postfach ist zu {} % belegt",
        full: "Ihr Postfach ist voll. Neue Post wird abgewiesen, bis wieder Platz ist.",
        refused: "Eine Nachricht{} an Sie wurde abgewiesen, weil Ihr Postfach keinen Platz für sie \
                  hat.",
        filling: "Ihr Postfach füllt sich. Wenn es voll ist, wird neue Post abgewiesen.",
        of: "von",
        messages: "Nachrichten",
        largest: "Die größten Ordner:",
        advice: "Löschen Sie, was Sie nicht mehr brauchen, und leeren Sie den Papierkorb, der \
                 mitzählt. Wenn Sie mehr Platz brauchen, antworten Sie auf diese Nachricht.",
    },
    Words {
        language: "fr",
        subject: "Votre messagerie occupe {} % de son quota",
        full: "Votre messagerie est pleine. Les nouveaux messages sont refusés tant qu'il n'y a \
               pas de place.",
        refused: "Un message{} pour vous a été refusé : il n'y a pas de place pour lui dans votre \
                  messagerie.",
        filling: "Votre messagerie se remplit. Quand elle sera pleine, les nouveaux messages \
                  seront refusés.",
        of: "sur",
        messages: "messages",
        largest: "Les plus grands dossiers :",
        advice: "Supprimez ce dont vous n'avez plus besoin et videz la corbeille, qui compte \
                 aussi. S'il vous faut plus de place, répondez à ce message.",
    },
];

/// By the primary subtag (RFC 5646 2.2.1): `es-MX` reads `es`.
fn words(language: Option<&str>) -> &'static Words {
    let primary = language.and_then(|tag| tag.split(['-', '_']).next());
    let known = primary.and_then(|primary| {
        let is_it = |words: &&Words| words.language.eq_ignore_ascii_case(primary);
        LANGUAGES.iter().find(is_it)
    });
    known.unwrap_or(&LANGUAGES[0])
}

fn compose(owner: &Account, due: &QuotaDue, now: UnixMs, trace: TraceId) -> String {
    let words = words(owner.language.as_deref());
    let (usage, limit) = (&due.usage, &due.usage.limit);
    let domain = owner
        .address
        .rsplit_once('@')
        .map_or("localhost", |at| at.1);
    // 100 is also told where a message was refused and there is some room left.
    let is_full = usage.percent() >= 100;
    let percent = usage.percent().min(100).to_string();
    let date = format_date(DateTime {
        at: now,
        zone_minutes: 0,
    });
    let mut text = format!(
        "From: Postmaster <postmaster@{domain}>\r\nTo: <{}>\r\nSubject: {}\r\nDate: {date}\r\n\
         Message-ID: <{trace}.quota@{domain}>\r\nAuto-Submitted: auto-generated\r\n\
         MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Transfer-Encoding: 8bit\r\nContent-Language: {}\r\n\r\n",
        owner.address,
        words.subject.replace("{}", &percent),
        words.language,
    );
    match due.percent {
        100.. if is_full => paragraph(&mut text, words.full),
        100.. => paragraph(&mut text, &refused(words, due.refused)),
        _ => paragraph(&mut text, words.filling),
    }
    text.push_str("\r\n");
    if let Some(limit) = limit.bytes {
        let used = ByteSize(usage.bytes).rounded();
        let _ = write!(text, "  {used} {} {}\r\n", words.of, limit.rounded());
    }
    if let Some(limit) = limit.messages {
        let used = usage.messages;
        let _ = write!(text, "  {used} {} {limit} {}\r\n", words.of, words.messages);
    }
    let _ = write!(text, "\r\n{}\r\n\r\n", words.largest);
    for folder in &due.folders {
        let (size, name) = (ByteSize(folder.bytes).rounded(), shown(&folder.name));
        let _ = write!(
            text,
            "  {size:>10}  {:>8} {}  {name}\r\n",
            folder.messages, words.messages
        );
    }
    text.push_str("\r\n");
    paragraph(&mut text, words.advice);
    text
}

/// Where no size was announced, none is told.
fn refused(words: &Words, bytes: Option<u64>) -> String {
    let size = bytes.filter(|bytes| *bytes > 1);
    let size = size.map_or(String::new(), |bytes| {
        format!(" ({})", ByteSize(bytes).rounded())
    });
    words.refused.replace("{}", &size)
}

/// A folder's name on one line (RFC 5322 2.1.1 allows 998 octets).
fn shown(name: &str) -> String {
    let harmless = name.chars().map(|c| if c.is_control() { '?' } else { c });
    harmless.take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{AccountId, PartitionId};
    use crate::store::{FolderSize, Quota, QuotaUsage};

    fn account(language: Option<&str>) -> Account {
        serde_json::from_value(serde_json::json!({
            "id": 1, "partition": 0, "address": "ana@example.org", "created": 0,
            "language": language,
        }))
        .expect("an account")
    }

    fn due(percent: u8) -> QuotaDue {
        QuotaDue {
            account: AccountId(1),
            partition: PartitionId(0),
            percent,
            mark: percent,
            refused: (percent == 100).then_some(300_000_000),
            usage: QuotaUsage {
                bytes: 1_520_000_000,
                messages: 90,
                limit: Quota {
                    bytes: Some(ByteSize(2_000_000_000)),
                    messages: Some(100),
                },
            },
            folders: vec![FolderSize {
                name: "Work\r\nBcc: x".into(),
                bytes: 1_000_000_000,
                messages: 70,
            }],
        }
    }

    fn written(language: Option<&str>, percent: u8) -> String {
        let id = TraceId::new(UnixMs(0), 7);
        compose(&account(language), &due(percent), UnixMs(0), id)
    }

    #[test]
    fn it_says_how_much_is_used_and_where() {
        let text = written(None, 90);
        for line in [
            "From: Postmaster <postmaster@example.org>",
            "To: <ana@example.org>",
            "Subject: Your mailbox is 90 % full",
            "Content-Language: en",
            "  1.5 GB of 2 GB",
            "  90 of 100 messages",
            "        1 GB        70 messages  Work??Bcc: x",
        ] {
            assert!(text.lines().any(|is| is == line), "{line} in\n{text}");
        }
        // Refused at 90 %: it is not full, and nothing says so.
        let text = written(None, 100);
        assert!(
            text.contains("Subject: Your mailbox is 90 % full"),
            "{text}"
        );
        assert!(text.contains("A message (300 MB) for you was refused, since"));
        assert!(!text.contains("is full."), "{text}");
        let mut full = due(100);
        full.usage.messages = 101;
        let id = TraceId::new(UnixMs(0), 7);
        let text = compose(&account(None), &full, UnixMs(0), id);
        assert!(text.contains("Your mailbox is full. New mail"));
    }

    #[test]
    fn every_language_makes_a_sound_message() {
        for words in &LANGUAGES {
            let text = written(Some(words.language), 75);
            let (head, body) = text.split_once("\r\n\r\n").expect("a header and a body");
            assert!(head.is_ascii() && head.contains("90 %"), "{head}");
            let ends = text.matches('\n').count();
            assert_eq!(text.matches("\r\n").count(), ends, "{}", words.language);
            assert!(
                body.lines().all(|line| line.chars().count() <= 78),
                "{body}"
            );
        }
        assert!(written(Some("es-MX"), 75).contains("Su correo ocupa"));
        assert!(written(Some("xx"), 75).contains("Your mailbox"));
    }
}
