//! One instrument's records of a channel: where they are to be had, and how a past is read that one answer does not hold.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use exchange_core::history::Walk;
use exchange_core::plan::{Range, most_records, request, request_range};
use exchange_core::profile::Endpoint;
use exchange_core::{Body, Channel, Event, EventId, Instrument, Interval, Time};

use super::error::ClientError;
use super::record::keep;
use super::{Client, Result};

/// Candles of a longer time are asked for in several requests: the shortest window that a venue answers is 200 days.
const LONGEST_WINDOW: Duration = Duration::from_hours(200 * 24);

/// Answers that one call reads of a history.
const MOST_PAGES: usize = 100;

/// Where a channel of one instrument is to be had.
pub(super) struct Part<'a> {
    pub(super) instrument: Arc<Instrument>,
    pub(super) endpoint: &'a Endpoint,
    pub(super) channel: Channel,
    /// How many records an answer holds at most.
    pub(super) most: usize,
}

impl Client {
    /// Where a channel of one instrument is to be had.
    pub(super) async fn part_of(&self, symbol: &str, channel: Channel) -> Result<Part<'_>> {
        let instrument = self.instrument(symbol).await?;
        let market = instrument.market;
        let is_for = |endpoint: &&Endpoint| endpoint.is_for(&instrument);
        let serves = || self.profile_endpoints().filter(|endpoint| !endpoint.also && !endpoint.follow && endpoint.serves(market, channel));
        // Those for parts of one instrument's records; where there are none, what a collector would ask.
        // (A state's history is not what it is now.)
        let is_state = matches!(channel, Channel::OpenInterest | Channel::Book);
        let in_parts = || serves().filter(|endpoint| endpoint.per_instrument() && endpoint.range.is_some() && !(is_state && endpoint.history));
        let endpoint = match in_parts().next() {
            Some(_) => in_parts().filter(is_for).min_by_key(|endpoint| endpoint.history),
            None => serves().filter(is_for).find(|endpoint| !endpoint.history),
        };
        let Some(endpoint) = endpoint else { return Err(self.config(format!("there is no {} to be fetched of `{symbol}`", channel.as_str()))) };
        let most = most_records(&self.inner.venue.profile, endpoint, market).unwrap_or(usize::MAX);
        Ok(Part { instrument, endpoint, channel, most })
    }

    /// What one answer says of an instrument.
    pub(super) async fn ask(&self, part: &Part<'_>, range: Range) -> Result<Vec<Event>> {
        let (profile, market) = (&self.inner.venue.profile, part.instrument.market);
        let request = if part.endpoint.per_instrument() {
            request_range(profile, part.endpoint, market, part.channel, &part.instrument, &range)
        } else {
            request(profile, part.endpoint, market, part.channel, None)
        };
        let mut events = self.inner.asker.ask(request).await?;
        keep(&mut events, std::slice::from_ref(&part.instrument));
        Ok(events)
    }

    /// The first `limit` events from `since` on.
    pub(super) async fn walk(&self, part: &Part<'_>, since: Time, limit: Option<usize>) -> Result<Vec<Event>> {
        let mut found = BTreeMap::new();
        let mut walk = Walk::new(since, self.inner.asker.now());
        for _ in 0..MOST_PAGES {
            let earliest = walk.earliest().unwrap_or(Time::MAX);
            let is_enough = limit.is_some_and(|limit| found.range(..(Some(earliest), EventId::NONE)).count() >= limit);
            let Some((from, to)) = walk.next_window().filter(|_| !is_enough) else { return Ok(found.into_values().collect()) };
            let page = self.ask(part, Range { since: Some(from), until: Some(to), limit: Some(part.most) }).await?;
            let is_full = page.len() >= part.most;
            let inside = |event: &Event| event.time.is_none_or(|time| time >= from && time <= to);
            let page: Vec<Event> = page.into_iter().filter(inside).collect();
            let times = || page.iter().filter_map(|event| event.time);
            walk.answered((from, to), is_full, times().min().zip(times().max()));
            found.extend(page.into_iter().map(|event| ((event.time, event.id), event)));
        }
        Err(self.too_much())
    }

    /// Candles by windows that one answer covers, whichever end of a window the venue fills it from.
    pub(super) async fn candles(&self, part: &Part<'_>, interval: Interval, since: Time, limit: Option<usize>) -> Result<Vec<Event>> {
        // The shortest month: a window of so many of them never holds more candles.
        let february = Time::from_date(1970, 2, 1).unwrap_or_default();
        let length = interval.end(february).since(february).max(Duration::from_millis(1));
        let rows = usize::try_from(LONGEST_WINDOW.as_millis() / length.as_millis()).unwrap_or(usize::MAX).clamp(1, part.most);
        let mut left = limit.unwrap_or(rows);
        if left.div_ceil(rows) > MOST_PAGES {
            return Err(self.too_much());
        }
        let (mut from, now) = (since, self.inner.asker.now());
        let mut events = Vec::new();
        while left > 0 && from <= now {
            let limit = left.min(rows);
            let next = from + length * u32::try_from(limit).unwrap_or(u32::MAX);
            let until = Some(Time::from_millis(next.millis() - 1));
            let page = self.ask(part, Range { since: Some(from), until, limit: Some(limit) }).await?;
            // Some venues begin with the candle that was running then.
            let outside = |event: &Event| matches!(&event.body, Body::Candle(candle) if candle.open_time < from || candle.open_time >= next);
            events.extend(page.into_iter().filter(|event| !outside(event)));
            (left, from) = (left - limit, next);
        }
        Ok(events)
    }

    fn too_much(&self) -> ClientError {
        self.config(format!("that would take more than {MOST_PAGES} requests: ask for less at once"))
    }
}
