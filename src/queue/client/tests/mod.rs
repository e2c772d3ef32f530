//! The machine against transcripts, and the driver against scripted peers on real sockets.

mod dialogue;
mod refusals;
mod sockets;
mod tls;
mod transcripts;

use std::time::Duration;

use super::*;
use crate::wire::address::parse_path;
use crate::wire::sasl::Secret;
use crate::wire::smtp::Command;

/// Terms of a test, which change what they are about.
fn terms() -> Terms {
    Terms {
        protocol: Protocol::Smtp,
        own_name: "me.test".to_owned(),
        host: "mx.example.org".to_owned(),
        security: Security::Opportunistic,
        is_tls_from_start: false,
        login: None,
        is_clear_login_allowed: false,
        is_chunking_used: true,
        recipients_max: 100,
        letters_max: 100,
        times: Times {
            connect: Duration::from_secs(10),
            greeting: Duration::from_secs(10),
            command: Duration::from_secs(10),
            handshake: Duration::from_secs(10),
            mail: Duration::from_secs(10),
            rcpt: Duration::from_secs(10),
            data: Duration::from_secs(10),
            block: Duration::from_secs(10),
            end: Duration::from_secs(10),
            attempt: Duration::from_secs(20),
            bytes_per_second_min: 1 << 20,
        },
    }
}

fn login() -> Option<Login> {
    Some(Login {
        name: "ana".to_owned(),
        password: Secret::new(b"secret".to_vec()),
    })
}

/// A letter as a client of ours would submit it: MAIL and RCPT lines.
fn letter(mail: &str, recipients: &[&str]) -> Letter {
    let line = format!("MAIL FROM:{mail}");
    let Ok(Command::Mail(mail)) = Command::parse(line.as_bytes()) else {
        // The parser wants SMTPUTF8 said; a test may want it unsaid.
        let (path, _) = parse_path(mail.as_bytes()).expect("a path");
        return letter_from(path, recipients);
    };
    let mut letter = letter_from(mail.path.clone(), recipients);
    letter.mail = mail;
    letter
}

fn letter_from(path: crate::wire::address::Path, recipients: &[&str]) -> Letter {
    let recipient = |line: &&str| match Command::parse(format!("RCPT TO:{line}").as_bytes()) {
        Ok(Command::Rcpt(rcpt)) => rcpt,
        other => panic!("{line}: {other:?}"),
    };
    Letter {
        mail: MailFrom::new(path),
        recipients: recipients.iter().map(recipient).collect(),
        size: 4,
        is_eight_bit_forced: false,
    }
}

/// A report on one line: the fates, the trouble, whether notices are passed on.
fn told(report: &Report) -> String {
    let cause = |cause: &Cause| match cause {
        Cause::Reply { phase, reply } => format!("{} {phase}", reply.code()),
        Cause::Trouble => "trouble".to_owned(),
        Cause::Address => "address".to_owned(),
    };
    let fate = |fate: &Fate| match fate {
        Fate::Delivered(reply) => format!("delivered {}", reply.code()),
        Fate::Failed(why) => format!("failed {}", cause(why)),
        Fate::Deferred(why) => format!("deferred {}", cause(why)),
        Fate::Unsure => "unsure".to_owned(),
        Fate::Unfit(need) => format!("unfit {}", need.enhanced()),
        Fate::Next => "next".to_owned(),
    };
    let mut told = report.fates.iter().map(fate).collect::<Vec<_>>().join(", ");
    if let Some(trouble) = &report.trouble {
        told.push_str(&format!("; {trouble}"));
    }
    if report.is_stale {
        told.push_str("; stale");
    }
    told
}
