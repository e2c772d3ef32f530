//! Session ticket keys (RFC 5077, RFC 8446 4.6.1): one immutable snapshot for all shards and
//! listeners, so that a ticket given on one shard resumes on every other. A task swaps it; the
//! ticketer of rustls would rotate under a lock on the data path.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use rustls::server::ProducesTickets;

use super::error::TlsError;

/// How long a key makes tickets. A key accepts tickets for twice as long.
pub const TICKET_KEY_SPAN: Duration = Duration::from_secs(6 * 3600);

const NAME_LEN: usize = 8;
const TAG_LEN: usize = 16;

/// The current and the previous key. Clones share them.
#[derive(Clone)]
pub struct TicketKeys(Arc<ArcSwap<Pair>>);

struct Pair {
    current: Arc<Key>,
    previous: Option<Arc<Key>>,
}

struct Key {
    name: [u8; NAME_LEN],
    aead: RandomizedNonceKey,
}

impl TicketKeys {
    /// A fresh key, and no previous one.
    pub fn new() -> Result<Self, TlsError> {
        let pair = Pair {
            current: Arc::new(Key::new()?),
            previous: None,
        };
        Ok(TicketKeys(Arc::new(ArcSwap::from_pointee(pair))))
    }

    /// A fresh key becomes current, the current previous, and the previous is erased.
    pub fn rotate(&self) -> Result<(), TlsError> {
        let current = Arc::new(Key::new()?);
        let previous = Some(self.0.load().current.clone());
        self.0.store(Arc::new(Pair { current, previous }));
        Ok(())
    }
}

impl Key {
    fn new() -> Result<Self, TlsError> {
        let mut name = [0; NAME_LEN];
        let mut key = [0; 32];
        getrandom::fill(&mut name).map_err(|_| TlsError::NoRandom)?;
        getrandom::fill(&mut key).map_err(|_| TlsError::NoRandom)?;
        let aead = RandomizedNonceKey::new(&AES_256_GCM, &key).map_err(|_| TlsError::NoRandom)?;
        Ok(Key { name, aead })
    }

    /// name, nonce, ciphertext, tag.
    fn seal(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let mut body = plain.to_vec();
        let aad = Aad::from(self.name);
        let nonce = self.aead.seal_in_place_append_tag(aad, &mut body).ok()?;
        let mut ticket = Vec::with_capacity(NAME_LEN + NONCE_LEN + body.len());
        ticket.extend_from_slice(&self.name);
        ticket.extend_from_slice(nonce.as_ref());
        ticket.extend_from_slice(&body);
        Some(ticket)
    }

    fn open(&self, nonce: &[u8], body: &[u8]) -> Option<Vec<u8>> {
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut body = body.to_vec();
        let len = self
            .aead
            .open_in_place(nonce, Aad::from(self.name), &mut body)
            .ok()?
            .len();
        body.truncate(len);
        Some(body)
    }
}

impl ProducesTickets for TicketKeys {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        2 * TICKET_KEY_SPAN.as_secs() as u32
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.0.load().current.seal(plain)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_at_checked(NAME_LEN)?;
        let (nonce, body) = rest.split_at_checked(NONCE_LEN)?;
        if body.len() < TAG_LEN {
            return None;
        }
        let pair = self.0.load();
        [Some(&pair.current), pair.previous.as_ref()]
            .into_iter()
            .flatten()
            .find(|key| key.name == name)?
            .open(nonce, body)
    }
}

impl fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketKeys")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_lives_for_two_keys_and_no_longer() {
        let keys = TicketKeys::new().expect("randomness");
        let other_shard = keys.clone();
        let ticket = keys.encrypt(b"secret").expect("a ticket");
        assert_eq!(
            other_shard.decrypt(&ticket).as_deref(),
            Some(&b"secret"[..])
        );
        keys.rotate().expect("randomness");
        assert_eq!(
            other_shard.decrypt(&ticket).as_deref(),
            Some(&b"secret"[..])
        );
        keys.rotate().expect("randomness");
        assert_eq!(other_shard.decrypt(&ticket), None);
    }

    #[test]
    fn damaged_tickets_are_refused() {
        let keys = TicketKeys::new().expect("randomness");
        let ticket = keys.encrypt(b"secret").expect("a ticket");
        for at in 0..ticket.len() {
            let mut damaged = ticket.clone();
            damaged[at] ^= 1;
            assert_eq!(keys.decrypt(&damaged), None, "byte {at}");
            assert_eq!(keys.decrypt(&ticket[..at]), None, "cut at {at}");
        }
        assert_ne!(
            ticket,
            keys.encrypt(b"secret").expect("a ticket"),
            "nonces differ"
        );
    }
}
