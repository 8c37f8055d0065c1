//! What Hyperliquid's messages mean: a route table for each transport, then one function per record kind, used by both.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Duration;

use exchange_core::event::{self, Body, BookKind};
use exchange_core::instrument::{Details, Kind, Status};
use exchange_core::wire::{self, BadRow, Ignored, Reader, Row, Rows, Wire as _};
use exchange_core::{Control, Decimal, DecodeError, Decoder, ErrorKind, Input, Market, Out, Source, Time};

use super::wire::{
    ActiveCtx, AllDexs, Answer, Asset, Bbo, Book, Candle, Ctx, Dex, DexCtxs, FastCtxs, FundingThen, Listed, Meta, MetaAndCtxs, Pair, Post, Predicted, Push,
    SpotMeta, SpotMetaAndCtxs, Subscribed, Subscription, Trade, Trades,
};

/// What the venue says before it says anything in JSON.
const GREETING: &[u8] = b"Websocket connection established";

/// Asks for the universes of all dexs. <https://hyperliquid.gitbook.io/hyperliquid-docs/for-developers/api/websocket/post-requests>
const ASK_METAS: &str = r#"{"method":"post","id":1,"request":{"type":"info","payload":{"type":"allPerpMetas"}}}"#;

/// Not more often than this: an answer may be on its way, or may not help.
const ASK_AGAIN: Duration = Duration::from_secs(30);

/// What messages say of which others only give the place: the decoder.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Name and decimals of the spot tokens, by index.
    tokens: HashMap<u64, (Box<str>, Option<u64>)>,
    /// Builders' dexs that are asked for as soon as it is known what their contracts are settled in.
    waiting: Vec<Box<str>>,
    /// A connection's: the contracts of each dex by position, without those that are delisted.
    universes: HashMap<Box<str>, Vec<Option<Box<str>>>>,
    /// When the universes were last asked for.
    asked: Option<Time>,
}

impl Decoder for State {
    fn decode(&mut self, input: &Input<'_>, out: &mut Out<'_>) -> Result<(), DecodeError> {
        match input.source {
            Source::Ws { .. } => self.push(input, out),
            Source::Http { request, .. } => {
                // Several endpoints may ask for the same type, and each body says which it is.
                let kind = wire::peek_str(request.unwrap_or_default(), "type").ok().flatten();
                self.info(&kind.ok_or_else(|| DecodeError::malformed("the request's body has no type"))?, input.reader()?, input, out)
            }
        }
    }
}

