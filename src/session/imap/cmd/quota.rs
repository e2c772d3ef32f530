//! GETQUOTA and GETQUOTAROOT (RFC 9208). An account has one quota root for all its mailboxes; one
//! without limits has none. Changing quotas (QUOTASET) is the administrator's and not offered.

use super::super::answer::Answer;
use super::super::serve::Known;
use super::Done;
use crate::store::QuotaUsage;
use crate::wire::imap::{MailboxArg, QuotaRoot, mailbox, number};

/// The name of the one root.
const ROOT: &[u8] = b"";
const ROOT_QUOTED: &[u8] = b"\"\"";
/// STORAGE is counted in these (RFC 9208 5.1).
const UNIT_BYTES: u64 = 1024;

/// RFC 9208 4.1.2.
pub fn get(known: &mut Known, root: &QuotaRoot<'_>) -> Done {
    let usage = known.account.quota();
    if root.as_bytes() != ROOT || usage.limit.is_none() {
        return Err(Answer::no("NONEXISTENT", "there is no such quota root").into());
    }
    write_quota(&mut known.client.out, &usage);
    Ok(Answer::ok("GETQUOTA done"))
}

/// RFC 9208 4.1.3: also for a mailbox that does not exist, to know what it would come under.
pub fn get_root(known: &mut Known, name: &MailboxArg<'_>) -> Done {
    let coding = known.coding();
    let name = name.name(coding)?;
    let usage = known.account.quota();
    let out = &mut known.client.out;
    out.extend_from_slice(b"* QUOTAROOT ");
    mailbox(out, &name, coding);
    if usage.limit.is_none() {
        out.extend_from_slice(b"\r\n");
    } else {
        out.push(b' ');
        out.extend_from_slice(ROOT_QUOTED);
        out.extend_from_slice(b"\r\n");
        write_quota(out, &usage);
    }
    Ok(Answer::ok("GETQUOTAROOT done"))
}

/// `* QUOTA root (resource usage limit ...)`: only what is limited (RFC 9208 4.2.1).
fn write_quota(out: &mut Vec<u8>, usage: &QuotaUsage) {
    out.extend_from_slice(b"* QUOTA ");
    out.extend_from_slice(ROOT_QUOTED);
    out.push(b' ');
    // Usage is rounded up and the limit down: nobody is told of room that is not there.
    let storage = usage
        .limit
        .bytes
        .map(|limit| (usage.bytes.div_ceil(UNIT_BYTES), limit.0 / UNIT_BYTES));
    let messages = usage.limit.messages.map(|limit| (usage.messages, limit));
    let mut before = b'(';
    for (name, resource) in [("STORAGE", storage), ("MESSAGE", messages)] {
        let Some((used, limit)) = resource else {
            continue;
        };
        out.push(before);
        before = b' ';
        out.extend_from_slice(name.as_bytes());
        out.push(b' ');
        number(out, used);
        out.push(b' ');
        number(out, limit);
    }
    out.extend_from_slice(b")\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ByteSize;
    use crate::store::Quota;

    #[track_caller]
    fn check(limit: Quota, want: &str) {
        let mut out = Vec::new();
        let usage = QuotaUsage {
            bytes: 1025,
            messages: 7,
            limit,
        };
        write_quota(&mut out, &usage);
        assert_eq!(
            String::from_utf8_lossy(&out),
            format!("* QUOTA \"\" {want}\r\n")
        );
    }

    #[test]
    fn only_what_is_limited_is_told() {
        let (bytes, messages) = (Some(ByteSize(2047)), Some(10));
        let both = Quota { bytes, messages };
        check(both, "(STORAGE 2 1 MESSAGE 7 10)");
        check(
            Quota {
                bytes: None,
                ..both
            },
            "(MESSAGE 7 10)",
        );
        check(
            Quota {
                messages: None,
                ..both
            },
            "(STORAGE 2 1)",
        );
    }
}
