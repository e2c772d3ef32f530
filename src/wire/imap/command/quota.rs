//! GETQUOTA and GETQUOTAROOT (RFC 9208 4.1).

use std::borrow::Cow;

use super::super::cursor::Cursor;
use super::super::fault::Fault;
use super::{Body, argument, mailbox};

pub(super) fn get<'a>(c: &mut Cursor<'a>, _: bool) -> Result<Body<'a>, Fault> {
    argument(c).map(QuotaRoot).map(Body::GetQuota)
}

pub(super) fn get_root<'a>(c: &mut Cursor<'a>, _: bool) -> Result<Body<'a>, Fault> {
    mailbox::mailbox(c).map(Body::GetQuotaRoot)
}

/// The name of a quota root, as the client wrote it.
#[derive(Debug, PartialEq, Eq)]
pub struct QuotaRoot<'a>(Cow<'a, [u8]>);

impl QuotaRoot<'_> {
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}
