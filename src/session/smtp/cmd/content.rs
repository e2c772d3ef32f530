//! DATA (RFC 5321 4.1.1.4) and BDAT (RFC 3030 2).

use super::super::serve::{Mail, Session};
use super::super::{counters::Role, reply};
use crate::delivery::Body;
use crate::wire::smtp::{DataSummary, Reply};

impl Session {
    pub(super) fn data(&mut self) {
        self.begin_content();
        self.say(&Reply::plain(354, "Go ahead; end with <CRLF>.<CRLF>"));
    }

    pub(super) fn chunk(&mut self, first: bool) {
        if first {
            self.begin_content();
        }
    }

    fn begin_content(&mut self) {
        self.mail = match std::mem::replace(&mut self.mail, Mail::None) {
            Mail::Envelope(transaction) => Mail::Content(Box::new(transaction.body())),
            other => other,
        };
    }

    pub(super) async fn content(&mut self, content: &[u8]) {
        if let (Mail::Content(body), false) = (&mut self.mail, content.is_empty()) {
            body.write(content).await;
        }
    }

    pub(super) async fn data_end(&mut self, summary: DataSummary) {
        let Mail::Content(mut body) = std::mem::replace(&mut self.mail, Mail::None) else {
            return;
        };
        if let Some(fault) = summary.fault {
            body.spoil(fault);
        }
        self.place(*body).await;
    }

    pub(super) async fn chunk_end(&mut self, bytes: u64, last: bool) {
        if !last {
            let text = format!("{bytes} octets received");
            return self.say(&Reply::new(250, "2.0.0", &text));
        }
        if let Mail::Content(body) = std::mem::replace(&mut self.mail, Mail::None) {
            self.place(*body).await;
        }
    }

    /// Answers only when the message is durable.
    async fn place(&mut self, body: Body) {
        let placed = body.place().await;
        let quota = self.door.config().store.quota_refusal;
        if self.machine.terms().role != Role::Lmtp {
            let reply = reply::message(placed.whole(), placed.message, quota);
            return self.say(&reply);
        }
        // RFC 2033 4.2: one reply for each recipient that was accepted, in their order.
        for outcome in &placed.outcomes {
            let outcome = outcome.as_ref().copied();
            self.say(&reply::message(outcome, placed.message, quota));
        }
    }
}
