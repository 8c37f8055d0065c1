//! The exact decimal: every price, size and rate of an event.
//!
//! Venues send decimal text; a float would invent digits, and [`rust_decimal`] rounds what does not fit its 28 digits.
//! [`Decimal`] holds exactly what was sent: 96 bits of mantissa and a scale where that is enough (convertible to and
//! from [`rust_decimal::Decimal`] for arithmetic), plain text where it is not. It is always normalised (no trailing
//! zero after the point, no negative zero), so one number has one representation: equality is a comparison of bytes,
//! and an event's id is blind to trailing zeros for free.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// The largest power of ten that a number's exponent may name. A venue that sends more sends garbage.
const MAX_EXPONENT: u32 = 99;
/// The scale that [`rust_decimal`] can hold.
const MAX_SCALE: u32 = 28;
/// The mantissa that [`rust_decimal`] can hold: 96 bits.
const MAX_MANTISSA: u128 = (1 << 96) - 1;

/// What 38 digits can hold, and a signed 128-bit integer can.
const MAX_SCALED: u128 = 10u128.pow(38) - 1;

/// An exact decimal number, 16 bytes, and so is `Option<Decimal>`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Decimal(Repr);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Repr {
    /// `(hi << 64 | lo) / 10^scale`, negated if `negative`; not divisible by ten unless `scale` is 0.
    Fixed { scale: u8, negative: bool, hi: u32, lo: u64 },
    /// Plain, normalised text of a number that `Fixed` cannot hold. (A thin pointer keeps the whole at 16 bytes.)
    Text(Box<Box<str>>),
}

const _: () = assert!(size_of::<Decimal>() == 16 && size_of::<Option<Decimal>>() == 16);

/// Text that is not a decimal number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a decimal number")]
pub struct NotADecimal;

impl Decimal {
    /// Zero.
    pub const ZERO: Self = Self(Repr::Fixed { scale: 0, negative: false, hi: 0, lo: 0 });
    /// One.
    pub const ONE: Self = Self(Repr::Fixed { scale: 0, negative: false, hi: 0, lo: 1 });

