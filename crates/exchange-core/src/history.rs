//! Reading a part of an instrument's past that one answer may not hold.

use crate::time::Time;

/// Goes over a span of time, answer by answer. Venues differ in the end from which they fill an answer that cannot hold a
/// whole window; the first one that is full shows it: whether there is anything before it. A full answer may end within a
/// millisecond, so the next one begins with it: records of that moment come twice.
#[derive(Debug, Clone)]
pub struct Walk {
    /// Times that were not asked for yet, the earliest last.
    windows: Vec<(Time, Time)>,
    /// Whether answers are filled from the beginning of a window.
    forward: Option<bool>,
    /// The first moment of the full answer before which is looked now.
    looks_before: Option<Time>,
    cut: bool,
}

impl Walk {
    /// From `since` to `until`, both included.
    pub fn new(since: Time, until: Time) -> Self {
        Self { windows: vec![(since, until)], forward: None, looks_before: None, cut: false }
    }

    /// The earliest time that was not asked for yet.
    pub fn earliest(&self) -> Option<Time> {
        self.windows.last().map(|(from, _)| *from)
    }

    /// What to ask for next; nothing, if all was.
    pub fn next_window(&mut self) -> Option<(Time, Time)> {
        self.windows.pop()
    }

    /// Whether a single millisecond had more records than an answer holds.
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    /// A window was answered: with records from the first of these times to the last, and with as many as an answer holds
    /// if it `is_full`.
    pub fn answered(&mut self, (from, to): (Time, Time), is_full: bool, times: Option<(Time, Time)>) {
        if let Some(edge) = self.looks_before.take() {
            self.forward = Some(times.is_none_or(|(first, _)| first >= edge));
            if self.forward == Some(false) {
                // Answers are filled from the end: nothing is behind those that were full.
                self.windows.clear();
            }
        }
        let (true, Some((first, last))) = (is_full, times) else { return };
        let (first, last) = (Time::from_millis(first.millis()), Time::from_millis(last.millis()));
        self.cut |= first == last;
        let next = |moment: Time| Time::from_millis(moment.millis() + 1);
        let behind = if last.millis() > from.millis() { last } else { next(last) };
        if self.forward != Some(false) && behind <= to {
            self.windows.push((behind, to));
        }
        let before = last_of(if first.millis() < to.millis() { first } else { Time::from_millis(first.millis() - 1) });
        if self.forward != Some(true) && from <= before {
            self.windows.push((from, before));
            self.looks_before = self.forward.is_none().then_some(first);
        }
    }
}

/// The end of a millisecond.
fn last_of(moment: Time) -> Time {
    Time::from_micros(moment.micros() + 999)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records at each of these milliseconds; answers of three at most.
    fn read(forward: bool, records: &[i64]) -> (Vec<i64>, bool) {
        let mut walk = Walk::new(Time::from_millis(1), Time::from_millis(100));
        let mut found = Vec::new();
        let mut pages = 0;
        while let Some((from, to)) = walk.next_window() {
            let inside: Vec<i64> = records.iter().copied().filter(|at| (from.millis()..=to.millis()).contains(at)).collect();
            let page = if forward { &inside[..inside.len().min(3)] } else { &inside[inside.len().saturating_sub(3)..] };
            walk.answered((from, to), page.len() == 3, page.first().map(|first| (Time::from_millis(*first), Time::from_millis(page[page.len() - 1]))));
            found.extend_from_slice(page);
            pages += 1;
        }
        assert!(pages <= records.len() / 2 + 4, "{pages}");
        found.sort_unstable();
        found.dedup();
        (found, walk.is_cut())
    }

    #[test]
    fn all_is_read_from_whichever_end_answers_are_filled() {
        let records: Vec<i64> = (1..=40).map(|at| at * 2).collect();
        for forward in [true, false] {
            assert_eq!(read(forward, &records), (records.clone(), false));
            assert_eq!(read(forward, &[1, 2, 3]), (vec![1, 2, 3], false));
            assert_eq!(read(forward, &[50, 100]), (vec![50, 100], false));
            assert_eq!(read(forward, &[]), (vec![], false));
        }
    }

    #[test]
    fn a_moment_that_an_answer_cuts_is_asked_for_again() {
        for (forward, window) in [(true, (20, 100)), (false, (1, 2))] {
            let mut walk = Walk::new(Time::from_millis(1), Time::from_millis(100));
            let all = walk.next_window().unwrap();
            let page = if forward { (10, 20) } else { (20, 90) };
            walk.answered(all, true, Some((Time::from_millis(page.0), Time::from_millis(page.1))));
            let probe = walk.next_window().unwrap();
            assert_eq!((probe.0.millis(), probe.1.millis()), (1, page.0));
            let earlier = if forward { page.0 } else { 2 };
            walk.answered(probe, !forward, Some((Time::from_millis(earlier), Time::from_millis(page.0))));
            let again = walk.next_window().unwrap();
            assert_eq!((again.0.millis(), again.1.millis()), window);
            assert_eq!(walk.next_window(), None);
        }
        assert!(read(true, &[7, 7, 7, 7, 9]).1, "more in one moment than an answer holds");
    }
}
