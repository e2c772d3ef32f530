//! A password in memory.

use std::fmt;
use std::hint::black_box;

/// Octets that are never printed and that are overwritten when they go.
///
/// Comparing two of them takes the time it takes: passwords are checked against hashes, in
/// `directory`, and not here.
#[derive(PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Takes `bytes` over without copying them.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Secret(bytes)
    }

    /// The octets, for the one who checks them.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.fill(0);
        // Without a reader the overwriting could be left out as useless.
        black_box(&self.0);
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}
