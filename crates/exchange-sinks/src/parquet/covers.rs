//! What of which journal a file covers: `5f3a00c2d1e4b697/42..97`, said in the file's metadata.
//!
//! A file covers the batches from the first of which it has a row to the last that had been taken when it was written: none of
//! those in between has a row for the file's partition that is not in this file or in one before it.

use std::fmt;
use std::str::FromStr;

use exchange_core::Position;

/// Batches of journals, from the first to the last of each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Covers(Vec<Range>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    journal: u64,
    first: u64,
    last: u64,
}

impl Covers {
    pub(super) fn one(journal: u64, first: u64, last: u64) -> Self {
        Self(vec![Range { journal, first, last }])
    }

    /// The first batch of a journal.
    pub(super) fn first(&self, journal: u64) -> Option<u64> {
        self.0.iter().filter(|range| range.journal == journal).map(|range| range.first).min()
    }

    /// The last batch of a journal.
    pub(super) fn last(&self, journal: u64) -> Option<u64> {
        self.0.iter().filter(|range| range.journal == journal).map(|range| range.last).max()
    }

    /// Takes in what another file covers.
    pub(super) fn add(&mut self, other: &Self) {
        for range in &other.0 {
            match self.0.iter_mut().find(|known| known.journal == range.journal) {
                Some(known) => {
                    known.first = known.first.min(range.first);
                    known.last = known.last.max(range.last);
                }
                None => self.0.push(*range),
            }
        }
    }
}

impl fmt::Display for Covers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, Range { journal, first, last }) in self.0.iter().enumerate() {
            let space = if at == 0 { "" } else { " " };
            write!(f, "{space}{}..{last}", Position { journal: *journal, number: *first })?;
        }
        Ok(())
    }
}

impl FromStr for Covers {
    type Err = exchange_core::NoPosition;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let range = |text: &str| {
            let (first, last) = text.split_once("..").ok_or(exchange_core::NoPosition)?;
            let Position { journal, number } = first.parse()?;
            Ok(Range { journal, first: number, last: last.parse().map_err(|_| exchange_core::NoPosition)? })
        };
        text.split_whitespace().map(range).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_read_as_it_is_written() {
        let mut covers = Covers::one(0x5f3a_00c2_d1e4_b697, 42, 97);
        covers.add(&Covers::one(7, 1, 2));
        covers.add(&Covers::one(7, 3, 5));
        assert_eq!(covers.to_string(), "5f3a00c2d1e4b697/42..97 0000000000000007/1..5");
        assert_eq!(covers.to_string().parse(), Ok(covers.clone()));
        assert_eq!((covers.first(7), covers.last(7), covers.last(8)), (Some(1), Some(5), None));
        assert!("5f3a00c2d1e4b697/42".parse::<Covers>().is_err());
    }
}
