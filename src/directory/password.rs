//! Password hashes: argon2id for new ones, the schemes of other servers for imported ones.
//!
//! Everything here burns CPU on purpose and so runs on the blocking pool, never on a shard.
//! A hash made elsewhere is checked as it is and replaced by argon2id at the next log-in.

use std::fmt;

use argon2::password_hash::{PasswordHash as Phc, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use serde::{Deserialize, Serialize};

use crate::base::UnixMs;

/// OWASP's first choice for argon2id: 19 MiB, two passes, one lane.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// What an imported hash may cost; more would let one log-in take the pool.
const MEMORY_KIB_MAX: u64 = 256 * 1024;
const PASSES_MAX: u32 = 16;
const BCRYPT_COST_MAX: u32 = 15;
const SHA_ROUNDS_MAX: u32 = 1_000_000;

/// Longest password that is looked at.
pub const PASSWORD_BYTES_MAX: usize = 1024;

/// Verified for users that do not exist, so that they take as long as those that do. It has the
/// parameters of new hashes, and no known password.
pub const DUMMY: &str = "$argon2id$v=19$m=19456,t=2,p=1$cGFsb21hcmR1bW15c2FsdA\
                         $QmVpbmdub2JvZHlzaGFzaGF0YWxsLG9mMzJieXRlcy4";

/// The stored password of one account, apart from the account so that a listing can leave it out.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PasswordHash {
    /// In the form of its scheme: `$argon2id$...`, `$6$...`, `$2b$...`, `$y$...`.
    pub hash: String,
    /// When the user or an administrator set it; a rehash keeps it.
    pub changed: UnixMs,
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PasswordHash")
            .field("scheme", &Scheme::of(&self.hash))
            .field("changed", &self.changed)
            .finish_non_exhaustive()
    }
}

/// A password on its way to the hash; never shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Argon2id,
    Sha512,
    Sha256,
    Bcrypt,
    Yescrypt,
}

impl Scheme {
    fn of(hash: &str) -> Option<Scheme> {
        let rest = hash.strip_prefix('$')?;
        match &rest[..rest.find('$')?] {
            "argon2id" => Some(Scheme::Argon2id),
            "6" => Some(Scheme::Sha512),
            "5" => Some(Scheme::Sha256),
            "2a" | "2b" | "2y" => Some(Scheme::Bcrypt),
            "y" => Some(Scheme::Yescrypt),
            _ => None,
        }
    }
}

/// What an import file says of a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Imported {
    /// `{PLAIN}`, or no scheme at all: hash it at once.
    Plain(Secret),
    /// A hash we can check, without its `{SCHEME}` label.
    Hash(String),
}

/// Why a hash is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HashError {
    UnknownScheme,
    Malformed,
    TooCostly,
}

impl fmt::Display for HashError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HashError::UnknownScheme => {
                "the password scheme is not known; use {PLAIN}, {ARGON2ID}, {SHA512-CRYPT}, \
                 {SHA256-CRYPT}, {BLF-CRYPT} or a $y$ hash, or set a new password"
            }
            HashError::Malformed => "the password hash is damaged; set a new password",
            HashError::TooCostly => {
                "checking the password hash would take too long; set a new password"
            }
        })
    }
}

/// Reads `{SCHEME}hash`, a bare crypt hash, or a plain password.
pub fn parse_imported(text: &str) -> Result<Imported, HashError> {
    let (label, rest) = match text.strip_prefix('{').and_then(|t| t.split_once('}')) {
        Some((label, rest)) => (label.to_ascii_uppercase(), rest),
        None if text.starts_with('$') => (String::new(), text),
        None => return Ok(Imported::Plain(Secret(text.into()))),
    };
    let want: &[Scheme] = match label.as_str() {
        "PLAIN" | "PLAINTEXT" | "CLEAR" | "CLEARTEXT" => {
            return Ok(Imported::Plain(Secret(rest.into())));
        }
        "ARGON2ID" => &[Scheme::Argon2id],
        "SHA512-CRYPT" => &[Scheme::Sha512],
        "SHA256-CRYPT" => &[Scheme::Sha256],
        "BLF-CRYPT" => &[Scheme::Bcrypt],
        "" | "CRYPT" => &[
            Scheme::Argon2id,
            Scheme::Sha512,
            Scheme::Sha256,
            Scheme::Bcrypt,
            Scheme::Yescrypt,
        ],
        _ => return Err(HashError::UnknownScheme),
    };
    let scheme = Scheme::of(rest).ok_or(HashError::UnknownScheme)?;
    if !want.contains(&scheme) {
        return Err(HashError::Malformed);
    }
    check_hash(scheme, rest)?;
    Ok(Imported::Hash(rest.into()))
}

