//! MAIL and RCPT.

use std::rc::Rc;

use super::super::machine::Hello;
use super::super::serve::{Mail, Session};
use super::super::{counters::Role, reply};
use crate::delivery::{Bounds, Origin, Way};
use crate::wire::smtp::{MailFrom, RcptTo, Reply};

impl Session {
    /// RFC 5321 4.1.1.2.
    pub(super) fn mail(&mut self, mut mail: MailFrom) {
        let is_utf8 = mail.smtputf8;
        if let Some(user) = &self.local {
            let intake = &self.service.intake;
            mail.path = intake.local_sender(user, self.account.as_deref(), mail.path);
        }
        let terms = self.machine.terms();
        let bounds = Bounds {
            message_bytes_max: terms.message_bytes_max,
            recipients_max: self.door.config().limits.recipients_max as usize,
            may_relay: self.may_relay(),
            may_ask_for_notices: self.may_ask_for_notices(),
        };
        let begun = self
            .service
            .intake
            .mail(Rc::new(self.origin()), mail, bounds);
        self.machine.mail_done(begun.is_ok(), is_utf8);
        match begun {
            Ok(transaction) => {
                self.mail = Mail::Envelope(Box::new(transaction));
                self.say(&Reply::new(250, "2.1.0", "OK"));
            }
            Err(refusal) => self.say(&reply::mail(refusal)),
        }
    }

    fn origin(&self) -> Origin {
        let terms = self.machine.terms();
        let (is_extended, client_name) = match self.machine.hello() {
            Some(Hello::Extended(name)) => (true, name.clone()),
            Some(Hello::Plain(name)) => (false, name.clone()),
            None => (false, String::new()),
        };
        Origin {
            session: self.presence.id(),
            way: match (terms.role, is_extended) {
                (Role::Lmtp, _) => Way::Lmtp,
                (_, true) => Way::Esmtp,
                (_, false) => Way::Smtp,
            },
            is_submission: terms.role == Role::Submission,
            peer: *self.conn.peer(),
            hostname: terms.hostname.clone(),
            client_name,
            tls: self.conn.tls(),
            account: self.account.clone(),
            local: self.local.clone(),
        }
    }

    /// RFC 5321 4.1.1.3.
    pub(super) async fn rcpt(&mut self, rcpt: RcptTo) {
        let Mail::Envelope(transaction) = &mut self.mail else {
            return;
        };
        let taken = transaction.rcpt(rcpt).await;
        self.machine.rcpt_done(taken.is_ok());
        match taken {
            Ok(()) => self.say(&Reply::new(250, "2.1.5", "OK")),
            Err(refusal) => {
                let quota = self.door.config().store.quota_refusal;
                self.say(&reply::recipient(refusal, quota));
            }
        }
    }
}