impl State {
    /// Frames, by channel.
    fn push(&mut self, input: &Input<'_>, out: &mut Out<'_>) -> Result<(), DecodeError> {
        if input.payload.starts_with(GREETING) {
            out.control(Control::Alive);
            return Ok(());
        }
        let frame = input.reader()?;
        let Some(mut channel) = frame.find("channel")? else { return Err(DecodeError::malformed("the frame has no channel")) };
        let channel = channel.string()?;
        match &*channel {
            "trades" => each(frame.whole::<Push<Trades<'_>>>()?.data.0, "coin", out, trade),
            "bbo" => quote(frame.whole::<Push<Bbo<'_>>>()?.data, out),
            "l2Book" => book(frame.whole::<Push<Book<'_>>>()?.data, out),
            "candle" => each(frame.whole::<Push<Rows<'_, Candle<'_>>>>()?.data.0, "s", out, |record, out| candle(&record, input, out)),
            "activeAssetCtx" | "activeSpotAssetCtx" => {
                let active = frame.whole::<Push<ActiveCtx<'_>>>()?.data;
                ctx(&active.coin, active.ctx, out);
            }
            "spotAssetCtxs" => each(frame.whole::<Push<Listed<'_, Ctx<'_>>>>()?.data.0, "coin", out, |mut record, out| {
                let coin = record.coin.take().unwrap_or_default();
                named_ctx(Some(&coin), Market::Spot, record, out);
            }),
            "assetCtxs" => {
                let DexCtxs { dex, ctxs } = frame.whole::<Push<_>>()?.data;
                self.dex_ctxs(&dex, ctxs, input, out)?;
            }
            "allDexsAssetCtxs" => {
                for pair in frame.whole::<Push<AllDexs<'_>>>()?.data.ctxs {
                    self.dex_ctxs(&pair.dex, pair.ctxs, input, out)?;
                }
            }
            "fastAssetCtxs" => {
                for (coin, record) in frame.whole::<Push<FastCtxs<'_>>>()?.data.0 {
                    match record {
                        Ok(record) => mark(&coin, event::Mark { mark: record.markPx.0, ..event::Mark::default() }, out),
                        Err(row) => out.bad(market_of(&coin), Some(&coin), row.fault, row.text),
                    }
                }
            }
            // A middle price is no last price, no mark: no field of ours.
            "allMids" => {
                let _: Ignored = frame.whole()?;
            }
            "subscriptionResponse" => {
                let subscription = frame.whole::<Push<Subscribed<'_>>>()?.data.subscription;
                if matches!(&*subscription.kind, "allDexsAssetCtxs" | "assetCtxs") {
                    self.ask_metas(input, out);
                }
                out.control(Control::AckTopic { id: None, topic: subscription.topic() });
            }
            "post" => {
                let response = frame.whole::<Push<Post<'_>>>()?.data.response;
                if response.kind != "info" {
                    return Err(rejected(response.payload.0));
                }
                let answer: Answer<'_> = wire::read(response.payload.0)?;
                self.info(&answer.kind, Reader::new(answer.data.0), input, out)?;
            }
            "pong" => {
                let _: Ignored = frame.whole()?;
                out.control(Control::Alive);
            }
            "error" => refusal(&frame.whole::<Push<Cow<'_, str>>>()?.data, out)?,
            _ => return Err(DecodeError::unknown("channel", channel)),
        }
        Ok(())
    }

    /// Answers, by the type that was asked for.
    fn info(&mut self, kind: &str, mut body: Reader<'_>, input: &Input<'_>, out: &mut Out<'_>) -> Result<(), DecodeError> {
        if body.null() {
            body.finish()?;
            return Err(rejected("no such coin or dex (`null`)"));
        }
        match kind {
            "metaAndAssetCtxs" => {
                let MetaAndCtxs { meta, ctxs } = body.whole()?;
                let names = self.meta(meta, input, out);
                zip(&names, ctxs, out);
            }
            "meta" => drop(self.meta(body.whole()?, input, out)),
            "allPerpMetas" => each(body.whole::<Listed<'_, Meta<'_>>>()?.0, "", out, |meta, out| drop(self.meta(meta, input, out))),
            "perpDexs" => {
                let dexs: Listed<'_, Option<Dex<'_>>> = body.whole()?;
                // The first is null: it has no name, and is asked for without one.
                self.waiting.clear();
                each(dexs.0, "name", out, |dex, _| self.waiting.extend(dex.map(|dex| Box::from(&*dex.name))));
                if self.tokens.is_empty() {
                    out.ask(input, "spot_meta", &[]);
                } else {
                    self.ask_dexs(input, out);
                }
            }
            "predictedFundings" => each(body.whole::<Rows<'_, Predicted<'_>>>()?.0, "", out, predicted),
            "fundingHistory" => each(body.whole::<Rows<'_, FundingThen<'_>>>()?.0, "coin", out, funding_settled),
            "spotMetaAndAssetCtxs" => {
                let SpotMetaAndCtxs { meta, ctxs } = body.whole()?;
                let names = self.spot_meta(meta, input, out);
                for (at, row) in ctxs.0.into_iter().enumerate() {
                    match row {
                        Ok(mut record) => {
                            let coin = record.coin.take();
                            let by_place = || names.get(&(at as u64)).map(|name| &**name);
                            named_ctx(coin.as_deref().or_else(by_place), Market::Spot, record, out);
                        }
                        Err(row) => bad(&row, "coin", out),
                    }
                }
            }
            "spotMeta" => drop(self.spot_meta(body.whole()?, input, out)),
            "l2Book" => book(body.whole()?, out),
            "recentTrades" => each(body.whole::<Trades<'_>>()?.0, "coin", out, trade),
            "candleSnapshot" => each(body.whole::<Rows<'_, Candle<'_>>>()?.0, "s", out, |record, out| candle(&record, input, out)),
            // As on the WebSocket; and coins of which no more can be opened.
            "allMids" | "perpsAtOpenInterestCap" => {
                let _: Ignored = body.whole()?;
            }
            _ => return Err(DecodeError::unknown("type of request", kind)),
        }
        Ok(())
    }

    /// The contracts of a dex: their names by position, without those that are delisted. By HTTP they are described; a
    /// connection that asked for them only learns their positions, since it does not know what they are settled in.
    fn meta<'a>(&mut self, meta: Meta<'a>, input: &Input<'_>, out: &mut Out<'_>) -> Vec<Option<Cow<'a, str>>> {
        let collateral = meta.collateralToken;
        let describes = matches!(input.source, Source::Http { .. });
        if describes && collateral.is_some_and(|index| index != 0 && !self.tokens.contains_key(&index)) {
            out.ask(input, "spot_meta", &[]);
        }
        let mut dex = None;
        let mut names = Vec::with_capacity(meta.universe.0.len());
        for row in meta.universe.0 {
            let name = match row {
                Ok(asset) => {
                    dex.get_or_insert_with(|| Box::from(asset.name.split_once(':').map_or("", |(dex, _)| dex)));
                    if describes {
                        self.contract(&asset, collateral, out);
                    }
                    Some(asset.name).filter(|_| asset.isDelisted != Some(true))
                }
                Err(row) => {
                    bad(&row, "name", out);
                    None
                }
            };
            names.push(name);
        }
        if let Some(dex) = dex.filter(|_| !describes) {
            self.universes.insert(dex, names.iter().map(|name| name.as_deref().map(Box::from)).collect());
        }
        names
    }

    /// A contract. Prices are in USD; the quote is the token that it is settled in. One whose token is not known (yet)
    /// has no `settle`, and so no symbol.
    fn contract(&self, asset: &Asset<'_>, collateral: Option<u64>, out: &mut Out<'_>) {
        let dex = asset.name.split_once(':');
        let settle: Option<Box<str>> = match collateral {
            Some(0) => Some("USDC".into()),
            Some(index) => self.tokens.get(&index).map(|(name, _)| name.clone()),
            // Before there were other dexs than the first, it was not said.
            None => dex.is_none().then(|| "USDC".into()),
        };
        let details = Details {
            kind: Kind::Perpetual,
            // Two dexs may list the same name.
            base: dex.map_or_else(|| Box::from(&*asset.name), |(dex, name)| format!("{}-{name}", dex.to_uppercase()).into()),
            quote: settle.clone().unwrap_or_else(|| "USD".into()),
            settle,
            contract_size: Some(Decimal::ONE),
            // Prices have five significant figures, whatever step that is.
            tick_size: None,
            lot_size: asset.szDecimals.and_then(step),
            min_size: None,
            expiry: None,
            status: if asset.isDelisted == Some(true) { Status::Delisted } else { Status::Trading },
            funding_interval_hours: Some(1),
            option: None,
        };
        out.describe(Market::Linear, &asset.name, None, details);
    }

    /// Spot tokens and pairs: the pairs' names by index.
    fn spot_meta<'a>(&mut self, meta: SpotMeta<'a>, input: &Input<'_>, out: &mut Out<'_>) -> HashMap<u64, Cow<'a, str>> {
        for (at, row) in meta.tokens.0.into_iter().enumerate() {
            match row {
                Ok(token) => drop(self.tokens.insert(token.index.unwrap_or(at as u64), (Box::from(&*token.name), token.szDecimals))),
                Err(row) => bad(&row, "name", out),
            }
        }
        let mut names = HashMap::with_capacity(meta.universe.0.len());
        for (at, row) in meta.universe.0.into_iter().enumerate() {
            match row {
                Ok(pair) => {
                    self.pair(&pair, out);
                    names.insert(pair.index.unwrap_or(at as u64), pair.name);
                }
                Err(row) => bad(&row, "name", out),
            }
        }
        self.ask_dexs(input, out);
        names
    }

    fn pair(&self, pair: &Pair<'_>, out: &mut Out<'_>) {
        let token = |at: usize| pair.tokens.get(at).and_then(|index| self.tokens.get(index));
        let (Some((base, decimals)), Some((quote, _))) = (token(0), token(1)) else {
            return out.bad(Market::Spot, Some(&pair.name), "a pair of tokens that are not listed", "");
        };
        let details = Details {
            kind: Kind::Spot,
            base: base.clone(),
            quote: quote.clone(),
            settle: None,
            contract_size: None,
            tick_size: None,
            lot_size: decimals.and_then(step),
            min_size: None,
            expiry: None,
            status: Status::Trading,
            funding_interval_hours: None,
            option: None,
        };
        out.describe(Market::Spot, &pair.name, None, details);
    }

    /// The builders' dexs, once the tokens are known.
    fn ask_dexs(&mut self, input: &Input<'_>, out: &mut Out<'_>) {
        for dex in self.waiting.drain(..) {
            out.ask(input, "dex_ctxs", &[("dex", &dex)]);
        }
    }

    /// The states of a dex' contracts, by position. Positions never shift; where there are more states than contracts
    /// are known, something was listed, and the frame is for the next one to repeat.
    fn dex_ctxs(&mut self, dex: &str, ctxs: Listed<'_, Ctx<'_>>, input: &Input<'_>, out: &mut Out<'_>) -> Result<(), DecodeError> {
        let known = self.universes.get(dex).map_or(&[][..], Vec::as_slice);
        if known.len() < ctxs.0.len() {
            let reason = format!("{} contracts of the dex `{dex}`, of which this connection knows {}", ctxs.0.len(), known.len());
            self.ask_metas(input, out);
            return Err(DecodeError::malformed(reason));
        }
        zip(known, ctxs, out);
        Ok(())
    }

    fn ask_metas(&mut self, input: &Input<'_>, out: &mut Out<'_>) {
        if self.asked.is_none_or(|asked| input.received.since(asked) >= ASK_AGAIN) {
            self.asked = Some(input.received);
            out.reply(ASK_METAS.into());
        }
    }
}