    /// Parses decimal text: an optional sign, digits with an optional point, an optional exponent (`-1.50`, `2.5E-7`).
    ///
    /// # Errors
    /// [`NotADecimal`] for anything else, and for an exponent beyond ±99.
    #[inline]
    pub fn parse(text: &[u8]) -> Result<Self, NotADecimal> {
        // Nearly every number of every venue: up to 19 digits with a point somewhere, no exponent.
        let (negative, digits) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            _ => (false, text),
        };
        if digits.len() > 20 || digits.is_empty() {
            return Self::parse_slow(negative, digits);
        }
        let mut mantissa = 0u64;
        let mut point = usize::MAX;
        for (at, &byte) in digits.iter().enumerate() {
            let digit = byte.wrapping_sub(b'0');
            if digit < 10 {
                // At most 20 characters: overflow needs 20 digits, which the slow path takes.
                mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(digit));
            } else if byte == b'.' && point == usize::MAX {
                point = at;
            } else {
                return Self::parse_slow(negative, digits);
            }
        }
        if digits.len() - usize::from(point != usize::MAX) > 19 || digits.len() == usize::from(point != usize::MAX) {
            return Self::parse_slow(negative, digits);
        }
        let mut scale = 0;
        if point != usize::MAX {
            scale = digits.len() - 1 - point;
            while scale > 0 && mantissa.is_multiple_of(10) {
                mantissa /= 10;
                scale -= 1;
            }
        }
        #[expect(clippy::cast_possible_truncation, reason = "at most 19")]
        Ok(Self(Repr::Fixed { scale: scale as u8, negative: negative && mantissa != 0, hi: 0, lo: mantissa }))
    }

    #[cold]
    #[expect(clippy::indexing_slicing, reason = "up to and behind a byte that was found there, and to the length or less")]
    fn parse_slow(negative: bool, text: &[u8]) -> Result<Self, NotADecimal> {
        let (number, exponent) = match text.iter().position(|b| matches!(b, b'e' | b'E')) {
            None => (text, 0),
            Some(at) => (&text[..at], std::str::from_utf8(&text[at + 1..]).ok().and_then(|e| e.parse::<i32>().ok()).ok_or(NotADecimal)?),
        };
        let (whole, fraction) = match number.iter().position(|&b| b == b'.') {
            None => (number, &[][..]),
            Some(at) => (&number[..at], &number[at + 1..]),
        };
        if whole.is_empty() && fraction.is_empty() || exponent.unsigned_abs() > MAX_EXPONENT || !whole.iter().chain(fraction).all(u8::is_ascii_digit) {
            return Err(NotADecimal);
        }
        // All digits without leading zeros, and how many of them stand behind the point (negative: zeros to append).
        let mut digits: Vec<u8> = whole.iter().chain(fraction).copied().skip_while(|&b| b == b'0').collect();
        let mut scale = i64::try_from(fraction.len()).map_err(|_| NotADecimal)? - i64::from(exponent);
        while scale > 0 && digits.last() == Some(&b'0') {
            digits.pop();
            scale -= 1;
        }
        if digits.is_empty() {
            return Ok(Self::ZERO);
        }
        while scale < 0 {
            digits.push(b'0');
            scale += 1;
        }
        let scale = usize::try_from(scale).map_err(|_| NotADecimal)?;
        if scale <= MAX_SCALE as usize && digits.len() <= 29 {
            let mantissa = digits.iter().fold(0u128, |sum, &b| sum * 10 + u128::from(b - b'0'));
            if mantissa <= MAX_MANTISSA {
                return Ok(Self::fixed(negative, mantissa, scale));
            }
        }
        let mut plain = String::with_capacity(digits.len().max(scale) + 3);
        if negative {
            plain.push('-');
        }
        let whole = digits.len().saturating_sub(scale);
        plain.push_str(if whole == 0 { "0" } else { std::str::from_utf8(&digits[..whole]).map_err(|_| NotADecimal)? });
        if scale > 0 {
            plain.push('.');
            plain.extend(std::iter::repeat_n('0', scale.saturating_sub(digits.len())));
            plain.push_str(std::str::from_utf8(&digits[whole..]).map_err(|_| NotADecimal)?);
        }
        Ok(Self(Repr::Text(Box::new(plain.into_boxed_str()))))
    }

    /// `mantissa / 10^scale`, where the caller knows that the mantissa does not end with a zero behind the point, that
    /// it is not negative zero, and that the scale is at most 18.
    #[inline]
    pub(crate) const fn normalised(negative: bool, mantissa: u64, scale: u8) -> Self {
        Self(Repr::Fixed { scale, negative, hi: 0, lo: mantissa })
    }

    /// `mantissa / 10^scale` (both already known to fit), normalised.
    #[expect(clippy::cast_possible_truncation, reason = "the mantissa has 96 bits, the scale is at most 28")]
    fn fixed(negative: bool, mut mantissa: u128, mut scale: usize) -> Self {
        while scale > 0 && mantissa.is_multiple_of(10) {
            mantissa /= 10;
            scale -= 1;
        }
        Self(Repr::Fixed { scale: scale as u8, negative: negative && mantissa != 0, hi: (mantissa >> 64) as u32, lo: mantissa as u64 })
    }

    /// `mantissa / 10^scale`, for numbers that a program makes (a simulated market's ticks, a count of contracts).
    /// A scale beyond 28 is not representable and gives `None`.
    pub fn from_parts(mantissa: i64, scale: u32) -> Option<Self> {
        (scale <= MAX_SCALE).then(|| Self::fixed(mantissa < 0, u128::from(mantissa.unsigned_abs()), scale as usize))
    }

    /// Whether this is zero.
    pub fn is_zero(&self) -> bool {
        matches!(self.0, Repr::Fixed { hi: 0, lo: 0, .. })
    }

    /// Whether this is greater than zero.
    pub fn is_positive(&self) -> bool {
        !self.is_zero() && !self.is_negative()
    }

    /// Whether this is less than zero.
    pub fn is_negative(&self) -> bool {
        match &self.0 {
            Repr::Fixed { negative, .. } => *negative,
            Repr::Text(text) => text.starts_with('-'),
        }
    }

    /// The number with its sign turned.
    #[must_use]
    pub fn negated(&self) -> Self {
        match &self.0 {
            &Repr::Fixed { scale, negative, hi, lo } => Self(Repr::Fixed { scale, negative: !negative && (hi, lo) != (0, 0), hi, lo }),
            Repr::Text(text) => Self(Repr::Text(Box::new(match text.strip_prefix('-') {
                Some(positive) => positive.into(),
                None => format!("-{text}").into_boxed_str(),
            }))),
        }
    }

    /// The number without its sign.
    #[must_use]
    pub fn abs(&self) -> Self {
        if self.is_negative() { self.negated() } else { self.clone() }
    }

    /// The number times `10^-places`, exactly: a percentage of `1.5` shifted by two places is the fraction `0.015`.
    #[must_use]
    pub fn shifted(&self, places: u8) -> Self {
        if let &Repr::Fixed { scale, negative, hi, lo } = &self.0 {
            let scale = usize::from(scale) + usize::from(places);
            if scale <= MAX_SCALE as usize {
                return Self::fixed(negative, u128::from(hi) << 64 | u128::from(lo), scale);
            }
        }
        Self::parse(format!("{self}e-{places}").as_bytes()).unwrap_or_else(|_| self.clone())
    }

    /// The same number as [`rust_decimal`]'s type; `None` where that could not hold it exactly.
    pub fn to_rust_decimal(&self) -> Option<rust_decimal::Decimal> {
        match self.0 {
            #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
            Repr::Fixed { scale, negative, hi, lo } => Some(rust_decimal::Decimal::from_parts(lo as u32, (lo >> 32) as u32, hi, negative, u32::from(scale))),
            Repr::Text(_) => None,
        }
    }

    /// The number as a count of `10^-scale`: what a column of decimals with a fixed scale and 38 digits holds. `None` where
    /// that is not exact or has more digits.
    #[inline]
    pub fn scaled(&self, scale: u8) -> Option<i128> {
        let Repr::Fixed { scale: own, negative, hi, lo } = self.0 else { return self.long_scaled(scale) };
        let factor = 10u128.checked_pow(u32::from(scale.checked_sub(own)?))?;
        let count = (u128::from(hi) << 64 | u128::from(lo)).checked_mul(factor).filter(|count| *count <= MAX_SCALED)?;
        let count = i128::try_from(count).ok()?;
        Some(if negative { -count } else { count })
    }

    /// The same of a number with more digits than `Fixed` holds, of which some fit all the same.
    #[cold]
    fn long_scaled(&self, scale: u8) -> Option<i128> {
        let Repr::Text(text) = &self.0 else { return None };
        let (whole, places) = text.split_once('.').unwrap_or((text, ""));
        let missing = usize::from(scale).checked_sub(places.len())?;
        let count: i128 = format!("{whole}{places}{}", "0".repeat(missing)).parse().ok()?;
        (count.unsigned_abs() <= MAX_SCALED).then_some(count)
    }

    /// `self * other`, if both and the exact product fit 28 digits.
    pub fn checked_mul(&self, other: &Self) -> Option<Self> {
        let (a, b) = (self.to_rust_decimal()?, other.to_rust_decimal()?);
        // rust_decimal's product rounds what is beyond 28 places; an exact one has the sum of the scales.
        let product = a.checked_mul(b)?;
        (a.scale() + b.scale() <= MAX_SCALE).then(|| product.into())
    }

    /// `self / other`, rounded half to even to 18 significant digits: the one quotient of an event (`size_base` of an
    /// inverse contract). `None` for a zero divisor and for operands that do not fit 28 digits.
    pub fn checked_quotient(&self, other: &Self) -> Option<Self> {
        let quotient = self.to_rust_decimal()?.checked_div(other.to_rust_decimal()?)?;
        quotient.round_sf_with_strategy(18, rust_decimal::RoundingStrategy::MidpointNearestEven).map(Into::into)
    }

    /// Appends the plain decimal text: no exponent, no trailing zeros.
    #[inline]
    pub fn write_to(&self, out: &mut Vec<u8>) {
        match &self.0 {
            &Repr::Fixed { scale, negative, hi, lo } => {
                if negative {
                    out.push(b'-');
                }
                let mut buffer = itoa::Buffer::new();
                let digits = if hi == 0 { buffer.format(lo) } else { buffer.format(u128::from(hi) << 64 | u128::from(lo)) }.as_bytes();
                let scale = usize::from(scale);
                if scale == 0 {
                    out.extend_from_slice(digits);
                } else if digits.len() > scale {
                    let (whole, fraction) = digits.split_at(digits.len() - scale);
                    out.extend_from_slice(whole);
                    out.push(b'.');
                    out.extend_from_slice(fraction);
                } else {
                    out.extend_from_slice(b"0.");
                    out.extend(std::iter::repeat_n(b'0', scale - digits.len()));
                    out.extend_from_slice(digits);
                }
            }
            Repr::Text(text) => out.extend_from_slice(text.as_bytes()),
        }
    }

    /// Appends the canonical bytes that an event's id covers: a byte of scale and sign, then the mantissa as a varint;
    /// or 255, a length and the text.
    #[inline]
    pub(crate) fn write_canonical(&self, out: &mut Vec<u8>) {
        match &self.0 {
            &Repr::Fixed { scale, negative, hi, lo } => {
                out.push(scale << 1 | u8::from(negative));
                if hi == 0 {
                    crate::canonical::varint(lo, out);
                } else {
                    let mut rest = u128::from(hi) << 64 | u128::from(lo);
                    while rest >= 0x80 {
                        #[expect(clippy::cast_possible_truncation, reason = "seven bits")]
                        out.push(rest as u8 | 0x80);
                        rest >>= 7;
                    }
                    #[expect(clippy::cast_possible_truncation, reason = "seven bits")]
                    out.push(rest as u8);
                }
            }
            Repr::Text(text) => {
                out.push(0xff);
                crate::canonical::bytes(text.as_bytes(), out);
            }
        }
    }
}

