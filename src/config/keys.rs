//! The declaration of every key. To add one: a line here (`docs/howto/config-key.md`), and its use.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use super::cidr::Networks;
use super::declare::section;
use super::route::{NextHop, RouteDomain};
use super::value::{
    AuthMode, ClassName, Compression, DnssecMode, Domain, HopProtocol, HopTls, Hours, LogLevel,
    MailAddress, Protocol, QuotaRefusal, Timezone,
};
use crate::base::{BATCH_BYTES_MAX, ByteSize, INLINE_BODY_BYTES_MAX, Span};

section! {
    /// The whole file. Only `hostname` and `domains` must be there.
    Config "" "" since "0.1" {
        /// The name of this machine in banners, EHLO, Received and the self-signed certificate.
        /// It must resolve to this machine, and its addresses back to it.
        hostname: Domain = required "mail.example.org", Restart;
        /// The domains whose mail is delivered here. More can be added with `palomar domain add`.
        domains: Vec<Domain> = required "[\"example.org\"]", Restart;
        /// Everything Palomar keeps: journal, mailboxes, directory, logs, certificates it made.
        data_dir: PathBuf = "/var/lib/palomar", Restart;
        /// Shards: threads that each own a part of the users. 0: one for each core.
        shards: u16 = "0", Restart, "0" to "128";
        /// Into how many partitions users are divided; a partition lives on one shard.
        partitions: u16 = "256", Fixed, "1" to "16384";
        /// Networks of ours. A client there is attributed to its network, and may do what
        /// listeners grant to trusted networks. It may not read mail without a log-in.
        trusted_networks: Networks = "[\"127.0.0.1/32\", \"::1/128\"]", Live;
        /// Load balancers: only these may send a PROXY header, and after it only the address
        /// in the header counts for trust, limits and policy.
        proxy_networks: Networks = "[]", Live;
        /// Who reads postmaster@ and abuse@ of every domain.
        postmaster: Option<MailAddress> = absent
            "`palomar check` warns: RFC 5321 4.5.1 wants a person there" "ana@example.org", Live;
        /// Time zone of `queue.bulk_hours`. Everything stored or logged is UTC.
        timezone: Timezone = "UTC", Live;
        /// The account to become once ports are open, when started as root. It must be able to
        /// read this file and the certificates. Root's commands on a stopped server work as the
        /// owner of the data directory, so that nothing in it is root's afterwards.
        user: Option<String> = absent "the process stays who it is" "palomar", Restart;
    }
    tables {
        /// Certificates.
        tls: Tls;
        /// As written; see [`Config::listeners`] for what is served.
        listener: Vec<ListenerKeys>;
        /// Bounds.
        limits: Limits;
        /// Log-in.
        auth: Auth;
        /// Name servers.
        dns: Dns;
        /// Mail that leaves.
        queue: Queue;
        /// Mail to other hosts.
        smtp: Smtp;
        /// Ways for some domains.
        route: Vec<RouteKeys>;
        /// The log.
        log: Log;
        /// Journal and mailboxes.
        store: Store;
        /// Classes of accounts.
        class: Vec<ClassKeys>;
        /// The door for `palomar` commands.
        admin: Admin;
        /// The door for mail of programs on this host.
        sendmail: Sendmail;
    }
}

section! {
    /// The certificate that is shown. Files are read at the start and at SIGHUP.
    Tls "tls." "[tls]" since "0.1" {
        /// PEM file: the certificate, then its chain.
        certificate: Option<PathBuf> = absent
            "a self-signed certificate is made once" "/etc/palomar/cert.pem", Live;
        /// PEM file: the private key of `certificate`.
        key: Option<PathBuf> = absent
            "goes with `certificate`" "/etc/palomar/key.pem", Live;
    }
    tables {
        /// More certificates.
        pair: Vec<TlsPairKeys>;
    }
}

