//! Numbers, mostly many digits at once.

use super::{Read, Reader};
use crate::decimal::Decimal;

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
    /// The text of a bare number, checked against JSON's grammar.
    ///
    /// # Errors
    /// A [`Fault`](super::Fault) where none stands here.
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
    pub(super) fn quoted_decimal(&mut self) -> Option<Decimal> {
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
    pub(super) fn bare_integer(&mut self) -> Option<u64> {
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
}
