//! What a simulated venue is: names for its instruments, and its wire format both ways.

use exchange_core::{Event, Market, Time};

use crate::book::Numbering;
use crate::hub::{ConnId, Hub};
use crate::listing::Listing;
use crate::market::{Inst, Moved};
use crate::world::World;

/// The venues that have a simulated market.
pub(crate) const ALL: &[&dyn Wire] = &[&crate::binance::Binance, &crate::bybit::Bybit];

/// A venue's wire format.
pub(crate) trait Wire: Sync {
    /// The name on the command line.
    fn name(&self) -> &'static str;
    /// The venue's name of an instrument, and that of its index.
    fn symbol(&self, market: Market, base: &str, quote: &str, expiry: Option<Time>) -> (String, String);
    /// What the `index`-th dated linear contract is quoted in.
    fn dated_quote(&self, index: usize) -> &'static str;
    /// Quote currency in one inverse contract.
    fn inverse_contract(&self, base: &str) -> i64;
    /// A base currency that is not plain ASCII, where the venue has them.
    fn unusual_base(&self, market: Market) -> Option<&'static str>;
    /// Whether pairs that are not traded any more stay listed.
    fn lists_dead_pairs(&self) -> bool;
    /// Whether the trades of all instruments share one counter.
    fn global_trade_ids(&self, market: Market) -> bool;
    /// How books are numbered.
    fn numbering(&self, market: Market) -> Numbering;
    /// Whether one push carries price, mark, funding and open interest.
    fn one_ticker_has_all(&self, market: Market) -> bool;
    /// Decimal places of mark and index prices.
    fn mark_scale(&self, listing: &Listing) -> u8;
    /// Answers a request.
    fn rest(&self, world: &mut World, request: &Request) -> Answer;
    /// How much of which budget a request takes.
    fn cost(&self, request: &Request) -> Cost;
    /// The answer to a request beyond the budget at a time; `until` is when it may come again.
    fn refused(&self, cost: &Cost, used: u32, wall: Time, until: Time) -> Answer;
    /// The surface that a WebSocket path leads to.
    fn route(&self, path: &str) -> Option<Route>;
    /// A connection was opened, with the path and the query of its address.
    fn opened(&self, world: &mut World, conn: ConnId, path: &str, query: &[(String, String)]);
    /// A client's text frame.
    fn frame(&self, world: &mut World, conn: ConnId, text: &str);
    /// Pushes what happened to those who want to know.
    fn publish(&self, push: &mut Push<'_>, index: usize, inst: &Inst, moved: &Moved<'_>);
    /// Pushes what goes out by the clock, about once a second.
    fn beat(&self, world: &mut World);
    /// Frames that a client may send in a second; more, and it is cut off.
    fn frames_per_second(&self, route: Route) -> u32;
    /// How often the venue itself pings, if it does.
    fn ping_every(&self) -> Option<std::time::Duration>;
}

/// An HTTP request to a venue.
#[derive(Debug)]
pub(crate) struct Request {
    /// Behind the venue's prefix.
    pub(crate) path: String,
    /// Decoded pairs.
    pub(crate) query: Vec<(String, String)>,
    /// The wall's clock when it is answered.
    pub(crate) wall: Time,
}

impl Request {
    /// The value of a key.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.query.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// The number of a key.
    pub(crate) fn number(&self, key: &str) -> Option<i64> {
        self.get(key)?.parse().ok()
    }

    /// How many records are wanted.
    pub(crate) fn limit(&self, default: usize, most: usize) -> usize {
        self.get("limit").and_then(|limit| limit.parse().ok()).unwrap_or(default).clamp(1, most)
    }
}

/// An HTTP answer.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    /// What it says, as events.
    pub(crate) events: Vec<Event>,
}

impl Answer {
    pub(crate) fn ok(body: String) -> Self {
        Self { status: 200, body, ..Self::default() }
    }

    pub(crate) fn error(status: u16, body: impl Into<String>) -> Self {
        Self { status, body: body.into(), ..Self::default() }
    }
}

/// What a request costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cost {
    /// The budget's name.
    pub(crate) budget: &'static str,
    pub(crate) units: u32,
    /// So many units may be used in so many seconds.
    pub(crate) limit: u32,
    pub(crate) seconds: i64,
    /// The header that says how much is used.
    pub(crate) header: Option<&'static str>,
}

/// Where a WebSocket path leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Route {
    /// A number for the venue's own use.
    pub(crate) surface: u8,
    /// Whether pushes come without an envelope.
    pub(crate) raw: bool,
}

/// What pushing needs.
pub(crate) struct Push<'a> {
    pub(crate) hub: &'a mut Hub,
    /// The venue's place in [`World`].
    pub(crate) venue: usize,
    /// The venue's clock, in milliseconds.
    pub(crate) now: i64,
    /// The wall's clock: when this is served.
    pub(crate) wall: Time,
    /// The venue's own counter.
    pub(crate) seq: u64,
}
