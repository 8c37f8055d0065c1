//! Lines of files: plain or compressed with zstd, whole, torn by the death of their writer, or still being written.

use std::io::{self, Read};

use memchr::memrchr;
use zstd::stream::raw::{Decoder, InBuffer, Operation as _, OutBuffer};

/// What is read from the file at once.
const CHUNK: usize = 128 << 10;
/// A line is longer than anything that a venue sends, or no line at all.
const LONGEST: usize = 256 << 20;
/// How zstd's frames begin.
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Reads whole lines, whatever stands behind the last one.
///
/// ```
/// use exchange_sinks::{Lines, Rest};
///
/// let mut file = Lines::new(&b"one\ntwo\nthr"[..]);
/// let mut lines = Vec::new();
/// while file.read(&mut lines)? {}
/// assert_eq!((&*lines, file.rest()), (&b"one\ntwo\n"[..], Rest::Line(b"thr".to_vec())));
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Lines<R> {
    input: R,
    format: Format,
    /// Bytes of the file that were read and not looked at.
    raw: Vec<u8>,
    /// The beginning of a line.
    text: Vec<u8>,
}

enum Format {
    /// Fewer bytes than tell were there.
    Unknown,
    Plain,
    Zstd {
        decoder: Decoder<'static>,
        in_frame: bool,
    },
}

/// What stands behind the last whole line of a file of which nothing more is to come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rest {
    /// Nothing.
    Nothing,
    /// A line without its end, as some editors leave the last one.
    Line(Vec<u8>),
    /// A compressed file that does not end: its writer was killed, or still writes. The lines before are whole.
    Torn,
}

impl<R: Read> Lines<R> {
    /// Reads `input`: compressed, if it begins so.
    pub fn new(input: R) -> Self {
        Self { input, format: Format::Unknown, raw: Vec::new(), text: Vec::new() }
    }

