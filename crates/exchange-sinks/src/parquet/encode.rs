//! Rows to the bytes of a file, and a file's metadata back.

use ::parquet::column::writer::ColumnCloseResult;
use ::parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, FixedLenByteArray, FixedLenByteArrayType, Int32Type, Int64Type};
use ::parquet::errors::{ParquetError, Result};
use ::parquet::file::metadata::{KeyValue, ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData};
use ::parquet::file::reader::ChunkReader;
use ::parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use bytes::Bytes;
use exchange_core::event::SCHEMA;

use ::parquet::schema::types::SchemaDescriptor;

use super::covers::Covers;
use super::rows::{Cells, Rows, Values};
use super::table::{DECIMAL_BYTES, SCHEMAS, TABLES};

/// The number of the data contract.
const SCHEMA_KEY: &str = "collector.schema";
/// The event type.
const TYPE_KEY: &str = "collector.type";
/// The venue.
const VENUE_KEY: &str = "collector.venue";
/// What of which journal the file covers.
const COVERS_KEY: &str = "collector.covers";
/// Of which other objects of its partition it was made, in an object store.
const REPLACES_KEY: &str = "collector.replaces";

/// What a file is to be.
pub(super) struct Draft<'a> {
    /// Its table, an index into [`TABLES`].
    pub(super) table: usize,
    pub(super) venue: &'a str,
    pub(super) level: i32,
    /// The file as it lies, and how many row groups of it stay, in their places: all, unless the last were written by an attempt
    /// that seemed to fail.
    pub(super) before: Option<(&'a Bytes, usize)>,
    /// What comes behind them.
    pub(super) rows: &'a Rows,
    pub(super) covers: &'a Covers,
}

/// Makes the bytes of a file.
pub(super) fn encode(draft: &Draft<'_>) -> Result<Vec<u8>> {
    let mut writer = writer(Vec::with_capacity(draft.before.map_or(0, |(bytes, _)| bytes.len()) + 64 * 1024), draft.table, draft.level)?;
    if let Some((bytes, keep)) = draft.before {
        for group in metadata(bytes)?.row_groups().iter().take(keep) {
            copy(bytes, group, &mut writer)?;
        }
    }
    if draft.rows.count() > 0 {
        let mut group = writer.next_row_group()?;
        for cells in draft.rows.columns() {
            column(cells, &mut group)?;
        }
        for cells in draft.rows.columns().iter().filter(|cells| cells.column.may_not_fit()) {
            beside(cells, draft.rows.count(), &mut group)?;
        }
        group.close()?;
    }
    describe(&mut writer, draft.table, draft.venue, draft.covers);
    writer.into_inner()
}

/// A writer of a table's files.
pub(super) fn writer<W: std::io::Write + Send>(out: W, table: usize, level: i32) -> Result<SerializedFileWriter<W>> {
    let unknown = || ParquetError::General(format!("there is no table {table}"));
    let schemas = SCHEMAS.as_ref().map_err(|error| ParquetError::General(error.clone()))?;
    let schema = schemas.get(table).ok_or_else(unknown)?;
    let properties = TABLES.get(table).ok_or_else(unknown)?.properties(level)?.build();
    SerializedFileWriter::new(out, schema.clone(), properties.into())
}

/// Says in a file's metadata what it is.
pub(super) fn describe<W: std::io::Write + Send>(writer: &mut SerializedFileWriter<W>, table: usize, venue: &str, covers: &Covers) {
    let kind = TABLES.get(table).map_or("", |table| table.name);
    for (key, value) in [(SCHEMA_KEY, SCHEMA.to_string()), (TYPE_KEY, kind.to_owned()), (VENUE_KEY, venue.to_owned()), (COVERS_KEY, covers.to_string())] {
        writer.append_key_value_metadata(KeyValue::new(key.to_owned(), value));
    }
}

/// Says in a file's metadata which others it was made of, by their names.
pub(super) fn says_it_replaces<W: std::io::Write + Send>(writer: &mut SerializedFileWriter<W>, names: &str) {
    writer.append_key_value_metadata(KeyValue::new(REPLACES_KEY.to_owned(), names.to_owned()));
}

/// How many columns a table's files have, those inside of lists counted one by one.
pub(super) fn leaves(table: usize) -> Result<usize> {
    let schemas = SCHEMAS.as_ref().map_err(|error| ParquetError::General(error.clone()))?;
    let schema = schemas.get(table).ok_or_else(|| ParquetError::General(format!("there is no table {table}")))?;
    Ok(SchemaDescriptor::new(schema.clone()).num_columns())
}

/// A file's metadata.
pub(super) fn metadata(file: &impl ChunkReader) -> Result<ParquetMetaData> {
    ParquetMetaDataReader::new().parse_and_finish(file)
}

/// What a file covers, as its metadata says.
pub(super) fn covers(metadata: &ParquetMetaData) -> Option<Covers> {
    value(metadata, COVERS_KEY)?.parse().ok()
}

