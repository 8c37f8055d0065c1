//! The last known value of every state of every instrument: what tells a change from a repetition, what `--fold`
//! emits, and what the digests cover.

use hashbrown::HashMap;

use crate::canonical;
use crate::event::{Body, Channel, Event, Funding, Mark, OpenInterest, Quote, Ticker};
use crate::instrument::{Details, Instrument, Market};
use crate::time::Time;

/// The channels that are states, in the order of [`Latest::digests`].
pub const STATES: [Channel; 6] = [Channel::Ticker, Channel::Quote, Channel::Mark, Channel::Funding, Channel::OpenInterest, Channel::Instrument];

/// The last known values of a venue.
#[derive(Debug, Default)]
pub struct Latest {
    markets: [HashMap<Box<str>, Box<Values>, foldhash::fast::RandomState>; 4],
    /// What changed since the digests were last asked for.
    dirty: Vec<(Market, Box<str>)>,
    /// Sum of the values' hashes, by market and state.
    digests: [[u128; STATES.len()]; 4],
}

/// The last known values of an instrument.
#[derive(Debug, Default, Clone)]
pub struct Values {
    /// Last ticker.
    pub ticker: Ticker,
    /// Last quote, without its sequence number.
    pub quote: Quote,
    /// Last mark.
    pub mark: Mark,
    /// Last funding.
    pub funding: Funding,
    /// Last open interest.
    pub open_interest: OpenInterest,
    /// What the venue says of the instrument.
    pub details: Option<Box<Details>>,
    /// When each state changed last.
    at: [Time; STATES.len()],
    /// What each state adds to its digest.
    hashes: [u128; STATES.len()],
    /// Which states changed since (one bit each).
    dirty: u8,
    /// Which states were told to nobody in the end.
    unsure: u8,
}

/// Takes over the fields that are there; whether one of them was news.
macro_rules! merge {
    ($into:expr, $from:expr, $($field:ident),+) => {{
        let mut changed = false;
        $(if $from.$field.is_some() && $into.$field != $from.$field {
            $into.$field.clone_from(&$from.$field);
            changed = true;
        })+
        changed
    }};
}

#[expect(clippy::indexing_slicing, reason = "one slot a market, one a state")]
impl Latest {
    /// Takes note of a state; whether a field that it carries differs from the last known value. Anything else than a
    /// state is always news.
    #[inline]
    pub fn update(&mut self, event: &Event) -> bool {
        if !event.body.is_state() {
            return true;
        }
        let market = event.instrument.market;
        let table = &mut self.markets[market.index()];
        let values = match table.get_mut(&*event.instrument.venue_symbol) {
            Some(values) => values,
            None => table.entry(event.instrument.venue_symbol.clone()).or_default(),
        };
        let (state, changed) = match &event.body {
            Body::Ticker(new) => (
                0,
                merge!(values.ticker, new, last, last_size, bid, bid_size, ask, ask_size, open_24h, high_24h, low_24h, volume_24h, turnover_24h, change_24h),
            ),
            Body::Quote(new) => {
                // A quote is whole: an empty side is absent, and that is news.
                let old = &mut values.quote;
                let changed = old.bid != new.bid || old.bid_size != new.bid_size || old.ask != new.ask || old.ask_size != new.ask_size;
                if changed {
                    *old = Quote { seq: None, ..new.clone() };
                }
                (1, changed)
            }
            Body::Mark(new) => (2, merge!(values.mark, new, mark, index, basis)),
            Body::Funding(new) => (3, merge!(values.funding, new, rate, next_time, interval_hours, predicted_rate, cap, floor)),
            Body::OpenInterest(new) => (4, merge!(values.open_interest, new, value, value_base, value_quote)),
            Body::Instrument(new) => {
                let changed = values.details.as_ref() != Some(new);
                if changed {
                    values.details = Some(new.clone());
                }
                (5, changed)
            }
            _ => return true,
        };
        let changed = changed || values.unsure >> state & 1 == 1;
        if changed {
            values.unsure &= !(1 << state);
            values.at[state] = event.received;
            if values.dirty == 0 {
                self.dirty.push((market, event.instrument.venue_symbol.clone()));
            }
            values.dirty |= 1 << state;
        }
        changed
    }

    /// A state that was news went nowhere after all: whatever comes of it next is news.
    pub fn forget(&mut self, event: &Event) {
        let Some(values) = self.markets[event.instrument.market.index()].get_mut(&*event.instrument.venue_symbol) else { return };
        if let Some(state) = event.body.channel().and_then(|channel| STATES.iter().position(|state| *state == channel)) {
            values.unsure |= 1 << state;
        }
    }

    /// The last known values of an instrument.
    pub fn get(&self, instrument: &Instrument) -> Option<&Values> {
        self.markets[instrument.market.index()].get(&*instrument.venue_symbol).map(|values| &**values)
    }

    /// All instruments of a market with their last known values, in no order.
    pub fn all(&self, market: Market) -> impl Iterator<Item = (&str, &Values)> {
        self.markets[market.index()].iter().map(|(name, values)| (&**name, &**values))
    }

    /// Of each instrument of a market that has this state: its name, when the state changed last, and the state whole. In no
    /// order; nothing of what is no state.
    pub fn states(&self, market: Market, channel: Channel) -> impl Iterator<Item = (&str, Time, Body)> {
        let state = STATES.iter().position(|state| *state == channel);
        self.markets[market.index()].iter().filter_map(move |(name, values)| {
            let at = *values.at.get(state?)?;
            (at != Time::EPOCH).then_some((&**name, at, values.body(state?)))
        })
    }

