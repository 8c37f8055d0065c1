//! A segment: a file of records, named by the number of its first batch and of the last one before it.
//!
//! What the directory says is enough to know which batches lie where, so that opening a spool reads the newest segment
//! alone. Numbers are contiguous within a segment; between segments they may skip what was never given.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use exchange_core::Time;

use crate::error::SpoolError;
use crate::loss::Spans;
use crate::record::{FIXED, Header, MAGIC, Place};

/// The version of the format of segments and their records.
pub(crate) const VERSION: u32 = 1;
/// Length of what stands before the first record: magic, CRC of the rest, version, the journal's number, 8 unused bytes.
pub(crate) const HEAD: u64 = 32;
const HEAD_MAGIC: [u8; 8] = *b"\xF7journal";
const SUFFIX: &str = ".journal";
/// How much is read at once while looking at records.
const WINDOW: usize = 128 * 1024;

/// A segment as the directory knows it.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    pub(crate) path: Arc<Path>,
    /// Its first number, and the last that was given before it.
    pub(crate) first: u64,
    pub(crate) previous: u64,
    /// The last number that lies in it; before `first` if there is none.
    pub(crate) last: u64,
    /// Bytes up to the end of the last record.
    pub(crate) bytes: u64,
    /// Where some records begin: number, offset.
    pub(crate) marks: Vec<(u64, u64)>,
}

impl Segment {
    pub(crate) fn new(directory: &Path, first: u64, previous: u64) -> Self {
        let path = directory.join(format!("{first:020}-{previous:020}{SUFFIX}"));
        Self { path: path.into(), first, previous, last: first.saturating_sub(1), bytes: HEAD, marks: Vec::new() }
    }

    /// The segment that a file's name stands for.
    pub(crate) fn named(directory: &Path, name: &str) -> Option<Self> {
        let (first, previous) = name.strip_suffix(SUFFIX)?.split_once('-')?;
        let segment = Self::new(directory, first.parse().ok()?, previous.parse().ok()?);
        (segment.path.file_name()?.to_str()? == name && segment.previous < segment.first).then_some(segment)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.last < self.first
    }

    /// Removes the file.
    pub(crate) fn delete(&self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(file = %self.path.display(), %error, "cannot delete a segment of the journal");
        }
    }

    /// The nearest known offset at or before a number.
    pub(crate) fn offset(&self, number: u64) -> u64 {
        let before = self.marks.partition_point(|(marked, _)| *marked <= number);
        before.checked_sub(1).and_then(|at| self.marks.get(at)).map_or(HEAD, |(_, offset)| *offset)
    }

    /// What batches behind `after`, up to `last`, may have held of which nothing is left: of every place in this segment
    /// something, between its records before and behind them. `earlier` is when the last record before the segment arrived, `later` when
    /// the first behind it did.
    pub(crate) fn around(&self, after: u64, last: u64, earlier: Option<Time>, later: Option<Time>) -> io::Result<Spans> {
        let mut records = Records::open(&self.path, HEAD)?;
        // What was written arrived before. File systems look at their clock less often than we do.
        let modified = records.file.metadata()?.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let end = later.unwrap_or_else(|| Time::EPOCH + modified.unwrap_or_default() + Duration::from_secs(1));
        let mut start = earlier;
        let mut places: BTreeMap<Place, (Option<Time>, Option<Time>)> = BTreeMap::new();
        while let Some(header) = records.next(self.bytes)? {
            let (is_before, is_behind) = (header.number <= after, header.number > last);
            if is_before {
                start = start.or(Some(header.received.0));
            }
            for place in records.places(&header)?.unwrap_or_default() {
                let (from, to) = places.entry(place).or_default();
                if is_before {
                    *from = Some(header.received.1);
                } else if is_behind && to.is_none() {
                    *to = Some(header.received.0);
                }
            }
        }
        let mut spans = Spans::default();
        for (place, (from, to)) in places {
            let (from, to) = (from.or(start), to.unwrap_or(end));
            spans.add(place, from.map(|from| from.min(to)), to);
        }
        Ok(spans)
    }
}

/// The bytes before a segment's first record.
pub(crate) fn head(journal: u64) -> Vec<u8> {
    let body = [VERSION.to_le_bytes().as_slice(), &journal.to_le_bytes(), &[0; 8]].concat();
    [HEAD_MAGIC.as_slice(), &crc32c::crc32c(&body).to_le_bytes(), &body].concat()
}

/// The journal that a segment says it belongs to; `None` where it does not say so any more.
pub(crate) fn read_head(path: &Path) -> Result<Option<u64>, SpoolError> {
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(HEAD).read_to_end(&mut bytes)).map_err(SpoolError::io("read", path))?;
    let Some((crc, body)) = bytes.strip_prefix(&HEAD_MAGIC).and_then(<[u8]>::split_first_chunk) else { return Ok(None) };
    let Some((version, rest)) = body.split_first_chunk().filter(|_| crc32c::crc32c(body) == u32::from_le_bytes(*crc)) else { return Ok(None) };
    match u32::from_le_bytes(*version) {
        VERSION => Ok(rest.first_chunk().copied().map(u64::from_le_bytes)),
        version => Err(SpoolError::Newer { path: path.to_owned(), version }),
    }
}

