//! MTA-STS (RFC 8461): the policy of a domain for mail to it, from its web server over verified
//! TLS, kept for as long as it says.
//!
//! [`Policy`] is what it says (pure); `fetch` asks for it; [`Keeper`] knows when to ask, and what
//! counts meanwhile. What is kept is kept for longer than the process lives, in a [`PolicyStore`]:
//! it protects only those domains that we have written to before.

mod fetch;
mod keeper;
mod policy;
#[cfg(test)]
mod tests;

pub use fetch::Web;
pub use keeper::{Keeper, Kept, PolicyStore, Stored, StsFault, Unkept};
pub use policy::Mode;
#[cfg(test)]
pub use policy::Policy;
