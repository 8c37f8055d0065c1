//! One simulated instrument: what happens to it, and what its venue publishes of that.
//!
//! A published figure changes only when it is pushed: the last price that a ticker shows is that of the ticker's last
//! push, not of the last trade. So what is polled and what is streamed are the same at every moment, byte for byte.

use std::collections::VecDeque;
use std::sync::Arc;

use exchange_core::event::Side;
use exchange_core::{Instrument, Market, Time};
use fastrand::Rng;

use crate::book::{Book, Changes, Numbering, lots};
use crate::listing::Listing;
use crate::num::{Num, mix, mix_below, pow10, scaled};
use crate::wire::Wire;

/// Trades that an instrument remembers for those who ask later.
const TRADES: usize = 1000;
/// Candles that it remembers.
const CANDLES: usize = 120;
/// A minute in milliseconds.
pub(crate) const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
/// Decimal places of funding rates.
pub(crate) const RATE_SCALE: u8 = 8;

/// A trade.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Trade {
    pub(crate) id: u64,
    pub(crate) price: i64,
    pub(crate) size: i64,
    pub(crate) side: Side,
    /// Milliseconds, as all times here.
    pub(crate) time: i64,
    /// A number that all instruments of the venue share.
    pub(crate) seq: u64,
}

/// What the venue publishes of an instrument besides its book and its trades.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Row {
    pub(crate) last: i64,
    pub(crate) last_size: i64,
    pub(crate) open: i64,
    pub(crate) high: i64,
    pub(crate) low: i64,
    pub(crate) volume: i64,
    /// In quote, or in base for inverse contracts; see [`Inst::turnover_scale`].
    pub(crate) turnover: i64,
    /// Trades of the day, and the number of the last one.
    pub(crate) count: i64,
    pub(crate) last_id: u64,
    pub(crate) bid: i64,
    pub(crate) bid_size: i64,
    pub(crate) ask: i64,
    pub(crate) ask_size: i64,
    /// When the figures above were published.
    pub(crate) time: i64,
    pub(crate) mark: i64,
    pub(crate) index: i64,
    pub(crate) rate: i64,
    /// When funding is next exchanged; 0 for what has none.
    pub(crate) next_funding: i64,
    /// When mark, index and funding were published.
    pub(crate) premium_time: i64,
    /// One side's, in lots.
    pub(crate) interest: i64,
    pub(crate) interest_time: i64,
}

impl Row {
    /// The change of the day: a fraction with so many places.
    pub(crate) fn change(&self, places: u8) -> i64 {
        scaled(self.last - self.open, pow10(places), self.open)
    }
}

/// A candle of one minute.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Candle {
    /// When it opened.
    pub(crate) start: i64,
    pub(crate) open: i64,
    pub(crate) high: i64,
    pub(crate) low: i64,
    pub(crate) close: i64,
    pub(crate) volume: i64,
    pub(crate) turnover: i64,
    pub(crate) trades: i64,
    pub(crate) first_id: u64,
    pub(crate) last_id: u64,
}

/// A forced order.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Liquidation {
    /// Of the forced order.
    pub(crate) side: Side,
    pub(crate) price: i64,
    pub(crate) average: i64,
    pub(crate) size: i64,
    pub(crate) time: i64,
}

/// What happened, as far as it is pushed. What else there is to say stands in the [`Inst`].
#[derive(Debug)]
pub(crate) enum Moved<'a> {
    Book(&'a Changes),
    /// The last so many trades.
    Trades(usize),
    /// The figures before.
    Ticker(Row),
    Premium,
    Interest,
    Candle(Candle, bool),
    Liquidation(Liquidation),
}

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Book,
    Top,
    Trade,
    Other,
}

