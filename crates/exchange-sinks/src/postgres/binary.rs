//! Values in PostgreSQL's binary format, which `COPY` takes without reading text.
//! <https://www.postgresql.org/docs/current/sql-copy.html#id-1.9.3.55.9.4>, and `numeric_recv`, `array_recv` of its sources.

use exchange_core::event::Level;
use exchange_core::{Decimal, Time};

/// What a stream of rows begins with: its signature, no flags, no extension.
pub(super) const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What it ends with.
pub(super) const TRAILER: &[u8] = &[0xff, 0xff];

/// Microseconds from the Unix epoch to PostgreSQL's, which is the year 2000.
const EPOCH: i64 = 946_684_800_000_000;
/// The first microsecond of PostgreSQL's time: 4714-11-24 BC, since its own epoch.
const FIRST: i64 = -211_813_488_000_000_000;
/// The type of an array's numbers.
const NUMERIC: u32 = 1700;

/// Why a row cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unfit(pub(super) &'static str);

/// Appends the fields of rows.
pub(super) struct Row<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> Row<'a> {
    /// A row of so many fields.
    pub(super) fn begin(fields: usize, out: &'a mut Vec<u8>) -> Result<Self, Unfit> {
        out.extend_from_slice(&i16::try_from(fields).map_err(|_| Unfit("too many fields"))?.to_be_bytes());
        Ok(Self { out })
    }

    pub(super) fn null(&mut self) {
        self.out.extend_from_slice(&(-1_i32).to_be_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<(), Unfit> {
        self.out.extend_from_slice(&length(bytes.len())?);
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    pub(super) fn uuid(&mut self, id: [u8; 16]) -> Result<(), Unfit> {
        self.bytes(&id)
    }

    pub(super) fn flag(&mut self, flag: bool) -> Result<(), Unfit> {
        self.bytes(&[u8::from(flag)])
    }

    pub(super) fn text(&mut self, text: &str) -> Result<(), Unfit> {
        if text.as_bytes().contains(&0) {
            return Err(Unfit("a text has a character NUL, which PostgreSQL cannot hold"));
        }
        self.bytes(text.as_bytes())
    }

    pub(super) fn whole(&mut self, number: u64) -> Result<(), Unfit> {
        let number = i64::try_from(number).map_err(|_| Unfit("a number is larger than a bigint"))?;
        self.bytes(&number.to_be_bytes())
    }

    pub(super) fn time(&mut self, time: Time) -> Result<(), Unfit> {
        let micros = time.micros().checked_sub(EPOCH).filter(|micros| *micros >= FIRST);
        self.bytes(&micros.ok_or(Unfit("a time lies before PostgreSQL's first"))?.to_be_bytes())
    }

    pub(super) fn decimal(&mut self, number: &Decimal) -> Result<(), Unfit> {
        let at = self.out.len();
        self.out.extend_from_slice(&[0; 4]);
        numeric(number, self.out)?;
        let size = length(self.out.len() - at - 4)?;
        if let Some(place) = self.out.get_mut(at..at + 4) {
            place.copy_from_slice(&size);
        }
        Ok(())
    }

    /// `numeric[][]`: a price and a size for each level.
    pub(super) fn levels(&mut self, levels: &[Level]) -> Result<(), Unfit> {
        let at = self.out.len();
        self.out.extend_from_slice(&[0; 4]);
        let dimensions: &[usize] = if levels.is_empty() { &[] } else { &[levels.len(), 2] };
        self.out.extend_from_slice(&length(dimensions.len())?);
        self.out.extend_from_slice(&0_i32.to_be_bytes());
        self.out.extend_from_slice(&NUMERIC.to_be_bytes());
        for size in dimensions {
            self.out.extend_from_slice(&length(*size)?);
            self.out.extend_from_slice(&1_i32.to_be_bytes());
        }
        for level in levels {
            self.decimal(&level.price)?;
            self.decimal(&level.size)?;
        }
        let size = length(self.out.len() - at - 4)?;
        if let Some(place) = self.out.get_mut(at..at + 4) {
            place.copy_from_slice(&size);
        }
        Ok(())
    }
}

fn length(size: usize) -> Result<[u8; 4], Unfit> {
    i32::try_from(size).map(i32::to_be_bytes).map_err(|_| Unfit("a field is larger than 2 GiB"))
}

/// Appends a number: digits to the base of 10,000, the power of that base of the first of them, the sign, and how many
/// decimal digits are shown behind the point.
fn numeric(number: &Decimal, out: &mut Vec<u8>) -> Result<(), Unfit> {
    const TOO_LONG: Unfit = Unfit("a number is longer than a numeric");
    let mut text = Vec::with_capacity(40);
    number.write_to(&mut text);
    let (negative, text) = text.strip_prefix(b"-").map_or((false, text.as_slice()), |rest| (true, rest));
    let point = text.iter().position(|byte| *byte == b'.').unwrap_or(text.len());
    let (whole, fraction) = text.split_at(point);
    let fraction = fraction.get(1..).unwrap_or_default();
    let groups = whole.len().div_ceil(4) + fraction.len().div_ceil(4);
    let head = out.len();
    out.extend_from_slice(&[0; 8]);
    // Groups of four digits, counted from the point in both directions.
    let mut first = None;
    let mut last = 0;
    let value = |digits: &[u8]| digits.iter().fold(0_i16, |sum, digit| sum * 10 + i16::from(digit - b'0'));
    let (short, full) = whole.split_at(whole.len() % 4);
    let padded = fraction.chunks(4).map(|digits| {
        let missing = u32::try_from(4 - digits.len()).unwrap_or_default();
        value(digits) * 10_i16.pow(missing)
    });
    let digits = (!short.is_empty()).then(|| value(short)).into_iter().chain(full.chunks(4).map(value)).chain(padded);
    for (at, digit) in digits.enumerate() {
        if first.is_none() && digit == 0 {
            continue;
        }
        first.get_or_insert(at);
        out.extend_from_slice(&digit.to_be_bytes());
        if digit != 0 {
            last = out.len();
        }
    }
    debug_assert!(groups >= first.unwrap_or_default(), "as many groups as were counted");
    // Zeros behind the last digit are not kept.
    out.truncate(last.max(head + 8));
    let count = i16::try_from((out.len() - head - 8) / 2).map_err(|_| TOO_LONG)?;
    let weight = match first {
        None => 0,
        Some(first) => {
            let before = i64::try_from(whole.len().div_ceil(4)).map_err(|_| TOO_LONG)?;
            i16::try_from(before - 1 - i64::try_from(first).map_err(|_| TOO_LONG)?).map_err(|_| TOO_LONG)?
        }
    };
    let sign: u16 = if negative { 0x4000 } else { 0 };
    let scale = i16::try_from(fraction.len()).map_err(|_| TOO_LONG)?;
    let bytes = [count.to_be_bytes(), weight.to_be_bytes(), sign.to_be_bytes(), scale.to_be_bytes()].concat();
    if let Some(place) = out.get_mut(head..head + 8) {
        place.copy_from_slice(&bytes);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(number: &str) -> Vec<i16> {
        let mut out = Vec::new();
        numeric(&number.parse().unwrap(), &mut out).unwrap();
        out.chunks(2).map(|pair| i16::from_be_bytes([pair[0], pair[1]])).collect()
    }

    #[test]
    fn numbers_are_written_as_postgresql_keeps_them() {
        // Count, weight, sign, scale, digits.
        assert_eq!(words("0"), [0, 0, 0, 0]);
        assert_eq!(words("1"), [1, 0, 0, 0, 1]);
        assert_eq!(words("10000"), [1, 1, 0, 0, 1]);
        assert_eq!(words("-12345.678"), [3, 1, 0x4000, 3, 1, 2345, 6780]);
        assert_eq!(words("0.0001"), [1, -1, 0, 4, 1]);
        assert_eq!(words("0.00001"), [1, -2, 0, 5, 1000]);
        assert_eq!(words("120000.5"), [3, 1, 0, 1, 12, 0, 5000]);
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let mut out = Vec::new();
        let mut row = Row::begin(1, &mut out).unwrap();
        row.text("a\0b").unwrap_err();
        row.whole(u64::MAX).unwrap_err();
        row.time(Time::from_micros(i64::MIN)).unwrap_err();
        row.time(Time::MAX).unwrap();
    }
}
