//! The columns of each event type, as data: the data contract's fields in its order.
//!
//! Behind the contract's own columns stands a `<column>_text` for each that holds decimals: what does not fit its scale
//! is null in the column and exact in the text.

use std::sync::{Arc, LazyLock};

use ::parquet::basic::{LogicalType, Repetition, TimeUnit, Type as Physical};
use ::parquet::errors::ParquetError;
use ::parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use ::parquet::schema::types::{ColumnPath, Type, TypePtr};
use exchange_core::Body;

use ::parquet::basic::{Compression, ZstdLevel};

/// Digits of every decimal column.
const PRECISION: i32 = 38;
/// Bytes of every decimal column's values.
pub(super) const DECIMAL_BYTES: usize = 16;

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A point in time: microseconds, UTC.
    Time,
    /// Text that repeats.
    Word,
    /// Text that is another one in nearly every row.
    Text,
    /// A small whole number.
    Small,
    /// A whole number.
    Whole,
    /// Yes or no.
    Flag,
    /// An exact decimal of 38 digits, so many of them behind the point.
    Decimal(u8),
    /// A side of a book: a list of price and size, decimals of this scale.
    Levels(u8),
}

/// One column.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// Whether it is there in every row.
    pub(super) required: bool,
}

impl Column {
    /// Whether it has a `<column>_text` beside it.
    pub(super) fn may_not_fit(&self) -> bool {
        matches!(self.kind, Kind::Decimal(_) | Kind::Levels(_))
    }

    fn to_parquet(self) -> Result<Vec<Type>, ParquetError> {
        let repetition = if self.required { Repetition::REQUIRED } else { Repetition::OPTIONAL };
        let mut fields = vec![match self.kind {
            Kind::Time => Type::primitive_type_builder(self.name, Physical::INT64)
                .with_logical_type(Some(LogicalType::timestamp(true, TimeUnit::MICROS)))
                .with_repetition(repetition)
                .build()?,
            Kind::Word | Kind::Text => text(self.name, repetition)?,
            Kind::Small => Type::primitive_type_builder(self.name, Physical::INT32).with_repetition(repetition).build()?,
            Kind::Whole => Type::primitive_type_builder(self.name, Physical::INT64).with_repetition(repetition).build()?,
            Kind::Flag => Type::primitive_type_builder(self.name, Physical::BOOLEAN).with_repetition(repetition).build()?,
            Kind::Decimal(scale) => decimal(self.name, scale, repetition)?,
            Kind::Levels(scale) => levels(self.name, scale, repetition)?,
        }];
        if self.may_not_fit() {
            fields.push(text(&beside(self.name), Repetition::OPTIONAL)?);
        }
        Ok(fields)
    }
}

/// The name of the column that holds what does not fit into another.
pub(super) fn beside(name: &str) -> String {
    format!("{name}_text")
}

fn text(name: &str, repetition: Repetition) -> Result<Type, ParquetError> {
    Type::primitive_type_builder(name, Physical::BYTE_ARRAY).with_logical_type(Some(LogicalType::String)).with_repetition(repetition).build()
}

fn decimal(name: &str, scale: u8, repetition: Repetition) -> Result<Type, ParquetError> {
    Type::primitive_type_builder(name, Physical::FIXED_LEN_BYTE_ARRAY)
        .with_length(i32::try_from(DECIMAL_BYTES)?)
        .with_precision(PRECISION)
        .with_scale(i32::from(scale))
        .with_logical_type(Some(LogicalType::decimal(i32::from(scale), PRECISION)))
        .with_repetition(repetition)
        .build()
}

/// `LIST<STRUCT<price, size>>` in the three levels that the format's specification asks for.
fn levels(name: &str, scale: u8, repetition: Repetition) -> Result<Type, ParquetError> {
    let fields = [decimal("price", scale, Repetition::REQUIRED)?, decimal("size", scale, Repetition::REQUIRED)?];
    let element = Type::group_type_builder("element").with_repetition(Repetition::REQUIRED).with_fields(fields.map(Arc::new).to_vec()).build()?;
    let list = Type::group_type_builder("list").with_repetition(Repetition::REPEATED).with_fields(vec![Arc::new(element)]).build()?;
    Type::group_type_builder(name).with_logical_type(Some(LogicalType::List)).with_repetition(repetition).with_fields(vec![Arc::new(list)]).build()
}

/// An event type's table.
#[derive(Debug)]
pub(super) struct Table {
    /// The contract's `type`.
    pub(super) name: &'static str,
    /// What it has besides the [columns of all](COMMON).
    pub(super) own: &'static [Column],
}

impl Table {
    /// The columns, without those beside them.
    pub(super) fn columns(&self) -> impl Iterator<Item = Column> {
        COMMON.iter().chain(self.own).copied()
    }

    /// The schema as the format has it.
    pub(super) fn schema(&self) -> Result<TypePtr, ParquetError> {
        // The columns beside stand at the end, where they are not in the way.
        let (mut fields, mut texts) = (Vec::new(), Vec::new());
        for column in self.columns() {
            let mut made = column.to_parquet()?.into_iter().map(Arc::new);
            fields.extend(made.next());
            texts.extend(made);
        }
        fields.append(&mut texts);
        Ok(Arc::new(Type::group_type_builder(self.name).with_fields(fields).build()?))
    }

