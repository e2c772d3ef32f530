//! The commands after log-in, one file each or a small group.

pub mod access;
pub mod append;
mod copy;
mod expunge;
mod fetch;
pub mod idle;
mod list;
mod mailbox;
mod quota;
mod search;
mod select;
mod status;
mod store;

use super::answer::Answer;
use super::client::End;
use super::report::Told;
use super::serve::Known;
use crate::store::StoreError;
use crate::wire::imap::{Body, NameError};

/// What cuts a command short: its answer, or the end of the session.
#[derive(Debug)]
pub enum Cut {
    Answer(Answer),
    End(End),
}

impl From<Answer> for Cut {
    fn from(answer: Answer) -> Self {
        Cut::Answer(answer)
    }
}

impl From<End> for Cut {
    fn from(end: End) -> Self {
        Cut::End(end)
    }
}

impl From<StoreError> for Cut {
    fn from(error: StoreError) -> Self {
        Cut::Answer(error.into())
    }
}

impl From<NameError> for Cut {
    fn from(error: NameError) -> Self {
        Cut::Answer(error.into())
    }
}

/// What a command comes to.
pub type Done = Result<Answer, Cut>;

/// Carries out a command that the table allows now. Untagged responses are written on the way,
/// what they said of flags is noted in `told`.
///
/// The larger commands are boxed, so that the small ones do not pay for them.
pub async fn run(
    known: &mut Known,
    tag: &str,
    body: Body<'_>,
    told: &mut Told,
) -> Result<Answer, End> {
    let done = match body {
        Body::Capability => Ok(access::capability(known)),
        Body::Noop => {
            look(known).await;
            Ok(Answer::ok("NOOP done"))
        }
        Body::Check => {
            look(known).await;
            Ok(Answer::ok("CHECK done"))
        }
        Body::Logout => access::logout(known, tag),
        Body::Id(fields) => Ok(access::id(known, fields)),
        Body::Enable(asked) => Ok(access::enable(known, asked)),
        Body::Namespace => Ok(access::namespace(known)),
        Body::Select(select) => Box::pin(select::select(known, &select, false)).await,
        Body::Examine(select) => Box::pin(select::select(known, &select, true)).await,
        Body::Close => Box::pin(select::close(known)).await,
        Body::Unselect => Ok(select::unselect(known)),
        Body::Create(create) => Box::pin(mailbox::create(known, &create)).await,
        Body::Delete(name) => Box::pin(mailbox::delete(known, &name)).await,
        Body::Rename { from, to } => Box::pin(mailbox::rename(known, &from, &to)).await,
        Body::Subscribe(name) => Box::pin(mailbox::subscribe(known, &name, true)).await,
        Body::Unsubscribe(name) => Box::pin(mailbox::subscribe(known, &name, false)).await,
        Body::List(list) => Box::pin(list::list(known, &list)).await,
        Body::Lsub { reference, pattern } => list::lsub(known, &reference, &pattern),
        Body::Status { mailbox, items } => Box::pin(status::status(known, &mailbox, items)).await,
        Body::GetQuota(root) => quota::get(known, &root),
        Body::GetQuotaRoot(mailbox) => quota::get_root(known, &mailbox),
        Body::Idle => unreachable!("IDLE is carried out by the session, not here"),
        Body::Expunge(set) => Box::pin(expunge::expunge(known, set)).await,
        Body::Search(search) => Box::pin(search::search(known, tag, search)).await,
        Body::Fetch(fetch) => Box::pin(fetch::fetch(known, fetch, told)).await,
        Body::Store(store) => Box::pin(store::store(known, store, told)).await,
        Body::Copy { uid, set, mailbox } => Box::pin(copy::copy(known, uid, set, &mailbox)).await,
        Body::Move { uid, set, mailbox } => Box::pin(copy::r#move(known, uid, set, &mailbox)).await,
        // The framer tells an APPEND by its literal; without one it is none.
        Body::Append(_) => Ok(Answer::bad("the message must come as a literal")),
        Body::StartTls | Body::Login(_) | Body::Authenticate(_) => {
            Ok(Answer::bad("you are logged in already"))
        }
    };
    settled(done)
}

/// Clients that poll see at once what another program put into the folder.
async fn look(known: &Known) {
    if let Some(selected) = &known.selected {
        Box::pin(selected.view.look()).await;
    }
}

/// The answer, or the end of the session.
pub fn settled(done: Done) -> Result<Answer, End> {
    match done {
        Ok(answer) | Err(Cut::Answer(answer)) => Ok(answer),
        Err(Cut::End(end)) => Err(end),
    }
}
