//! Mail that the server itself sends: notices, reports.

use super::name::destination_of;
use crate::base::UnixMs;
use crate::store::{MailClass, Outbound, OutboundRecipient};
use crate::wire::address::{Mailbox, Path};
use crate::wire::smtp::{MailFrom, Notify, RcptTo};

/// To be tried from `now`; what becomes of it is told to nobody.
pub(super) fn outbound(
    from: Path,
    to: &[Mailbox],
    class: MailClass,
    now: UnixMs,
    expires: UnixMs,
) -> Outbound {
    let recipient = |to: &Mailbox| {
        let rcpt = RcptTo {
            notify: Some(Notify::default()),
            ..RcptTo::new(Path::Mailbox(to.clone()))
        };
        OutboundRecipient::waiting(rcpt, destination_of(to), now)
    };
    Outbound {
        mail: MailFrom {
            smtputf8: !from.is_ascii() || !to.iter().all(Mailbox::is_ascii),
            ..MailFrom::new(from)
        },
        class,
        submitter: None,
        head: Vec::new(),
        expires,
        recipients: to.iter().map(recipient).collect(),
    }
}
