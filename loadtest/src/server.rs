//! The server under test as a child process: its configuration, start, readiness, and end.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const START_SECONDS_MAX: u64 = 60;

/// Ports are taken from here: below the range that the kernel hands out to clients.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

pub struct Site {
    pub binary: PathBuf,
    pub folder: PathBuf,
    pub lmtp: SocketAddr,
    pub smtp: SocketAddr,
    pub imap: SocketAddr,
    pub metrics: SocketAddr,
}

pub const DOMAIN: &str = "crash.test";
pub const PASSWORD: &str = "an open secret";

impl Site {
    /// Writes a configuration with small journal slots, so that recycling happens under load too.
    pub fn new(binary: &Path, folder: &Path, shards: u16, seed: u64) -> io::Result<Self> {
        let mut ports = free_ports(seed);
        let mut next = || {
            ports
                .next()
                .map(|port| SocketAddr::from(([127, 0, 0, 1], port)))
        };
        let missing = || io::Error::other("no free ports below 32000");
        let site = Site {
            binary: binary.to_owned(),
            folder: folder.to_owned(),
            lmtp: next().ok_or_else(missing)?,
            smtp: next().ok_or_else(missing)?,
            imap: next().ok_or_else(missing)?,
            metrics: next().ok_or_else(missing)?,
        };
        let listener = |protocol: &str, address: SocketAddr| {
            format!("[[listener]]\nprotocol = \"{protocol}\"\naddress = \"{address}\"\n")
        };
        let text = format!(
            "hostname = \"mail.{DOMAIN}\"\ndomains = [\"{DOMAIN}\"]\ndata_dir = \"{}\"\n\
             shards = {shards}\n[auth]\nallow_plaintext = true\nfailure_delay = \"0s\"\n\
             [store]\ncheckpoint_interval = \"500ms\"\n{}{}{}{}",
            folder.join("data").display(),
            listener("lmtp", site.lmtp),
            listener("smtp", site.smtp),
            listener("imap", site.imap),
            listener("metrics", site.metrics),
        );
        fs::write(site.config(), text)?;
        Ok(site)
    }

    fn config(&self) -> PathBuf {
        self.folder.join("palomar.toml")
    }

    /// Adds a user with the command line, on a stopped server.
    pub fn add_user(&self, address: &str) -> io::Result<()> {
        let mut child = Command::new(&self.binary)
            .args(["user", "add", address, "--password-stdin", "--config"])
            .arg(self.config())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            writeln!(stdin, "{PASSWORD}")?;
        }
        let status = child.wait()?;
        if status.success() {
            return Ok(());
        }
        Err(io::Error::other(format!("user add {address}: {status}")))
    }

    /// Starts the server; its own words go to `server.log`.
    pub fn start(&self) -> io::Result<Running> {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.join("server.log"))?;
        let child = Command::new(&self.binary)
            .args(["serve", "--config"])
            .arg(self.config())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        Ok(Running {
            child,
            metrics: self.metrics,
        })
    }
}

/// A child that is ended when dropped, whatever happened.
pub struct Running {
    child: Child,
    metrics: SocketAddr,
}

impl Running {
    /// Waits until `/readyz` says so; an error where the process ends first or takes too long.
    pub fn wait_ready(&mut self) -> io::Result<Duration> {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(START_SECONDS_MAX) {
            if let Some(status) = self.child.try_wait()? {
                return Err(io::Error::other(format!(
                    "the server ended at start: {status}"
                )));
            }
            if http_get(self.metrics, "/readyz").is_ok_and(|said| said.contains(" 200 ")) {
                return Ok(began.elapsed());
            }
            sleep(Duration::from_millis(5));
        }
        Err(io::Error::other("the server was not ready in time"))
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(|_| ())
    }

    /// SIGTERM; the server must drain and exit with 0.
    pub fn terminate(mut self) -> io::Result<()> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let status = self.child.wait()?;
        if status.success() {
            return Ok(());
        }
        Err(io::Error::other(format!(
            "the drained server exited with {status}"
        )))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn http_get(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn free_ports(seed: u64) -> impl Iterator<Item = u16> {
    let span = u64::from(PORTS.end - PORTS.start);
    let first = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) % span;
    (0..span)
        .map(move |n| PORTS.start + u16::try_from((first + n) % span).unwrap_or(0))
        .filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
}
