//! The demo's folder: the configuration, the passwords and how much mail is in, and `data/`.

use std::fmt::Write as _;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::DemoError;
use crate::cli::error::CliError;
use crate::config::{Config, Protocol};

pub const HOST: &str = "127.0.0.1";
pub const DOMAIN: &str = "demo.test";

const MEMORY: &str = "demo.json";
const CONFIG: &str = "palomar.toml";

/// Which port speaks what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports([(Protocol, u16); 9]);

/// What the demo remembers from one start to the next.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    pub users: Vec<User>,
    /// So many of the letters are in.
    pub letters: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    pub address: String,
    pub password: String,
}

pub struct Home {
    /// Absolute.
    pub folder: PathBuf,
    pub ports: Ports,
    pub memory: Memory,
}

impl Ports {
    /// High enough for everybody, and with the well-known number in them.
    pub const DEMO: Ports = Ports::new([2525, 2587, 2465, 2143, 2993, 2110, 2995, 2424, 2925]);
    /// Beside a running demo.
    pub const PLUG: Ports = Ports::new([3525, 3587, 3465, 3143, 3993, 3110, 3995, 3024, 3925]);

    const fn new(ports: [u16; 9]) -> Self {
        use Protocol as P;
        let [
            smtp,
            submission,
            submissions,
            imap,
            imaps,
            pop3,
            pop3s,
            lmtp,
            metrics,
        ] = ports;
        Ports([
            (P::Smtp, smtp),
            (P::Submission, submission),
            (P::Submissions, submissions),
            (P::Imap, imap),
            (P::Imaps, imaps),
            (P::Pop3, pop3),
            (P::Pop3s, pop3s),
            (P::Lmtp, lmtp),
            (P::Metrics, metrics),
        ])
    }

    /// Nine from `base` on, which is at most 65,000.
    pub fn from_base(base: u16) -> Self {
        let mut ports = [0; 9];
        for (port, number) in ports.iter_mut().zip(base..) {
            *port = number;
        }
        Ports::new(ports)
    }

    pub fn iter(&self) -> impl Iterator<Item = (Protocol, u16)> {
        self.0.into_iter()
    }

    pub fn of(&self, protocol: Protocol) -> u16 {
        self.iter()
            .find(|(one, _)| *one == protocol)
            .map_or(0, |(_, port)| port)
    }
}

impl Home {
    /// Makes the folder, or finds it; the users get their passwords once.
    pub fn open(folder: &Path, ports: Ports) -> Result<Home, CliError> {
        let file = |path: &Path| {
            let path = path.to_owned();
            move |error| CliError::File { path, error }
        };
        let folder = std::path::absolute(folder).map_err(file(folder))?;
        let made = DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder);
        made.map_err(file(&folder))?;
        let mut home = Home {
            folder,
            ports,
            memory: Memory::default(),
        };
        let path = home.folder.join(MEMORY);
        match fs::read(&path) {
            Ok(bytes) => {
                home.memory = serde_json::from_slice(&bytes)
                    .map_err(|_| CliError::Demo(DemoError::Memory { path }))?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                for name in ["ana", "ben"] {
                    let address = format!("{name}@{DOMAIN}");
                    home.memory.users.push(User {
                        address,
                        password: secret()?,
                    });
                }
                home.remember()?;
            }
            Err(error) => return Err(file(&path)(error)),
        }
        let text = home.config_text()?;
        replace(&home.config_path(), text.as_bytes()).map_err(file(&home.config_path()))?;
        Ok(home)
    }

    pub fn remember(&self) -> Result<(), CliError> {
        let path = self.folder.join(MEMORY);
        let text = serde_json::to_vec_pretty(&self.memory).map_err(io::Error::from);
        text.and_then(|text| replace(&path, &text))
            .map_err(|error| CliError::File { path, error })
    }

    /// Also for the other commands: `palomar who --config palomar-demo/palomar.toml`.
    pub fn config_path(&self) -> PathBuf {
        self.folder.join(CONFIG)
    }

    pub fn config(&self) -> Result<Config, CliError> {
        Config::load(&self.config_path()).map_err(CliError::Config)
    }

    pub fn user(&self, name: &str) -> Option<&User> {
        self.memory
            .users
            .iter()
            .find(|user| user.address.split('@').next() == Some(name))
    }

    fn config_text(&self) -> Result<String, CliError> {
        let data = self.folder.join("data");
        let Some(data) = data.to_str() else {
            let path = self.folder.clone();
            return Err(CliError::Demo(DemoError::Folder { path }));
        };
        let mut text = format!(
            "# Made by `palomar demo`, anew at each start.\n\
             hostname = \"mail.{DOMAIN}\"\n\
             domains = [\"{DOMAIN}\"]\n\
             postmaster = \"ana@{DOMAIN}\"\n\
             data_dir = {}\n\n\
             [auth]\n\
             allow_plaintext = true\n\n\
             [store]\n\
             journal_slot_bytes = \"16MiB\"\n",
            toml::Value::String(data.to_owned())
        );
        for (protocol, port) in self.ports.iter() {
            let _ = write!(
                text,
                "\n[[listener]]\nprotocol = \"{protocol}\"\naddress = \"{HOST}:{port}\"\n"
            );
        }
        Ok(text)
    }
}

/// Sixteen letters and digits: 80 bits.
pub fn secret() -> Result<String, CliError> {
    let mut bytes = [0; 10];
    getrandom::fill(&mut bytes).map_err(|_| CliError::Demo(DemoError::Random))?;
    Ok(data_encoding::BASE32_NOPAD
        .encode(&bytes)
        .to_ascii_lowercase())
}

/// For the owner's eyes only, whole or not at all.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let options = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .to_owned();
    let mut file = options.open(&beside)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    fs::rename(&beside, path)
}
