//! The file `epoch`: which start this is, and which chains a checkpoint has made superfluous.

use std::path::{Path, PathBuf};

use super::JournalError;
use crate::base::{Crc32c, Epoch, crc32c};
use crate::runtime::{Disk, DiskErrorKind, Open};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Epochs {
    pub epoch: Epoch,
    /// Chains up to this one are not needed any more.
    pub retired: Epoch,
}

pub(super) fn path(root: &Path) -> PathBuf {
    root.join("epoch")
}

/// `None` before the first start.
pub(super) async fn read(disk: &Disk, root: &Path) -> Result<Option<Epochs>, JournalError> {
    let path = path(root);
    match disk.read(&path).await {
        Ok(bytes) => match parse(&bytes) {
            Some(epochs) => Ok(Some(epochs)),
            None => Err(JournalError::Epoch { path }),
        },
        Err(error) if error.kind == DiskErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Durable when this returns; a crash leaves the old or the new one.
pub(super) async fn write(disk: &Disk, root: &Path, epochs: Epochs) -> Result<(), JournalError> {
    let (path, new) = (path(root), root.join("epoch.new"));
    let write = Open {
        write: true,
        create: true,
        truncate: true,
        ..Open::default()
    };
    let file = disk.open(&new, write).await?;
    file.write_at(print(epochs).into_bytes(), 0).await?;
    file.sync_all().await?;
    file.close().await?;
    disk.rename(&new, &path).await?;
    disk.sync_dir(root).await?;
    Ok(())
}

fn print(epochs: Epochs) -> String {
    let text = format!(
        "palomar-epoch 1 epoch={} retired={}",
        epochs.epoch, epochs.retired
    );
    let Crc32c(crc) = crc32c(text.as_bytes());
    format!("{text} crc32c={crc:08x}\n")
}

fn parse(bytes: &[u8]) -> Option<Epochs> {
    let text = std::str::from_utf8(bytes).ok()?;
    let fields = text.strip_prefix("palomar-epoch 1 epoch=")?;
    let (epoch, rest) = fields.split_once(" retired=")?;
    let (retired, _) = rest.split_once(' ')?;
    let epochs = Epochs {
        epoch: Epoch(epoch.parse().ok()?),
        retired: Epoch(retired.parse().ok()?),
    };
    (print(epochs) == text && epochs.retired < epochs.epoch).then_some(epochs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_changed_octet_is_seen() {
        let epochs = Epochs {
            epoch: Epoch(12),
            retired: Epoch(9),
        };
        let text = print(epochs).into_bytes();
        assert_eq!(parse(&text), Some(epochs));
        for at in 0..text.len() {
            let mut changed = text.clone();
            changed[at] ^= 1;
            assert_eq!(parse(&changed), None, "octet {at}");
            assert_eq!(parse(&text[..at]), None, "cut at {at}");
        }
    }
}