/// The records of a list that name their coin under `key`. One that cannot be read costs only itself.
#[inline]
fn each<T>(rows: Vec<Row<'_, T>>, key: &str, out: &mut Out<'_>, mut record: impl FnMut(T, &mut Out<'_>)) {
    for row in rows {
        match row {
            Ok(row) => record(row, out),
            Err(row) => bad(&row, key, out),
        }
    }
}

#[cold]
fn bad(row: &BadRow<'_>, key: &str, out: &mut Out<'_>) {
    let name = wire::peek_str(row.text, key).ok().flatten().unwrap_or_default();
    out.bad_row(market_of(&name), key, row);
}

/// States and the contracts at their positions; what is delisted is passed over.
fn zip<S: AsRef<str>>(names: &[Option<S>], ctxs: Listed<'_, Ctx<'_>>, out: &mut Out<'_>) {
    for (at, row) in ctxs.0.into_iter().enumerate() {
        match (row, names.get(at)) {
            (Ok(record), Some(Some(name))) => ctx(name.as_ref(), record, out),
            (Err(row), Some(Some(name))) => out.bad(market_of(name.as_ref()), Some(name.as_ref()), row.fault, row.text),
            (_, Some(None)) => {}
            (_, None) => out.bad(Market::Linear, None, "a state without a contract", ""),
        }
    }
}

fn named_ctx(coin: Option<&str>, market: Market, record: Ctx<'_>, out: &mut Out<'_>) {
    match coin.filter(|coin| !coin.is_empty()) {
        Some(coin) => ctx(coin, record, out),
        None => out.bad(market, None, "a state without a coin", ""),
    }
}

/// The state of a contract or pair. There is no last price, and `impactPxs` are no best prices.
#[inline]
fn ctx(coin: &str, record: Ctx<'_>, out: &mut Out<'_>) {
    let market = market_of(coin);
    let instrument = out.instrument(market, coin);
    let ticker = event::Ticker { open_24h: record.prevDayPx.0, volume_24h: record.dayBaseVlm.0, turnover_24h: record.dayNtlVlm.0, ..event::Ticker::default() };
    out.emit(&instrument, None, Body::Ticker(ticker));
    out.emit(&instrument, None, Body::Mark(event::Mark { mark: record.markPx.0, index: record.oraclePx.0, basis: None }));
    if market == Market::Spot {
        return;
    }
    if let Some(rate) = record.funding.0 {
        out.emit(&instrument, None, Body::Funding(event::Funding { rate: Some(rate), interval_hours: Some(1), ..event::Funding::default() }));
    }
    let value = record.openInterest.0;
    out.emit(&instrument, None, Body::OpenInterest(event::OpenInterest { value_base: value.clone(), value, value_quote: None }));
}

fn mark(coin: &str, mark: event::Mark, out: &mut Out<'_>) {
    let instrument = out.instrument(market_of(coin), coin);
    out.emit(&instrument, None, Body::Mark(mark));
}

#[inline]
fn trade(record: Trade<'_>, out: &mut Out<'_>) {
    let instrument = out.instrument(market_of(&record.coin), &record.coin);
    let trade = event::Trade { trade_id: record.tid, price: record.px, size: record.sz, size_base: None, side: record.side.0 };
    out.emit(&instrument, record.time.0, Body::Trade(trade));
}

#[inline]
fn quote(record: Bbo<'_>, out: &mut Out<'_>) {
    let instrument = out.instrument(market_of(&record.coin), &record.coin);
    let (bid, bid_size) = record.top.bid.map(|rung| (rung.px, rung.sz)).unzip();
    let (ask, ask_size) = record.top.ask.map(|rung| (rung.px, rung.sz)).unzip();
    out.emit(&instrument, record.time.0, Body::Quote(event::Quote { bid, bid_size, ask, ask_size, seq: None }));
}

#[inline]
fn book(record: Book<'_>, out: &mut Out<'_>) {
    let instrument = out.instrument(market_of(&record.coin), &record.coin);
    let [bids, asks] = [record.levels.bids, record.levels.asks].map(|side| side.into_iter().map(Into::into).collect());
    let book = event::Book { kind: BookKind::Snapshot, bids, asks, seq: None, prev_seq: None, checksum: None };
    out.emit(&instrument, record.time.0, Body::Book(book));
}

/// A candle. That it is final is not said: it is when its time is over.
fn candle(record: &Candle<'_>, input: &Input<'_>, out: &mut Out<'_>) {
    let market = market_of(&record.s);
    let Some(interval) = input.profile.interval_named(&record.i) else {
        return out.bad(market, Some(&record.s), format_args!("`{}` is no interval that is known", record.i), "");
    };
    let instrument = out.instrument(market, &record.s);
    let open_time = Time::from_millis(record.t);
    let candle = event::Candle {
        interval,
        open_time,
        open: record.o.clone(),
        high: record.h.clone(),
        low: record.l.clone(),
        close: record.c.clone(),
        volume: record.v.clone(),
        turnover: None,
        trades: record.n,
        closed: interval.end(open_time) <= input.received,
    };
    out.emit(&instrument, None, Body::Candle(candle));
}

/// Only what is predicted for this venue: `BinPerp` and others are listed for comparison.
fn predicted(record: Predicted<'_>, out: &mut Out<'_>) {
    let instrument = out.instrument(market_of(&record.coin), &record.coin);
    for at in record.venues.into_iter().filter(|at| at.venue == "HlPerp") {
        let Some(prediction) = at.prediction else { continue };
        let interval_hours = prediction.fundingIntervalHours.hours(1);
        let funding =
            event::Funding { predicted_rate: prediction.fundingRate.0, next_time: prediction.nextFundingTime.0, interval_hours, ..event::Funding::default() };
        out.emit(&instrument, None, Body::Funding(funding));
    }
}

fn funding_settled(record: FundingThen<'_>, out: &mut Out<'_>) {
    let instrument = out.instrument(market_of(&record.coin), &record.coin);
    let time = Time::from_millis(record.time);
    out.emit(&instrument, Some(time), Body::FundingSettled(event::FundingSettled { rate: record.fundingRate, time, mark: None }));
}

impl Subscription<'_> {
    /// The topic of which this is the wording.
    fn topic(&self) -> String {
        let words = [Some(&self.kind), self.coin.as_ref(), self.interval.as_ref()];
        words.into_iter().flatten().map(|word| &**word).collect::<Vec<_>>().join(" ")
    }
}

