//! Rows of one table in memory, column by column, as the format's encoder takes them.

use ::parquet::data_type::ByteArray;
use bytes::Bytes;
use exchange_core::event::{Ident, Level};
use exchange_core::{Decimal, Time};
use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::table::{Column, DECIMAL_BYTES, Kind, Table};

/// Up to so many words are looked for one by one, which is faster than a hash.
const FEW: usize = 4;

/// The rows that belong to one row group.
#[derive(Debug)]
pub(super) struct Rows {
    columns: Vec<Cells>,
    count: usize,
    bytes: usize,
}

impl Rows {
    pub(super) fn new(table: &Table) -> Self {
        Self { columns: table.columns().map(Cells::new).collect(), count: 0, bytes: 0 }
    }

    /// How many rows there are.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// About how much memory they take.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn columns(&self) -> &[Cells] {
        &self.columns
    }

    /// Begins a row: each column must be given its value, in order.
    pub(super) fn row(&mut self) -> Row<'_> {
        let at = self.count;
        self.count += 1;
        Row { at, cells: self.columns.iter_mut(), bytes: &mut self.bytes, unfit: Vec::new() }
    }

    /// Forgets all rows.
    pub(super) fn clear(&mut self) {
        for cells in &mut self.columns {
            *cells = Cells::new(cells.column);
        }
        self.count = 0;
        self.bytes = 0;
    }
}

/// One column's values.
#[derive(Debug)]
pub(super) struct Cells {
    pub(super) column: Column,
    pub(super) values: Values,
    /// How much of the path to a value is there, for each value and each null. Empty where the column is required.
    pub(super) definitions: Vec<i16>,
    /// 0 where a row begins, 1 where its list goes on: of lists only.
    pub(super) repetitions: Vec<i16>,
    /// What did not fit: the row, and its exact text. There is hardly ever one.
    pub(super) unfit: Vec<(usize, String)>,
}

/// The values that are there.
#[derive(Debug)]
pub(super) enum Values {
    Long(Vec<i64>),
    Int(Vec<i32>),
    Flag(Vec<bool>),
    Word(Words),
    Text(Texts),
    Decimal(Vec<u8>),
    Levels { prices: Vec<u8>, sizes: Vec<u8> },
}

impl Cells {
    fn new(column: Column) -> Self {
        let values = match column.kind {
            Kind::Time | Kind::Whole => Values::Long(Vec::new()),
            Kind::Small => Values::Int(Vec::new()),
            Kind::Flag => Values::Flag(Vec::new()),
            Kind::Word => Values::Word(Words::default()),
            Kind::Text => Values::Text(Texts::default()),
            Kind::Decimal(_) => Values::Decimal(Vec::new()),
            Kind::Levels(_) => Values::Levels { prices: Vec::new(), sizes: Vec::new() },
        };
        Self { column, values, definitions: Vec::new(), repetitions: Vec::new(), unfit: Vec::new() }
    }

    #[inline]
    fn define(&mut self, there: bool) {
        if !self.column.required {
            self.definitions.push(i16::from(there));
        }
    }
}

/// Text that repeats: each word once, and which word stands where.
#[derive(Debug, Default)]
pub(super) struct Words {
    known: Vec<ByteArray>,
    places: HashMap<Box<str>, u32, RandomState>,
    rows: Vec<u32>,
}

impl Words {
    fn push(&mut self, word: &str) {
        // The last word, or one of few, is found faster without a hash.
        let near = self.known.iter().take(FEW).position(|known| known.data() == word.as_bytes());
        let place = match near {
            Some(place) => u32::try_from(place).unwrap_or_default(),
            None => self.place(word),
        };
        self.rows.push(place);
    }

    fn place(&mut self, word: &str) -> u32 {
        if let Some(place) = self.places.get(word) {
            return *place;
        }
        let place = u32::try_from(self.known.len()).unwrap_or(u32::MAX);
        self.known.push(word.into());
        self.places.insert(word.into(), place);
        place
    }

    pub(super) fn to_values(&self) -> Vec<ByteArray> {
        self.rows.iter().filter_map(|place| self.known.get(*place as usize).cloned()).collect()
    }
}

/// Text that does not repeat.
#[derive(Debug, Default)]
pub(super) struct Texts {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Texts {
    fn end(&mut self) {
        self.ends.push(self.bytes.len());
    }

    pub(super) fn to_values(&self) -> Vec<ByteArray> {
        let bytes = Bytes::copy_from_slice(&self.bytes);
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| bytes.slice(start..*end).into()).collect()
    }
}

/// A row that is being filled, column by column.
pub(super) struct Row<'a> {
    at: usize,
    cells: std::slice::IterMut<'a, Cells>,
    bytes: &'a mut usize,
    unfit: Vec<&'static str>,
}

