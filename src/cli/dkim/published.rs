//! Whether the DNS shows a key, so that others can verify what it signs.

use std::fmt;
use std::sync::Arc;

use crate::cli::error::CliError;
use crate::config::Config;
use crate::directory::DkimKey;
use crate::dns::{DnsError, Kind, Rdata, Resolver, Settings};
use crate::policy::dkim::KeyFault;
use crate::runtime;

/// What the DNS says of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The record is there and right.
    Shown,
    Absent,
    /// More than one record: which one counts nobody knows (RFC 6376 3.6.2.2).
    Several,
    Wrong(KeyFault),
    /// Nobody could tell.
    Unknown(DnsError),
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Seen::Shown => "published",
            Seen::Absent => "no such record",
            Seen::Several => "several records: keep one",
            Seen::Wrong(KeyFault::Unreadable) => "the record cannot be read",
            Seen::Wrong(KeyFault::Revoked) => "p= is empty: the key is withdrawn",
            Seen::Wrong(KeyFault::OtherAlgorithm) => "k= or h= are not those of the key",
            Seen::Wrong(KeyFault::OtherKey) => "another key stands there, or a part of it",
            Seen::Wrong(KeyFault::NotForMail) => "s= leaves mail out",
            Seen::Wrong(KeyFault::Testing) => "t=y tells others to take no notice of it",
            Seen::Unknown(error) => return error.fmt(f),
        })
    }
}

/// Looks for keys, in their order. Blocks.
pub fn look(config: &Config, keys: &[DkimKey]) -> Result<Vec<Seen>, CliError> {
    let settings = Settings::load(config).map_err(CliError::Resolver)?;
    let keys = keys.to_vec();
    let looked = runtime::block_on(async move {
        let resolver = Resolver::new(&settings, Arc::default());
        let mut all = Vec::with_capacity(keys.len());
        for key in &keys {
            all.push(seen(&resolver, key).await);
        }
        all
    });
    looked.map_err(CliError::Runtime)
}

/// Looks for one key.
pub async fn seen(resolver: &Resolver, key: &DkimKey) -> Seen {
    let Some(record) = key.record() else {
        return Seen::Wrong(KeyFault::Unreadable);
    };
    let answer = match resolver.lookup(&record.name, Kind::Txt).await {
        Ok(answer) => answer,
        Err(error) => return Seen::Unknown(error),
    };
    let texts: Vec<&str> = answer
        .records
        .iter()
        .filter_map(|data| match data {
            Rdata::Text(text) => Some(text.as_str()),
            _ => None,
        })
        .collect();
    match texts.as_slice() {
        [] => Seen::Absent,
        [one] => record.judge(one).map_or_else(Seen::Wrong, |()| Seen::Shown),
        _ => Seen::Several,
    }
}