section! {
    /// More certificates, each with its key: other names (the client's SNI chooses), or RSA beside
    /// ECDSA for the same name (the client's offer chooses).
    TlsPairKeys "tls.pair." "[[tls.pair]]" since "0.1" {
        /// PEM file: the certificate, then its chain.
        certificate: PathBuf = required "/etc/palomar/rsa-cert.pem", Live;
        /// PEM file: its private key.
        key: PathBuf = required "/etc/palomar/rsa-key.pem", Live;
    }
}

section! {
    /// One address to listen on. Without any: smtp 25, submissions 465, submission 587, imaps 993
    /// and pop3s 995 on [::] and 0.0.0.0; lmtp 24 and metrics 9925 on 127.0.0.1.
    ListenerKeys "listener." "[[listener]]" since "0.1" {
        /// What is spoken. `imap` and `pop3` allow log-in only after STARTTLS.
        protocol: Protocol = required "imaps", Restart;
        /// Where. `[::]` is IPv6 only: list `0.0.0.0` too. Port 0: any free one.
        address: SocketAddr = required "0.0.0.0:993", Restart;
        /// A PROXY v1 or v2 header comes first on every connection, from `proxy_networks`.
        proxy_protocol: bool = "false", Restart;
        /// The name in banner, EHLO and certificate here.
        hostname: Option<Domain> = absent "the site's `hostname`" "imap.example.org", Restart;
        /// PEM file: the certificate for clients that name no host.
        certificate: Option<PathBuf> = absent
            "the certificate of [tls]" "/etc/palomar/imap-cert.pem", Live;
        /// PEM file: its private key.
        key: Option<PathBuf> = absent
            "goes with `certificate`" "/etc/palomar/imap-key.pem", Live;
        /// Trusted networks here, in place of the site's. On lmtp and metrics only these and
        /// loopback are served.
        trusted_networks: Option<Networks> = absent
            "the site's `trusted_networks`" "[\"10.1.0.0/16\"]", Restart;
        /// Whether clients log in before they send.
        auth: Option<AuthMode> = absent
            "off on smtp and lmtp, required on submission and submissions" "offered", Restart;
        /// Connections at one time on one shard.
        connections_max: u32 = "20000", Restart, "1" to "1000000";
        /// Largest message here.
        message_bytes_max: Option<ByteSize> = absent
            "`limits.message_bytes_max`" "25MB", Restart, "64KB" to "2GB";
        /// Lines that end in a bare LF or CR become CRLF for clients in the trusted networks of
        /// this listener (printers, scanners). From everybody else DATA with them is refused.
        normalise_bare_newlines: bool = "false", Restart;
    }
}

section! {
    /// Bounds on what one client may use.
    Limits "limits." "[limits]" since "0.1" {
        /// Largest message, as it travels (RFC 1870).
        message_bytes_max: ByteSize = "100MB", Live, "64KB" to "2GB";
        /// Recipients of one message; more are deferred with 452 (RFC 5321 4.5.3.1.10).
        recipients_max: u32 = "150", Live, "1" to "10000";
        /// Connections at one time from one IPv4 address or IPv6 /64, on each shard.
        connections_per_address_max: u32 = "200", Live, "1" to "100000";
        /// Sessions at one time on one shard.
        sessions_max: u32 = "50000", Live, "10" to "1000000";
        /// Longest silence of an SMTP or LMTP client (RFC 5321 4.5.3.2.7 asks for 5m).
        smtp_idle: Span = "5m", Live, "1s" to "1h";
        /// Longest silence of an IMAP client (RFC 9051 5.4 asks for 30m).
        imap_idle: Span = "30m", Live, "1s" to "1d";
        /// Longest silence of a POP3 client (RFC 1939 3 asks for 10m).
        pop3_idle: Span = "10m", Live, "1s" to "1h";
        /// Time from the connection to a log-in, where one is needed.
        login: Span = "1m", Live, "1s" to "1h";
    }
}

section! {
    /// Log-in.
    Auth "auth." "[auth]" since "0.1" {
        /// Log-in without TLS, on loopback listeners only.
        allow_plaintext: bool = "false", Live;
        /// How long the answer to a wrong password is held back.
        failure_delay: Span = "2s", Live, "0s" to "1m";
    }
}

