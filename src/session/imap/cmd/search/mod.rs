//! SEARCH (RFC 9051 6.4.4) with ESEARCH (RFC 4731), SEARCHRES (RFC 5182), WITHIN (RFC 5032) and
//! SAVEDATE (RFC 8514).

mod plan;
mod result;
mod text;

use std::sync::Arc;

use super::super::answer::Answer;
use super::super::numbering::number_of;
use super::super::serve::Known;
use super::Done;
use super::fetch::email_id;
use crate::base::{ModSeq, Uid};
use crate::runtime::{unix_now, yield_if_needed};
use crate::store::{Row, ScanRow, StoreError, View};
use crate::wire::imap::{Search, SearchReturn};
use crate::wire::mime::DigestView;
use plan::{Context, Facts, Plan, Verdict};
use result::{Found, to_save, write_esearch, write_search};
use text::Subject;

/// Messages looked at together.
const BATCH: usize = 512;
/// Digests held together.
const DIGESTS: usize = 64;

/// What matched.
#[derive(Default)]
struct Matches {
    uids: Vec<Uid>,
    modseq: ModSeq,
}

pub async fn search(known: &mut Known, tag: &str, search: Search<'_>) -> Done {
    // A CONDSTORE enabling command (RFC 7162 3.1).
    let rev2 = known.enabled.imap4rev2;
    let (client, selected) = known.parts();
    let plan = {
        let context = Context {
            uids: selected.view.uids(),
            saved: &selected.saved,
            now: unix_now(),
        };
        Plan::new(search.keys.tree(), &context)
            .map_err(|_| Answer::bad("no message has such a number, or there are too many sets"))?
    };
    if search.returns.is_some_and(|returns| returns.save) {
        // RFC 5182 2.1: a SEARCH that ends in NO leaves `$` empty.
        selected.saved = Vec::new();
    }
    let matches = look(&selected.view, &plan).await?;
    let view = &selected.view;
    let numbers = match search.uid {
        true => matches.uids.iter().map(|uid| uid.0).collect(),
        false => matches
            .uids
            .iter()
            .filter_map(|uid| number_of(view.uids(), *uid))
            .collect(),
    };
    let modseq = (plan.modseq && !matches.uids.is_empty()).then_some(matches.modseq);
    let found = Found { numbers, modseq };
    let all = SearchReturn {
        all: true,
        ..SearchReturn::default()
    };
    match search.returns.or(rev2.then_some(all)) {
        Some(returns) => {
            if returns.save {
                selected.saved = to_save(returns, &matches.uids);
            }
            // RFC 5182 2.1: SAVE alone wants no answer.
            if returns.min || returns.max || returns.all || returns.count {
                write_esearch(&mut client.out, tag, search.uid, returns, &found);
            }
        }
        None => write_search(&mut client.out, &found),
    }
    known.enabled.condstore |= plan.modseq;
    Ok(Answer::ok("SEARCH done"))
}

async fn look(view: &View, plan: &Plan) -> Result<Matches, StoreError> {
    let mut matches = Matches::default();
    let mut rows: Vec<ScanRow> = Vec::with_capacity(BATCH.min(view.uids().len()));
    for batch in view.uids().chunks(BATCH) {
        rows.clear();
        view.scan(batch, &mut |row| rows.push(row));
        // First what the rows answer; the rest stays in `open`, in order.
        let mut verdicts: Vec<Verdict> = Vec::with_capacity(rows.len());
        for row in &rows {
            let full = full_row(view, plan, row);
            verdicts.push(plan.ask(&facts(view, row, full.as_ref()).as_facts(None, &[])));
        }
        let open: Vec<usize> = (0..rows.len())
            .filter(|n| !matches!(verdicts[*n], Verdict::Yes | Verdict::No))
            .collect();
        for some in open.chunks(DIGESTS) {
            let uids: Vec<Uid> = some.iter().map(|n| rows[*n].uid).collect();
            let digests = view.digests(&uids).await;
            for (n, digest) in some.iter().zip(digests) {
                verdicts[*n] = closer(view, plan, &rows[*n], digest).await?.into();
            }
            yield_if_needed().await;
        }
        for (row, verdict) in rows.iter().zip(verdicts) {
            if verdict == Verdict::Yes {
                matches.uids.push(row.uid);
                matches.modseq = matches.modseq.max(row.modseq);
            }
        }
        yield_if_needed().await;
    }
    Ok(matches)
}

/// What is held of a row while it is asked.
struct Asked<'a> {
    row: &'a ScanRow,
    recent: bool,
    keywords: &'a [Arc<str>],
    email_id: Option<String>,
}

impl Asked<'_> {
    fn as_facts<'a>(
        &'a self,
        digest: Option<&'a DigestView<'a>>,
        slow: &'a [Option<bool>],
    ) -> Facts<'a> {
        Facts {
            row: self.row,
            recent: self.recent,
            keywords: self.keywords,
            email_id: self.email_id.as_deref(),
            digest,
            slow,
        }
    }
}

fn full_row(view: &View, plan: &Plan, row: &ScanRow) -> Option<Row> {
    let wanted = plan.email_id || plan.keywords && row.has_keywords;
    if wanted { view.row(row.uid) } else { None }
}

fn facts<'a>(view: &View, row: &'a ScanRow, full: Option<&'a Row>) -> Asked<'a> {
    Asked {
        row,
        recent: view.is_recent(row.uid),
        keywords: full.map_or(&[], |row| &row.keywords),
        email_id: full.map(|row| email_id(&row.email_id)),
    }
}

/// Asks with the digest, and with slow looks as they are asked for. A message that goes meanwhile
/// is not found, nor is one that cannot be read.
async fn closer(
    view: &View,
    plan: &Plan,
    row: &ScanRow,
    digest: Result<Arc<[u8]>, StoreError>,
) -> Result<bool, StoreError> {
    let bytes = match digest {
        Ok(bytes) => bytes,
        Err(StoreError::Expunged | StoreError::Damaged { .. }) => return Ok(false),
        Err(error) => return Err(error),
    };
    let Ok(digest) = DigestView::parse(&bytes) else {
        return Ok(false);
    };
    let full = full_row(view, plan, row);
    let asked = facts(view, row, full.as_ref());
    let mut slow = vec![None; plan.slow.len()];
    let mut subject: Option<Subject<'_>> = None;
    loop {
        let n = match plan.ask(&asked.as_facts(Some(&digest), &slow)) {
            Verdict::Yes => return Ok(true),
            // The digest is there: it is not asked for again.
            Verdict::No | Verdict::Digest => return Ok(false),
            Verdict::Slow(n) => n,
        };
        if subject.is_none() {
            let Some(row) = view.row(row.uid) else {
                return Ok(false);
            };
            let reader = match view.body(row.uid).await {
                Ok(reader) => reader,
                Err(StoreError::Expunged | StoreError::Damaged { .. }) => return Ok(false),
                Err(error) => return Err(error),
            };
            subject = Some(Subject {
                digest,
                reader,
                prefix: row.prefix_bytes.into(),
            });
        }
        let Some(subject) = &subject else {
            return Ok(false);
        };
        slow[n] = match subject.look(&plan.slow[n]).await {
            Ok(holds) => Some(holds),
            Err(StoreError::Expunged | StoreError::Damaged { .. }) => return Ok(false),
            Err(error) => return Err(error),
        };
    }
}
