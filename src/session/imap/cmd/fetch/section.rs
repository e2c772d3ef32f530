//! BODY[...]: which octets of the message, from the digest's ranges (RFC 9051 6.4.5.1).

use super::super::super::client::Client;
use super::super::Cut;
use super::body::{Extent, Pieces, stream, write_bytes};
use super::plan::{SectionWanted, Text};
use super::{Source, Trouble};
use crate::base::HEADER_BYTES_MAX;
use crate::store::StoreError;
use crate::wire::mime::{DigestView, SectionKind, header_fields};

pub async fn write(
    client: &mut Client,
    source: &Source<'_>,
    wanted: &SectionWanted,
    trouble: &mut Trouble,
) -> Result<(), Cut> {
    client.out.extend_from_slice(&wanted.name);
    client.out.push(b' ');
    let Some(digest) = &source.digest else {
        client.out.extend_from_slice(b"NIL");
        return Ok(());
    };
    let done = match &wanted.text {
        Text::Whole(kind) => whole(client, source, digest, wanted, *kind).await?,
        Text::Fields { names, not, hot } => {
            let names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
            let block = match hot {
                true => Ok(Some(std::borrow::Cow::Borrowed(digest.hot_headers()))),
                false => header_block(source, digest, &wanted.path)
                    .await
                    .map(|block| block.map(std::borrow::Cow::Owned)),
            };
            block.map(|block| match block {
                Some(block) => {
                    let mut lines = Vec::new();
                    header_fields(&block, &names, *not, &mut lines);
                    write_bytes(&mut client.out, &lines, wanted.partial);
                }
                None => client.out.extend_from_slice(b"NIL"),
            })
        }
    };
    trouble.unreadable = done.err();
    Ok(())
}

async fn whole(
    client: &mut Client,
    source: &Source<'_>,
    digest: &DigestView<'_>,
    wanted: &SectionWanted,
    kind: SectionKind,
) -> Result<Result<(), StoreError>, Cut> {
    let extent = extent(digest, prefix_bytes(source), &wanted.path, kind);
    match (extent, &source.reader) {
        (Some(extent), Some(reader)) => stream(client, reader, &extent, wanted.partial).await,
        // No such part (RFC 9051 7.5.2: NIL).
        _ => {
            client.out.extend_from_slice(b"NIL");
            Ok(Ok(()))
        }
    }
}

/// Octets of this copy's own lines before the shared body.
#[must_use]
pub fn prefix_bytes(source: &Source<'_>) -> u64 {
    source
        .full
        .as_ref()
        .map_or(0, |row| row.prefix_bytes.into())
}

/// Where a section lies in the message as the client sees it: the digest's ranges, shifted by the
/// prefix, which belongs to the outermost header.
#[must_use]
pub fn extent(
    digest: &DigestView<'_>,
    prefix: u64,
    path: &[u32],
    kind: SectionKind,
) -> Option<Extent> {
    let range = digest.section(path, kind)?;
    let wire_bytes = digest.section_crlf_bytes(path, kind)?;
    let with_prefix = path.is_empty() && matches!(kind, SectionKind::All | SectionKind::Header);
    let own = if with_prefix { prefix } else { 0 };
    Some(Extent {
        stored: range.start + prefix - own..range.end + prefix,
        wire_bytes: wire_bytes + own,
    })
}

/// The header of the message or of a message in it; `None` where there is none.
async fn header_block(
    source: &Source<'_>,
    digest: &DigestView<'_>,
    path: &[u32],
) -> Result<Option<Vec<u8>>, StoreError> {
    let extent = extent(digest, prefix_bytes(source), path, SectionKind::Header);
    let Some((extent, reader)) = extent.zip(source.reader.as_ref()) else {
        return Ok(None);
    };
    let bytes_max = HEADER_BYTES_MAX as u64 + prefix_bytes(source);
    Pieces::new(reader, extent.stored)
        .whole(bytes_max)
        .await
        .map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::mime::{Limits, Walker};

    const MESSAGE: &str = "Subject: x\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n\
        --b\r\nContent-Type: text/plain\r\n\r\none\r\n--b\r\n\r\ntwo\n\r\n--b--\r\n";

    #[track_caller]
    fn check(path: &[u32], kind: SectionKind, want: Option<&str>) {
        let prefix = "Return-Path: <>\r\n";
        let mut walker = Walker::new(Limits::default());
        walker.feed(MESSAGE.as_bytes());
        let mut encoded = Vec::new();
        walker.finish().encode(&mut encoded);
        let digest = DigestView::parse(&encoded).expect("a digest");
        let stored = format!("{prefix}{MESSAGE}");
        let got = extent(&digest, prefix.len() as u64, path, kind);
        let text = got
            .as_ref()
            .map(|extent| &stored[extent.stored.start as usize..extent.stored.end as usize]);
        assert_eq!(text, want);
        if let Some(extent) = got {
            let bare = text.map_or(0, |text| text.replace("\r\n", "").matches('\n').count());
            let stored_bytes = extent.stored.end - extent.stored.start;
            assert_eq!(extent.wire_bytes, stored_bytes + bare as u64);
        }
    }

    #[test]
    fn ranges_shift_by_the_prefix() {
        let whole = format!("Return-Path: <>\r\n{MESSAGE}");
        check(&[], SectionKind::All, Some(&whole));
        let header_end = whole.find("\r\n\r\n").expect("a header") + 4;
        check(&[], SectionKind::Header, Some(&whole[..header_end]));
        check(&[], SectionKind::Text, Some(&whole[header_end..]));
        check(&[1], SectionKind::All, Some("one"));
        check(
            &[1],
            SectionKind::Mime,
            Some("Content-Type: text/plain\r\n\r\n"),
        );
        check(&[2], SectionKind::All, Some("two\n"));
        check(&[3], SectionKind::All, None);
        check(&[1], SectionKind::Header, None);
    }
}
