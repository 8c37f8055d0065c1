//! What a reply said last time, so that a poll of 600 records of which 20 changed costs little more than 20.
//!
//! A polled reply is a long list in a stable order, and most of its records are the bytes of the cycle before. A
//! [`Memo`] keeps the last reply and where its records were; [`crate::wire::Rows`] compares each record with its
//! predecessor and passes over equal ones without parsing them. Comparing bytes is exact, and faster than any hash.
//! Only states may be read so, and only where no other source feeds them: the plan decides that.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// The last reply of one request.
#[derive(Debug, Default)]
pub struct Memo {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// The last reply that was decoded to its end, and where its records are.
    last: Reply,
    /// The reply that was read since, until it is known whether the rest of it is whole.
    read: Option<Reply>,
    /// A reply's memory, to be used again.
    spare: Reply,
    /// Records of `read` that were passed over.
    unchanged: u64,
}

#[derive(Debug, Default)]
struct Reply {
    text: String,
    records: Vec<(u32, u32)>,
}

/// The list of records that is being read.
pub(crate) struct List<'m> {
    inner: MutexGuard<'m, Inner>,
    reply: Reply,
    /// The record of the last reply that is expected next.
    next: usize,
    unchanged: u64,
}

impl Memo {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to read a list in `text`.
    pub(crate) fn begin(&self, text: &str) -> List<'_> {
        let mut inner = self.inner();
        let mut reply = inner.read.take().unwrap_or_else(|| std::mem::take(&mut inner.spare));
        reply.text.clear();
        reply.text.push_str(text);
        reply.records.clear();
        List { inner, reply, next: 0, unchanged: 0 }
    }

    /// The reply that was read was decoded to its end: the next one is compared with it. Returns the number of its
    /// records that were passed over. A reply that failed is not committed, so that nothing of it counts as known.
    pub fn commit(&self) -> u64 {
        let mut inner = self.inner();
        if let Some(read) = inner.read.take() {
            inner.spare = std::mem::replace(&mut inner.last, read);
        }
        std::mem::take(&mut inner.unchanged)
    }

    /// Forgets everything: each record of the next reply is news.
    pub fn forget(&self) {
        *self.inner() = Inner::default();
    }
}

impl List<'_> {
    /// Whether the record at the beginning of `rest` stands in the last reply, too; its length, if so.
    #[inline]
    pub(crate) fn unchanged(&mut self, rest: &[u8]) -> Option<usize> {
        let from = self.reply.text.len() - rest.len();
        // Usually the next one. Where a record was inserted or removed since, one of its neighbours.
        let last = &self.inner.last;
        let found = [self.next, self.next.wrapping_sub(1), self.next + 1].into_iter().find_map(|at| {
            let &(from, to) = last.records.get(at)?;
            let record = last.text.as_bytes().get(from as usize..to as usize)?;
            (rest.get(..record.len()) == Some(record) && matches!(rest.get(record.len()), Some(b',' | b']'))).then_some((at, record.len()))
        });
        let (at, length) = found?;
        self.next = at;
        self.unchanged += 1;
        self.push(from, from + length);
        Some(length)
    }

    /// Takes note of a record's place.
    pub(crate) fn push(&mut self, from: usize, to: usize) {
        // A reply beyond 4 GiB does not exist; if it did, its records would only be read anew each time.
        if let (Ok(from), Ok(to)) = (u32::try_from(from), u32::try_from(to)) {
            self.reply.records.push((from, to));
        }
        self.next += 1;
    }

    /// The list was read to its end.
    pub(crate) fn finish(mut self) {
        self.inner.unchanged = self.unchanged;
        self.inner.read = Some(self.reply);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Ignored, Reader, Rows};

    /// How many records of a reply are read, and how many passed over.
    fn poll(memo: &Memo, text: &str) -> (usize, u64) {
        let mut reader = Reader::new(text);
        reader.memo = Some(memo);
        let rows: Rows<Ignored> = reader.whole().unwrap();
        (rows.0.len(), memo.commit())
    }

    #[test]
    fn only_changed_records_are_read() {
        let memo = Memo::default();
        assert_eq!(poll(&memo, r#"[{"a":1},{"a":2},{"a":3}]"#), (3, 0));
        assert_eq!(poll(&memo, r#"[{"a":1},{"a":2},{"a":3}]"#), (0, 3));
        assert_eq!(poll(&memo, r#"[{"a":1},{"a":20},{"a":3}]"#), (1, 2));
        assert_eq!(poll(&memo, r#"[{"a":1},{"a":20},{"a":9},{"a":3}]"#), (1, 3), "inserted");
        assert_eq!(poll(&memo, r#"[{"a":1},{"a":9},{"a":3}]"#), (0, 3), "removed");
        assert_eq!(poll(&memo, "[12,1]"), (2, 0));
        assert_eq!(poll(&memo, "[123,1]"), (1, 1), "a longer number begins with the shorter");
    }

    #[test]
    fn a_reply_that_failed_is_not_known() {
        let memo = Memo::default();
        poll(&memo, "[1,2]");
        let mut reader = Reader::new("[1,3] x");
        reader.memo = Some(&memo);
        assert!(reader.whole::<Rows<Ignored>>().is_err());
        assert_eq!(poll(&memo, "[1,3]"), (1, 1));
    }
}