/// One instrument of a venue.
#[derive(Debug)]
pub(crate) struct Inst {
    pub(crate) handle: Arc<Instrument>,
    pub(crate) listing: Listing,
    /// Whether the venue lists it now: what is not listed is unknown, and nothing happens to it.
    pub(crate) listed: bool,
    /// The symbol in lower case, as some venues write it in topics.
    pub(crate) lower: String,
    pub(crate) book: Book,
    /// When its best prices last moved.
    pub(crate) quote_time: i64,
    pub(crate) trades: VecDeque<Trade>,
    /// The figures as they are, published or not.
    live: Row,
    /// The figures as published.
    pub(crate) row: Row,
    pub(crate) candle: Option<Candle>,
    pub(crate) candles: VecDeque<Candle>,
    /// Hours between fundings; 0 for what has none.
    pub(crate) funding_hours: i64,
    /// Whether the venue names interval and limits of the funding.
    pub(crate) adjusted: bool,
    /// The highest funding rate.
    pub(crate) cap: i64,
    /// Decimal places of mark and index.
    pub(crate) mark_scale: u8,
    /// Draws the history.
    pub(crate) key: u64,
    /// The minute that the market began in.
    pub(crate) born: i64,
    /// How far the venue's clock is ahead of the market's, in milliseconds: all that happens is stamped by it. Candles and fundings
    /// keep to the market's.
    pub(crate) shift: i64,
    numbering: Numbering,
    /// Whether one push carries all figures.
    whole: bool,
}

impl Inst {
    pub(crate) fn new(wire: &dyn Wire, handle: Arc<Instrument>, listing: Listing, seed: u64, now: i64) -> Self {
        let key = handle.venue_symbol.bytes().chain(handle.venue.bytes()).fold(mix(seed, handle.market.index() as u64), |key, byte| mix(key, u64::from(byte)));
        let mut rng = Rng::with_seed(key);
        let perpetual = listing.is_perpetual();
        let traded = listing.details.status == exchange_core::instrument::Status::Trading;
        let funding_hours = if perpetual { rng.choice([8, 8, 8, 8, 4, 4, 1, 8]).unwrap_or(8) } else { 0 };
        let mark_scale = wire.mark_scale(&listing);
        let mut inst = Self {
            listed: true,
            lower: listing.venue_symbol.to_lowercase(),
            book: if traded { Book::around(listing.price, rng.u64(1_000_000..400_000_000_000), &mut rng) } else { Book { last_id: 7, ..Book::default() } },
            quote_time: now - rng.i64(100..1000),
            trades: VecDeque::new(),
            live: Row::default(),
            row: Row::default(),
            candle: None,
            candles: VecDeque::new(),
            funding_hours,
            adjusted: perpetual && (funding_hours != 8 || rng.u8(0..4) == 0),
            cap: rng.choice([300_000, 500_000, 2_000_000, 37_500]).unwrap_or(300_000) * 5,
            mark_scale,
            key,
            born: now.div_euclid(MINUTE) * MINUTE,
            shift: 0,
            numbering: wire.numbering(listing.market),
            whole: wire.one_ticker_has_all(listing.market),
            handle,
            listing,
        };
        if !traded {
            inst.live.time = now - 400 * 24 * HOUR;
            inst.row = inst.live;
            return inst;
        }
        let price = inst.listing.price;
        let open = price * rng.i64(900..1100) / 1000;
        inst.live = Row {
            last: price,
            last_size: 1,
            open,
            high: open.max(price) * 103 / 100,
            low: open.min(price) * 96 / 100,
            volume: rng.i64(1_000_000..100_000_000),
            count: rng.i64(1000..1_000_000),
            last_id: if wire.global_trade_ids(inst.listing.market) {
                2_290_000_000_000_000_000 + (key >> 24) * 100_000 % 1_000_000_000_000_000
            } else {
                rng.u64(1_000_000..900_000_000)
            },
            time: now - rng.i64(100..60_000),
            interest: rng.i64(100_000..10_000_000),
            interest_time: now - rng.i64(100..60_000),
            premium_time: now - rng.i64(100..1000),
            rate: rng.i64(-20_000..40_000),
            next_funding: if perpetual { (now / (funding_hours * HOUR) + 1) * funding_hours * HOUR } else { 0 },
            ..Row::default()
        };
        inst.live.turnover = inst.turnover(price, inst.live.volume);
        for back in (1..6).rev() {
            inst.trade(&mut rng, now - back * 1000, 0);
        }
        inst.candle = None;
        inst.mark(&mut rng, inst.live.premium_time);
        inst.publish_stats(inst.live.time);
        (inst.row.interest, inst.row.interest_time) = (inst.live.interest, inst.live.interest_time);
        inst
    }