section! {
    /// Where names are looked up.
    Dns "dns." "[dns]" since "0.1" {
        /// Resolvers to ask.
        servers: Option<Vec<SocketAddr>> = absent
            "those of /etc/resolv.conf" "[\"127.0.0.1:53\"]", Restart;
        /// Memory on each shard for what was looked up, and once more for what shards share.
        cache_bytes_max: ByteSize = "8MiB", Restart, "64KiB" to "4GiB";
        /// Whether signatures are checked: off; auto, where the server speaks DNSSEC; or on, and
        /// a server that does not is of no use.
        dnssec: DnssecMode = "auto", Restart;
        /// DNSKEY records, in the form of a zone file, that are trusted in place of the root's.
        trust_anchor_file: Option<PathBuf> = absent
            "the root's keys, which come with the program" "/etc/palomar/root.key", Restart;
        /// Domains of this site that the public root knows nothing of: signatures are not checked
        /// in them, nor below (RFC 7646).
        insecure_domains: Vec<Domain> = "[\"internal\", \"lan\", \"local\"]", Restart;
    }
}

section! {
    /// Mail that leaves (docs/QUEUE.md): how often, how long and how much at a time.
    Queue "queue." "[queue]" since "0.3" {
        /// From one attempt to the next, each a fifth more or less; the last is repeated.
        retry: Vec<Span> = "[\"5m\", \"15m\", \"30m\", \"1h\", \"2h\", \"4h\"]", Restart;
        /// The sender of a message that takes longer is told once. Tries go on.
        delay_notice_after: Span = "4h", Restart, "1m" to "30d";
        /// What is not delivered by then goes back to its sender (RFC 5321 4.5.4.1: 4 to 5 days).
        expire_after: Span = "5d", Restart, "1m" to "30d";
        /// The same of our own notices, which nobody gets back.
        expire_notices_after: Span = "1d", Restart, "1m" to "30d";
        /// Longest time for which who submits a message may have it held before it goes (RFC 4865).
        /// 0s: that is not offered.
        hold_max: Span = "30d", Live, "0s" to "365d";
        /// Hours of the day, in the site's time zone, in which messages to many recipients leave,
        /// such as "20:00-06:00". None: at any time.
        bulk_hours: Vec<Hours> = "[]", Restart;
        /// Messages under way to other hosts at one time, on each shard; those that find nobody there
        /// for two seconds are not counted.
        connections_max: u32 = "100", Restart, "8" to "10000";
        /// The same to one destination. It begins at 2 and rises with each success.
        connections_per_destination_max: u32 = "10", Restart, "1" to "1000";
        /// Messages on one connection, one after the other.
        messages_per_connection_max: u32 = "100", Restart, "1" to "100000";
        /// Recipients of one transaction; more go in further ones.
        recipients_per_message_max: u32 = "100", Restart, "1" to "10000";
        /// How long a connection waits for another message.
        idle: Span = "3s", Restart, "0s" to "5m";
        /// A destination that does not answer is left alone for so long, then twice that, and so
        /// on; meanwhile one message at a time finds out whether it is back.
        pause: Span = "1m", Restart, "1s" to "1h";
        /// The longest of those pauses.
        pause_max: Span = "30m", Restart, "1s" to "1d";
    }
}

section! {
    /// Mail to other hosts.
    Smtp "smtp." "[smtp]" since "0.2" {
        /// Addresses of this machine that it leaves from: the first of each family. What is not
        /// named is for the machine to choose.
        source_addresses: Vec<IpAddr> = "[]", Restart;
    }
    tables {
        /// Where it goes.
        relay: Relay;
    }
}

