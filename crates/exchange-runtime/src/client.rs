//! Venues for programs that want an answer rather than a stream of events: ccxt's names over this crate's parts.
//!
//! A [`Client`] decodes with the same decoders as a collector and gives the same facts, with the same ids, as typed
//! records. It keeps to the venue's budgets by waiting; it does not place orders, and keeps no history. Two clients of
//! one venue do not know of each other's requests unless they have a state directory in common ([`Client::with_state`]):
//! one is enough, and cheap to clone.

mod asker;
mod error;
mod markets;
mod part;
mod record;
mod watch;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use exchange_core::event::{Book, Candle, Funding, FundingSettled, Liquidation, OpenInterest, Ticker, Trade};
use exchange_core::instrument::Details;
use exchange_core::plan::{Poll, Range};
use exchange_core::profile::Endpoint;
use exchange_core::{Body, Channel, Event, Instrument, Interval, Latest, Market, Mode, Sealer, Time, Venue, Want};
use futures_util::{StreamExt as _, TryStreamExt as _};

use self::asker::Asker;
pub use self::error::{ClientError, ClientErrorKind};
use self::markets::{MARKETS, Markets, candidates};
use self::part::Part;
pub use self::record::Record;
use self::record::{book, candle, cut, details, funding, keep, liquidation, open_interest, settled, ticker, trade};
pub use self::watch::{Watch, WatchError};
use crate::limits::Limits;
use crate::net::Outside;
use crate::state::StateDir;

/// Requests of one call that are under way at once.
const CONCURRENCY: usize = 8;

type Result<T> = std::result::Result<T, ClientError>;

/// A venue, by ccxt's names. Clones share their budgets and what they know of the markets.
///
/// Symbols are unified ones (`BTC/USDT`, `BTC/USDT:USDT`, `BTC/USD:BTC-261225`); each market's instruments are read
/// when they are first needed.
///
/// ```no_run
/// # async fn example(venue: exchange_core::Venue) -> Result<(), exchange_runtime::ClientError> {
/// use exchange_core::Market;
///
/// let client = exchange_runtime::Client::new(venue)?;
/// for funding in client.fetch_funding_rates(Market::Linear, &[]).await? {
///     println!("{:?} {:?}", funding.instrument.symbol, funding.value.rate);
/// }
/// let book = client.fetch_order_book("BTC/USDT:USDT", Some(20)).await?;
/// println!("best bid {:?}", book.value.bids.first());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    venue: Venue,
    asker: Asker,
    state: Option<StateDir>,
    markets: Markets,
    funding: Mutex<FundingState>,
}

/// What is known of funding from one call to the next: some of it changes rarely, and may only be asked for rarely.
#[derive(Default)]
struct FundingState {
    latest: Latest,
    /// When a request that is not to be made at every call was made last.
    asked: HashMap<String, Instant>,
}

impl Client {
    /// A client of a venue. Nothing is asked yet.
    ///
    /// # Errors
    /// [`ClientErrorKind::Config`] where the system's TLS or resolver cannot be set up.
    pub fn new(venue: Venue) -> Result<Self> {
        Self::open(venue, None)
    }

    /// A client that shares the venue's budgets and bans with all other clients and collectors that use a state directory,
    /// in this process, in others and in later ones.
    ///
    /// # Errors
    /// As [`Client::new`], and where the directory cannot be used.
    pub fn with_state(venue: Venue, state: &StateDir) -> Result<Self> {
        Self::open(venue, Some(state.unclaimed()))
    }

    fn open(venue: Venue, state: Option<StateDir>) -> Result<Self> {
        let name = &venue.profile.name;
        let outside = Outside::real().map_err(|error| ClientError::config(name, format!("cannot set up the HTTP client: {error}")))?;
        let limits = Limits::open(&venue.profile, outside.clock, state.as_ref()).map_err(|error| ClientError::config(name, error.to_string()))?;
        let asker = Asker::new(venue.clone(), &outside, limits);
        Ok(Self { inner: Arc::new(Inner { venue, asker, state, markets: Markets::default(), funding: Mutex::default() }) })
    }

    /// The venue.
    pub fn venue(&self) -> &Venue {
        &self.inner.venue
    }