/// Refuses what could not be verified, or not at a bearable price. Cheap.
fn check_hash(scheme: Scheme, hash: &str) -> Result<(), HashError> {
    if !hash.is_ascii() || hash.len() > 512 {
        return Err(HashError::Malformed);
    }
    match scheme {
        Scheme::Argon2id => {
            let phc = Phc::new(hash).map_err(|_| HashError::Malformed)?;
            let params = Params::try_from(&phc).map_err(|_| HashError::Malformed)?;
            if phc.salt.is_none() || phc.hash.is_none() {
                return Err(HashError::Malformed);
            }
            cost(u64::from(params.m_cost()) <= MEMORY_KIB_MAX && params.t_cost() <= PASSES_MAX)
        }
        Scheme::Sha512 | Scheme::Sha256 => check_sha_crypt(scheme, hash),
        Scheme::Bcrypt => {
            let parts: bcrypt::HashParts = hash.parse().map_err(|_| HashError::Malformed)?;
            cost(parts.get_cost() <= BCRYPT_COST_MAX)
        }
        Scheme::Yescrypt => check_yescrypt(hash),
    }
}

fn cost(bearable: bool) -> Result<(), HashError> {
    bearable.then_some(()).ok_or(HashError::TooCostly)
}

fn check_sha_crypt(scheme: Scheme, hash: &str) -> Result<(), HashError> {
    let mut fields = hash.split('$').skip(2).peekable();
    if let Some(rounds) = fields.peek().and_then(|f| f.strip_prefix("rounds=")) {
        let rounds: u32 = rounds.parse().map_err(|_| HashError::Malformed)?;
        cost(rounds <= SHA_ROUNDS_MAX)?;
        if rounds < 1000 {
            return Err(HashError::Malformed);
        }
        fields.next();
    }
    let digest_len = if scheme == Scheme::Sha512 { 86 } else { 43 };
    let whole = match (fields.next(), fields.next(), fields.next()) {
        (Some(_salt), Some(digest), None) => digest.len() == digest_len && is_crypt64(digest),
        _ => false,
    };
    whole.then_some(()).ok_or(HashError::Malformed)
}

fn is_crypt64(text: &str) -> bool {
    text.bytes()
        .all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'/')
}

/// The parameters are `flavour`, log2 N and r, each in crypt's base 64; what follows them (p, t)
/// is left to the library and its bounds.
fn check_yescrypt(hash: &str) -> Result<(), HashError> {
    let mut fields = hash.split('$').skip(2);
    let (params, salt, digest) = match (fields.next(), fields.next(), fields.next(), fields.next())
    {
        (Some(params), Some(salt), Some(digest), None) => (params, salt, digest),
        _ => return Err(HashError::Malformed),
    };
    let small = |text: &str, max: usize| !text.is_empty() && text.len() <= max && is_crypt64(text);
    if !small(params, 16) || !small(salt, 86) || digest.len() != 43 || !is_crypt64(digest) {
        return Err(HashError::Malformed);
    }
    let params: yescrypt::Params = params.parse().map_err(|_| HashError::Malformed)?;
    let kib = params
        .n()
        .checked_mul(u64::from(params.r()))
        .ok_or(HashError::TooCostly)?
        / 8;
    cost(kib <= MEMORY_KIB_MAX && params.p() <= 16)
}

/// Hashes a new password with argon2id and a random salt.
#[must_use]
pub fn hash_new(password: &str) -> String {
    let mut salt = [0u8; 16];
    getrandom::fill(&mut salt).expect("the kernel gives random bytes");
    let salt = SaltString::encode_b64(&salt).expect("16 bytes make a salt");
    argon2id()
        .hash_password(password.as_bytes(), &salt)
        .expect("our own parameters are valid")
        .to_string()
}

fn argon2id() -> Argon2<'static> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).expect("constants in range");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

/// True where `password` is the one behind `hash`. A hash of an unknown scheme matches nothing.
#[must_use]
pub fn verify(password: &str, hash: &str) -> bool {
    let Some(scheme) = Scheme::of(hash) else {
        return false;
    };
    match scheme {
        Scheme::Argon2id => Phc::new(hash).is_ok_and(|phc| {
            argon2id()
                .verify_password(password.as_bytes(), &phc)
                .is_ok()
        }),
        Scheme::Sha512 => sha_crypt::sha512_check(password, hash).is_ok(),
        Scheme::Sha256 => sha_crypt::sha256_check(password, hash).is_ok(),
        Scheme::Bcrypt => bcrypt::verify(password, hash).unwrap_or(false),
        Scheme::Yescrypt => {
            use yescrypt::PasswordVerifier as _;
            let verifier = yescrypt::Yescrypt::default();
            verifier.verify_password(password.as_bytes(), hash).is_ok()
        }
    }
}

