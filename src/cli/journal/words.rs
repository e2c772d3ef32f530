//! Records in words: what each operation did, never what stands in a message or a value.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::super::print::when;
use crate::base::UnixMs;
use crate::store::journal::Seen;
use crate::store::{BodyRef, Flags, Message, Op, Steering};

/// An operation: its name, and its fields in order.
type Told = (&'static str, Vec<(&'static str, Value)>);

/// Members of a list that are written out.
const LISTED_MAX: usize = 8;

/// One record as a line of text, with its operations below.
pub fn to_text(seen: &Seen<'_>) -> String {
    let record = seen.record;
    let mut text = format!(
        "{} partition {} epoch {} pseq {} (stream {}, slot {}, offset {}{})\n",
        time(&record.ops).map_or_else(|| "-".to_owned(), when),
        record.partition,
        record.epoch,
        record.pseq,
        seen.stream,
        seen.slot,
        seen.offset,
        if seen.live { "" } else { ", in a checkpoint" },
    );
    for op in &record.ops {
        let (name, fields) = told(op);
        text.push_str("  ");
        text.push_str(name);
        for (field, value) in fields {
            let value = match value {
                Value::String(text) => super::super::print::shown(&text),
                value => value.to_string(),
            };
            text.push_str(&format!(" {field}={value}"));
        }
        text.push('\n');
    }
    for (body, stored) in record.bodies.iter().zip(seen.stored) {
        let packed = packed(body, *stored).map(|bytes| format!(", packed into {bytes}"));
        let packed = packed.unwrap_or_default();
        text.push_str(&format!("  body of {} bytes{packed}\n", body.size));
    }
    text
}

/// One record as JSON.
pub fn to_json(seen: &Seen<'_>) -> Value {
    let record = seen.record;
    let op = |op: &Op| {
        let (name, fields) = told(op);
        let mut object = Map::new();
        object.insert("op".to_owned(), json!(name));
        object.extend(
            fields
                .into_iter()
                .map(|(field, value)| (field.to_owned(), value)),
        );
        Value::Object(object)
    };
    let body = |(body, stored): (&Arc<Message>, &Option<usize>)| match packed(body, *stored) {
        Some(packed) => json!({ "bytes": body.size, "packed_bytes": packed }),
        None => json!({ "bytes": body.size }),
    };
    let bodies = record.bodies.iter().zip(seen.stored);
    json!({
        "time": time(&record.ops).map(|time| time.0),
        "partition": record.partition.0,
        "epoch": record.epoch.0,
        "pseq": record.pseq.0,
        "stream": seen.stream,
        "slot": seen.slot,
        "offset": seen.offset,
        "live": seen.live,
        "ops": record.ops.iter().map(op).collect::<Vec<_>>(),
        "bodies": bodies.map(body).collect::<Vec<_>>(),
    })
}

/// Octets of a body's frame, where it is packed.
fn packed(body: &Message, stored: Option<usize>) -> Option<usize> {
    stored.filter(|&bytes| (bytes as u64) < body.size)
}

/// When the record was made, where it says so.
fn time(ops: &[Op]) -> Option<UnixMs> {
    ops.iter().find_map(|op| match op {
        Op::Placed { saved, .. } | Op::Accepted { saved, .. } => Some(*saved),
        Op::Expunged { at, .. } | Op::MailboxDeleted { at, .. } => Some(*at),
        Op::Adopted { rows, .. } => rows.first().map(|row| row.saved),
        _ => None,
    })
}

fn told(op: &Op) -> Told {
    match op {
        Op::MailboxCreated { .. }
        | Op::MailboxRenamed { .. }
        | Op::MailboxDeleted { .. }
        | Op::MailboxSet { .. }
        | Op::SubscriptionSet { .. } => folder(op),
        Op::Placed { .. } => placed(op),
        Op::FlagsSet {
            account,
            mailbox,
            modseq,
            entries,
        } => {
            let mut fields = of(account.0, mailbox.0);
            fields.push(("modseq", json!(modseq.0)));
            fields.push(("messages", json!(entries.len())));
            let uids = entries.iter().map(|(uid, ..)| uid.0);
            fields.push(("uids", json!(listed(uids))));
            if let [(_, flags, keywords)] = entries.as_slice() {
                fields.push(("flags", json!(flag_names(*flags, keywords))));
            }
            ("flags-set", fields)
        }
        Op::Expunged {
            account,
            mailbox,
            modseq,
            uids,
            ..
        } => {
            let mut fields = of(account.0, mailbox.0);
            fields.push(("modseq", json!(modseq.0)));
            fields.push(("messages", json!(uids.len())));
            fields.push(("uids", json!(listed(uids.iter().map(|uid| uid.0)))));
            ("expunged", fields)
        }
        Op::AccountPurged { account } => ("account-purged", vec![("account", json!(account.0))]),
        Op::ValueSet {
            account,
            namespace,
            key,
            value,
        } => (
            "value-set",
            vec![
                ("account", json!(account.map(|account| account.0))),
                ("namespace", json!(namespace)),
                ("key", json!(String::from_utf8_lossy(key))),
                // Passwords and scripts stand there too.
                ("bytes", json!(value.as_ref().map(Vec::len))),
            ],
        ),
        Op::Accepted { .. } | Op::HandedOver { .. } | Op::BodySettled { .. } => queued(op),
        Op::Tried { .. } | Op::Steered { .. } => leaving(op),
        Op::Adopted {
            account,
            mailbox,
            rows,
        } => {
            let mut fields = of(account.0, mailbox.0);
            fields.push(("messages", json!(rows.len())));
            fields.push(("uids", json!(listed(rows.iter().map(|row| row.uid.0)))));
            ("adopted", fields)
        }
    }
}