    /// Reads a market's instruments, unless that was done before.
    pub async fn load_markets(&self, market: Market) -> Result<()> {
        let load = || async { self.fetch_markets(market).await.map(drop) };
        match self.inner.markets.loaded.get(market.index()) {
            Some(loaded) => loaded.get_or_try_init(load).await.copied(),
            None => load().await,
        }
    }

    /// What the venue lists in a market, asked for anew.
    pub async fn fetch_markets(&self, market: Market) -> Result<Vec<Record<Details>>> {
        let events = self.poll(self.plan(market, Channel::Instrument, &[])?).await?;
        self.records(&events, details)
    }

    /// The tickers of a market, or of some of its symbols. One request, where the venue has one for all.
    pub async fn fetch_tickers(&self, market: Market, symbols: &[&str]) -> Result<Vec<Record<Ticker>>> {
        let chosen = self.chosen(market, symbols).await?;
        let mut events = self.poll(self.plan(market, Channel::Ticker, &chosen)?).await?;
        keep(&mut events, &chosen);
        self.records(&events, ticker)
    }

    /// The running funding rates of a market's perpetuals, or of some of its symbols: one request for all, and each
    /// record whole, with what the venue publishes elsewhere of it (intervals, caps). A field that it publishes nowhere
    /// is absent.
    pub async fn fetch_funding_rates(&self, market: Market, symbols: &[&str]) -> Result<Vec<Record<Funding>>> {
        let chosen = self.chosen(market, symbols).await?;
        let also = |poll: &Poll| {
            self.profile_endpoints().any(|endpoint| endpoint.also && endpoint.name == poll.request.endpoint && endpoint.markets.contains(&market))
        };
        let (besides, rates): (Vec<Poll>, Vec<Poll>) = self.plan(market, Channel::Funding, &chosen)?.into_iter().partition(also);
        let due: Vec<Poll> = {
            let state = self.inner.funding.lock().unwrap_or_else(PoisonError::into_inner);
            let is_due = |poll: &Poll| state.asked.get(&poll.request.target).is_none_or(|asked| asked.elapsed() >= poll.every.unwrap_or_default());
            besides.into_iter().filter(is_due).collect()
        };
        let asked: Vec<String> = due.iter().map(|poll| poll.request.target.clone()).collect();
        let (mut events, rest) = futures_util::future::try_join(self.poll(rates), self.poll(due)).await?;
        events.retain(|event| matches!(event.body, Body::Funding(_) | Body::DecodeError(_)));
        let mut state = self.inner.funding.lock().unwrap_or_else(PoisonError::into_inner);
        state.asked.extend(asked.into_iter().map(|target| (target, Instant::now())));
        for event in rest.iter().chain(&events) {
            state.latest.update(event);
        }
        keep(&mut events, &chosen);
        for event in &mut events {
            state.latest.fold(event);
        }
        drop(state);
        Sealer::default().seal(&mut events);
        self.records(&events, funding)
    }

    /// Past funding settlements of a perpetual, oldest first: the first `limit` from `since` on (all, without a limit),
    /// or without `since` the last ones, as many as one answer holds.
    pub async fn fetch_funding_rate_history(&self, symbol: &str, since: Option<Time>, limit: Option<usize>) -> Result<Vec<Record<FundingSettled>>> {
        let part = self.part_of(symbol, Channel::FundingSettled).await?;
        let events = match since {
            None => self.ask(&part, Range { limit: Some(limit.unwrap_or(part.most)), ..Range::default() }).await?,
            Some(since) => self.walk(&part, whole_millis(since), limit).await?,
        };
        let mut records = self.records(&events, settled)?;
        records.sort_by_key(|record| record.value.time);
        cut(&mut records, limit, since.is_some());
        Ok(records)
    }

    /// The open interest of a contract.
    pub async fn fetch_open_interest(&self, symbol: &str) -> Result<Record<OpenInterest>> {
        let part = self.part_of(symbol, Channel::OpenInterest).await?;
        let events = self.ask(&part, Range::default()).await?;
        self.only(&part, self.records(&events, open_interest)?)
    }

