//! CRC32C (Castagnoli, RFC 3720 appendix B.4), in hardware where the processor has it.

/// A CRC32C value as it stands in journal, index and catalogue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Crc32c(pub u32);

/// The CRC32C of `bytes`.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> Crc32c {
    Crc32c(::crc32c::crc32c(bytes))
}

/// Continues `seed` over `bytes`: `crc32c_append(crc32c(a), b) == crc32c(a ++ b)`.
#[must_use]
pub fn crc32c_append(seed: Crc32c, bytes: &[u8]) -> Crc32c {
    Crc32c(::crc32c::crc32c_append(seed.0, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_vector_of_rfc_3720_b_4() {
        assert_eq!(crc32c(&[0u8; 32]), Crc32c(0x8a91_36aa));
    }

    #[test]
    fn append_is_concatenation() {
        let whole = crc32c(b"one journal is the truth");
        let parts = crc32c_append(crc32c(b"one journal"), b" is the truth");
        assert_eq!(whole, parts);
    }
}