/// True where the hash is not what [`hash_new`] makes today: replace it at log-in.
#[must_use]
pub fn is_dated(hash: &str) -> bool {
    let current = Phc::new(hash)
        .ok()
        .and_then(|phc| Params::try_from(&phc).ok())
        .is_some_and(|p| (p.m_cost(), p.t_cost(), p.p_cost()) == (MEMORY_KIB, PASSES, LANES));
    Scheme::of(hash) != Some(Scheme::Argon2id) || !current
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(password: &str, hash: &str) {
        let Ok(Imported::Hash(hash)) = parse_imported(hash) else {
            panic!("not taken: {hash}");
        };
        assert!(verify(password, &hash), "{hash}");
        assert!(!verify("another", &hash), "{hash}");
        assert!(is_dated(&hash), "{hash}");
    }

    #[test]
    fn each_scheme_verifies_its_published_vector() {
        // Made with libxcrypt's crypt(3); yescrypt's own TESTS-OK; the argon2 reference tests.
        check(
            "Hello world!",
            "{SHA512-CRYPT}$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI6\
             8u4OTLiBFdcbYEdFCoEOfaS35inz1",
        );
        check(
            "Hello world!",
            "$6$rounds=10000$saltstringsaltst$OW1/O6BYHV6BcXZu8QVeXbDWra3Oeqh0sbHbbMCVNSnCM/UrjmM0D\
             p8vOuZeHBy/YTBmSK6H9qs/y3RnOaw5v.",
        );
        check(
            "Hello world!",
            "{sha256-crypt}$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5",
        );
        check(
            "Hello world!",
            "$5$rounds=10000$saltstringsaltst$3xv.VbSHBb41AL9AvLeujZkZRBAwqFMz2.opqey6IcA",
        );
        check(
            "hunter2",
            "{BLF-CRYPT}$2y$05$bvIG6Nmid91Mu9RcmmWZfOlTZB/KmlHUPxkktMPcUwe3U0DTx4Yui",
        );
        check(
            "pleaseletmein",
            "$y$jD5.7$LdJMENpBABJJ3hIHjB1Bi.$HboGM6qPrsK.StKYGt6KErmUYtioHreJd98oIugoNB6",
        );
        check(
            "password",
            "{ARGON2ID}$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ\
             $CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
        );
    }

    #[test]
    fn a_new_hash_verifies_and_is_current() {
        let hash = hash_new("naïve 密码");
        assert!(verify("naïve 密码", &hash) && !verify("naive", &hash));
        assert!(!is_dated(&hash) && !is_dated(DUMMY));
        assert!(!verify("", DUMMY));
        assert_eq!(parse_imported(DUMMY), Ok(Imported::Hash(DUMMY.into())));
    }

    #[track_caller]
    fn check_parse(text: &str, want: Result<Imported, HashError>) {
        assert_eq!(parse_imported(text), want, "{text}");
    }

    #[test]
    fn imported_texts_are_read_or_refused() {
        let plain = |text: &str| Ok(Imported::Plain(Secret(text.into())));
        check_parse("{PLAIN}{x}y", plain("{x}y"));
        check_parse("geheim", plain("geheim"));
        check_parse("{MD5}abc", Err(HashError::UnknownScheme));
        check_parse("$1$abc$def", Err(HashError::UnknownScheme));
        check_parse("{BLF-CRYPT}$6$a$b", Err(HashError::Malformed));
        check_parse("$6$a$b", Err(HashError::Malformed));
        check_parse("$2y$05$", Err(HashError::Malformed));
        check_parse("$y$$$", Err(HashError::Malformed));
        check_parse("$y$j//.$.$.", Err(HashError::Malformed));
        check_parse(
            "$argon2id$v=19$m=4194304,t=2,p=1$c29tZXNhbHQ\
             $CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
            Err(HashError::TooCostly),
        );
        check_parse(
            "$2y$31$bvIG6Nmid91Mu9RcmmWZfO5HJIMCT8riNW0hEp8f6/FuA2/mHZFpe",
            Err(HashError::TooCostly),
        );
    }
}
