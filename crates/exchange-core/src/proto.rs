//! Reading protobuf: one pass over the bytes of a message, borrowing from them, with no code generated from a schema.
//!
//! A venue knows a message's fields by their numbers, and takes those that it wants; all others are passed over, as the
//! format asks for: venues add fields without notice. Only what venues send is read: variable-length integers, and what
//! has a length (text, bytes, messages within). Fixed-size numbers are passed over, groups are refused. A message is as
//! deep as its reader asks: nothing here recurses.
//! <https://protobuf.dev/programming-guides/encoding/>

use crate::wire::{Fault, Read};

/// The fields of a message that are still to come.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// From the beginning of the outermost message, for the offsets of faults, to the end of this one.
    bytes: &'a [u8],
    pos: usize,
}

/// The value of a field.
#[derive(Debug, Clone, Copy)]
pub enum Value<'a> {
    /// An integer, a flag, a value of an enumeration.
    Number(u64),
    /// Text, bytes, or a message within.
    Bytes(Message<'a>),
}

impl<'a> Message<'a> {
    /// The message that these bytes are.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, pos: 0 }
    }

    #[cold]
    fn broken(&self, what: &'static str) -> Fault {
        Fault { what, key: None, at: self.pos, broken: true }
    }

    /// Calls `field` with each field's number and value, in the order of the bytes.
    ///
    /// # Errors
    /// A [`Fault`] where this is no protobuf, and those of `field`.
    #[inline]
    pub fn each(mut self, mut field: impl FnMut(u32, Value<'a>) -> Read<()>) -> Read<()> {
        while let Some((number, value)) = self.next_field()? {
            field(number, value)?;
        }
        Ok(())
    }

    /// The next field of a kind that is read here; `None` at the end of the message.
    ///
    /// # Errors
    /// A [`Fault`] where this is no protobuf.
    pub fn next_field(&mut self) -> Read<Option<(u32, Value<'a>)>> {
        while self.pos < self.bytes.len() {
            let tag = self.varint()?;
            let number = u32::try_from(tag >> 3).ok().filter(|number| (1..1 << 29).contains(number));
            let number = number.ok_or_else(|| self.broken("is no field's number"))?;
            match tag & 7 {
                0 => return Ok(Some((number, Value::Number(self.varint()?)))),
                1 => drop(self.take(8)?),
                2 => {
                    let length = self.varint()?;
                    return Ok(Some((number, Value::Bytes(self.take(length)?))));
                }
                5 => drop(self.take(4)?),
                _ => return Err(self.broken("is a field of a kind that is not read")),
            }
        }
        Ok(None)
    }

    /// Seven bits a byte, the lowest first; the high bit says that more follow.
    #[inline]
    fn varint(&mut self) -> Read<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let Some(&byte) = self.bytes.get(self.pos) else { return Err(self.broken("ends within a number")) };
            // The tenth byte has room for one bit.
            if shift == 63 && byte > 1 {
                break;
            }
            self.pos += 1;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(self.broken("is a number of more than 64 bits"))
    }

    /// The next `length` bytes.
    #[inline]
    fn take(&mut self, length: u64) -> Read<Self> {
        let end = usize::try_from(length).ok().and_then(|length| self.pos.checked_add(length));
        let Some(bytes) = end.and_then(|end| self.bytes.get(..end)) else { return Err(self.broken("ends within a field")) };
        let taken = Self { bytes, pos: self.pos };
        self.pos = bytes.len();
        Ok(taken)
    }
}

impl<'a> Value<'a> {
    /// A fault for a value that is protobuf, but not what it should be. (Of a number, nobody knows where it stood.)
    #[cold]
    pub fn shape(self, what: &'static str) -> Fault {
        Fault { what, key: None, at: if let Self::Bytes(message) = self { message.pos } else { 0 }, broken: false }
    }

    /// The message within.
    ///
    /// # Errors
    /// A [`Fault`] where this is a number.
    pub fn message(self) -> Read<Message<'a>> {
        match self {
            Self::Bytes(message) => Ok(message),
            Self::Number(_) => Err(self.shape("is a number where a message or text should be")),
        }
    }

    /// The text.
    ///
    /// # Errors
    /// A [`Fault`] where this is a number, or not UTF-8.
    pub fn text(self) -> Read<&'a str> {
        let message = self.message()?;
        let bytes = message.bytes.get(message.pos..).unwrap_or_default();
        simdutf8::basic::from_utf8(bytes).map_err(|_| message.broken("is not UTF-8 text"))
    }

    /// The number. One that the schema calls `int32` or `int64` is negative where its highest bit is set.
    ///
    /// # Errors
    /// A [`Fault`] where this is no number.
    pub fn number(self) -> Read<i64> {
        match self {
            Self::Number(number) => Ok(number.cast_signed()),
            Self::Bytes(_) => Err(self.shape("is no number")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `{1: "ab", 2: {1: 300, 4: -1}, 3: a fixed64, 4: a fixed32, 5: 7}`
    const SAMPLE: &[u8] = b"\x0a\x02ab\x12\x0e\x08\xac\x02\x20\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x19abcdefgh\x25abcd\x28\x07";

    fn read(bytes: &[u8]) -> Read<(String, Vec<i64>)> {
        let (mut text, mut numbers) = (String::new(), Vec::new());
        Message::new(bytes).each(|number, value| {
            match number {
                1 => text.push_str(value.text()?),
                2 => value.message()?.each(|_, value| value.number().map(|number| numbers.push(number)))?,
                _ => numbers.push(value.number()?),
            }
            Ok(())
        })?;
        Ok((text, numbers))
    }

    #[test]
    fn fields_are_read_and_others_passed_over() {
        assert_eq!(read(SAMPLE).unwrap(), ("ab".into(), vec![300, -1, 7]));
        assert_eq!(read(b"").unwrap(), (String::new(), vec![]));
    }

    #[test]
    fn a_message_that_is_cut_within_a_field_is_broken() {
        // Only between two fields of the outermost message, a shorter message cannot be told from a whole one.
        let ends = [0, 4, 20, 29, 34];
        for end in 0..SAMPLE.len() {
            assert_eq!(read(&SAMPLE[..end]).is_ok(), ends.contains(&end), "cut after {end} bytes");
        }
        assert_eq!(read(&SAMPLE[..18]).unwrap_err(), Fault { what: "ends within a field", key: None, at: 6, broken: true });
    }

    #[test]
    fn what_is_no_protobuf_is_refused() {
        for (bytes, what) in [
            (&b"\x0b"[..], "is a field of a kind that is not read"),
            (b"\x0c", "is a field of a kind that is not read"),
            (b"\x0f", "is a field of a kind that is not read"),
            (b"\x00\x01", "is no field's number"),
            (b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", "is no field's number"),
            (b"\x28\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", "is a number of more than 64 bits"),
            (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "ends within a field"),
            (b"\x0a\x02\xff\xff", "is not UTF-8 text"),
            (b"{\"id\":0}", "is a field of a kind that is not read"),
        ] {
            let fault = read(bytes).unwrap_err();
            assert_eq!((fault.what, fault.broken), (what, true), "{bytes:?}");
        }
        assert!(!read(b"\x08\x01").unwrap_err().broken && !read(b"\x2a\x00").unwrap_err().broken, "another kind of field is whole");
    }

    #[test]
    fn faults_say_where_in_the_outermost_message() {
        let fault = read(b"\x0a\x02ab\x12\x02\x08\xac").unwrap_err();
        assert_eq!((fault.what, fault.at), ("ends within a number", 8));
    }
}
