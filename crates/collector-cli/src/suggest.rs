//! What was probably meant: the nearest known word to one that nobody knows.

/// The nearest of `known`, if it is near enough to be a slip of the finger.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let allowed = (word.chars().count() / 3).clamp(1, 3);
    let near = |candidate: &'a str| {
        let lower = candidate.to_lowercase();
        let distance = strsim::damerau_levenshtein(&word, &lower);
        // A word cut short is near, however much is missing.
        let part = word.len() >= 3 && lower.starts_with(&word);
        (distance <= allowed || part).then_some((distance, candidate))
    };
    known.into_iter().filter_map(near).min().map(|(_, candidate)| candidate)
}

/// What to do instead, to stand behind "unknown …": the nearest word, or all of them.
pub(crate) fn hint<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    match nearest(word, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => "there is none".to_owned(),
        None => format!("there is {}", list(&known)),
    }
}

/// `a`, `b` and `c`.
fn list(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => format!("`{one}`"),
        [rest @ .., last] => format!("{} and `{last}`", rest.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognized_and_a_stranger_is_not() {
        let known = ["bybit", "binance"];
        assert_eq!(nearest("bybti", known), Some("bybit"));
        assert_eq!(nearest("BINANCE", known), Some("binance"));
        assert_eq!(nearest("bin", known), Some("binance"));
        assert_eq!(nearest("kraken", known), None);
        assert_eq!(hint("kraken", known), "there is `bybit` and `binance`");
        assert_eq!(hint("exchange", ["exchanges"]), "did you mean `exchanges`?");
    }
}