/// A refusal, with what was asked for behind it: `Invalid subscription {"type":"trades","coin":"NOPE"}`.
fn refusal(said: &str, out: &mut Out<'_>) -> Result<(), DecodeError> {
    let named = said.find('{').and_then(|at| said.get(at..));
    let topic = named.and_then(|text| Subscription::read(&mut Reader::new(text)).ok()).map(|subscription| subscription.topic());
    if let (true, Some(topic)) = (said.starts_with("Already subscribed"), &topic) {
        // Nothing is missing, though something is wrong.
        out.control(Control::AckTopic { id: None, topic: topic.clone() });
        return Err(rejected(said));
    }
    if topic.is_none() {
        // Of no topic: too many subscriptions, say. What was not acknowledged is asked for again.
        return Err(DecodeError { kind: ErrorKind::Transient, message: said.to_owned() });
    }
    out.control(Control::Rejected { id: None, topic, reason: said.to_owned() });
    Ok(())
}

fn rejected(said: &str) -> DecodeError {
    DecodeError { kind: ErrorKind::Rejected, message: said.to_owned() }
}

/// Names say what they are of: `@107`, `PURR/USDC` and the outcome tokens (`#12`) are spot, others are contracts.
#[inline]
fn market_of(coin: &str) -> Market {
    if coin.starts_with(['@', '#']) || coin.contains('/') { Market::Spot } else { Market::Linear }
}

/// The step of so many decimals.
fn step(decimals: u64) -> Option<Decimal> {
    u8::try_from(decimals).ok().filter(|places| *places <= 18).map(|places| Decimal::ONE.shifted(places))
}

#[cfg(test)]
mod tests;
