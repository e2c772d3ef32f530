//! AUTH (RFC 4954).

use super::super::reply;
use super::super::serve::{End, Session, is_trusted};
use crate::directory;
use crate::session::{Applicant, LoginOutcome};
use crate::wire::sasl::Credentials;

impl Session {
    pub(super) async fn log_in(&mut self, credentials: Credentials) -> Result<(), End> {
        let applicant = Applicant {
            presence: &self.presence,
            peer: self.conn.peer(),
            service: directory::Service::Submission {
                inside: is_trusted(self.conn.peer(), &self.door),
            },
            is_tls: self.conn.is_tls(),
        };
        let outcome = self.service.desk.check(applicant, credentials).await;
        let (reply, is_end) = reply::log_in(&outcome);
        self.say(&reply);
        match outcome {
            LoginOutcome::In(account) => {
                self.account = Some(account);
                self.machine.log_in_done(true);
            }
            LoginOutcome::Refused(_) => self.machine.log_in_done(false),
            LoginOutcome::Busy => {}
        }
        if is_end { Err(End::Blocked) } else { Ok(()) }
    }
}