    /// The same state, whole: every field that is known of it. Other events stay as they are.
    pub fn fold(&self, event: &mut Event) {
        let Some(values) = self.get(&event.instrument) else { return };
        match &mut event.body {
            Body::Ticker(ticker) => ticker.clone_from(&values.ticker),
            Body::Mark(mark) => mark.clone_from(&values.mark),
            Body::Funding(funding) => funding.clone_from(&values.funding),
            Body::OpenInterest(open_interest) => open_interest.clone_from(&values.open_interest),
            _ => {}
        }
    }

    /// The digest of each state of a market, in the order of [`STATES`]: equal for collectors that know the same.
    /// Only what changed since the last call is hashed.
    pub fn digests(&mut self, venue: &std::sync::Arc<str>, market: Market) -> [u128; STATES.len()] {
        let mut bytes = Vec::with_capacity(512);
        for (market, name) in std::mem::take(&mut self.dirty) {
            let Some(values) = self.markets[market.index()].get_mut(&name) else { continue };
            for state in 0..STATES.len() {
                if values.dirty & 1 << state == 0 {
                    continue;
                }
                bytes.clear();
                bytes.extend_from_slice(&canonical::instrument_key(venue, market, &name));
                #[expect(clippy::cast_possible_truncation, reason = "six states")]
                bytes.push(state as u8);
                canonical::write_body(&values.body(state), &mut bytes);
                let hash = blake3::hash(&bytes);
                let hash = hash.as_bytes().first_chunk().map_or(0, |bytes| u128::from_be_bytes(*bytes));
                let sum = &mut self.digests[market.index()][state];
                *sum = sum.wrapping_sub(values.hashes[state]).wrapping_add(hash);
                values.hashes[state] = hash;
            }
            values.dirty = 0;
        }
        self.digests[market.index()]
    }
}

impl Values {
    fn body(&self, state: usize) -> Body {
        match (STATES.get(state), &self.details) {
            (Some(Channel::Ticker), _) => Body::Ticker(self.ticker.clone()),
            (Some(Channel::Quote), _) => Body::Quote(self.quote.clone()),
            (Some(Channel::Funding), _) => Body::Funding(self.funding.clone()),
            (Some(Channel::OpenInterest), _) => Body::OpenInterest(self.open_interest.clone()),
            (Some(Channel::Instrument), Some(details)) => Body::Instrument(details.clone()),
            _ => Body::Mark(self.mark.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::decimal::Decimal;

    fn ticker(symbol: &str, last: Option<i64>, bid: Option<i64>) -> Event {
        let instrument = Arc::new(Instrument::named(&"x".into(), Market::Linear, symbol, None));
        let ticker = Ticker { last: last.map(Decimal::from), bid: bid.map(Decimal::from), ..Ticker::default() };
        Event::new(instrument, Time::EPOCH, None, Body::Ticker(ticker))
    }

    #[test]
    fn a_state_is_news_when_a_field_that_it_carries_differs() {
        let mut latest = Latest::default();
        assert!(latest.update(&ticker("A", Some(1), Some(2))));
        assert!(!latest.update(&ticker("A", Some(1), None)));
        assert!(latest.update(&ticker("A", Some(3), None)));
        assert!(latest.update(&ticker("A", Some(1), None)), "A, B, A are three facts");
        let mut delta = ticker("A", Some(1), None);
        latest.fold(&mut delta);
        assert_eq!(delta.body, ticker("A", Some(1), Some(2)).body);
    }

    #[test]
    fn what_is_known_is_whole_and_says_since_when() {
        let mut latest = Latest::default();
        for (last, bid, at) in [(Some(1), Some(2), 10), (None, Some(3), 20), (Some(1), None, 30)] {
            latest.update(&Event { received: Time::from_micros(at), ..ticker("A", last, bid) });
        }
        let known: Vec<_> = latest.states(Market::Linear, Channel::Ticker).collect();
        assert_eq!(known, [("A", Time::from_micros(20), ticker("A", Some(1), Some(3)).body)]);
        assert_eq!(latest.states(Market::Linear, Channel::Mark).count() + latest.states(Market::Spot, Channel::Ticker).count(), 0);
        assert_eq!(latest.states(Market::Linear, Channel::Trade).count(), 0);
    }

    #[test]
    fn an_empty_side_of_a_quote_is_news() {
        let quote = |bid: Option<i64>, seq: u64| {
            let quote = Quote { bid: bid.map(Decimal::from), ask: Some(Decimal::ONE), seq: Some(seq.into()), ..Quote::default() };
            Event { body: Body::Quote(quote), ..ticker("A", None, None) }
        };
        let mut latest = Latest::default();
        assert!(latest.update(&quote(Some(1), 1)));
        assert!(!latest.update(&quote(Some(1), 2)), "the sequence number aside");
        assert!(latest.update(&quote(None, 3)));
    }

    #[test]
    fn digests_agree_however_the_values_came() {
        let venue: Arc<str> = "x".into();
        let (mut polled, mut streamed) = (Latest::default(), Latest::default());
        polled.update(&ticker("A", Some(1), Some(2)));
        polled.update(&ticker("B", Some(5), None));
        for event in [ticker("B", Some(4), None), ticker("A", None, Some(2)), ticker("B", Some(5), None), ticker("A", Some(1), None)] {
            streamed.update(&event);
            streamed.digests(&venue, Market::Linear);
        }
        let before = polled.digests(&venue, Market::Linear);
        assert_eq!(before, streamed.digests(&venue, Market::Linear));
        streamed.update(&ticker("A", Some(9), None));
        let after = streamed.digests(&venue, Market::Linear);
        let differing = before.iter().zip(&after).filter(|(a, b)| a != b).count();
        assert_eq!(differing, 1, "one value changes one digest");
    }
}
