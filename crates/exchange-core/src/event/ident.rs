//! A venue's identifiers and sequence numbers.

use std::fmt;

use crate::time::Time;

/// A venue's identifier or sequence number: text in the contract, compact here.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Ident {
    /// Digits without a leading zero.
    Number(u64),
    /// A lower-case, hyphenated UUID.
    Uuid([u8; 16]),
    /// Any other text.
    Text(Box<str>),
}

impl Ident {
    /// The identifier for a text. The same text always gives the same variant.
    #[inline]
    pub fn parse(text: &str) -> Self {
        let bytes = text.as_bytes();
        if !bytes.is_empty() && bytes.len() <= 19 && (bytes.first() != Some(&b'0') || bytes.len() == 1) && bytes.iter().all(u8::is_ascii_digit) {
            return Self::Number(bytes.iter().fold(0, |sum, &b| sum * 10 + u64::from(b - b'0')));
        }
        if bytes.len() == 36
            && let Some(uuid) = parse_uuid(bytes)
        {
            return Self::Uuid(uuid);
        }
        // Twenty digits may still fit.
        match text.parse::<u64>() {
            Ok(number) if bytes.len() == 20 && !text.starts_with(['0', '+']) => Self::Number(number),
            _ => Self::Text(text.into()),
        }
    }

    /// The number, if it is one.
    pub fn as_number(&self) -> Option<u64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// A time as the ends of a gap say it: microseconds since the Unix epoch. None for a time before that.
    pub fn of_time(time: Time) -> Option<Self> {
        u64::try_from(time.micros()).ok().map(Self::Number)
    }

    /// The time of which this is [`Ident::of_time`].
    pub fn as_time(&self) -> Option<Time> {
        i64::try_from(self.as_number()?).ok().map(Time::from_micros)
    }
}

fn parse_uuid(text: &[u8]) -> Option<[u8; 16]> {
    let nibble = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    let mut uuid = [0; 16];
    let mut at = 0;
    for byte in &mut uuid {
        if matches!(at, 8 | 13 | 18 | 23) {
            if *text.get(at)? != b'-' {
                return None;
            }
            at += 1;
        }
        *byte = nibble(*text.get(at)?)? << 4 | nibble(*text.get(at + 1)?)?;
        at += 2;
    }
    Some(uuid)
}

impl From<u64> for Ident {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<&str> for Ident {
    fn from(text: &str) -> Self {
        Self::parse(text)
    }
}

impl fmt::Display for Ident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Uuid(uuid) => {
                for (at, byte) in uuid.iter().enumerate() {
                    if matches!(at, 4 | 6 | 8 | 10) {
                        f.write_str("-")?;
                    }
                    write!(f, "{byte:02x}")?;
                }
                Ok(())
            }
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl fmt::Debug for Ident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idents_keep_their_text() {
        for text in [
            "0",
            "7",
            "18446744073709551615",
            "18446744073709551616",
            "007",
            "",
            "+5",
            "20f43950-d8dd-5b31-9112-a178eb6023af",
            "20F43950-D8DD-5b31-9112-a178eb6023af",
            "abc",
        ] {
            assert_eq!(Ident::parse(text).to_string(), text);
        }
        assert!(matches!(Ident::parse("18446744073709551615"), Ident::Number(u64::MAX)));
    }

    #[test]
    fn a_time_is_its_microseconds() {
        let time = Time::from_micros(1_763_640_000_000_001);
        assert_eq!(Ident::of_time(time), Some(Ident::Number(1_763_640_000_000_001)));
        assert_eq!(Ident::of_time(time).and_then(|ident| ident.as_time()), Some(time));
        assert_eq!(Ident::of_time(Time::from_micros(-1)), None);
        assert_eq!([Ident::Number(u64::MAX).as_time(), Ident::Text("1".into()).as_time()], [None, None]);
    }
}
