//! Numbers as a market keeps them, whole multiples of a power of ten, and the text that venues write them in.

use exchange_core::Decimal;

/// `mantissa / 10^scale`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Num {
    pub(crate) mantissa: i64,
    pub(crate) scale: u8,
}

impl Num {
    pub(crate) const fn new(mantissa: i64, scale: u8) -> Self {
        Self { mantissa, scale }
    }

    /// The same number as an event carries it.
    pub(crate) fn decimal(self) -> Decimal {
        Decimal::from_parts(self.mantissa, u32::from(self.scale)).unwrap_or(Decimal::ZERO)
    }
}

/// `a * b / c`, for figures that pass 64 bits on the way (saturating, and zero for a zero divisor).
pub(crate) fn scaled(a: i64, b: i64, c: i64) -> i64 {
    let product = i128::from(a) * i128::from(b);
    let quotient = product.checked_div(i128::from(c)).unwrap_or(0);
    i64::try_from(quotient).unwrap_or(if quotient < 0 { i64::MIN } else { i64::MAX })
}

/// `10^n`.
pub(crate) fn pow10(n: u8) -> i64 {
    10i64.saturating_pow(u32::from(n))
}

/// Mixes two numbers into a third that looks random: the market's history is drawn from it, so that it needs no
/// memory and two requests see the same.
pub(crate) fn mix(a: u64, b: u64) -> u64 {
    // SplitMix64's finalizer (Steele, Lea, Flood: "Fast splittable pseudorandom number generators").
    let mut z = a.wrapping_add(b.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// [`mix`] below `bound`.
pub(crate) fn mix_below(a: u64, b: u64, bound: i64) -> i64 {
    let bound = u64::try_from(bound).unwrap_or(0).max(1);
    i64::try_from(mix(a, b) % bound).unwrap_or(0)
}

/// JSON text in the making.
#[derive(Debug, Default)]
pub(crate) struct Text(pub(crate) String);

impl Text {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self(String::with_capacity(bytes))
    }

    /// Text as it is.
    #[inline]
    pub(crate) fn raw(&mut self, text: &str) -> &mut Self {
        self.0.push_str(text);
        self
    }

    /// An integer.
    #[inline]
    pub(crate) fn int(&mut self, value: impl itoa::Integer) -> &mut Self {
        self.0.push_str(itoa::Buffer::new().format(value));
        self
    }

    /// A number with all its places: `1.50`.
    #[inline]
    pub(crate) fn num(&mut self, value: Num) -> &mut Self {
        self.padded(value, value.scale)
    }

    /// A number with at least so many places.
    #[inline]
    pub(crate) fn padded(&mut self, value: Num, places: u8) -> &mut Self {
        if value.mantissa < 0 {
            self.0.push('-');
        }
        let mut buffer = itoa::Buffer::new();
        let digits = buffer.format(value.mantissa.unsigned_abs());
        let scale = usize::from(value.scale);
        let places = usize::from(places).max(scale);
        let whole = digits.len().saturating_sub(scale);
        let (before, after) = digits.split_at(whole);
        self.0.push_str(if before.is_empty() { "0" } else { before });
        if places > 0 {
            self.0.push('.');
            (after.len()..scale).for_each(|_| self.0.push('0'));
            self.0.push_str(after);
            (scale..places).for_each(|_| self.0.push('0'));
        }
        self
    }

    /// `"key":"text",`
    #[inline]
    pub(crate) fn word(&mut self, key: &str, value: &str) -> &mut Self {
        self.raw("\"").raw(key).raw("\":\"").raw(value).raw("\",")
    }

    /// `"key":"1.50",`
    #[inline]
    pub(crate) fn text(&mut self, key: &str, value: Num) -> &mut Self {
        self.raw("\"").raw(key).raw("\":\"").num(value).raw("\",")
    }

    /// `"key":15,`
    #[inline]
    pub(crate) fn count(&mut self, key: &str, value: impl itoa::Integer) -> &mut Self {
        self.raw("\"").raw(key).raw("\":").int(value).raw(",")
    }

    /// Takes back a separator at the end and closes with `end`.
    #[inline]
    pub(crate) fn close(&mut self, end: &str) -> &mut Self {
        if self.0.ends_with(',') {
            self.0.pop();
        }
        self.raw(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_their_places() {
        let text = |mantissa, scale, places| {
            let mut text = Text::default();
            text.padded(Num::new(mantissa, scale), places);
            text.0
        };
        for (mantissa, scale, places, want) in
            [(150, 2, 2, "1.50"), (5, 3, 3, "0.005"), (-5, 1, 8, "-0.50000000"), (7, 0, 0, "7"), (0, 2, 2, "0.00"), (7, 0, 2, "7.00")]
        {
            assert_eq!(text(mantissa, scale, places), want);
            assert_eq!(Num::new(mantissa, scale).decimal(), want.parse().unwrap());
        }
    }
}
