//! The values that venues write, each with its oddities: numbers in quotes, empty texts, lists with a bad record.

use std::borrow::Cow;

use super::{Fault, Read, Reader, Wire};
use crate::decimal::Decimal;
use crate::event::{Ident, Level, Side};
use crate::time::Time;

/// A decimal that may be absent: a string or a bare number; `""`, `null` and `"NaN"` are absent.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Num(pub Option<Decimal>);

impl Num {
    /// The number where it is greater than zero: an empty side of a book is sent as zero by some venues.
    #[must_use]
    pub fn positive(self) -> Option<Decimal> {
        self.0.filter(Decimal::is_positive)
    }

    /// A duration in whole hours, of which one has so many of the number's units: 60 for minutes, `3_600_000` for
    /// milliseconds. Absent where it is none.
    pub fn hours(&self, units: u32) -> Option<u32> {
        let number = self.0.as_ref()?.to_rust_decimal()?;
        let count = u64::try_from(number.mantissa()).ok().filter(|count| number.scale() == 0 && *count > 0)?;
        let units = u64::from(units.max(1));
        (count % units == 0).then_some(count / units).and_then(|hours| u32::try_from(hours).ok())
    }
}

impl<'a> Wire<'a> for Num {
    #[inline]
    fn read(reader: &mut Reader<'a>) -> Read<Self> {
        let text = match reader.peek() {
            b'"' => {
                if let Some(number) = reader.quoted_decimal() {
                    return Ok(Self(Some(number)));
                }
                let text = reader.string()?;
                if text.is_empty() || text.eq_ignore_ascii_case("nan") {
                    return Ok(Self(None));
                }
                text
            }
            b'n' if reader.null() => return Ok(Self(None)),
            _ => Cow::Borrowed(reader.number()?),
        };
        match Decimal::parse(text.as_bytes()) {
            Ok(number) => Ok(Self(Some(number))),
            Err(_) => Err(reader.shape("is not a decimal number")),
        }
    }

    #[inline]
    fn absent(_: &Reader<'a>, _: &'static str) -> Read<Self> {
        Ok(Self(None))
    }
}

/// A decimal that must be there.
impl<'a> Wire<'a> for Decimal {
    #[inline]
    fn read(reader: &mut Reader<'a>) -> Read<Self> {
        if reader.peek() == b'"'
            && let Some(number) = reader.quoted_decimal()
        {
            return Ok(number);
        }
        Num::read(reader)?.0.ok_or_else(|| reader.shape("is not a decimal number"))
    }
}

/// A taker's side, in a venue's word: `buy` and `sell`, or `Buy` and `Sell`. Absent where it writes something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Taker(pub Option<Side>);

impl<'a> Wire<'a> for Taker {
    #[inline]
    fn read(reader: &mut Reader<'a>) -> Read<Self> {
        if reader.null() {
            return Ok(Self(None));
        }
        Ok(Self(match &*reader.string()? {
            "buy" | "Buy" => Some(Side::Buy),
            "sell" | "Sell" => Some(Side::Sell),
            _ => None,
        }))
    }

    #[inline]
    fn absent(_: &Reader<'a>, _: &'static str) -> Read<Self> {
        Ok(Self(None))
    }
}

/// A time in milliseconds, quoted or bare; `""`, `null` and 0 are absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Millis(pub Option<Time>);

impl<'a> Wire<'a> for Millis {
    #[inline]
    fn read(reader: &mut Reader<'a>) -> Read<Self> {
        reader.space();
        if let Some(millis) = reader.bare_integer() {
            return Ok(Self(i64::try_from(millis).ok().filter(|millis| *millis != 0).map(Time::from_millis)));
        }
        if reader.null() {
            return Ok(Self(None));
        }
        let text = reader.string_or_number()?;
        if text.is_empty() {
            return Ok(Self(None));
        }
        let bytes = text.as_bytes();
        let millis = if bytes.len() <= 15 && bytes.iter().all(u8::is_ascii_digit) {
            bytes.iter().fold(0, |sum: i64, &b| sum * 10 + i64::from(b - b'0'))
        } else {
            return Err(reader.shape("is not a time in milliseconds"));
        };
        Ok(Self((millis != 0).then_some(Time::from_millis(millis))))
    }

    fn absent(_: &Reader<'a>, _: &'static str) -> Read<Self> {
        Ok(Self(None))
    }
}

