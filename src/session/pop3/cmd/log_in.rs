//! PASS and AUTH.

use super::super::reply;
use super::super::serve::{End, Session};
use crate::directory;
use crate::session::{Applicant, LoginOutcome};
use crate::wire::sasl::Credentials;

impl Session {
    pub(super) async fn log_in(&mut self, credentials: Credentials) -> Result<(), End> {
        let login = credentials.login.clone();
        let applicant = Applicant {
            presence: &self.presence,
            peer: self.conn.peer(),
            service: directory::Service::Pop3,
            is_tls: self.conn.is_tls(),
        };
        let outcome = self.service.desk.check(applicant, credentials).await;
        if let Some((reply, is_end)) = reply::log_in(&outcome) {
            self.say(&reply);
            if let LoginOutcome::Refused(_) = outcome {
                self.machine.log_in_failed();
            }
            return if is_end { Err(End::Blocked) } else { Ok(()) };
        }
        let LoginOutcome::In(account) = outcome else {
            return Ok(());
        };
        match self.service.arrivals.elsewhere(account.partition) {
            Some(to) => Err(End::Moves { to, account, login }),
            None => self.opened(account).await,
        }
    }
}