    /// The order book of an instrument, as a snapshot: at most `limit` levels a side (without a limit, as many as the
    /// venue gives at once). Changes are [`Client::watch_order_book`]'s.
    pub async fn fetch_order_book(&self, symbol: &str, limit: Option<usize>) -> Result<Record<Book>> {
        let part = self.part_of(symbol, Channel::Book).await?;
        let mut events = self.ask(&part, Range { limit: Some(limit.unwrap_or(part.most)), ..Range::default() }).await?;
        // Some venues only know a few depths.
        if let Some(limit) = limit {
            for event in &mut events {
                if let Body::Book(book) = &mut event.body {
                    book.bids.truncate(limit);
                    book.asks.truncate(limit);
                }
            }
            Sealer::default().seal(&mut events);
        }
        self.only(&part, self.records(&events, book)?)
    }

    /// The last trades of an instrument, oldest first: at most `limit`, and at most as many as one answer holds.
    pub async fn fetch_trades(&self, symbol: &str, limit: Option<usize>) -> Result<Vec<Record<Trade>>> {
        let part = self.part_of(symbol, Channel::Trade).await?;
        let events = self.ask(&part, Range { limit: Some(limit.unwrap_or(part.most)), ..Range::default() }).await?;
        let mut records = self.records(&events, trade)?;
        // Trades of one moment keep the venue's order, whichever way round it sends them.
        if records.first().map(|first| first.time) > records.last().map(|last| last.time) {
            records.reverse();
        }
        records.sort_by_key(|record| record.time);
        cut(&mut records, limit, false);
        Ok(records)
    }

    /// Candles of an instrument, oldest first, the running one included. `interval` is `1m`, `1h`, `1d`, whatever the
    /// venue calls it. With `since`, those that opened in the `limit` intervals from then on (without a limit, as many
    /// as one answer holds): fewer, where the venue has none. Without it, the last ones, as many as one answer holds.
    pub async fn fetch_ohlcv(&self, symbol: &str, interval: &str, since: Option<Time>, limit: Option<usize>) -> Result<Vec<Record<Candle>>> {
        let profile = &self.inner.venue.profile;
        let Some(interval) = Interval::parse(interval).filter(|interval| profile.interval(*interval).is_some()) else {
            let known: Vec<&str> = profile.intervals.keys().map(String::as_str).collect();
            return Err(self.config(format!("`{interval}` is no interval of candles; there are {}", known.join(", "))));
        };
        let part = self.part_of(symbol, Channel::Candle(interval)).await?;
        let events = match since {
            None => self.ask(&part, Range { limit: Some(limit.unwrap_or(part.most)), ..Range::default() }).await?,
            Some(since) => self.candles(&part, interval, whole_millis(since), limit).await?,
        };
        let mut records = self.records(&events, candle)?;
        records.sort_by_key(|record| record.value.open_time);
        cut(&mut records, limit, since.is_some());
        Ok(records)
    }

    /// Tickers as they change, each whole.
    pub async fn watch_tickers(&self, symbols: &[&str]) -> Result<Watch<Ticker>> {
        self.watch(Channel::Ticker, symbols, ticker).await
    }

    /// Trades as they happen, from the last ones on, where the venue sends those first.
    pub async fn watch_trades(&self, symbols: &[&str]) -> Result<Watch<Trade>> {
        self.watch(Channel::Trade, symbols, trade).await
    }

    /// Books as the venue sends them: snapshots and changes, the changes that come before their snapshot included.
    pub async fn watch_order_book(&self, symbols: &[&str]) -> Result<Watch<Book>> {
        self.watch(Channel::Book, symbols, book).await
    }

    /// Funding rates as they change, each whole as far as it is known by then.
    pub async fn watch_funding_rates(&self, symbols: &[&str]) -> Result<Watch<Funding>> {
        self.watch(Channel::Funding, symbols, funding).await
    }

    /// Liquidations as they happen.
    pub async fn watch_liquidations(&self, symbols: &[&str]) -> Result<Watch<Liquidation>> {
        self.watch(Channel::Liquidation, symbols, liquidation).await
    }

    async fn watch<T>(&self, channel: Channel, symbols: &[&str], value: fn(&Body) -> Option<T>) -> Result<Watch<T>> {
        let mut instruments = Vec::with_capacity(symbols.len());
        for symbol in symbols {
            instruments.push(self.instrument(symbol).await?);
        }
        Watch::start(self.inner.venue.clone(), self.inner.state.clone(), channel, &instruments, value)
    }

    fn config(&self, message: impl Into<String>) -> ClientError {
        ClientError::config(&self.inner.venue.profile.name, message)
    }

