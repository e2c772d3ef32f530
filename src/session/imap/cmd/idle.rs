//! IDLE (RFC 9051 6.3.13).

use std::future::pending;

use super::super::super::Wake;
use super::super::answer::Answer;
use super::super::client::End;
use super::super::report::Told;
use super::super::serve::Known;
use super::{Cut, Done};
use crate::base::Deadline;
use crate::wire::imap::is_done;

/// Tells what happens until the client says DONE.
pub async fn idle(known: &mut Known) -> Done {
    known.client.out.extend_from_slice(b"+ idling\r\n");
    // RFC 9051 6.3.13: whoever is silent too long is logged out, in IDLE too.
    let until = known.client.door.until(|config| config.limits.imap_idle.0);
    loop {
        // The client counts anew only after it heard: expunges may be told (RFC 9051 7.5.1).
        known.tell_changes(true, false, &Told::default())?;
        known.client.flush().await?;
        if known.client.has_input() {
            break;
        }
        known.client.rest();
        known.rest();
        wait(known, until).await?;
        known.wake().await?;
    }
    known.client.next_line(until).await?;
    match is_done(&known.client.line) {
        true => Ok(Answer::ok("IDLE done")),
        false => Ok(Answer::bad("IDLE ends with DONE")),
    }
}

async fn wait(known: &mut Known, until: Deadline) -> Result<(), Cut> {
    let Known {
        client, selected, ..
    } = known;
    let woken = match selected {
        Some(selected) => client.wait_for(until, selected.view.changed()).await?,
        None => client.wait_for(until, pending()).await?,
    };
    match woken {
        Wake::Input | Wake::News => Ok(()),
        Wake::Eof => Err(End::Gone.into()),
        Wake::TimedOut => Err(End::TimedOut.into()),
        Wake::Kicked => Err(End::Kicked.into()),
        Wake::Stopping => Err(End::Stopping.into()),
    }
}
