//! Reading venues' JSON: one pass over the bytes, straight into borrowed structs, no float anywhere.
//!
//! [`wire!`](macro@crate::wire) declares a struct with the venue's own field names; its reader expects the fields in the
//! declared order, which is the order that venues write, and falls back to a match on the key where they come in
//! another. A [`Num`] keeps the number's own digits whether the venue quotes it or not; `""`, `null` and `"NaN"` are
//! absent. Everything is checked: text that is not JSON is a [`Fault`], wherever in the message it stands.

mod declare;
mod number;
mod string;
#[cfg(test)]
mod tests;
mod values;

use std::borrow::Cow;

pub use self::declare::at;
pub use self::values::{AnyTime, BadRow, Ignored, Millis, Num, Raw, Row, Rows, Taker};

/// Why bytes could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// What is wrong.
    pub what: &'static str,
    /// The key concerned, if one is.
    pub key: Option<&'static str>,
    /// Where: the offset in bytes.
    pub at: usize,
    /// Whether the text is not JSON at all (then nothing of the message can be trusted), or JSON of another shape.
    pub broken: bool,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.key {
            Some(key) => write!(f, "`{key}`: {} at byte {}", self.what, self.at),
            None => write!(f, "{} at byte {}", self.what, self.at),
        }
    }
}

impl std::error::Error for Fault {}

/// What reading gives.
pub type Read<T> = Result<T, Fault>;

/// Deeper nesting than any venue's is refused instead of overflowing the stack.
const MAX_DEPTH: u32 = 64;

/// A cursor over JSON text.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    text: &'a str,
    bytes: &'a [u8],
    pos: usize,
    /// Raw records of the same reply last time, where the caller only wants what changed.
    pub(crate) memo: Option<&'a crate::memo::Memo>,
}

/// A value that can be read from JSON.
pub trait Wire<'a>: Sized {
    /// Reads the value at the cursor, leading white space included.
    ///
    /// # Errors
    /// A [`Fault`] where the text is no JSON or not of this shape.
    fn read(reader: &mut Reader<'a>) -> Read<Self>;

    /// The value of a field that is not there.
    ///
    /// # Errors
    /// A [`Fault`] where the field is required.
    fn absent(reader: &Reader<'a>, key: &'static str) -> Read<Self> {
        Err(Fault { what: "is missing", key: Some(key), at: reader.pos, broken: false })
    }
}

/// Reads one whole JSON text.
///
/// # Errors
/// A [`Fault`] where it is no JSON, not of this shape, or followed by something else.
#[inline]
pub fn read<'a, T: Wire<'a>>(text: &'a str) -> Read<T> {
    Reader::new(text).whole()
}

impl<'a> Reader<'a> {
    /// At the beginning of a text.
    #[inline]
    pub fn new(text: &'a str) -> Self {
        Self { text, bytes: text.as_bytes(), pos: 0, memo: None }
    }