fn folder(op: &Op) -> Told {
    match op {
        Op::MailboxCreated {
            account,
            mailbox,
            name,
            uidvalidity,
            special_use,
        } => {
            let mut fields = of(account.0, mailbox.0);
            fields.push(("name", json!(name)));
            fields.push(("uidvalidity", json!(uidvalidity.0)));
            if let Some(special_use) = special_use {
                fields.push(("use", json!(special_use.attribute())));
            }
            ("mailbox-created", fields)
        }
        Op::MailboxRenamed {
            account,
            mailbox,
            name,
        } => {
            let mut fields = of(account.0, mailbox.0);
            fields.push(("name", json!(name)));
            ("mailbox-renamed", fields)
        }
        Op::MailboxDeleted {
            account, mailbox, ..
        } => ("mailbox-deleted", of(account.0, mailbox.0)),
        Op::SubscriptionSet {
            account,
            name,
            subscribed,
        } => (
            "subscription-set",
            vec![
                ("account", json!(account.0)),
                ("name", json!(name)),
                ("subscribed", json!(subscribed)),
            ],
        ),
        Op::MailboxSet {
            account,
            mailbox,
            uidnext,
            highest,
            ..
        } => {
            let mut fields = of(account.0, mailbox.0);
            fields.push(("uidnext", json!(uidnext.map(|uid| uid.0))));
            fields.push(("modseq", json!(highest.map(|modseq| modseq.0))));
            ("mailbox-set", fields)
        }
        _ => ("", Vec::new()),
    }
}

fn placed(op: &Op) -> Told {
    let Op::Placed {
        account,
        mailbox,
        uid,
        modseq,
        flags,
        keywords,
        internal_date,
        body,
        prefix,
        origin,
        trace,
        ..
    } = op
    else {
        return ("", Vec::new());
    };
    let mut fields = of(account.0, mailbox.0);
    fields.push(("uid", json!(uid.0)));
    fields.push(("modseq", json!(modseq.0)));
    fields.push(("flags", json!(flag_names(*flags, keywords))));
    fields.push(("internal-date", json!(when(*internal_date))));
    fields.push(("body", json!(body_words(*body))));
    fields.push(("prefix-bytes", json!(prefix.len())));
    if let Some(key) = origin {
        let from = format!("partition {} pseq {}.{}", key.source, key.pseq, key.ordinal);
        fields.push(("from", json!(from)));
    }
    if let Some(trace) = trace {
        fields.push(("message", json!(trace.to_string())));
    }
    ("placed", fields)
}

fn queued(op: &Op) -> Told {
    match op {
        Op::Accepted {
            body,
            targets,
            outbound,
            trace,
            ..
        } => {
            let accounts = targets.iter().map(|target| target.account.account.0);
            let mut fields = vec![
                ("targets", json!(targets.len())),
                ("accounts", json!(listed(accounts))),
                ("body", json!(body_words(*body))),
            ];
            if let Some(outbound) = outbound {
                fields.push(("from", json!(outbound.mail.path.to_string())));
                fields.push(("class", json!(outbound.class.word())));
                let to = outbound.recipients.iter();
                fields.push(("to", json!(listed(to.map(|r| r.rcpt.path.to_string())))));
            }
            if let Some(trace) = trace {
                fields.push(("message", json!(trace.to_string())));
            }
            ("accepted", fields)
        }
        Op::HandedOver { pseq, ordinal } => (
            "handed-over",
            vec![("accepted", json!(pseq.0)), ("target", json!(ordinal))],
        ),
        Op::BodySettled { blob } => (
            "body-settled",
            vec![
                ("partition", json!(blob.partition.0)),
                ("pseq", json!(blob.pseq.0)),
                ("ordinal", json!(blob.ordinal)),
            ],
        ),
        _ => ("", Vec::new()),
    }
}