impl Row<'_> {
    fn next(&mut self, bytes: usize) -> Option<&mut Cells> {
        // With what a place in the column takes, be it a null.
        *self.bytes += bytes + size_of::<i16>();
        let cells = self.cells.next();
        debug_assert!(cells.is_some(), "more values than columns");
        cells
    }

    #[inline]
    pub(super) fn time(&mut self, time: Option<Time>) {
        self.long(time.map(Time::micros));
    }

    pub(super) fn whole(&mut self, number: Option<u64>) {
        self.long(number.and_then(|number| i64::try_from(number).ok()));
    }

    #[inline]
    fn long(&mut self, number: Option<i64>) {
        let Some(cells) = self.next(8) else { return };
        cells.define(number.is_some());
        if let (Values::Long(values), Some(number)) = (&mut cells.values, number) {
            values.push(number);
        }
    }

    pub(super) fn small(&mut self, number: Option<u32>) {
        let Some(cells) = self.next(4) else { return };
        let number = number.and_then(|number| i32::try_from(number).ok());
        cells.define(number.is_some());
        if let (Values::Int(values), Some(number)) = (&mut cells.values, number) {
            values.push(number);
        }
    }

    pub(super) fn flag(&mut self, flag: bool) {
        let Some(cells) = self.next(1) else { return };
        if let Values::Flag(values) = &mut cells.values {
            values.push(flag);
        }
    }

    #[inline]
    pub(super) fn word(&mut self, word: Option<&str>) {
        let Some(cells) = self.next(4) else { return };
        cells.define(word.is_some());
        if let (Values::Word(words), Some(word)) = (&mut cells.values, word) {
            words.push(word);
        }
    }

    /// Text, as it is written into the column's bytes; `None` for a null.
    fn text_by(&mut self, write: Option<impl FnOnce(&mut Vec<u8>)>) {
        let Some(cells) = self.next(8) else { return };
        cells.define(write.is_some());
        let mut grown = 0;
        if let (Values::Text(texts), Some(write)) = (&mut cells.values, write) {
            let before = texts.bytes.len();
            write(&mut texts.bytes);
            texts.end();
            grown = texts.bytes.len() - before;
        }
        *self.bytes += grown;
    }

    pub(super) fn text(&mut self, text: &str) {
        self.text_by(Some(|out: &mut Vec<u8>| out.extend_from_slice(text.as_bytes())));
    }

    /// A hash in hexadecimal digits.
    pub(super) fn hash(&mut self, hash: &[u8; 16]) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digit = |nibble: u8| DIGITS.get(usize::from(nibble & 15)).copied().unwrap_or_default();
        self.text_by(Some(|out: &mut Vec<u8>| out.extend(hash.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]))));
    }

    pub(super) fn ident(&mut self, ident: Option<&Ident>) {
        use std::io::Write as _;
        self.text_by(ident.map(|ident| {
            move |out: &mut Vec<u8>| match ident {
                Ident::Text(text) => out.extend_from_slice(text.as_bytes()),
                // Writing to a vector cannot fail.
                number => drop(write!(out, "{number}")),
            }
        }));
    }

    #[inline]
    pub(super) fn decimal(&mut self, decimal: Option<&Decimal>) {
        let at = self.at;
        let Some(cells) = self.next(DECIMAL_BYTES) else { return };
        let Kind::Decimal(scale) = cells.column.kind else { return };
        let scaled = decimal.and_then(|decimal| decimal.scaled(scale));
        cells.define(scaled.is_some());
        match (&mut cells.values, scaled, decimal) {
            (Values::Decimal(values), Some(scaled), _) => values.extend_from_slice(&scaled.to_be_bytes()),
            (_, None, Some(decimal)) => {
                cells.unfit.push((at, decimal.to_string()));
                let name = cells.column.name;
                self.unfit.push(name);
            }
            _ => {}
        }
    }

    /// A side of a book.
    pub(super) fn levels(&mut self, levels: &[Level]) {
        let at = self.at;
        let Some(cells) = self.next(levels.len() * 2 * (DECIMAL_BYTES + size_of::<i16>())) else { return };
        let (Kind::Levels(scale), Values::Levels { prices, sizes }) = (cells.column.kind, &mut cells.values) else { return };
        let before = (prices.len(), cells.definitions.len());
        if levels.is_empty() {
            // A list that is there, and has nothing in it.
            cells.definitions.push(1);
            cells.repetitions.push(0);
            return;
        }
        for (number, level) in levels.iter().enumerate() {
            let (Some(price), Some(size)) = (level.price.scaled(scale), level.size.scaled(scale)) else {
                prices.truncate(before.0);
                sizes.truncate(before.0);
                cells.definitions.truncate(before.1);
                cells.repetitions.truncate(before.1);
                cells.definitions.push(0);
                cells.repetitions.push(0);
                let text: Vec<String> = levels.iter().map(|level| format!("[\"{}\",\"{}\"]", level.price, level.size)).collect();
                cells.unfit.push((at, format!("[{}]", text.join(","))));
                let name = cells.column.name;
                self.unfit.push(name);
                return;
            };
            prices.extend_from_slice(&price.to_be_bytes());
            sizes.extend_from_slice(&size.to_be_bytes());
            cells.definitions.push(2);
            cells.repetitions.push(i16::from(number > 0));
        }
    }

    /// Ends the row: the columns in which a value did not fit.
    pub(super) fn end(self) -> Vec<&'static str> {
        debug_assert_eq!(self.cells.len(), 0, "every column has its value");
        self.unfit
    }
}