    /// Reads the rest as one value; nothing but white space may follow it.
    ///
    /// # Errors
    /// As [`read`].
    #[inline]
    pub fn whole<T: Wire<'a>>(mut self) -> Read<T> {
        let value = T::read(&mut self)?;
        self.finish()?;
        Ok(value)
    }

    /// Nothing but white space may follow.
    ///
    /// # Errors
    /// A [`Fault`] where something does.
    #[inline]
    pub fn finish(&mut self) -> Read<()> {
        self.space();
        if self.pos < self.bytes.len() {
            return Err(self.broken("something follows the JSON value"));
        }
        Ok(())
    }

    /// The offset of the next byte.
    #[inline]
    pub fn position(&self) -> usize {
        self.pos
    }

    /// Goes back (or forward) to an offset that [`Reader::position`] gave.
    pub fn rewind(&mut self, position: usize) {
        self.pos = position;
    }

    /// The text between two offsets.
    pub fn slice(&self, from: usize, to: usize) -> &'a str {
        self.text.get(from..to).unwrap_or_default()
    }

    #[cold]
    fn broken(&self, what: &'static str) -> Fault {
        Fault { what, key: None, at: self.pos, broken: true }
    }

    /// A fault for a value that is JSON, but not what it should be.
    #[cold]
    pub fn shape(&self, what: &'static str) -> Fault {
        // A text that ends here is not a value of another shape: it was cut.
        Fault { what, key: None, at: self.pos, broken: self.pos >= self.bytes.len() }
    }

    /// The next byte; 0, which is never valid outside of a string, at the end.
    #[inline]
    fn byte(&self) -> u8 {
        self.bytes.get(self.pos).copied().unwrap_or(0)
    }

    #[inline]
    fn space(&mut self) {
        if self.byte() <= b' ' {
            while matches!(self.byte(), b' ' | b'\n' | b'\r' | b'\t') {
                self.pos += 1;
            }
        }
    }

    /// The next byte that is not white space, not consumed.
    #[inline]
    pub fn peek(&mut self) -> u8 {
        self.space();
        self.byte()
    }

    /// Opens an object; `false` if it is empty.
    ///
    /// # Errors
    /// A [`Fault`] where no object begins.
    #[inline]
    pub fn open_object(&mut self) -> Read<bool> {
        if self.peek() != b'{' {
            return Err(self.shape("is not an object"));
        }
        self.pos += 1;
        if self.peek() == b'}' {
            self.pos += 1;
            return Ok(false);
        }
        Ok(true)
    }

    /// After a value in an object: `true` at the next key, `false` behind the end.
    ///
    /// # Errors
    /// A [`Fault`] where neither follows.
    #[inline]
    pub fn more_in_object(&mut self) -> Read<bool> {
        self.more(b'}', b'"')
    }

    /// Opens an array; `false` if it is empty.
    ///
    /// # Errors
    /// A [`Fault`] where no array begins.
    #[inline]
    pub fn open_array(&mut self) -> Read<bool> {
        if self.peek() != b'[' {
            return Err(self.shape("is not an array"));
        }
        self.pos += 1;
        if self.peek() == b']' {
            self.pos += 1;
            return Ok(false);
        }
        Ok(true)
    }

    /// After a value in an array: `true` at the next value, `false` behind the end.
    ///
    /// # Errors
    /// A [`Fault`] where neither follows.
    #[inline]
    pub fn more_in_array(&mut self) -> Read<bool> {
        self.more(b']', 0)
    }

    #[inline]
    fn more(&mut self, end: u8, next: u8) -> Read<bool> {
        let byte = self.peek();
        if byte == b',' {
            self.pos += 1;
            let byte = self.peek();
            if next != 0 && byte != next {
                return Err(self.broken("no key follows a comma"));
            }
            return Ok(true);
        }
        if byte == end {
            self.pos += 1;
            return Ok(false);
        }
        Err(self.broken("neither a comma nor an end follows a value"))
    }

    /// Consumes `"key":` if that is what stands here, to the letter.
    #[inline]
    pub fn at_key(&mut self, quoted: &[u8]) -> bool {
        let found = self.bytes.get(self.pos..self.pos + quoted.len()).is_some_and(|bytes| bytes == quoted);
        if found {
            self.pos += quoted.len();
        }
        found
    }

    /// Reads a key and its colon.
    ///
    /// # Errors
    /// A [`Fault`] where none stands here.
    #[inline]
    pub fn key(&mut self) -> Read<Cow<'a, str>> {
        if self.peek() != b'"' {
            return Err(self.broken("is not a key"));
        }
        let key = self.string()?;
        if self.peek() != b':' {
            return Err(self.broken("no colon follows a key"));
        }
        self.pos += 1;
        Ok(key)
    }

    /// Whether the value here is `null`, which is then consumed.
    #[inline]
    pub fn null(&mut self) -> bool {
        if self.peek() == b'n' && self.bytes.get(self.pos..self.pos + 4) == Some(b"null") {
            self.pos += 4;
            return true;
        }
        false
    }

    /// The text of a string or of a bare number.
    ///
    /// # Errors
    /// A [`Fault`] where neither stands here.
    #[inline]
    pub fn string_or_number(&mut self) -> Read<Cow<'a, str>> {
        if self.peek() == b'"' { self.string() } else { self.number().map(Cow::Borrowed) }
    }

    /// Passes over a value of any shape.
    ///
    /// # Errors
    /// A [`Fault`] where it is no JSON.
    pub fn skip(&mut self) -> Read<()> {
        self.skip_nested(0)
    }

    fn skip_nested(&mut self, depth: u32) -> Read<()> {
        if depth > MAX_DEPTH {
            return Err(self.broken("nested too deeply"));
        }
        match self.peek() {
            b'"' => self.skip_string(),
            b'{' => {
                let mut more = self.open_object()?;
                while more {
                    if self.peek() != b'"' {
                        return Err(self.broken("is not a key"));
                    }
                    self.skip_string()?;
                    if self.peek() != b':' {
                        return Err(self.broken("no colon follows a key"));
                    }
                    self.pos += 1;
                    self.skip_nested(depth + 1)?;
                    more = self.more_in_object()?;
                }
                Ok(())
            }
            b'[' => {
                let mut more = self.open_array()?;
                while more {
                    self.skip_nested(depth + 1)?;
                    more = self.more_in_array()?;
                }
                Ok(())
            }
            b't' | b'f' => bool::read(self).map(|_| ()).map_err(|fault| Fault { broken: true, ..fault }),
            b'n' if self.null() => Ok(()),
            b'-' | b'0'..=b'9' => self.number().map(|_| ()),
            _ => Err(self.broken("no value stands here")),
        }
    }

    #[inline]
    fn skip_string(&mut self) -> Read<()> {
        // An escaped string is checked in full, which costs a copy: venues hardly ever send one.
        self.string().map(|_| ())
    }

    /// A reader at the value of a top-level key, or `None` if the object has no such key. The usual case, that it is
    /// the first key, costs a comparison. Nothing behind the key is checked.
    ///
    /// # Errors
    /// A [`Fault`] where the text before it is no JSON object.
    #[inline]
    pub fn find(&self, key: &str) -> Read<Option<Self>> {
        let mut reader = self.clone();
        let mut more = reader.open_object()?;
        while more {
            if *reader.key()? == *key {
                return Ok(Some(reader));
            }
            reader.skip()?;
            more = reader.more_in_object()?;
        }
        Ok(None)
    }
}

/// Reads `"key": "text"` of a top-level object; `None` where there is no such key or it holds no string.
///
/// # Errors
/// A [`Fault`] where the text up to it is no JSON object.
#[inline]
pub fn peek_str<'a>(text: &'a str, key: &str) -> Read<Option<Cow<'a, str>>> {
    let Some(mut reader) = Reader::new(text).find(key)? else { return Ok(None) };
    if reader.peek() == b'"' { reader.string().map(Some) } else { Ok(None) }
}