    pub(crate) fn market(&self) -> Market {
        self.listing.market
    }

    pub(crate) fn symbol(&self) -> &str {
        &self.listing.venue_symbol
    }

    /// Whether anything ever happens to it.
    pub(crate) fn moves(&self) -> bool {
        self.listed && self.listing.details.status == exchange_core::instrument::Status::Trading
    }

    pub(crate) fn price(&self, ticks: i64) -> Num {
        Num::new(ticks, self.listing.price_scale)
    }

    pub(crate) fn size(&self, lots: i64) -> Num {
        Num::new(lots, self.listing.size_scale)
    }

    pub(crate) fn mark_price(&self, value: i64) -> Num {
        Num::new(value, self.mark_scale)
    }

    /// Decimal places of turnovers.
    pub(crate) fn turnover_scale(&self) -> u8 {
        if self.market() == Market::Inverse { 8 } else { 4 }
    }

    pub(crate) fn turnover_num(&self, value: i64) -> Num {
        Num::new(value, self.turnover_scale())
    }

    /// The value of `size` lots at a price: in quote, or in base for inverse contracts.
    pub(crate) fn turnover(&self, price: i64, size: i64) -> i64 {
        let (ps, ss) = (self.listing.price_scale, self.listing.size_scale);
        if self.market() == Market::Inverse {
            scaled(size * self.contract(), pow10(8 + ps), price)
        } else {
            let places = i32::from(ps) + i32::from(ss) - i32::from(self.turnover_scale());
            let shift = pow10(u8::try_from(places.unsigned_abs()).unwrap_or(0));
            if places >= 0 { scaled(price, size, shift) } else { price.saturating_mul(size).saturating_mul(shift) }
        }
    }

    /// Quote currency in one inverse contract.
    pub(crate) fn contract(&self) -> i64 {
        let size = self.listing.details.contract_size.as_ref().and_then(exchange_core::Decimal::to_rust_decimal);
        size.and_then(|size| i64::try_from(size.mantissa()).ok()).unwrap_or(1)
    }