/// A time in seconds, milliseconds, microseconds or nanoseconds, told apart by its magnitude (any time after 1971 in
/// the smaller units); quoted or bare, with or without a fraction; `""`, `null` and 0 are absent. For venues that
/// mix their units; finer than a microsecond is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AnyTime(pub Option<Time>);

impl AnyTime {
    /// A time of so many units and, in them, a fraction's digits; none that could be told in microseconds, if too large.
    fn of(number: i64, fraction: &[u8]) -> Option<Self> {
        // So many digits of the fraction are whole microseconds; a nanosecond's last three digits are none.
        let (micros, places) = match number {
            0 => return Some(Self(None)),
            1..100_000_000_000 => (number.checked_mul(1_000_000)?, 6),
            100_000_000_000..100_000_000_000_000 => (number.checked_mul(1000)?, 3),
            100_000_000_000_000..100_000_000_000_000_000 => (number, 0),
            _ => (number / 1000, 0),
        };
        let part = fraction.iter().copied().chain(std::iter::repeat(b'0')).take(places).fold(0, |sum: i64, digit| sum * 10 + i64::from(digit - b'0'));
        Some(Self(Some(Time::from_micros(micros + part))))
    }

    fn parse(text: &str) -> Option<Self> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(fraction) {
            return None;
        }
        Self::of(whole.parse().ok()?, fraction.as_bytes())
    }
}

impl<'a> Wire<'a> for AnyTime {
    #[inline]
    fn read(reader: &mut Reader<'a>) -> Read<Self> {
        reader.space();
        if let Some(time) = reader.bare_integer().and_then(|number| Self::of(i64::try_from(number).ok()?, &[])) {
            return Ok(time);
        }
        if reader.null() {
            return Ok(Self(None));
        }
        let text = reader.string_or_number()?;
        if text.is_empty() {
            return Ok(Self(None));
        }
        Self::parse(&text).ok_or_else(|| reader.shape("is not a time"))
    }

    fn absent(_: &Reader<'a>, _: &'static str) -> Read<Self> {
        Ok(Self(None))
    }
}

/// An identifier or sequence number: a string or a bare number; `""` and `null` are absent when it is an `Option`.
impl<'a> Wire<'a> for Ident {
    #[inline]
    fn read(reader: &mut Reader<'a>) -> Read<Self> {
        reader.space();
        if let Some(number) = reader.bare_integer() {
            return Ok(Self::Number(number));
        }
        reader.string_or_number().map(|text| Self::parse(&text))
    }
}

/// An unsigned integer, quoted or bare.
impl<'a> Wire<'a> for u64 {
    #[inline]
    fn read(reader: &mut Reader<'a>) -> Read<Self> {
        reader.space();
        if let Some(number) = reader.bare_integer() {
            return Ok(number);
        }
        reader.string_or_number()?.parse().map_err(|_| reader.shape("is not a whole number"))
    }
}

/// A signed integer, quoted or bare.
impl<'a> Wire<'a> for i64 {
    #[inline]
    fn read(reader: &mut Reader<'a>) -> Read<Self> {
        reader.string_or_number()?.parse().map_err(|_| reader.shape("is not a whole number"))
    }
}

impl<'a> Wire<'a> for bool {
    #[inline]
    fn read(reader: &mut Reader<'a>) -> Read<Self> {
        match reader.peek() {
            b't' if reader.at_key(b"true") => Ok(true),
            b'f' if reader.at_key(b"false") => Ok(false),
            _ => Err(reader.shape("is neither true nor false")),
        }
    }
}

/// Text, borrowed where nothing in it is escaped.
impl<'a> Wire<'a> for Cow<'a, str> {
    #[inline]
    fn read(reader: &mut Reader<'a>) -> Read<Self> {
        reader.string()
    }
}

/// A value that may be `null` or not there at all. An empty string where no string is wanted counts as absent.
impl<'a, T: Wire<'a>> Wire<'a> for Option<T> {
    #[inline]
    fn read(reader: &mut Reader<'a>) -> Read<Self> {
        if reader.null() {
            return Ok(None);
        }
        if reader.byte() == b'"' && reader.bytes.get(reader.pos + 1) == Some(&b'"') {
            reader.pos += 2;
            return Ok(None);
        }
        T::read(reader).map(Some)
    }

    #[inline]
    fn absent(_: &Reader<'a>, _: &'static str) -> Read<Self> {
        Ok(None)
    }
}

