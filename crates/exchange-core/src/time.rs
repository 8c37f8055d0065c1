//! Points in time and candle intervals, in the units of the data contract.

use std::fmt;
use std::time::Duration;

/// A point in time: microseconds since the Unix epoch, UTC. Where a state machine asks for `now`, it is this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(i64);

const _: () = assert!(size_of::<Option<Time>>() == 16);

impl Time {
    /// The Unix epoch.
    pub const EPOCH: Self = Self(0);
    /// Later than anything that a venue can name.
    pub const MAX: Self = Self(i64::MAX);

    /// From microseconds since the epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// From milliseconds since the epoch (saturating).
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(1000))
    }

    /// Microseconds since the epoch.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Milliseconds since the epoch, rounded down.
    pub const fn millis(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// The time that has passed since `earlier`; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// So long before; never before the first time that can be told.
    #[must_use]
    pub fn earlier(self, by: Duration) -> Self {
        Self::from_micros(self.micros().saturating_sub(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)))
    }

    /// Year, month and day (UTC).
    pub fn date(self) -> (i64, u32, u32) {
        // Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days.
        let days = self.0.div_euclid(86_400_000_000) + 719_468;
        let era = days.div_euclid(146_097);
        let day_of_era = days.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 to 12, 1 to 31")]
        (year, month as u32, day as u32)
    }

    /// Midnight (UTC) of a date; `None` for a date that does not exist.
    pub fn from_date(year: i64, month: u32, day: u32) -> Option<Self> {
        let (month, day) = (i64::from(month), i64::from(day));
        let shifted_year = if month <= 2 { year - 1 } else { year };
        let era = shifted_year.div_euclid(400);
        let year_of_era = shifted_year.rem_euclid(400);
        let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let time = Self((era * 146_097 + day_of_era - 719_468).checked_mul(86_400_000_000)?);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "compared, not kept")]
        (time.date() == (year, month as u32, day as u32)).then_some(time)
    }
}

impl std::ops::Add<Duration> for Time {
    type Output = Self;
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }
}

impl fmt::Display for Time {
    /// ISO 8601 with microseconds, UTC.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.date();
        let micros = self.0.rem_euclid(86_400_000_000);
        let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
        write!(f, "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{micros:06}Z", seconds / 3600, seconds / 60 % 60, seconds % 60)
    }
}

/// The length of a candle. Written `1s`, `1m`, `1h`, `1d`, `1w`, `1M`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Interval {
    count: u16,
    unit: u8,
}

impl Interval {
    /// `count` of a unit: `s`, `m`, `h`, `d`, `w` or `M`. Whole hours and days are written as such (`60m` is `1h`).
    pub fn new(count: u16, unit: char) -> Option<Self> {
        if count == 0 {
            return None;
        }
        let (count, unit) = match unit {
            's' if count.is_multiple_of(60) => return Self::new(count / 60, 'm'),
            'm' if count.is_multiple_of(60) => return Self::new(count / 60, 'h'),
            'h' if count == 24 => (1, b'd'),
            'd' if count == 7 => (1, b'w'),
            's' | 'm' | 'h' | 'd' | 'w' | 'M' => (count, unit as u8),
            _ => return None,
        };
        Some(Self { count, unit })
    }

    /// Parses `1m`, `4h`, `1M`.
    pub fn parse(text: &str) -> Option<Self> {
        let unit = text.chars().next_back()?;
        Self::new(text[..text.len() - unit.len_utf8()].parse().ok()?, unit)
    }

    /// When a candle that opened at `open` is over.
    pub fn end(self, open: Time) -> Time {
        let micros: i64 = match self.unit {
            b's' => 1_000_000,
            b'm' => 60_000_000,
            b'h' => 3_600_000_000,
            b'd' => 86_400_000_000,
            b'w' => 7 * 86_400_000_000,
            _ => {
                let (year, month, day) = open.date();
                let months = i64::from(month) - 1 + i64::from(self.count);
                let month = u32::try_from(months % 12 + 1).unwrap_or(1);
                return Time::from_date(year + months / 12, month, day).unwrap_or(open);
            }
        };
        Time(open.0.saturating_add(micros * i64::from(self.count)))
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.count, char::from(self.unit))
    }
}

impl fmt::Debug for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_round_trip() {
        let time = Time::from_date(2026, 3, 27).unwrap();
        assert_eq!(time.date(), (2026, 3, 27));
        assert_eq!(time.to_string(), "2026-03-27T00:00:00.000000Z");
        assert_eq!(Time::from_date(2026, 2, 29), None);
        assert_eq!(Time::from_micros(-1).date(), (1969, 12, 31));
    }

    #[test]
    fn intervals_are_written_one_way() {
        for (text, want) in [("60m", "1h"), ("1440m", "1d"), ("7d", "1w"), ("3m", "3m"), ("1M", "1M"), ("720m", "12h")] {
            assert_eq!(Interval::parse(text).unwrap().to_string(), want);
        }
        assert_eq!(Interval::parse("0m"), None);
        assert_eq!(Interval::parse("1x"), None);
        let december = Time::from_date(2025, 12, 1).unwrap();
        assert_eq!(Interval::parse("1M").unwrap().end(december), Time::from_date(2026, 1, 1).unwrap());
    }
}
