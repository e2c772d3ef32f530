//! Mail that leaves, with a value in every field.

use crate::base::{AccountId, PSeq, TraceId, UnixMs};
use crate::store::{
    BodyRef, LastTry, MailClass, Op, Outbound, OutboundRecipient, RecipientState, Redirect,
    Steering, Tried, TriedRecipient,
};
use crate::wire::address::{Mailbox, Path};
use crate::wire::smtp::{BodyKind, DsnReturn, MailFrom, Notify, OriginalRecipient, RcptTo};

/// What version 5 has beside that.
pub fn rerouted() -> Op {
    Op::Steered {
        entry: PSeq(5),
        at: UnixMs(1_772_438_700_000),
        ordinals: vec![1],
        steering: Steering::Reroute("relay.example.net:587".into()),
    }
}

/// What version 4 has for mail that leaves.
pub fn leaving() -> Vec<Op> {
    let result = |ordinal, state, status: &str, reply: &str| TriedRecipient {
        ordinal,
        state,
        status: status.into(),
        reply: reply.into(),
    };
    let steered = |steering| Op::Steered {
        entry: PSeq(5),
        at: UnixMs(1_772_438_700_000),
        ordinals: vec![0, 2],
        steering,
    };
    let due = UnixMs(1_772_440_000_000);
    vec![
        Op::Accepted {
            body: BodyRef::New(0),
            targets: Vec::new(),
            outbound: Some(Box::new(outbound())),
            saved: UnixMs(1_772_438_400_456),
            trace: Some(TraceId::new(UnixMs(1_772_438_400_000), 77)),
        },
        Op::Tried {
            entry: PSeq(5),
            tried: Tried {
                at: UnixMs(1_772_438_600_000),
                hop: "mx.example.net [192.0.2.1]:25".into(),
                results: vec![
                    result(0, RecipientState::Delivered, "2.1.5", "250 2.1.5 Ok"),
                    result(1, RecipientState::Failed, "5.1.1", "550 5.1.1 Nobody"),
                    result(
                        2,
                        RecipientState::Waiting { due },
                        "4.2.0",
                        "451 4.2.0 Later",
                    ),
                ],
            },
        },
        steered(Steering::Hold),
        steered(Steering::Due(due)),
        steered(Steering::Remove),
        steered(Steering::DelayTold),
    ]
}

/// With every field, and recipients in every state.
pub fn outbound() -> Outbound {
    let at = UnixMs(1_772_438_500_000);
    let states = [
        RecipientState::Waiting { due: at },
        RecipientState::Held { since: at },
        RecipientState::Delivered,
        RecipientState::Failed,
        RecipientState::Expired,
        RecipientState::Removed,
    ];
    let recipient = |(n, state): (usize, RecipientState)| OutboundRecipient {
        rcpt: RcptTo {
            path: Path::Mailbox(Mailbox::parse("bob@xn--bcher-kva.example").expect("parses")),
            notify: (n > 0).then_some(Notify {
                success: n % 2 == 0,
                failure: true,
                delay: n == 3,
            }),
            original: (n == 1).then(|| OriginalRecipient {
                kind: "utf-8".into(),
                address: "bücher@example.org".into(),
            }),
        },
        destination: "xn--bcher-kva.example".into(),
        redirect: (n == 5).then(|| {
            Box::new(Redirect {
                reverse: Path::Null,
                head: b"Delivered-To: list@example.org\r\n".to_vec(),
            })
        }),
        state,
        tries: n as u32,
        last: (n == 2).then(|| LastTry {
            at,
            hop: "mx.example.net [2001:db8::1]:25".into(),
            status: "4.4.1".into(),
            reply: "no connection".into(),
        }),
        is_delay_told: n == 4,
    };
    Outbound {
        mail: MailFrom {
            body: BodyKind::EightBit,
            smtputf8: true,
            ret: Some(DsnReturn::Headers),
            envelope_id: Some("QQ 314".into()),
            auth: Some(String::new()),
            ..MailFrom::new(Path::Mailbox(
                Mailbox::parse("ana@example.org").expect("parses"),
            ))
        },
        class: MailClass::Bulk,
        submitter: Some(AccountId(7)),
        head: b"DKIM-Signature: v=1; a=ed25519-sha256\r\n".to_vec(),
        expires: UnixMs(1_772_870_400_456),
        recipients: states.into_iter().enumerate().map(recipient).collect(),
    }
}