impl<'a, T: Wire<'a>> Wire<'a> for Vec<T> {
    #[inline]
    fn read(reader: &mut Reader<'a>) -> Read<Self> {
        let mut all = Self::new();
        let mut more = reader.open_array()?;
        while more {
            all.push(T::read(reader)?);
            more = reader.more_in_array()?;
        }
        Ok(all)
    }
}

/// A price of a book: `["price", "size", ...]`, what follows passed over.
impl<'a> Wire<'a> for Level {
    #[inline]
    fn read(reader: &mut Reader<'a>) -> Read<Self> {
        if !reader.open_array()? {
            return Err(reader.shape("has no price"));
        }
        let price = Decimal::read(reader)?;
        if !reader.more_in_array()? {
            return Err(reader.shape("has no size"));
        }
        let size = Decimal::read(reader)?;
        while reader.more_in_array()? {
            reader.skip()?;
        }
        Ok(Self { price, size })
    }
}

/// A value that is checked and passed over.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ignored;

impl<'a> Wire<'a> for Ignored {
    #[inline]
    fn read(reader: &mut Reader<'a>) -> Read<Self> {
        reader.skip().map(|()| Self)
    }

    fn absent(_: &Reader<'a>, _: &'static str) -> Read<Self> {
        Ok(Self)
    }
}

/// A value's own text, checked and not interpreted.
#[derive(Debug, Clone, Copy)]
pub struct Raw<'a>(pub &'a str);

impl<'a> Wire<'a> for Raw<'a> {
    fn read(reader: &mut Reader<'a>) -> Read<Self> {
        reader.space();
        let start = reader.pos;
        reader.skip()?;
        Ok(Self(reader.slice(start, reader.pos)))
    }
}

/// One record of a list, or why it alone could not be read.
pub type Row<'a, T> = Result<T, BadRow<'a>>;

/// A record that could not be read in a message that is otherwise whole.
#[derive(Debug, Clone)]
pub struct BadRow<'a> {
    /// Why.
    pub fault: Fault,
    /// The record.
    pub text: &'a str,
}

/// The records of a reply: an array, or a single record where the venue sends that for one symbol. A record of an
/// unexpected shape costs only itself. Records whose bytes are those of the last reply are left out where the caller
/// only wants what changed (see [`crate::memo`]); a venue's decoder need not know.
#[derive(Debug)]
pub struct Rows<'a, T>(pub Vec<Row<'a, T>>);

impl<'a, T: Wire<'a>> Wire<'a> for Rows<'a, T> {
    #[expect(clippy::indexing_slicing, reason = "from where it is")]
    fn read(reader: &mut Reader<'a>) -> Read<Self> {
        let mut rows = Vec::new();
        if reader.peek() != b'[' {
            Self::read_one(reader, &mut rows)?;
            return Ok(Self(rows));
        }
        let mut more = reader.open_array()?;
        if let Some(memo) = reader.memo {
            let mut list = memo.begin(reader.text);
            while more {
                reader.space();
                let start = reader.pos;
                if let Some(end) = list.unchanged(&reader.bytes[start..]) {
                    reader.pos = start + end;
                } else {
                    Self::read_one(reader, &mut rows)?;
                    list.push(start, reader.pos);
                }
                more = reader.more_in_array()?;
            }
            list.finish();
            return Ok(Self(rows));
        }
        let start = reader.pos;
        while more {
            Self::read_one(reader, &mut rows)?;
            more = reader.more_in_array()?;
            if rows.len() == 1 {
                // Records of a list are about as long as its first: one allocation instead of ten.
                rows.reserve(reader.bytes.len().saturating_sub(reader.pos) / (reader.pos - start).max(1));
            }
        }
        Ok(Self(rows))
    }
}

impl<'a, T: Wire<'a>> Rows<'a, T> {
    #[inline]
    fn read_one(reader: &mut Reader<'a>, rows: &mut Vec<Row<'a, T>>) -> Read<()> {
        let start = reader.pos;
        match T::read(reader) {
            Ok(row) => rows.push(Ok(row)),
            Err(fault) if fault.broken => return Err(fault),
            Err(fault) => {
                reader.pos = start;
                reader.skip()?;
                rows.push(Err(BadRow { fault, text: reader.slice(start, reader.pos).trim_start() }));
            }
        }
        Ok(())
    }
}
