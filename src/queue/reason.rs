//! Why mail is put off, as a few words: what is counted of it. Pure.

use super::client::{Phase, Trouble};
use super::counters::Reason;
use super::route::{LeftOut, NoRoute};

impl From<&Trouble> for Reason {
    fn from(trouble: &Trouble) -> Self {
        match trouble {
            Trouble::Net { phase, .. } | Trouble::Late { phase } if *phase == Phase::Connect => {
                Reason::Connect
            }
            Trouble::Net { .. } | Trouble::Closed { .. } => Reason::Dropped,
            Trouble::Late { .. } | Trouble::Overdue { .. } => Reason::Timeout,
            Trouble::Closing { phase, .. } | Trouble::Refused { phase, .. } => (*phase).into(),
            Trouble::Unexpected { .. } | Trouble::BadReply { .. } => Reason::Protocol,
            Trouble::NoTls(_) | Trouble::Handshake(_) | Trouble::Distrusted(_) => Reason::Tls,
            Trouble::NoLogIn => Reason::Greeting,
            Trouble::Content(_) => Reason::Ours,
        }
    }
}

/// Of an answer.
impl From<Phase> for Reason {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Connect => Reason::Connect,
            Phase::Greeting | Phase::Hello | Phase::LogIn => Reason::Greeting,
            Phase::StartTls | Phase::Handshake => Reason::Tls,
            Phase::Reset | Phase::Mail => Reason::Mail,
            Phase::Rcpt => Reason::Rcpt,
            Phase::Data | Phase::Content | Phase::End => Reason::Data,
            Phase::Idle => Reason::Dropped,
        }
    }
}

impl From<&NoRoute> for Reason {
    fn from(why: &NoRoute) -> Self {
        match why {
            NoRoute::Dns { .. } | NoRoute::Late => Reason::Dns,
            NoRoute::LeftOut { why, .. } => match why {
                LeftOut::NotNamed => Reason::Tls,
                LeftOut::Tlsa(_) => Reason::Dns,
            },
            NoRoute::RequireTls => Reason::Tls,
            _ => Reason::Route,
        }
    }
}
