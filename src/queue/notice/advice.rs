//! What a sender can do, by the status (RFC 3463, and the codes that IANA keeps beside it).

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Advice {
    NoSuchUser,
    NoSuchDomain,
    TakesNoMail,
    Full,
    TooLarge,
    NotReached,
    Loop,
    Refused,
    NoTls,
    NoUtf8,
    Other,
}

impl Advice {
    #[cfg(test)]
    pub const ALL: [Advice; 11] = [
        Advice::NoSuchUser,
        Advice::NoSuchDomain,
        Advice::TakesNoMail,
        Advice::Full,
        Advice::TooLarge,
        Advice::NotReached,
        Advice::Loop,
        Advice::Refused,
        Advice::NoTls,
        Advice::NoUtf8,
        Advice::Other,
    ];

    pub fn of(status: &str) -> Self {
        let mut parts = status.split('.').skip(1).map(str::parse::<u16>);
        let (Some(Ok(subject)), Some(Ok(detail))) = (parts.next(), parts.next()) else {
            return Advice::Other;
        };
        match (subject, detail) {
            (1, 1 | 3 | 6) | (2, 1) => Advice::NoSuchUser,
            (1, 2) => Advice::NoSuchDomain,
            // RFC 7505 4.2.
            (1, 10) => Advice::TakesNoMail,
            (2, 2) | (3, 1) => Advice::Full,
            (2, 3) | (3, 4) => Advice::TooLarge,
            (4, 6) => Advice::Loop,
            // RFC 8689 4.2.2; RFC 8460 is about the same with other words.
            (7, 4 | 5 | 10 | 11 | 30) => Advice::NoTls,
            // RFC 6531 3.4.2 and 3.5.
            (6, 7..=9) => Advice::NoUtf8,
            (4, 1..=4 | 7) => Advice::NotReached,
            (7, _) => Advice::Refused,
            _ => Advice::Other,
        }
    }
}