/// The names of the files that a merged one was made of.
#[cfg(feature = "s3")]
pub(super) fn replaces(metadata: &ParquetMetaData) -> impl Iterator<Item = &str> {
    value(metadata, REPLACES_KEY).unwrap_or_default().split_whitespace()
}

fn value<'m>(metadata: &'m ParquetMetaData, key: &str) -> Option<&'m str> {
    let pairs = metadata.file_metadata().key_value_metadata()?;
    pairs.iter().find(|pair| pair.key == key)?.value.as_deref()
}

/// What a file's metadata says of its rows.
pub(super) struct Description<'a> {
    /// The number of the data contract.
    pub(super) schema: &'a str,
    pub(super) kind: &'a str,
    pub(super) venue: &'a str,
}

/// What the rows of a file are.
pub(super) fn description(metadata: &ParquetMetaData) -> Option<Description<'_>> {
    let pairs = metadata.file_metadata().key_value_metadata()?;
    let value = |key: &str| pairs.iter().find(|pair| pair.key == key)?.value.as_deref();
    Some(Description { schema: value(SCHEMA_KEY)?, kind: value(TYPE_KEY)?, venue: value(VENUE_KEY)? })
}

/// Whether a file has exactly the columns of a table of today.
pub(super) fn is_of_today(metadata: &ParquetMetaData, table: usize) -> bool {
    SCHEMAS.as_ref().ok().and_then(|schemas| schemas.get(table)).is_some_and(|schema| metadata.file_metadata().schema() == &**schema)
}

/// Copies a row group as it lies.
fn copy<W: std::io::Write + Send>(file: &Bytes, group: &RowGroupMetaData, writer: &mut SerializedFileWriter<W>) -> Result<()> {
    let mut out = writer.next_row_group()?;
    for chunk in group.columns() {
        let close = ColumnCloseResult {
            bytes_written: u64::try_from(chunk.compressed_size())?,
            rows_written: u64::try_from(group.num_rows())?,
            metadata: chunk.clone(),
            bloom_filter: None,
            column_index: None,
            offset_index: None,
        };
        out.append_column(file, close)?;
    }
    out.close()?;
    Ok(())
}

fn column<W: std::io::Write + Send>(cells: &Cells, group: &mut SerializedRowGroupWriter<'_, W>) -> Result<()> {
    match &cells.values {
        Values::Long(values) => write::<Int64Type, _>(cells, values, group),
        Values::Int(values) => write::<Int32Type, _>(cells, values, group),
        Values::Flag(values) => write::<BoolType, _>(cells, values, group),
        Values::Word(words) => write::<ByteArrayType, _>(cells, &words.to_values(), group),
        Values::Text(texts) => write::<ByteArrayType, _>(cells, &texts.to_values(), group),
        Values::Decimal(values) => write::<FixedLenByteArrayType, _>(cells, &decimals(values), group),
        Values::Levels { prices, sizes } => {
            write::<FixedLenByteArrayType, _>(cells, &decimals(prices), group)?;
            write::<FixedLenByteArrayType, _>(cells, &decimals(sizes), group)
        }
    }
}

fn decimals(bytes: &[u8]) -> Vec<FixedLenByteArray> {
    let all = Bytes::copy_from_slice(bytes);
    (0..bytes.len() / DECIMAL_BYTES).map(|at| ByteArray::from(all.slice(at * DECIMAL_BYTES..(at + 1) * DECIMAL_BYTES)).into()).collect()
}

fn write<T: DataType, W: std::io::Write + Send>(cells: &Cells, values: &[T::T], group: &mut SerializedRowGroupWriter<'_, W>) -> Result<()> {
    let definitions = Some(&*cells.definitions).filter(|_| !cells.column.required);
    let repetitions = Some(&*cells.repetitions).filter(|_| matches!(cells.values, Values::Levels { .. }));
    put::<T, W>(values, definitions, repetitions, group)
}

/// Writes the next column of a row group.
pub(super) fn put<T: DataType, W: std::io::Write + Send>(
    values: &[T::T],
    definitions: Option<&[i16]>,
    repetitions: Option<&[i16]>,
    group: &mut SerializedRowGroupWriter<'_, W>,
) -> Result<()> {
    let mut column = group.next_column()?.ok_or_else(|| ParquetError::General("there are more columns than the schema has".to_owned()))?;
    column.typed::<T>().write_batch(values, definitions, repetitions)?;
    column.close()
}

/// The exact text of what did not fit.
fn beside<W: std::io::Write + Send>(cells: &Cells, rows: usize, group: &mut SerializedRowGroupWriter<'_, W>) -> Result<()> {
    let mut definitions = vec![0; rows];
    let mut texts: Vec<ByteArray> = Vec::new();
    for (row, text) in &cells.unfit {
        if let Some(definition) = definitions.get_mut(*row) {
            *definition = 1;
            texts.push(text.as_str().into());
        }
    }
    put::<ByteArrayType, W>(&texts, Some(&definitions), None, group)
}