    /// How the columns are written.
    pub(super) fn properties(&self, level: i32) -> Result<WriterPropertiesBuilder, ParquetError> {
        let mut properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(level)?))
            .set_created_by(concat!("collector ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_dictionary_enabled(true)
            .set_statistics_enabled(EnabledStatistics::None)
            .set_offset_index_disabled(true)
            // The columns are there whole, so nothing is gained by small steps.
            .set_write_batch_size(1 << 20)
            .set_max_row_group_row_count(None);
        for column in self.columns() {
            let path = ColumnPath::from(column.name);
            match column.kind {
                // What people ask by: readers skip the parts of files that cannot have it.
                Kind::Time => {
                    properties = properties.set_column_statistics_enabled(path.clone(), EnabledStatistics::Chunk).set_column_dictionary_enabled(path, false);
                }
                Kind::Word => properties = properties.set_column_statistics_enabled(path, EnabledStatistics::Chunk),
                Kind::Text => properties = properties.set_column_dictionary_enabled(path, false),
                _ => {}
            }
        }
        Ok(properties)
    }
}

/// The table of an event, as an index into [`TABLES`].
pub(super) fn table_of(body: &Body) -> Option<usize> {
    let name = body.kind();
    // In the order of how many there are of each.
    TABLES.iter().position(|table| table.name == name)
}

/// The schemas of all tables, made once.
pub(super) static SCHEMAS: LazyLock<Result<Vec<TypePtr>, String>> =
    LazyLock::new(|| TABLES.iter().map(|table| table.schema().map_err(|error| error.to_string())).collect());

/// Places behind the point of prices, sizes, volumes and all else that is no rate.
const PLACES: u8 = 18;
/// Places behind the point of rates and fractions.
const RATE_PLACES: u8 = 28;

const fn has(name: &'static str, kind: Kind) -> Column {
    Column { name, kind, required: true }
}

const fn may(name: &'static str, kind: Kind) -> Column {
    Column { name, kind, required: false }
}

const fn amount(name: &'static str) -> Column {
    may(name, Kind::Decimal(PLACES))
}

const fn rate(name: &'static str) -> Column {
    may(name, Kind::Decimal(RATE_PLACES))
}

/// What every event has. Its type, venue and date are in the path.
pub(super) const COMMON: &[Column] = &[
    has("t", Kind::Time),
    may("et", Kind::Time),
    has("market", Kind::Word),
    may("venue_symbol", Kind::Word),
    may("symbol", Kind::Word),
    may("origin", Kind::Word),
    has("id", Kind::Text),
];

/// All tables, the most frequent events first.
pub(super) const TABLES: [Table; 14] = [
    Table {
        name: "book",
        own: &[
            has("kind", Kind::Word),
            may("bids", Kind::Levels(PLACES)),
            may("asks", Kind::Levels(PLACES)),
            may("seq", Kind::Text),
            may("prev_seq", Kind::Text),
            may("checksum", Kind::Text),
        ],
    },
    Table { name: "quote", own: &[amount("bid"), amount("bid_size"), amount("ask"), amount("ask_size"), may("seq", Kind::Text)] },
    Table { name: "trade", own: &[may("trade_id", Kind::Text), amount("price"), amount("size"), amount("size_base"), may("side", Kind::Word)] },
    Table {
        name: "ticker",
        own: &[
            amount("last"),
            amount("last_size"),
            amount("bid"),
            amount("bid_size"),
            amount("ask"),
            amount("ask_size"),
            amount("open_24h"),
            amount("high_24h"),
            amount("low_24h"),
            amount("volume_24h"),
            amount("turnover_24h"),
            rate("change_24h"),
        ],
    },
    Table { name: "mark", own: &[amount("mark"), amount("index"), amount("basis")] },
    Table {
        name: "funding",
        own: &[rate("rate"), may("next_time", Kind::Time), may("interval_hours", Kind::Small), rate("predicted_rate"), rate("cap"), rate("floor")],
    },
    Table { name: "open_interest", own: &[amount("value"), amount("value_base"), amount("value_quote")] },
    Table { name: "liquidation", own: &[amount("price"), amount("size"), amount("size_base"), may("side", Kind::Word), may("trade_id", Kind::Text)] },
    Table {
        name: "candle",
        own: &[
            has("interval", Kind::Word),
            has("open_time", Kind::Time),
            amount("open"),
            amount("high"),
            amount("low"),
            amount("close"),
            amount("volume"),
            amount("turnover"),
            may("trades", Kind::Whole),
            has("closed", Kind::Flag),
        ],
    },
    Table { name: "funding_settled", own: &[rate("rate"), has("time", Kind::Time), amount("mark")] },
    Table {
        name: "instrument",
        own: &[
            has("kind", Kind::Word),
            has("base", Kind::Word),
            has("quote", Kind::Word),
            may("settle", Kind::Word),
            amount("contract_size"),
            amount("tick_size"),
            amount("lot_size"),
            amount("min_size"),
            may("expiry", Kind::Time),
            has("status", Kind::Word),
            may("funding_interval_hours", Kind::Small),
        ],
    },
    Table { name: "gap", own: &[has("channel", Kind::Word), has("reason", Kind::Word), may("from", Kind::Text), may("to", Kind::Text)] },
    Table {
        name: "refill",
        own: &[
            has("gap", Kind::Text),
            has("channel", Kind::Word),
            may("from", Kind::Text),
            may("to", Kind::Text),
            may("count", Kind::Whole),
            has("complete", Kind::Flag),
        ],
    },
    Table { name: "decode_error", own: &[has("reason", Kind::Text), has("excerpt", Kind::Text)] },
];