section! {
    /// Where mail to other hosts goes, but for domains that have a `[[route]]`.
    Relay "smtp.relay." "[smtp.relay]" since "0.2" {
        /// The host that takes all of it. "": the hosts that each domain names (MX).
        smarthost: NextHop = "", Restart;
        /// The name to log in there with.
        user: Option<String> = absent "nobody logs in" "palomar", Restart;
        /// The file with the password, alone or on its first line. It is sent over TLS only, but to
        /// a smarthost on this machine.
        password_file: Option<PathBuf> = absent
            "goes with `user`" "/etc/palomar/smarthost.password", Restart;
        /// What the smarthost is asked of TLS: none, opportunistic or verified. On port 465 TLS
        /// comes first, else after STARTTLS.
        tls: Option<HopTls> = absent
            "verified where `user` is set and the smarthost is not this machine, else opportunistic"
            "verified", Restart;
        /// Clients in the trusted networks of an smtp listener may send to other domains without
        /// a log-in.
        relay_trusted: bool = "false", Live;
        /// Give mail to loopback and private addresses that the DNS of a domain names. Off, so that
        /// nobody's DNS makes this machine talk to those behind it.
        local_addresses: bool = "false", Restart;
    }
}

section! {
    /// Another way for one domain, for all below one, or for all: its name wins over the longest
    /// `.name`, and that over `*`.
    RouteKeys "route." "[[route]]" since "0.2" {
        /// The domain: "example.org", ".example.org" for all below it, "*" for all.
        domain: RouteDomain = required "example.org", Restart;
        /// The host that takes its mail. "": the hosts that the domain names (MX).
        hop: NextHop = "", Restart;
        /// What is spoken there.
        transport: HopProtocol = "smtp", Restart;
        /// What is asked of TLS: none, opportunistic or verified. Without `hop` it counts in place of
        /// what the domain itself publishes (MTA-STS, DANE).
        tls: Option<HopTls> = absent
            "verified where `user` is set and the hop is not this machine, else opportunistic; \
             without `hop` what the domain publishes" "verified", Restart;
        /// The name to log in there with.
        user: Option<String> = absent "nobody logs in" "palomar", Restart;
        /// The file with the password, alone or on its first line. It is sent over TLS only, but to
        /// a hop on this machine.
        password_file: Option<PathBuf> = absent
            "goes with `user`" "/etc/palomar/hop.password", Restart;
    }
}

section! {
    /// The log: `log/palomar.log` in the data directory, one JSON line an event, in UTC. A new
    /// file begins every day and at `file_bytes_max`; the old one is compressed.
    Log "log." "[log]" since "0.1" {
        /// The least important lines that are written.
        level: LogLevel = "info", Live;
        /// A file as large as this is put aside and compressed.
        file_bytes_max: ByteSize = "100MB", Restart, "64KB" to "10GB";
        /// Days that old log files are kept; then they are deleted.
        keep_days: u32 = "365", Restart, "1" to "36500";
    }
}

