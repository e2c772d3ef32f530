//! Event names: a noun and what happened to it. Scripts search for them: they are never renamed.

macro_rules! events {
    ($($name:ident = $text:literal, $doc:literal;)*) => {
        $(#[doc = $doc] pub const $name: &str = $text;)*

        /// Every event with its sentence.
        pub const ALL: &[(&str, &str)] = &[$(($text, $doc)),*];
    };
}

events! {
    SERVER_STARTED = "server.started", "Ports are open.";
    SERVER_DRAINED = "server.drained", "Every session has ended; the process exits.";
    SERVER_FAILED = "server.failed", "The process can not go on, and says why.";
    CONFIG_RELOADED = "config.reloaded", "Reloadable keys and certificates were read again.";
    CONFIG_REFUSED = "config.refused", "A reload found errors; the old configuration stays.";
    LISTENER_OPENED = "listener.opened", "An address is listened on.";
    LISTENER_FAILED = "listener.failed", "An address could not be opened or accepted from.";
    CERTIFICATE_LOADED = "certificate.loaded", "A certificate is in use.";
    CERTIFICATE_MADE = "certificate.made", "A self-signed certificate was made.";
    CONNECTION_REFUSED = "connection.refused", "A limit or rule refused a connection.";
    NAMESERVER_LOST = "nameserver.lost", "A name server is silent or refuses; others are asked.";
    NAMESERVER_BACK = "nameserver.back", "A name server answers again.";
    SESSION_OPENED = "session.opened", "A client connected.";
    SESSION_MOVED = "session.moved", "A session went to the shard that owns its user.";
    SESSION_CLOSED = "session.closed", "A session ended, with why.";
    TLS_STARTED = "tls.started", "A handshake succeeded, with version and cipher.";
    TLS_FAILED = "tls.failed", "A handshake failed, with what the client offered.";
    TLS_WITHHELD = "tls.withheld", "STARTTLS was not offered after repeated failures.";
    LOGIN_SUCCEEDED = "login.succeeded", "A user logged in.";
    LOGIN_FAILED = "login.failed", "A wrong name or password.";
    LOGIN_REFUSED = "login.refused", "A right password that may not be used here.";
    LOGIN_DELAYED = "login.delayed", "A log-in was slowed after failures.";
    RECIPIENT_ACCEPTED = "recipient.accepted", "RCPT was answered 250.";
    RECIPIENT_REFUSED = "recipient.refused", "RCPT was answered 4xx or 5xx.";
    MESSAGE_ACCEPTED = "message.accepted", "A message is durable and was acknowledged.";
    MESSAGE_REFUSED = "message.refused", "A message was answered 4xx or 5xx.";
    MESSAGE_QUEUED = "message.queued", "A message waits to leave for other hosts.";
    MESSAGE_RELEASED = "message.released", "A message that was held went to its owners here.";
    MESSAGE_SENT = "message.sent", "Another host took a message for a recipient.";
    MESSAGE_DEFERRED = "message.deferred", "A recipient elsewhere is tried again later.";
    MESSAGE_FAILED = "message.failed", "A recipient elsewhere was given up.";
    MESSAGE_HELD = "message.held", "A message waits until a person says otherwise.";
    MESSAGE_STEERED = "message.steered", "A person changed what becomes of a queued message.";
    NOTICE_MADE = "notice.made", "A sender is told what became of a message.";
    NOTICE_DROPPED = "notice.dropped", "There was nobody who could be told.";
    DESTINATION_AWAY = "destination.away", "No host of a domain answers; it is left alone.";
    MESSAGE_PLACED = "message.placed", "A message is in a mailbox, with its UID.";
    MESSAGE_ARRIVED = "message.arrived", "Another program put a message into a folder.";
    MESSAGE_FETCHED_FIRST = "message.fetched_first", "A message was read for the first time.";
    MESSAGE_EXPUNGED = "message.expunged", "A message left a mailbox.";
    MAILBOX_CREATED = "mailbox.created", "A mailbox was made.";
    MAILBOX_RENAMED = "mailbox.renamed", "A mailbox has another name.";
    MAILBOX_REMOVED = "mailbox.removed", "A mailbox is gone.";
    MAILBOX_ADOPTED = "mailbox.adopted", "A Maildir that another server made was taken over.";
    FILE_VANISHED = "file.vanished", "A Maildir file is gone that the index names.";
    INDEX_DAMAGED = "index.damaged", "The index of a mailbox could not be read.";
    INDEX_REBUILT = "index.rebuilt", "An index was made anew, with what was lost.";
    CATALOGUE_DAMAGED = "catalogue.damaged", "A copy of a catalogue could not be read.";
    DIGEST_DAMAGED = "digest.damaged", "A cached digest was damaged; it is made anew.";
    MESSAGE_DAMAGED = "message.damaged", "A message is not what its index says.";
    ORPHANS_TAKEN = "orphans.taken", "Files without a row became messages.";
    PARTITION_STUCK = "partition.stuck", "A path keeps accounts from being settled; others go on.";
    PARTITION_FREED = "partition.freed", "What kept a partition from being settled is gone.";
    SCRUB_ENDED = "scrub.ended", "An account was looked at, and something was wrong.";
    QUOTA_CROSSED = "quota.crossed", "A mailbox crossed a warning mark.";
    JOURNAL_OPENED = "journal.opened", "A journal was replayed.";
    JOURNAL_COMMITTED = "journal.committed", "A batch is durable (debug).";
    JOURNAL_CUT = "journal.cut", "A torn tail was cut off and kept aside.";
    JOURNAL_FILLED = "journal.filled", "The slot ring crossed a mark; new mail may wait.";
    JOURNAL_DAMAGED = "journal.damaged", "A live slot is not what was written to it.";
    JOURNAL_POISONED = "journal.poisoned", "A sync failed: nothing is acknowledged any more.";
    CHECKPOINT_MADE = "checkpoint.made", "Files are proven durable; slots are free.";
    DISK_FILLED = "disk.filled", "Too little is free: new mail is refused until there is more.";
    DISK_FREED = "disk.freed", "Enough is free again: new mail is taken.";
    DISK_FAILED = "disk.failed", "An operation on a file failed.";
    ACCOUNT_CHANGED = "account.changed", "An account was added, changed or removed.";
    DOMAIN_CHANGED = "domain.changed", "A domain was added, changed or removed.";
    ALIAS_CHANGED = "alias.changed", "An alias was added, changed or removed.";
    COMMAND_RUN = "command.run", "An administrator's command came over the socket.";
    SESSION_KICKED = "session.kicked", "An administrator ended a session.";
    NAME_UNRESOLVED = "name.unresolved", "A DNS question found no answer in time.";
    PANIC_CAUGHT = "panic.caught", "A bug ended one task; the shard lives on.";
    TASK_REFUSED = "task.refused", "A bounded queue was full.";
    LOG_ROTATED = "log.rotated", "The log file was put aside and a new one begun.";
}
