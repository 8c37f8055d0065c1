//! Durations as people write them: `500ms`, `5s`, `10m`, `24h`.

use std::time::Duration;

use serde::{Deserialize, Deserializer};

/// Reads a duration.
///
/// # Errors
/// What a duration looks like, if this is none.
pub fn parse(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let seconds = match unit.trim() {
        "ms" => 0.001,
        "s" | "" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => f64::NAN,
    };
    number
        .parse::<f64>()
        .ok()
        .and_then(|number| Duration::try_from_secs_f64(number * seconds).ok())
        .ok_or_else(|| format!("`{text}` is no duration (such as 500ms, 5s, 10m, 24h)"))
}

/// For serde's `with`.
///
/// # Errors
/// As [`parse`].
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

/// The same for an `Option`.
pub mod optional {
    use super::{Deserializer, Duration};

    /// For serde's `with`.
    ///
    /// # Errors
    /// As [`super::parse`].
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        super::deserialize(deserializer).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_a_number_and_mostly_a_unit() {
        let lengths = ["500ms", "5s", "5", "10m", "10 min", "1.5h", "1d"].map(|text| parse(text).map(|length| length.as_millis()));
        assert_eq!(lengths, [500, 5_000, 5_000, 600_000, 600_000, 5_400_000, 86_400_000].map(Ok));
        for text in ["", "s", "-1s", "1w", "1.2.3s", "99999999999999999999d"] {
            assert!(parse(text).is_err_and(|error| error.contains(&format!("`{text}`"))), "{text}");
        }
    }
}
