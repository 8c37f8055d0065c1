//! Checkpoints: opaque bytes that stand for all batches up to a position. The last two are kept.
//!
//! ```text
//! magic, CRC of what follows, version, the journal, the batch's number (little-endian), the bytes
//! ```

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use exchange_core::Position;

const MAGIC: [u8; 8] = *b"\xF7checkpt";
const VERSION: u32 = 1;
const SUFFIX: &str = ".checkpoint";

/// The file of the checkpoint at a number.
pub(crate) fn path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:020}{SUFFIX}"))
}

/// The number that a checkpoint's file name says.
pub(crate) fn number(name: &str) -> Option<u64> {
    name.strip_suffix(SUFFIX)?.parse().ok()
}

/// Writes a checkpoint, so that it is there whole or not at all.
pub(crate) fn write(directory: &Path, position: Position, bytes: &[u8]) -> io::Result<()> {
    let head = [VERSION.to_le_bytes().as_slice(), &position.journal.to_le_bytes(), &position.number.to_le_bytes()].concat();
    let crc = crc32c::crc32c_append(crc32c::crc32c(&head), bytes);
    replace(&path(directory, position.number), &[&MAGIC, &crc.to_le_bytes(), &head, bytes])
}

pub(crate) fn read(path: &Path) -> io::Result<Option<(Position, Vec<u8>)>> {
    let mut bytes = fs::read(path)?;
    let parsed = (|| {
        let (crc, body) = bytes.strip_prefix(&MAGIC)?.split_first_chunk()?;
        let (version, rest) = body.split_first_chunk()?;
        let (journal, rest) = rest.split_first_chunk()?;
        let (number, rest) = rest.split_first_chunk()?;
        let whole = crc32c::crc32c(body) == u32::from_le_bytes(*crc) && u32::from_le_bytes(*version) == VERSION;
        let position = Position { journal: u64::from_le_bytes(*journal), number: u64::from_le_bytes(*number) };
        whole.then_some((position, bytes.len() - rest.len()))
    })();
    Ok(parsed.map(|(position, head)| {
        bytes.drain(..head);
        (position, bytes)
    }))
}

/// Replaces a file in one step, and waits until its content is on the disk.
pub(crate) fn replace(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let new = path.with_extension("new");
    let written = (|| {
        let mut file = File::create(&new)?;
        parts.iter().try_for_each(|part| file.write_all(part))?;
        file.sync_data()?;
        fs::rename(&new, path)
    })();
    if written.is_err() {
        // Half a file is of no use, and may be what fills the disk.
        let _ = fs::remove_file(&new);
    }
    written?;
    path.parent().map_or(Ok(()), sync_directory)
}

/// Waits until the names in a directory are on the disk.
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    // Only Unix knows directories as files.
    if cfg!(unix) { File::open(directory)?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_read_as_it_was_written_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let position = Position { journal: 3, number: 9 };
        write(directory.path(), position, b"state").unwrap();
        let file = path(directory.path(), 9);
        assert_eq!(number(file.file_name().unwrap().to_str().unwrap()), Some(9));
        assert_eq!(read(&file).unwrap(), Some((position, b"state".to_vec())));
        let whole = fs::read(&file).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            fs::write(&file, bytes).unwrap();
            assert_eq!(read(&file).unwrap(), None, "byte {at}");
            fs::write(&file, &whole[..at]).unwrap();
            assert_eq!(read(&file).unwrap(), None, "cut at {at}");
        }
    }
}