section! {
    /// Journal and mailboxes. Nobody needs to change these before measuring.
    Store "store." "[store]" since "0.1" {
        /// Size of one journal slot.
        journal_slot_bytes: ByteSize = "64MiB", Fixed, "16MiB" to "4GiB";
        /// Journal slots of each shard.
        journal_slots: u32 = "8", Fixed, "4" to "1024";
        /// Larger bodies go to a file of their own before they are acknowledged.
        inline_body_bytes_max: ByteSize = "256KiB", Restart, "4KiB" to "1MiB";
        /// Memory on each shard for bodies that are in flight; beyond it they take files too.
        inflight_bytes_max: ByteSize = "64MiB", Restart, "4MiB" to "4GiB";
        /// Longest time between checkpoints, which free journal slots.
        checkpoint_interval: Span = "10s", Restart, "100ms" to "10m";
        /// Free space on the file system of `data_dir` below which new mail is refused (452), and
        /// removed mail that is kept goes early: what settling, checkpoints and deletion need. Half as
        /// much more is put by in the file `reserve`. "0B": until there is nothing left.
        free_bytes_min: ByteSize = "64MiB", Restart, "0B" to "1TiB";
        /// Days for which removed messages and folders can be brought back with `palomar restore`.
        /// They count in no mailbox's size. A full disk ends the oldest days early. 0: never.
        undelete_days: u32 = "14", Restart, "0" to "3650";
        /// How far a reader of the journal (a spare, a backup) may be behind before it loses its place
        /// and has to begin anew; at most half of all slots.
        journal_reader_bytes_max: ByteSize = "128MiB", Restart, "0B" to "2TiB";
        /// How messages of 2 to 16 KiB are written to the journal: none or zstd, where that makes
        /// them shorter by an eighth at least. Mail of 10 KB then writes about a sixth less to the
        /// disk, for 30 us of processor time or more a message.
        journal_compression: Compression = "zstd", Restart;
        /// Memory on each shard for mailbox indexes. Those of idle sessions are given up first.
        index_memory_bytes_max: ByteSize = "256MiB", Restart, "16MiB" to "1TiB";
        /// Mailbox size of users for whom neither they nor their class have one. "0B": unlimited.
        quota_default: ByteSize = "10GB", Live;
        /// The same in messages. 0: unlimited.
        quota_messages_default: u32 = "0", Live;
        /// How message files are written: none or zstd. Those of before are read either way.
        compression: Compression = "none", Restart;
        /// Compress the files of before too, in the background, at most 32 a second on each shard.
        compress_old: bool = "false", Restart;
        /// Every message, index and cache is read and compared again after this time. 0s: never.
        scrub_every: Span = "30d", Restart, "0s" to "365d";
        /// How many bytes that reads in a second, on each shard.
        scrub_rate: ByteSize = "20MB", Restart, "100KB" to "10GB";
        /// Archive folders: mbox files, also .gz and .zst, that users read and nobody writes. One
        /// directory a user: %u is the address, %n and %d its parts before and behind the @.
        archives: Option<PathBuf> = absent "there are none" "/srv/mbox/%u", Restart;
        /// Unpacked copies of compressed archive files, in the data directory.
        archive_cache_bytes_max: ByteSize = "4GB", Restart, "64MB" to "10TB";
        /// What a full mailbox answers: defer (452 4.2.2) or reject (552 5.2.2).
        quota_refusal: QuotaRefusal = "defer", Live;
    }
}

section! {
    /// Limits for the accounts of one class; those of an account itself win.
    ClassKeys "class." "[[class]]" since "0.2" {
        /// The class, as in `palomar user set --class`.
        name: ClassName = required "student", Live;
        /// Mailbox size. "0B": unlimited.
        quota_bytes: Option<ByteSize> = absent "`store.quota_default`" "2GB", Live;
        /// Messages in all folders. 0: unlimited.
        quota_messages: Option<u32> = absent "`store.quota_messages_default`" "100000", Live;
    }
}

section! {
    /// The door for `palomar` commands on a running server.
    Admin "admin." "[admin]" since "0.1" {
        /// Unix socket. Whoever may open it administers the server.
        socket: Option<PathBuf> = absent
            "`admin.sock` in `data_dir`" "/run/palomar/admin.sock", Restart;
    }
}

section! {
    /// Mail of programs on this host, by `palomar sendmail` or a link to it as /usr/sbin/sendmail.
    Sendmail "sendmail." "[sendmail]" since "0.3" {
        /// Whether they can send.
        enabled: bool = "true", Restart;
        /// Unix socket. Every user of this host who can reach it may send, in his own name. Its
        /// folder is made where it is missing.
        socket: Option<PathBuf> = absent
            "`sendmail.sock` beside the admin socket: in `data_dir` only for root and the server's user"
            "/run/palomar/sendmail.sock", Restart;
        /// Users of this host who may send in anybody's name, as root may.
        trusted: Vec<String> = "[]", Live;
    }
}

// The bounds of `store` above hold what the journal needs.
const _: () = assert!(2 * BATCH_BYTES_MAX <= 16 << 20 && INLINE_BODY_BYTES_MAX == 256 << 10);
const _: () = assert!(2 * (1 << 20) < BATCH_BYTES_MAX);