fn leaving(op: &Op) -> Told {
    match op {
        Op::Tried { entry, tried } => {
            let results = tried.results.iter().map(|result| {
                let (ordinal, state) = (result.ordinal, result.state.word());
                format!("{ordinal} {state} {}", result.status)
            });
            let fields = vec![
                ("accepted", json!(entry.0)),
                ("at", json!(when(tried.at))),
                ("hop", json!(tried.hop)),
                ("recipients", json!(listed(results))),
            ];
            ("tried", fields)
        }
        Op::Steered {
            entry,
            at,
            ordinals,
            steering,
        } => {
            let step = match steering {
                Steering::Hold => "held".to_owned(),
                Steering::Due(due) => format!("due {}", when(*due)),
                Steering::Remove => "removed".to_owned(),
                Steering::DelayTold => "delay told".to_owned(),
                Steering::Reroute(to) => format!("rerouted to {to}"),
            };
            let fields = vec![
                ("accepted", json!(entry.0)),
                ("at", json!(when(*at))),
                ("recipients", json!(listed(ordinals.iter()))),
                ("step", json!(step)),
            ];
            ("steered", fields)
        }
        _ => ("", Vec::new()),
    }
}

fn of(account: u64, mailbox: u64) -> Vec<(&'static str, Value)> {
    vec![("account", json!(account)), ("mailbox", json!(mailbox))]
}

fn body_words(body: BodyRef) -> String {
    match body {
        BodyRef::New(n) => format!("{n} of this record"),
        BodyRef::Handed(n) => format!("{n} of this record, handed on"),
        BodyRef::Copy { mailbox, uid } => format!("copy of mailbox {mailbox} uid {uid}"),
    }
}

fn listed<T: ToString>(numbers: impl ExactSizeIterator<Item = T>) -> String {
    let more = numbers.len() > LISTED_MAX;
    let mut text: Vec<String> = numbers.take(LISTED_MAX).map(|n| n.to_string()).collect();
    if more {
        text.push("...".to_owned());
    }
    text.join(",")
}

fn flag_names(flags: Flags, keywords: &[String]) -> String {
    let named = [
        (Flags::SEEN, "seen"),
        (Flags::ANSWERED, "answered"),
        (Flags::FLAGGED, "flagged"),
        (Flags::DELETED, "deleted"),
        (Flags::DRAFT, "draft"),
    ];
    let set = named.iter().filter(|(flag, _)| flags.contains(*flag));
    let mut names: Vec<&str> = set.map(|(_, name)| *name).collect();
    names.extend(keywords.iter().map(String::as_str));
    match names.is_empty() {
        true => "none".to_owned(),
        false => names.join(","),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{AccountId, Crc32c, Epoch, MailboxId, ModSeq, PSeq, PartitionId, Uid};
    use crate::store::{Body, Record};

    fn body(size: u64) -> Arc<Message> {
        Arc::new(Message {
            body: Body::InJournal,
            digest: Arc::from(&b""[..]),
            size,
            crc32c: Crc32c(0),
            blake3: [0; 32],
        })
    }

    #[test]
    fn records_are_told_without_their_secrets() {
        let uids = (1..=20).map(Uid).collect();
        let record = Record {
            partition: PartitionId(3),
            epoch: Epoch(7),
            pseq: PSeq(41),
            ops: vec![
                Op::Expunged {
                    account: AccountId(2),
                    mailbox: MailboxId(9),
                    modseq: ModSeq(77),
                    uids,
                    at: UnixMs(1_000),
                },
                Op::ValueSet {
                    account: None,
                    namespace: "password".into(),
                    key: b"2".to_vec(),
                    value: Some(b"$argon2id$secret".to_vec()),
                },
                Op::FlagsSet {
                    account: AccountId(2),
                    mailbox: MailboxId(9),
                    modseq: ModSeq(78),
                    entries: vec![(Uid(4), Flags::SEEN, vec!["Work".into()])],
                },
            ],
            bodies: vec![body(900), body(9_000)],
        };
        let seen = Seen {
            stream: 1,
            slot: 5,
            offset: 4096,
            live: true,
            record: &record,
            stored: &[Some(900), Some(4_000)],
        };
        let text = to_text(&seen);
        let want = "1970-01-01 00:00:01Z partition 3 epoch 7 pseq 41 \
                    (stream 1, slot 5, offset 4096)\n  \
                    expunged account=2 mailbox=9 modseq=77 messages=20 uids=1,2,3,4,5,6,7,8,...\n  \
                    value-set account=null namespace=password key=2 bytes=16\n  \
                    flags-set account=2 mailbox=9 modseq=78 messages=1 uids=4 flags=seen,Work\n  \
                    body of 900 bytes\n  \
                    body of 9000 bytes, packed into 4000\n";
        assert_eq!(text, want);
        let json = to_json(&seen);
        assert_eq!(json["ops"][1]["namespace"], "password");
        let bodies = json!([{ "bytes": 900 }, { "bytes": 9000, "packed_bytes": 4000 }]);
        assert_eq!(json["bodies"], bodies);
        assert!(!json.to_string().contains("argon2id"));
    }
}