    /// Makes one thing happen, and tells what. `seq` is the venue's own counter.
    pub(crate) fn step(&mut self, step: Step, rng: &mut Rng, now: i64, seq: u64, changes: &mut Changes, mut tell: impl FnMut(&Self, &Moved<'_>)) {
        match step {
            Step::Book => {
                self.book.stir(self.numbering, rng, changes);
                tell(self, &Moved::Book(changes));
            }
            Step::Top => {
                self.book.move_top(self.numbering, rng, changes);
                self.quote_time = now + self.shift;
                tell(self, &Moved::Book(changes));
            }
            Step::Trade => {
                let count = if self.whole && rng.u8(0..4) == 0 { rng.usize(2..5) } else { 1 };
                (0..count).for_each(|_| self.trade(rng, now, seq));
                tell(self, &Moved::Trades(count));
            }
            Step::Other => self.other(rng, now, tell),
        }
    }

    fn other(&mut self, rng: &mut Rng, now: i64, mut tell: impl FnMut(&Self, &Moved<'_>)) {
        let derivative = self.market() != Market::Spot;
        match rng.u8(0..10) {
            0..2 => {
                let candle = *self.open_candle(now);
                tell(self, &Moved::Candle(candle, false));
            }
            2 if derivative => {
                let liquidation = self.liquidate(rng, now);
                tell(self, &Moved::Liquidation(liquidation));
            }
            3..6 if derivative && !self.whole => {
                self.mark(rng, now);
                tell(self, &Moved::Premium);
            }
            6 if derivative && !self.whole => {
                self.move_interest(rng, now);
                tell(self, &Moved::Interest);
            }
            _ => {
                let before = self.row;
                if derivative && self.whole {
                    self.mark(rng, now);
                    self.move_interest(rng, now);
                }
                self.publish_stats(now);
                tell(self, &Moved::Ticker(before));
            }
        }
    }

    /// What the clock alone brings about: the end of a candle, a funding.
    pub(crate) fn pass(&mut self, rng: &mut Rng, now: i64, mut tell: impl FnMut(&Self, &Moved<'_>)) {
        if let Some(candle) = self.candle.take_if(|candle| candle.start + MINUTE <= now) {
            if self.candles.len() == CANDLES {
                self.candles.pop_front();
            }
            self.candles.push_back(candle);
            tell(self, &Moved::Candle(candle, true));
        }
        if self.row.next_funding != 0 && self.row.next_funding <= now {
            let before = self.row;
            self.live.next_funding = (now / (self.funding_hours * HOUR) + 1) * self.funding_hours * HOUR;
            self.mark(rng, now);
            if self.whole { tell(self, &Moved::Ticker(before)) } else { tell(self, &Moved::Premium) }
        }
    }

    fn trade(&mut self, rng: &mut Rng, now: i64, seq: u64) {
        let taker = if rng.bool() { Side::Buy } else { Side::Sell };
        let best = if taker == Side::Buy { self.book.best_ask() } else { self.book.best_bid() };
        let price = best.map_or(self.live.last, |(price, _)| price);
        let size = lots(rng);
        // Executed a little before it is told.
        let trade = Trade { id: self.live.last_id + 1, price, size, side: taker, time: now + self.shift - rng.i64(0..5), seq };
        let turnover = self.turnover(price, size);
        let live = &mut self.live;
        live.last_id += 1;
        live.count += 1;
        (live.last, live.last_size) = (price, size);
        (live.high, live.low) = (live.high.max(price), live.low.min(price));
        live.volume = live.volume.saturating_add(size);
        live.turnover = live.turnover.saturating_add(turnover);
        if self.trades.len() == TRADES {
            self.trades.pop_front();
        }
        self.trades.push_back(trade);
        let candle = self.open_candle(now);
        if candle.trades == 0 {
            (candle.open, candle.high, candle.low) = (price, price, price);
            candle.first_id = trade.id;
        }
        (candle.high, candle.low, candle.close) = (candle.high.max(price), candle.low.min(price), price);
        candle.volume += size;
        candle.turnover += turnover;
        candle.trades += 1;
        candle.last_id = trade.id;
    }

    /// The candle of this minute.
    fn open_candle(&mut self, now: i64) -> &mut Candle {
        let last = self.live.last;
        let start = now.div_euclid(MINUTE) * MINUTE;
        self.candle.get_or_insert(Candle { start, open: last, high: last, low: last, close: last, volume: 0, turnover: 0, trades: 0, first_id: 0, last_id: 0 })
    }

    fn publish_stats(&mut self, now: i64) {
        let (bid, ask) = (self.book.best_bid().unwrap_or_default(), self.book.best_ask().unwrap_or_default());
        let live = &self.live;
        self.row = Row {
            last: live.last,
            last_size: live.last_size,
            open: live.open,
            high: live.high,
            low: live.low,
            volume: live.volume,
            turnover: live.turnover,
            count: live.count,
            last_id: live.last_id,
            bid: bid.0,
            bid_size: bid.1,
            ask: ask.0,
            ask_size: ask.1,
            time: now + self.shift,
            ..self.row
        };
    }

    /// Raises the published last price by a tick.
    pub(crate) fn nudge(&mut self, now: i64) {
        self.row.last += 1;
        self.row.time = now;
    }

    fn mark(&mut self, rng: &mut Rng, now: i64) {
        if self.market() == Market::Spot {
            return;
        }
        let middle = match (self.book.best_bid(), self.book.best_ask()) {
            (Some((bid, _)), Some((ask, _))) => i64::midpoint(bid, ask),
            _ => self.live.last,
        };
        let unit = pow10(self.mark_scale - self.listing.price_scale.min(self.mark_scale));
        self.row.mark = (middle * unit + rng.i64(-2 * unit..=2 * unit)).max(1);
        self.row.index = (middle * unit + rng.i64(-4 * unit..=4 * unit)).max(1);
        self.row.premium_time = now + self.shift;
        if self.funding_hours > 0 {
            self.live.rate = (self.live.rate + rng.i64(-300..=300)).clamp(-self.cap, self.cap);
            (self.row.rate, self.row.next_funding) = (self.live.rate, self.live.next_funding);
        }
    }

    fn move_interest(&mut self, rng: &mut Rng, now: i64) {
        self.live.interest = (self.live.interest + rng.i64(-500..=500)).max(1);
        (self.row.interest, self.row.interest_time) = (self.live.interest, now + self.shift);
    }

    fn liquidate(&mut self, rng: &mut Rng, now: i64) -> Liquidation {
        let side = if rng.bool() { Side::Buy } else { Side::Sell };
        let away = rng.i64(1..20) * if side == Side::Buy { 1 } else { -1 };
        let average = (self.live.last + away).max(1);
        Liquidation { side, price: (average + away).max(1), average, size: lots(rng), time: now + self.shift - rng.i64(0..300) }
    }

    /// The open interest's value at the mark price, with so many places: in quote, or in base for inverse contracts.
    pub(crate) fn interest_value(&self, row: &Row, interest: i64, places: u8) -> Num {
        let price = row.mark / pow10(self.mark_scale - self.listing.price_scale.min(self.mark_scale));
        let value = self.turnover(price, interest);
        Num::new(value / pow10(self.turnover_scale() - places.min(self.turnover_scale())), places.min(self.turnover_scale()))
    }

    /// A candle of the past, of any length in minutes: drawn, the same at each call. It opened at `start`.
    pub(crate) fn past_candle(&self, start: i64, minutes: i64) -> Candle {
        let seed = mix(self.key, u64::try_from(start).unwrap_or(0) ^ u64::try_from(minutes).unwrap_or(0));
        let at = |time: i64| {
            self.listing.price + mix_below(self.key, u64::try_from(time / MINUTE).unwrap_or(0), self.listing.price / 200) - self.listing.price / 400
        };
        let (open, close) = (at(start), at(start + minutes * MINUTE));
        let volume = 1 + mix_below(seed, 1, 100_000 * minutes);
        Candle {
            start,
            open,
            high: open.max(close) + mix_below(seed, 2, 9),
            low: open.min(close) - mix_below(seed, 3, 9),
            close,
            volume,
            turnover: self.turnover(open, volume),
            trades: 1 + mix_below(seed, 4, 500),
            first_id: 0,
            last_id: 0,
        }
    }

    /// The funding that was exchanged at a time: drawn, the same at each call.
    pub(crate) fn past_rate(&self, time: i64) -> i64 {
        mix_below(self.key, u64::try_from(time).unwrap_or(0), 60_000) - 20_000
    }

    /// Times of fundings up to `now`, newest first.
    pub(crate) fn fundings(&self, now: i64) -> impl Iterator<Item = i64> + use<> {
        let step = self.funding_hours * HOUR;
        // Two thousand of them: more than a venue gives in one answer.
        let last = now.checked_div(step).map_or(0, |periods| periods * step);
        (0..if step > 0 { 2000 } else { 0 }).map(move |back| last - back * step)
    }
}

/// Milliseconds of a time.
pub(crate) fn time(millis: i64) -> Time {
    Time::from_millis(millis)
}
