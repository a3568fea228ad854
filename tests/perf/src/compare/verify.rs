//! The host's side of the files: their bytes are made and checked here.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use flate2::Crc;

/// A file of bytes that do not repeat.
pub(super) fn make(path: &Path, bytes: u64) -> Result<()> {
    let mut file = BufWriter::new(
        File::create(path).with_context(|| format!("cannot create {}", path.display()))?,
    );
    let mut word: u64 = 0x2545_f491_4f6c_dd1d;
    for _ in 0..bytes / 8 {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        file.write_all(&word.to_le_bytes())?;
    }
    Ok(file.flush()?)
}

/// The CRC-32 of the first `bytes` of a file.
pub(super) fn crc32(path: &Path, bytes: u64) -> Result<u32> {
    let mut file = File::open(path)
        .with_context(|| format!("cannot open {}", path.display()))?
        .take(bytes);
    let mut crc = Crc::new();
    let mut block = vec![0; 1 << 20];
    let mut all = 0;
    loop {
        let count = file.read(&mut block)?;
        if count == 0 {
            break;
        }
        crc.update(&block[..count]);
        all += count as u64;
    }
    ensure!(all == bytes, "{} has {all} bytes", path.display());
    Ok(crc.sum())
}

/// Overwrites the file with zeros but leaves it as long, so that no write is
/// taken for right because of what an earlier one left.
pub(super) fn wipe(path: &Path, bytes: u64) -> Result<()> {
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)?;
    let zeros = vec![0; 1 << 16];
    for at in (0..bytes).step_by(zeros.len()) {
        file.write_all_at(&zeros, at)?;
    }
    ensure!(file.metadata()?.len() == bytes, "sizes go by 64 KiB");
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_wiped_file_has_another_checksum() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data");
        make(&path, 128 << 10).unwrap();
        let head = crc32(&path, 64 << 10).unwrap();
        assert_ne!(head, crc32(&path, 128 << 10).unwrap());
        wipe(&path, 128 << 10).unwrap();
        assert_ne!(head, crc32(&path, 64 << 10).unwrap());
        assert!(crc32(&path, (128 << 10) + 1).is_err());
    }

    #[test]
    fn the_checksum_is_the_one_of_the_kernel() {
        // The check value every description of CRC-32 gives.
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data");
        std::fs::write(&path, "123456789").unwrap();
        assert_eq!(crc32(&path, 9).unwrap(), 0xcbf4_3926);
    }
}