impl From<rust_decimal::Decimal> for Decimal {
    fn from(value: rust_decimal::Decimal) -> Self {
        Self::fixed(value.is_sign_negative(), value.mantissa().unsigned_abs(), value.scale() as usize)
    }
}

impl From<i64> for Decimal {
    fn from(value: i64) -> Self {
        Self::fixed(value < 0, u128::from(value.unsigned_abs()), 0)
    }
}

impl FromStr for Decimal {
    type Err = NotADecimal;
    fn from_str(text: &str) -> Result<Self, NotADecimal> {
        Self::parse(text.as_bytes())
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Vec::with_capacity(32);
        self.write_to(&mut text);
        f.pad(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        if let (Repr::Fixed { scale: a, negative: false, hi: 0, lo: x }, Repr::Fixed { scale: b, negative: false, hi: 0, lo: y }) = (&self.0, &other.0)
            && a == b
        {
            return x.cmp(y);
        }
        match (self.to_rust_decimal(), other.to_rust_decimal()) {
            (Some(a), Some(b)) => a.cmp(&b),
            _ => compare_text(&self.to_string(), &other.to_string()),
        }
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Compares two normalised plain texts as numbers.
fn compare_text(a: &str, b: &str) -> Ordering {
    let magnitude = |a: &str, b: &str| {
        let (a_whole, a_fraction) = a.split_once('.').unwrap_or((a, ""));
        let (b_whole, b_fraction) = b.split_once('.').unwrap_or((b, ""));
        a_whole.len().cmp(&b_whole.len()).then_with(|| a_whole.cmp(b_whole)).then_with(|| a_fraction.cmp(b_fraction))
    };
    match (a.strip_prefix('-'), b.strip_prefix('-')) {
        (None, None) => magnitude(a, b),
        (Some(a), Some(b)) => magnitude(b, a),
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(number: &str) -> String {
        number.parse::<Decimal>().expect(number).to_string()
    }

    #[test]
    fn keeps_every_digit_and_drops_trailing_zeros() {
        assert_eq!(text("32141.43"), "32141.43");
        assert_eq!(text("0.00000100"), "0.000001");
        assert_eq!(text("-0.00"), "0");
        assert_eq!(text("100"), "100");
        assert_eq!(text("00012.50"), "12.5");
        assert_eq!(text("18446744073709551616"), "18446744073709551616");
        assert_eq!(text("79228162514264337593543950335"), "79228162514264337593543950335");
        // 45 digits: more than rust_decimal holds.
        let long = "123456789012345678901234567890.123456789012345";
        assert_eq!(text(long), long);
        assert_eq!(text("0.10000000000000000000000000000000000000"), "0.1");
    }

    #[test]
    fn expands_exponents() {
        assert_eq!(text("1e-5"), "0.00001");
        assert_eq!(text("2.50E+3"), "2500");
        assert_eq!(text("-1.2e-30"), "-0.0000000000000000000000000000012");
        assert!("1e400".parse::<Decimal>().is_err());
    }

    #[test]
    fn refuses_what_is_no_number() {
        for bad in ["", ".", "-", "1.2.3", "NaN", "0x10", "1 ", "--1", "1e", "e5", "１"] {
            assert!(bad.parse::<Decimal>().is_err(), "{bad}");
        }
    }

    #[test]
    fn orders_numerically_across_representations() {
        let sorted =
            ["-123456789012345678901234567890.5", "-1", "0", "0.5", "0.75", "2", "10", "123456789012345678901234567890.1", "123456789012345678901234567890.5"];
        for pair in sorted.windows(2) {
            assert!(pair[0].parse::<Decimal>().unwrap() < pair[1].parse::<Decimal>().unwrap(), "{pair:?}");
        }
    }

    #[test]
    fn shifts_percentages_exactly() {
        assert_eq!("-1.502".parse::<Decimal>().unwrap().shifted(2).to_string(), "-0.01502");
        assert_eq!("0.1234567890123456789012345678".parse::<Decimal>().unwrap().shifted(2).to_string(), "0.001234567890123456789012345678");
    }

    #[test]
    fn scales_where_that_is_exact() {
        let scaled = |number: &str, scale| number.parse::<Decimal>().unwrap().scaled(scale);
        assert_eq!(scaled("-1.5", 18), Some(-1_500_000_000_000_000_000));
        assert_eq!(scaled("0", 28), Some(0));
        assert_eq!(scaled("0.000000000000000001", 18), Some(1));
        assert_eq!(scaled("0.0000000000000000001", 18), None, "a nineteenth place");
        assert_eq!(scaled("99999999999999999999", 18), Some(99_999_999_999_999_999_999 * 10i128.pow(18)));
        assert_eq!(scaled("100000000000000000000", 18), None, "a thirty-ninth digit");
        assert_eq!(scaled("12345678901234567890.123456789012345678", 18), Some(12_345_678_901_234_567_890_123_456_789_012_345_678), "as text, and exact");
        assert_eq!(scaled("-0.99999999999999999999999999999999999999", 38), Some(-(10i128.pow(38) - 1)));
        assert_eq!(scaled("123456789012345678901.123456789012345678", 18), None, "a thirty-ninth digit");
        assert_eq!(scaled("123456789012345678901234567890.5", 18), None, "not held as a number at all");
    }

    #[test]
    fn rounds_only_a_quotient() {
        let quotient = "100".parse::<Decimal>().unwrap().checked_quotient(&"28560.5".parse().unwrap()).unwrap();
        assert_eq!(quotient.to_string(), "0.00350133926226781744");
    }
}
