//! Where a message comes from.

use std::rc::Rc;
use std::sync::Arc;

use super::counters::Door;
use super::local::LocalUser;
use crate::base::TraceId;
use crate::directory::Account;
use crate::net::{Peer, TlsFacts};

/// What the client spoke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// After HELO.
    Smtp,
    /// After EHLO.
    Esmtp,
    Lmtp,
}

/// The session that a message comes by, as it stood at MAIL.
#[derive(Clone, Debug)]
pub struct Origin {
    pub session: TraceId,
    pub way: Way,
    /// A user sends: what is missing in the header is added.
    pub is_submission: bool,
    pub peer: Peer,
    /// Our name on this listener.
    pub hostname: String,
    /// What the client called itself; anything.
    pub client_name: String,
    pub tls: Option<TlsFacts>,
    /// Who logged in.
    pub account: Option<Arc<Account>>,
    /// A program on this host, and whose.
    pub local: Option<Rc<LocalUser>>,
}

impl Origin {
    /// The `with` of Received (RFC 3848; RFC 6531 3.7.3 and 4.3 add UTF8).
    #[must_use]
    pub fn protocol(&self, is_utf8: bool) -> String {
        let base = match (self.way, is_utf8) {
            (Way::Smtp, _) => return "SMTP".to_owned(),
            (Way::Esmtp, false) => "ESMTP",
            (Way::Esmtp, true) => "UTF8SMTP",
            (Way::Lmtp, false) => "LMTP",
            (Way::Lmtp, true) => "UTF8LMTP",
        };
        let secure = if self.tls.is_some() { "S" } else { "" };
        // RFC 3848: by SMTP AUTH.
        let has_authenticated = self.account.is_some() && self.local.is_none();
        let authenticated = if has_authenticated { "A" } else { "" };
        format!("{base}{secure}{authenticated}")
    }

    pub(super) fn door(&self) -> Door {
        match self.way {
            Way::Lmtp => Door::Lmtp,
            Way::Smtp | Way::Esmtp if self.is_submission => Door::Submission,
            Way::Smtp | Way::Esmtp => Door::Smtp,
        }
    }

    /// `proto` of log lines.
    pub(super) fn word(&self) -> &'static str {
        match self.door() {
            Door::Smtp => "smtp",
            Door::Lmtp => "lmtp",
            Door::Submission => "submission",
        }
    }
}
