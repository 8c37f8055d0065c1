//! Where a sink stands, in a file of its own.
//!
//! The file has two slots that are written in turn, each with a checksum: one small write for each acknowledgement,
//! and whatever becomes of it the one before is still there.
//!
//! ```text
//! slot (64 bytes, little-endian): version, CRC of what follows, count of writes, the journal, the batch's number, zeros
//! ```

use std::fmt::Write as _;
use std::fs::{File, FileTimes};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::time::SystemTime;

use exchange_core::Position;

const SLOT: usize = 64;
const VERSION: u32 = 1;

#[derive(Debug)]
pub(crate) struct CursorFile {
    file: File,
    count: u64,
}

impl CursorFile {
    /// Opens a cursor, and makes it where there is none. What it holds; the file may be damaged.
    pub(crate) fn open(path: &Path) -> io::Result<(Self, Option<Position>)> {
        let mut file = File::options().create(true).truncate(false).read(true).write(true).open(path)?;
        let mut bytes = Vec::new();
        (&mut file).take(2 * SLOT as u64).read_to_end(&mut bytes)?;
        let newest = bytes.chunks(SLOT).filter_map(read_slot).max_by_key(|(count, _)| *count);
        Ok((Self { file, count: newest.map_or(0, |(count, _)| count) }, newest.map(|(_, position)| position)))
    }

    pub(crate) fn store(&mut self, position: Position) -> io::Result<()> {
        let count = self.count + 1;
        let mut body = [count, position.journal, position.number].map(u64::to_le_bytes).concat();
        body.resize(SLOT - 8, 0);
        let slot = [VERSION.to_le_bytes().as_slice(), &crc32c::crc32c(&body).to_le_bytes(), &body].concat();
        self.file.seek(SeekFrom::Start(count % 2 * SLOT as u64))?;
        self.file.write_all(&slot)?;
        self.count = count;
        Ok(())
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    /// Says that somebody still uses it.
    pub(crate) fn touch(path: &Path) -> io::Result<()> {
        File::options().write(true).open(path)?.set_times(FileTimes::new().set_modified(SystemTime::now()))
    }
}

/// The position in a cursor's file, without opening it for writing.
pub(crate) fn read(path: &Path) -> Option<Position> {
    let bytes = std::fs::read(path).ok()?;
    bytes.chunks(SLOT).filter_map(read_slot).max_by_key(|(count, _)| *count).map(|(_, position)| position)
}

fn read_slot(slot: &[u8]) -> Option<(u64, Position)> {
    let (version, rest) = slot.split_first_chunk()?;
    let (crc, body) = rest.split_first_chunk()?;
    let whole = slot.len() == SLOT && u32::from_le_bytes(*version) == VERSION && crc32c::crc32c(body) == u32::from_le_bytes(*crc);
    let mut words = body.chunks_exact(8).filter_map(|word| word.first_chunk().copied().map(u64::from_le_bytes));
    let (count, journal, number) = (words.next()?, words.next()?, words.next()?);
    whole.then_some((count, Position { journal, number }))
}

/// The file name for a sink's name: letters, digits and some signs stay, the rest is escaped. Long ones are cut, and keep apart by
/// their checksum.
pub(crate) fn file_name(sink: &str) -> String {
    let mut name = String::new();
    for byte in sink.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => name.push(char::from(byte)),
            _ => {
                // Writing to a string cannot fail.
                let _ = write!(name, "%{byte:02X}");
            }
        }
    }
    if name.len() > 180 {
        name.truncate(180);
        let _ = write!(name, "~{:08x}", crc32c::crc32c(sink.as_bytes()));
    }
    name + ".cursor"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(number: u64) -> Position {
        Position { journal: 7, number }
    }

    #[test]
    fn a_cursor_is_read_as_it_was_stored() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cursor");
        let (mut cursor, none) = CursorFile::open(&path).unwrap();
        assert_eq!((none, read(&path)), (None, None));
        for number in [3, 5, 8] {
            cursor.store(at(number)).unwrap();
            assert_eq!(read(&path), Some(at(number)));
        }
        let (mut cursor, last) = CursorFile::open(&path).unwrap();
        assert_eq!(last, Some(at(8)));
        cursor.store(at(9)).unwrap();
        assert_eq!(read(&path), Some(at(9)));
    }

    #[test]
    fn a_slot_that_is_damaged_leaves_the_one_before() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cursor");
        let mut cursor = CursorFile::open(&path).unwrap().0;
        cursor.store(at(1)).unwrap();
        cursor.store(at(2)).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for byte in 0..SLOT {
            let mut bytes = whole.clone();
            bytes[byte] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(read(&path), Some(at(1)), "byte {byte}");
        }
        for length in SLOT..2 * SLOT {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(read(&path), Some(at(2)), "the second write lies first, and the first was cut");
        }
    }

    #[test]
    fn names_of_sinks_are_names_of_files() {
        assert_eq!(file_name("file:/var/data"), "file%3A%2Fvar%2Fdata.cursor");
        assert_eq!(file_name("../x"), "..%2Fx.cursor");
        let long = |last: &str| file_name(&("/".repeat(300) + last));
        assert!(long("a").len() < 255 && long("a") != long("b"));
    }
}
