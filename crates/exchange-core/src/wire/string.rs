//! Strings, eight bytes at once.

use std::borrow::Cow;

use super::{Read, Reader};

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

impl<'a> Reader<'a> {
    /// Reads a string; borrowed where nothing in it is escaped.
    ///
    /// # Errors
    /// A [`Fault`](super::Fault) where none stands here, or it is not whole.
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
    /// A [`Fault`](super::Fault) where none stands here, or it is not whole.
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
}
