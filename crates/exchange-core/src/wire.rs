//! Reading venues' JSON: one pass over the bytes, straight into borrowed structs, no float anywhere.
//!
//! [`wire!`](macro@crate::wire) declares a struct with the venue's own field names; its reader expects the fields in the
//! declared order, which is the order that venues write, and falls back to a match on the key where they come in
//! another. A [`Num`] keeps the number's own digits whether the venue quotes it or not; `""`, `null` and `"NaN"` are
//! absent. Everything is checked: text that is not JSON is a [`Fault`], wherever in the message it stands.

mod declare;
#[cfg(test)]
mod tests;
mod values;

use std::borrow::Cow;

pub use self::declare::at;
pub use self::values::{AnyTime, BadRow, Ignored, Millis, Num, Raw, Row, Rows, Taker};
use crate::decimal::Decimal;

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

const fn repeat(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// The high bit of every byte that ends the plain part of a JSON string: a quote, a backslash, a control character.
/// (Only the lowest set bit is certain, which is the one that is used.)
#[inline]
const fn string_ends(chunk: u64) -> u64 {
    let quote = chunk ^ repeat(b'"');
    let backslash = chunk ^ repeat(b'\\');
    ((quote.wrapping_sub(repeat(1)) & !quote) | (backslash.wrapping_sub(repeat(1)) & !backslash) | (chunk.wrapping_sub(repeat(0x20)) & !chunk)) & repeat(0x80)
}

/// Sixteen characters as sixteen digits: the value of each digit in its byte, and the high bit of each byte that is
/// none. The first character is the lowest byte.
#[inline]
const fn digits(chunk: u128) -> (u128, u128) {
    const ZEROS: u128 = u128::from_ne_bytes([b'0'; 16]);
    const LOW: u128 = u128::from_ne_bytes([0x7f; 16]);
    const OVER_NINE: u128 = u128::from_ne_bytes([0x76; 16]);
    const HIGH: u128 = u128::from_ne_bytes([0x80; 16]);
    let values = chunk ^ ZEROS;
    (values, (((values & LOW) + OVER_NINE) | values) & HIGH)
}

/// The number whose last digit is in the highest byte (the lowest bytes are leading zeros). Three multiplications for
/// eight digits, as in "`fast_float"`: Daniel Lemire, "Number Parsing at a Gigabyte per Second".
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the two halves")]
const fn sixteen_digits(values: u128) -> u64 {
    const fn eight(values: u64) -> u64 {
        const MASK: u64 = 0x0000_00ff_0000_00ff;
        let pairs = values.wrapping_mul(10).wrapping_add(values >> 8);
        let high = (pairs & MASK).wrapping_mul(100 + (1_000_000 << 32));
        let low = ((pairs >> 16) & MASK).wrapping_mul(1 + (10_000 << 32));
        high.wrapping_add(low) >> 32
    }
    eight(values as u64) * 100_000_000 + eight((values >> 64) as u64)
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

    /// Reads a string; borrowed where nothing in it is escaped.
    ///
    /// # Errors
    /// A [`Fault`] where none stands here, or it is not whole.
    #[inline]
    pub fn string(&mut self) -> Read<Cow<'a, str>> {
        if self.peek() != b'"' {
            return Err(self.shape("is not a string"));
        }
        let start = self.pos + 1;
        let mut at = start;
        while let Some(chunk) = self.bytes.get(at..at + 8) {
            let ends = string_ends(u64::from_le_bytes(chunk.try_into().unwrap_or_default()));
            if ends != 0 {
                at += ends.trailing_zeros() as usize / 8;
                break;
            }
            at += 8;
        }
        loop {
            match self.bytes.get(at) {
                Some(b'"') => {
                    self.pos = at + 1;
                    return Ok(Cow::Borrowed(self.slice(start, at)));
                }
                Some(b'\\') => return self.escaped(start, at).map(Cow::Owned),
                Some(0x20..) => at += 1,
                _ => {
                    self.pos = at;
                    return Err(self.broken("a string does not end"));
                }
            }
        }
    }

    /// The rest of a string in which a backslash stands at `at`.
    #[cold]
    #[expect(clippy::indexing_slicing, reason = "offsets that were passed over on the way here")]
    fn escaped(&mut self, start: usize, at: usize) -> Read<String> {
        let mut out = Vec::with_capacity(at - start + 32);
        out.extend_from_slice(&self.bytes[start..at]);
        self.pos = at;
        self.unescape(&mut out)?;
        String::from_utf8(out).map_err(|_| self.broken("an escape is no character"))
    }

    /// Reads a string's text, unescaped, to the end of `out`: for long strings that are mostly escapes.
    ///
    /// # Errors
    /// A [`Fault`] where none stands here, or it is not whole.
    pub fn string_into(&mut self, out: &mut Vec<u8>) -> Read<()> {
        if self.peek() != b'"' {
            return Err(self.shape("is not a string"));
        }
        self.pos += 1;
        self.unescape(out)
    }

    /// From the cursor, which is inside of a string, to behind its closing quote.
    #[expect(clippy::indexing_slicing, reason = "from where this began to where it is")]
    fn unescape(&mut self, out: &mut Vec<u8>) -> Read<()> {
        loop {
            let start = self.pos;
            while let Some(chunk) = self.bytes.get(self.pos..self.pos + 8) {
                let ends = string_ends(u64::from_le_bytes(chunk.try_into().unwrap_or_default()));
                if ends != 0 {
                    self.pos += ends.trailing_zeros() as usize / 8;
                    break;
                }
                self.pos += 8;
            }
            while self.bytes.get(self.pos).is_some_and(|&b| b >= 0x20 && b != b'"' && b != b'\\') {
                self.pos += 1;
            }
            out.extend_from_slice(&self.bytes[start..self.pos]);
            match self.byte() {
                b'"' => {
                    self.pos += 1;
                    return Ok(());
                }
                b'\\' => {
                    let byte = match self.bytes.get(self.pos + 1) {
                        Some(b'"') => b'"',
                        Some(b'\\') => b'\\',
                        Some(b'/') => b'/',
                        Some(b'b') => 8,
                        Some(b'f') => 12,
                        Some(b'n') => b'\n',
                        Some(b'r') => b'\r',
                        Some(b't') => b'\t',
                        Some(b'u') => {
                            self.pos += 2;
                            let unit = self.four_hex()?;
                            let code = if (0xd800..0xdc00).contains(&unit) && self.bytes.get(self.pos..self.pos + 2) == Some(b"\\u") {
                                self.pos += 2;
                                let low = self.four_hex()?;
                                if !(0xdc00..0xe000).contains(&low) {
                                    return Err(self.broken("an escape is no character"));
                                }
                                0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00)
                            } else {
                                unit
                            };
                            let character = char::from_u32(code).ok_or_else(|| self.broken("an escape is no character"))?;
                            out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                            continue;
                        }
                        _ => return Err(self.broken("not an escape")),
                    };
                    out.push(byte);
                    self.pos += 2;
                }
                _ => return Err(self.broken("a string does not end")),
            }
        }
    }

    fn four_hex(&mut self) -> Read<u32> {
        let digits = self.bytes.get(self.pos..self.pos + 4).filter(|d| d.iter().all(u8::is_ascii_hexdigit));
        let unit = digits.and_then(|d| u32::from_str_radix(std::str::from_utf8(d).ok()?, 16).ok());
        let unit = unit.ok_or_else(|| self.broken("not an escape"))?;
        self.pos += 4;
        Ok(unit)
    }

    /// The text of a bare number, checked against JSON's grammar.
    ///
    /// # Errors
    /// A [`Fault`] where none stands here.
    #[inline]
    pub fn number(&mut self) -> Read<&'a str> {
        self.space();
        let start = self.pos;
        let mut at = start;
        let digit = |at: usize| self.bytes.get(at).is_some_and(u8::is_ascii_digit);
        if self.bytes.get(at) == Some(&b'-') {
            at += 1;
        }
        if !digit(at) {
            return Err(self.shape("is not a number"));
        }
        if self.bytes.get(at) == Some(&b'0') {
            at += 1;
        } else {
            while digit(at) {
                at += 1;
            }
        }
        if self.bytes.get(at) == Some(&b'.') {
            at += 1;
            if !digit(at) {
                return Err(self.broken("a number ends with its point"));
            }
            while digit(at) {
                at += 1;
            }
        }
        if matches!(self.bytes.get(at), Some(b'e' | b'E')) {
            at += 1;
            if matches!(self.bytes.get(at), Some(b'+' | b'-')) {
                at += 1;
            }
            if !digit(at) {
                return Err(self.broken("a number ends with its exponent"));
            }
            while digit(at) {
                at += 1;
            }
        }
        // `01` or `1.5.2`: what follows is found out by whoever asks for a comma or an end.
        self.pos = at;
        Ok(self.slice(start, at))
    }

    /// The sixteen bytes at an offset; `None` near the end, where the slow way will do.
    #[inline]
    fn chunk(&self, at: usize) -> Option<u128> {
        self.bytes.get(at..at + 16).and_then(|bytes| bytes.first_chunk()).map(|bytes| u128::from_le_bytes(*bytes))
    }

    /// A quoted decimal of at most fifteen characters without sign and exponent, which is nearly every number of
    /// every venue: found, checked and converted at once. `None`, and nothing consumed, for all others.
    #[inline]
    fn quoted_decimal(&mut self) -> Option<Decimal> {
        let (values, others) = digits(self.chunk(self.pos + 1)?);
        let point = others.trailing_zeros() / 8;
        let at = |offset: u32| self.bytes.get(self.pos + 1 + offset as usize).copied();
        if at(point)? == b'"' {
            if point == 0 {
                return None;
            }
            self.pos += point as usize + 2;
            return Some(Decimal::normalised(false, sixteen_digits(values << (128 - 8 * point)), 0));
        }
        let others = others & others.wrapping_sub(1);
        let end = others.trailing_zeros() / 8;
        if at(point)? != b'.' || end > 15 || at(end)? != b'"' || point == 0 || end == point + 1 {
            return None;
        }
        // Close the point's gap, the last digit to the highest byte; then let the trailing zeros fall off.
        let whole = values & ((1 << (8 * point)) - 1);
        let fraction = values >> (8 * point + 8) << (8 * point);
        let aligned = (whole | fraction) << (128 - 8 * (end - 1));
        let scale = end - point - 1;
        let zeros = (aligned.leading_zeros() / 8).min(scale);
        let mantissa = sixteen_digits(if zeros < 16 { aligned << (8 * zeros) } else { 0 });
        self.pos += end as usize + 2;
        #[expect(clippy::cast_possible_truncation, reason = "at most 14")]
        Some(Decimal::normalised(false, mantissa, if mantissa == 0 { 0 } else { (scale - zeros) as u8 }))
    }

    /// A bare whole number of at most fifteen digits. `None`, and nothing consumed, for all others.
    #[inline]
    fn bare_integer(&mut self) -> Option<u64> {
        let (values, others) = digits(self.chunk(self.pos)?);
        let end = others.trailing_zeros() / 8;
        let next = *self.bytes.get(self.pos + end as usize)?;
        let leading_zero = values.trailing_zeros() >= 8;
        if end == 0 || end > 15 || !matches!(next, b',' | b'}' | b']') || (leading_zero && end > 1) {
            return None;
        }
        self.pos += end as usize;
        Some(sixteen_digits(values << (128 - 8 * end)))
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