/// Goes over the records of a segment, past whatever is damaged.
#[derive(Debug)]
pub(crate) struct Records {
    file: File,
    /// Where the next record is looked for.
    at: u64,
    window: Vec<u8>,
    window_at: u64,
    /// Up to where the file may be read: what is behind that may be half written, or be taken back.
    end: u64,
    /// When the last of the records passed arrived.
    pub(crate) time: Option<Time>,
}

impl Records {
    pub(crate) fn open(path: &Path, at: u64) -> io::Result<Self> {
        Ok(Self { file: File::open(path)?, at, window: Vec::new(), window_at: 0, end: 0, time: None })
    }

    /// Where the record that [`Records::next`] found last ends, or where it looks next.
    pub(crate) fn offset(&self) -> u64 {
        self.at
    }

    /// The next whole header before `end`. What it heads is passed by.
    pub(crate) fn next(&mut self, end: u64) -> io::Result<Option<Header>> {
        let header = self.peek(end)?;
        if let Some(header) = &header {
            self.pass(header);
        }
        Ok(header)
    }

    /// The next whole header before `end`, to be asked for again.
    pub(crate) fn peek(&mut self, end: u64) -> io::Result<Option<Header>> {
        self.end = end;
        while self.at.saturating_add(FIXED as u64) <= end {
            if let Some(header) = Header::read(self.bytes(self.at, FIXED)?)
                && self.at.saturating_add(header.bytes()) <= end
            {
                return Ok(Some(header));
            }
            self.at = self.find(self.at + 1, end)?;
        }
        Ok(None)
    }

    /// Goes behind the record whose header was seen.
    pub(crate) fn pass(&mut self, header: &Header) {
        self.at += header.bytes();
        self.time = self.time.max(Some(header.received.1));
    }

    /// The places of the record that was passed last, unless they are damaged.
    pub(crate) fn places(&mut self, header: &Header) -> io::Result<Option<Vec<Place>>> {
        let (places, lines) = header.rest();
        let at = self.at - (places + lines) as u64;
        Ok(header.places(self.bytes(at, places)?))
    }

    /// The lines of the record that was passed last, unless they are damaged.
    pub(crate) fn lines(&mut self, header: &Header) -> io::Result<Option<Vec<u8>>> {
        let (_, length) = header.rest();
        let at = self.at - length as u64;
        let in_window = at.checked_sub(self.window_at).and_then(|from| usize::try_from(from).ok()).and_then(|from| self.window.get(from..from + length));
        let lines = if let Some(lines) = in_window {
            lines.to_vec()
        } else {
            let mut lines = vec![0; length];
            self.file.seek(SeekFrom::Start(at))?;
            self.file.read_exact(&mut lines)?;
            lines
        };
        Ok(header.has_lines(&lines).then_some(lines))
    }

    /// Where the next record may begin, `end` if nowhere.
    fn find(&mut self, mut from: u64, end: u64) -> io::Result<u64> {
        while from < end {
            let length = usize::try_from(end - from).unwrap_or(WINDOW).min(WINDOW);
            let bytes = self.bytes(from, length)?;
            if let Some(found) = memchr::memmem::find(bytes, &MAGIC) {
                return Ok(from + found as u64);
            }
            if bytes.len() < length || length < WINDOW {
                break;
            }
            // The magic may lie across the border.
            from += (WINDOW - MAGIC.len() + 1) as u64;
        }
        Ok(end)
    }

    /// Some bytes of the file, fewer at the end.
    fn bytes(&mut self, at: u64, length: usize) -> io::Result<&[u8]> {
        let inside = |window: &[u8], window_at: u64| {
            let from = at.checked_sub(window_at).and_then(|from| usize::try_from(from).ok())?;
            (from.checked_add(length)? <= window.len()).then_some(from)
        };
        let mut from = inside(&self.window, self.window_at);
        if from.is_none() {
            self.window.clear();
            self.window_at = at;
            self.file.seek(SeekFrom::Start(at))?;
            (&self.file).take(self.end.saturating_sub(at).min(length.max(WINDOW) as u64)).read_to_end(&mut self.window)?;
            from = Some(0);
        }
        let bytes = from.and_then(|from| self.window.get(from..)).unwrap_or_default();
        Ok(bytes.get(..length).unwrap_or(bytes))
    }
}

/// What the newest segment holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Scan {
    pub(crate) last: u64,
    /// Up to where there is something to be read; what is behind it was not written to its end.
    pub(crate) end: u64,
}

/// Finds the end of a segment by its headers. A record that was begun and not ended is told from a damaged last one,
/// which counts: whoever reads on is to know of it.
pub(crate) fn scan(segment: &Segment, length: u64) -> io::Result<Scan> {
    let mut records = Records::open(&segment.path, HEAD)?;
    let (mut last, mut end) = (segment.first.saturating_sub(1), HEAD.min(length));
    while let Some(header) = records.next(length)? {
        (last, end) = (header.number, records.offset());
    }
    let tail = length.saturating_sub(end);
    if tail >= FIXED as u64 && Header::read(records.bytes(end, FIXED)?).is_none() {
        return Ok(Scan { last: last + 1, end: length });
    }
    Ok(Scan { last, end })
}
