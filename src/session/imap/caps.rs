//! What is announced, in which state. Only what works stands here.

/// Where a session stands, as far as capabilities differ (RFC 9051 6.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// `tls_offered`: STARTTLS may be given; `login_allowed`: here and now.
    BeforeLogin {
        tls_offered: bool,
        login_allowed: bool,
    },
    LoggedIn,
}

/// Told always: the client's first commands may depend on them.
const ALWAYS: &str = "IMAP4rev1 IMAP4rev2 LITERAL+ ID ENABLE SASL-IR";

/// Told after log-in, when they can be used.
const LOGGED_IN: &str = "NAMESPACE CHILDREN UIDPLUS MOVE UNSELECT IDLE SPECIAL-USE \
    CREATE-SPECIAL-USE ESEARCH SEARCHRES LIST-EXTENDED LIST-STATUS STATUS=SIZE OBJECTID SAVEDATE \
    BINARY MULTIAPPEND WITHIN QUOTA QUOTA=RES-STORAGE QUOTA=RES-MESSAGE";

/// The capabilities of a moment, without the word CAPABILITY.
#[must_use]
pub fn capabilities(moment: Moment) -> String {
    match moment {
        Moment::BeforeLogin {
            tls_offered,
            login_allowed,
        } => {
            let tls = if tls_offered { " STARTTLS" } else { "" };
            let login = if login_allowed {
                " AUTH=PLAIN AUTH=LOGIN"
            } else {
                " LOGINDISABLED"
            };
            format!("{ALWAYS}{tls}{login}")
        }
        Moment::LoggedIn => format!("{ALWAYS} {LOGGED_IN}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(moment: Moment, with: &[&str], without: &[&str]) {
        let text = capabilities(moment);
        let words: Vec<&str> = text.split(' ').collect();
        assert!(!words.contains(&""), "{text}");
        for word in with {
            assert!(words.contains(word), "{word} in {text}");
        }
        for word in without {
            assert!(!words.contains(word), "{word} in {text}");
        }
    }

    #[test]
    fn truthful_in_every_state() {
        let both = ["IMAP4rev1", "IMAP4rev2"];
        let clear = Moment::BeforeLogin {
            tls_offered: true,
            login_allowed: false,
        };
        check(clear, &both, &["AUTH=PLAIN", "UIDPLUS"]);
        check(clear, &["STARTTLS", "LOGINDISABLED"], &["AUTH=LOGIN"]);
        let secure = Moment::BeforeLogin {
            tls_offered: false,
            login_allowed: true,
        };
        check(
            secure,
            &["AUTH=PLAIN", "SASL-IR"],
            &["STARTTLS", "LOGINDISABLED"],
        );
        check(
            Moment::LoggedIn,
            &both,
            &["AUTH=PLAIN", "STARTTLS", "CONDSTORE"],
        );
        check(
            Moment::LoggedIn,
            &[
                "UIDPLUS",
                "MOVE",
                "IDLE",
                "ESEARCH",
                "BINARY",
                "QUOTA=RES-STORAGE",
            ],
            // Only the administrator changes quotas.
            &["QUOTASET"],
        );
    }
}
