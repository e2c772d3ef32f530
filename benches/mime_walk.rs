//! The walk over a message: what delivery pays per byte.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use palomar::wire::mime::{Digest, DigestView, Limits, SectionKind, Walker};

/// A text and a base64 attachment of about `attachment_bytes`, in lines of 76.
fn message(attachment_bytes: usize) -> Vec<u8> {
    let mut message = b"Return-Path: <ana@demo.test>\r\n\
        Received: from client.demo.test by mx.demo.test with ESMTPS id 1; \
        Mon, 6 Feb 2023 10:11:12 +0100\r\n\
        From: Ana <ana@demo.test>\r\nTo: Bo <bo@demo.test>, Cy <cy@demo.test>\r\n\
        Subject: The plan for Monday\r\nDate: Mon, 6 Feb 2023 10:11:12 +0100\r\n\
        Message-ID: <1@demo.test>\r\nMIME-Version: 1.0\r\n\
        Content-Type: multipart/mixed; boundary=\"=_boundary_1\"\r\n\r\n\
        --=_boundary_1\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nSee the file.\r\n\
        --=_boundary_1\r\nContent-Type: application/pdf; name=\"plan.pdf\"\r\n\
        Content-Transfer-Encoding: base64\r\n\
        Content-Disposition: attachment; filename=\"plan.pdf\"\r\n\r\n"
        .to_vec();
    let end = message.len() + attachment_bytes;
    while message.len() < end {
        message.extend_from_slice(&b"JVBERi0xLj4Kc3RhcnR4cmVmCjUzNjEw".repeat(3)[..76]);
        message.extend_from_slice(b"\r\n");
    }
    message.extend_from_slice(b"--=_boundary_1--\r\n");
    message
}

fn walk(message: &[u8], chunk_bytes: usize) -> Digest {
    let mut walker = Walker::new(Limits::default());
    for chunk in message.chunks(chunk_bytes) {
        walker.feed(chunk);
    }
    walker.finish()
}

fn walks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mime_walk");
    for (name, attachment_bytes) in [("4KB", 3 << 10), ("1MB", 1 << 20)] {
        let message = message(attachment_bytes);
        group.throughput(Throughput::Bytes(message.len() as u64));
        group.bench_function(name, |bench| {
            bench.iter(|| walk(black_box(&message), 32 << 10))
        });
    }
    group.finish();
}

fn digests(criterion: &mut Criterion) {
    let digest = walk(&message(3 << 10), 4 << 10);
    let mut bytes = Vec::new();
    digest.encode(&mut bytes);
    criterion.bench_function("digest_encode", |bench| {
        bench.iter_batched(
            || Vec::with_capacity(2 * bytes.len()),
            |mut out| {
                digest.encode(&mut out);
                out
            },
            BatchSize::SmallInput,
        );
    });
    criterion.bench_function("digest_section", |bench| {
        bench.iter(|| {
            let view = DigestView::parse(black_box(&bytes)).expect("our own digest");
            view.section(&[2], SectionKind::All)
        });
    });
}

criterion_group!(benches, walks, digests);
criterion_main!(benches);