    fn profile_endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.inner.venue.profile.endpoint.iter()
    }

    /// The instrument of a symbol.
    async fn instrument(&self, symbol: &str) -> Result<Arc<Instrument>> {
        let Inner { venue, markets, .. } = &*self.inner;
        for market in candidates(symbol).into_iter().filter(|market| venue.profile.markets.contains_key(market)) {
            self.load_markets(market).await?;
            if let Some(instrument) = markets.find(&venue.catalog, symbol) {
                return Ok(instrument);
            }
        }
        Err(markets.unknown(venue, symbol))
    }

    /// The instruments of some of a market's symbols; none, if none was named.
    async fn chosen(&self, market: Market, symbols: &[&str]) -> Result<Vec<Arc<Instrument>>> {
        self.check(market)?;
        self.load_markets(market).await?;
        let Inner { venue, markets, .. } = &*self.inner;
        let find = |symbol: &&str| match markets.find(&venue.catalog, symbol) {
            Some(instrument) if instrument.market == market => Ok(instrument),
            Some(instrument) => Err(self.config(format!("`{symbol}` is of the {} market, not of {market}", instrument.market))),
            None => Err(markets.unknown(venue, symbol)),
        };
        symbols.iter().map(find).collect()
    }

    fn check(&self, market: Market) -> Result<()> {
        let here: Vec<&str> = MARKETS.iter().filter(|market| self.inner.venue.profile.markets.contains_key(market)).map(|market| market.as_str()).collect();
        if here.contains(&market.as_str()) { Ok(()) } else { Err(self.config(format!("there is no market `{market}`, but {}", here.join(", ")))) }
    }

    /// The requests for a channel of some instruments, or of all.
    fn plan(&self, market: Market, channel: Channel, chosen: &[Arc<Instrument>]) -> Result<Vec<Poll>> {
        self.check(market)?;
        let venue = &self.inner.venue;
        let all = if chosen.is_empty() { venue.catalog.list(market) } else { Vec::new() };
        let instruments = if chosen.is_empty() { &all } else { chosen };
        let plan = venue.exchange.plan(&venue.profile, &Want { market, channels: &[channel], mode: Mode::Poll, fallback: false, instruments });
        if plan.polls.is_empty() { Err(self.not_served(market, channel)) } else { Ok(plan.polls) }
    }

    fn not_served(&self, market: Market, channel: Channel) -> ClientError {
        self.config(format!("there is no {} to be fetched of the {market} market", channel.as_str()))
    }

    async fn poll(&self, polls: Vec<Poll>) -> Result<Vec<Event>> {
        let answers = futures_util::stream::iter(polls.into_iter().map(|poll| self.inner.asker.ask(poll.request)));
        answers.buffered(CONCURRENCY).try_concat().await
    }

    /// The values of some events. A record that could not be decoded costs only itself, unless it is all there is.
    fn records<T>(&self, events: &[Event], value: fn(&Body) -> Option<T>) -> Result<Vec<Record<T>>> {
        let mut records = Vec::with_capacity(events.len());
        let mut failed = None;
        for event in events {
            if let Body::DecodeError(failure) = &event.body {
                tracing::warn!(
                    venue = &*event.instrument.venue,
                    symbol = &*event.instrument.venue_symbol,
                    reason = failure.reason,
                    "a record could not be decoded"
                );
                failed = Some(&failure.reason);
            } else if let Some(value) = value(&event.body) {
                records.push(Record::of(event, value));
            }
        }
        match failed {
            Some(reason) if records.is_empty() => {
                Err(ClientError::malformed(&self.inner.venue.profile.name, reason.strip_prefix("malformed: ").unwrap_or(reason)))
            }
            _ => Ok(records),
        }
    }

    /// The one record of an instrument.
    fn only<T>(&self, part: &Part<'_>, records: Vec<Record<T>>) -> Result<Record<T>> {
        let missing = || ClientError::malformed(&self.inner.venue.profile.name, format!("the answer says nothing of {}", part.instrument.venue_symbol));
        records.into_iter().next_back().ok_or_else(missing)
    }
}

/// The first whole millisecond, which is what venues count in.
fn whole_millis(time: Time) -> Time {
    Time::from_millis((time + Duration::from_micros(999)).millis())
}
