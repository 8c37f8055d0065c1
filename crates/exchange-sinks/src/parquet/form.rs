//! Rows to event lines: the columns of a [table](super::table) as the fields of the data contract.

use ::parquet::errors::{ParquetError, Result as ParquetResult};
use ::parquet::file::metadata::ParquetMetaData;
use ::parquet::record::{Field, Row};
use exchange_core::Decimal;
use exchange_core::encode::write_string;
use exchange_core::event::SCHEMA;

use super::encode::{self, Description};
use super::table::{COMMON, Column, Kind, TABLES, beside};

/// The fields that come first in a line; the last is the event's id.
const FIRST: [&str; 6] = ["market", "venue_symbol", "symbol", "t", "et", "origin"];

/// How the rows of a file are written as lines.
pub(super) struct Form {
    /// How each line begins.
    head: Vec<u8>,
    /// In the order of a line.
    fields: Vec<LineField>,
}

/// Where a field is in a row.
struct LineField {
    /// What stands before the value.
    key: Vec<u8>,
    kind: Kind,
    at: usize,
    /// The column of what did not fit.
    beside: Option<usize>,
}

impl Form {
    /// The form of a file's rows; else what is wrong with it. Columns that came later than the file are absent, those that this
    /// version does not know are passed over.
    pub(super) fn of(metadata: &ParquetMetaData) -> Result<Self, String> {
        let Description { schema, kind, venue } = encode::description(metadata).ok_or("it is none of this collector's: its metadata lacks `collector.type`")?;
        if schema != SCHEMA.to_string() {
            return Err(format!("its events are of schema {schema}, and this collector knows {SCHEMA}"));
        }
        let table = TABLES.iter().find(|table| table.name == kind).ok_or_else(|| format!("events of the type `{kind}` are not known here"))?;
        let names: Vec<&str> = metadata.file_metadata().schema().get_fields().iter().map(|field| field.name()).collect();
        let place = |name: &str| names.iter().position(|known| *known == name);
        let common = |name: &str| COMMON.iter().find(|column| column.name == name).copied();
        let order = FIRST.into_iter().filter_map(common).chain(table.own.iter().copied()).chain(common("id"));
        let mut fields = Vec::new();
        for column @ Column { name, kind, required } in order {
            match place(name) {
                Some(at) => {
                    let beside = column.may_not_fit().then(|| place(&beside(name))).flatten();
                    fields.push(LineField { key: format!(",\"{name}\":").into(), kind, at, beside });
                }
                None if required => return Err(format!("it lacks the column `{name}`")),
                None => {}
            }
        }
        let mut head = format!("{{\"type\":\"{kind}\",\"venue\":").into_bytes();
        write_string(venue, &mut head);
        Ok(Self { head, fields })
    }

    /// Appends a row as a line.
    pub(super) fn write(&self, row: &Row, out: &mut Vec<u8>) -> ParquetResult<()> {
        let values: Vec<&Field> = row.get_column_iter().map(|(_, value)| value).collect();
        out.extend_from_slice(&self.head);
        for field in &self.fields {
            match (values.get(field.at), field.beside.and_then(|at| values.get(at))) {
                (None | Some(Field::Null), Some(Field::Str(exact))) => {
                    out.extend_from_slice(&field.key);
                    // The levels of a book are JSON already.
                    if matches!(field.kind, Kind::Levels(_)) { out.extend_from_slice(exact.as_bytes()) } else { write_string(exact, out) }
                }
                (None | Some(Field::Null), _) => {}
                (Some(value), _) => {
                    out.extend_from_slice(&field.key);
                    write_value(value, out)?;
                }
            }
        }
        out.extend_from_slice(b"}\n");
        Ok(())
    }
}

fn write_value(value: &Field, out: &mut Vec<u8>) -> ParquetResult<()> {
    match value {
        Field::Str(text) => write_string(text, out),
        Field::TimestampMicros(number) | Field::Long(number) => out.extend_from_slice(number.to_string().as_bytes()),
        Field::Int(number) => out.extend_from_slice(number.to_string().as_bytes()),
        Field::Bool(flag) => out.extend_from_slice(if *flag { b"true" } else { b"false" }),
        Field::Decimal(decimal) => {
            let count = decimal.data().try_into().map(i128::from_be_bytes).map_err(|_| strange(value))?;
            let decimal: Decimal = format!("{count}e-{}", decimal.scale()).parse().map_err(|_| strange(value))?;
            out.push(b'"');
            decimal.write_to(out);
            out.push(b'"');
        }
        Field::ListInternal(list) => write_list(list.elements().iter(), out)?,
        Field::Group(level) => write_list(level.get_column_iter().map(|(_, value)| value), out)?,
        _ => return Err(strange(value)),
    }
    Ok(())
}

fn write_list<'a>(values: impl Iterator<Item = &'a Field>, out: &mut Vec<u8>) -> ParquetResult<()> {
    out.push(b'[');
    for (at, value) in values.enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write_value(value, out)?;
    }
    out.push(b']');
    Ok(())
}

fn strange(value: &Field) -> ParquetError {
    ParquetError::General(format!("`{value}` is of a type that no column has"))
}