    /// Reads on, and appends the lines that are whole, each with its end, to `lines`; some hundred kilobytes at most, unless a
    /// single line is longer. `false` if there is nothing more: of a file that grows, more may be there later.
    ///
    /// # Errors
    /// Where the file cannot be read, or is not what its beginning says.
    pub fn read(&mut self, lines: &mut Vec<u8>) -> io::Result<bool> {
        let start = self.raw.len();
        self.raw.resize(start + CHUNK, 0);
        let read = loop {
            match self.input.read(self.raw.get_mut(start..).unwrap_or_default()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        self.raw.truncate(start + *read.as_ref().unwrap_or(&0));
        let more = read? > 0;
        if matches!(self.format, Format::Unknown) {
            if self.raw.len() < MAGIC.len() && MAGIC.starts_with(&self.raw) {
                return Ok(more);
            }
            self.format = if self.raw.starts_with(&MAGIC) { Format::Zstd { decoder: Decoder::new()?, in_frame: false } } else { Format::Plain };
        }
        let looked_at = self.text.len();
        self.unpack()?;
        if let Some(end) = self.text.get(looked_at..).and_then(|new| memrchr(b'\n', new)) {
            let length = looked_at + end + 1;
            lines.extend_from_slice(self.text.get(..length).unwrap_or_default());
            self.text.drain(..length);
        }
        if self.text.len() > LONGEST {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a line is longer than {} MiB", LONGEST >> 20)));
        }
        Ok(more)
    }

    /// What is left at the end, which is said once: when nothing more is to come.
    pub fn rest(&mut self) -> Rest {
        // What is too short to be of a format is text.
        self.text.append(&mut self.raw);
        match (&self.format, std::mem::take(&mut self.text)) {
            (Format::Zstd { in_frame: true, .. }, _) => Rest::Torn,
            (_, text) if text.is_empty() => Rest::Nothing,
            (_, text) => Rest::Line(text),
        }
    }

    /// Moves what was read to the text.
    fn unpack(&mut self) -> io::Result<()> {
        let Format::Zstd { decoder, in_frame } = &mut self.format else {
            self.text.append(&mut self.raw);
            return Ok(());
        };
        let mut input = InBuffer::around(&self.raw);
        let mut block = vec![0; CHUNK];
        loop {
            let mut output = OutBuffer::around(&mut *block);
            let before = input.pos();
            let hint = decoder.run(&mut input, &mut output)?;
            let written = output.as_slice();
            if input.pos() > before || !written.is_empty() {
                *in_frame = hint != 0;
            }
            self.text.extend_from_slice(written);
            // What is left in the decoder comes out once there is room for it.
            if input.pos() == self.raw.len() && written.len() < CHUNK {
                break;
            }
        }
        self.raw.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn read_all(mut file: Lines<impl Read>) -> io::Result<(String, Rest)> {
        let mut lines = Vec::new();
        while file.read(&mut lines)? {}
        Ok((String::from_utf8(lines).unwrap(), file.rest()))
    }

    fn text(count: usize) -> String {
        (0..count).fold(String::new(), |text, n| text + &format!("{n} {:x}\n", n.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    fn packed(text: &str) -> Vec<u8> {
        zstd::encode_all(text.as_bytes(), 1).unwrap()
    }

    /// Gives a byte at a time, and says in between that there is nothing, as a file does that is being written.
    struct Growing<'a>(&'a [u8], bool);

    impl Read for Growing<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 { Ok(0) } else { self.0.read(&mut buffer[..1]) }
        }
    }

    #[test]
    fn plain_and_packed_files_are_the_same() {
        let all = text(40_000);
        let two_frames = [packed(&all[..100_001]), packed(&all[100_001..])].concat();
        for bytes in [all.as_bytes(), &packed(&all), &two_frames] {
            assert!(read_all(Lines::new(bytes)).unwrap() == (all.clone(), Rest::Nothing));
        }
        for bytes in [&b""[..], &packed("")] {
            assert_eq!(read_all(Lines::new(bytes)).unwrap(), (String::new(), Rest::Nothing));
        }
        let rest = Rest::Line(b"(".to_vec());
        assert_eq!(read_all(Lines::new(&b"\n("[..])).unwrap(), ("\n".to_owned(), rest.clone()));
        assert_eq!(read_all(Lines::new(&b"("[..])).unwrap(), (String::new(), rest.clone()), "as zstd begins");
        assert_eq!(read_all(Lines::new(&*packed("x\n("))).unwrap(), ("x\n".to_owned(), rest));
    }

    #[test]
    fn a_file_that_grows_is_read_as_it_grows() {
        let all = text(300);
        for bytes in [all.clone().into_bytes(), packed(&all)] {
            let mut file = Lines::new(Growing(&bytes, false));
            let mut lines = Vec::new();
            for _ in 0..=2 * bytes.len() {
                file.read(&mut lines).unwrap();
            }
            assert_eq!(String::from_utf8(lines).unwrap(), all);
            assert_eq!(file.rest(), Rest::Nothing);
        }
    }

    #[test]
    fn every_torn_end_gives_the_whole_lines_of_the_blocks_before() {
        let all = text(2000);
        let (before, after) = all.split_at(20_000);
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.write_all(before.as_bytes()).unwrap();
        encoder.flush().unwrap();
        let flushed = encoder.get_ref().len();
        encoder.write_all(after.as_bytes()).unwrap();
        let bytes = encoder.finish().unwrap();
        let whole = before.rfind('\n').unwrap() + 1;
        for end in (flushed..bytes.len()).step_by(61).chain([bytes.len() - 1]) {
            let (lines, rest) = read_all(Lines::new(&bytes[..end])).unwrap();
            assert!(lines.len() >= whole && all.starts_with(&lines) && lines.ends_with('\n'), "{end}");
            assert_eq!(rest, Rest::Torn, "{end}");
        }
    }

    #[test]
    fn a_damaged_file_is_an_error() {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.include_checksum(true).unwrap();
        encoder.write_all(text(20_000).as_bytes()).unwrap();
        let mut bytes = encoder.finish().unwrap();
        let middle = bytes.len() / 2;
        bytes[middle..middle + 200].fill(0xff);
        assert!(read_all(Lines::new(&*bytes)).is_err());
    }
}
