//! The abstraction over venues: what to ask for, how to word it, what the answer means. Pure and synchronous.
//!
//! A venue is a description ([`Profile`], from its `venue.toml`) and an [`Exchange`]. Its [`Decoder`] is the one door
//! for bytes, whether they come from a socket, from a capture or from a test. What a decoder wants done in return
//! (answer a ping, fetch the next page) it gives back through [`Out`]; whoever called it carries that out.

mod out;

use std::borrow::Cow;
use std::fmt::Write as _;

pub use self::out::Out;
pub(crate) use self::out::excerpt;
use crate::error::DecodeError;
use crate::instrument::Market;
use crate::memo::Memo;
use crate::plan::{self, Plan, Topic, Want};
use crate::profile::{Endpoint, Profile};
use crate::time::{Interval, Time};
use crate::wire::Reader;

/// A venue.
pub trait Exchange: Send + Sync {
    /// The venue's `venue.toml`: the lowest layer of the configuration.
    fn policy(&self) -> &'static str;

    /// What to ask for. What the description says is enough for most venues.
    fn plan(&self, profile: &Profile, want: &Want<'_>) -> Plan {
        plan::from_profile(profile, want)
    }

    /// The frame that subscribes to or unsubscribes from topics: of one stream of the profile, and never more than that
    /// allows in one frame. `id` comes back in the acknowledgement where the venue has such a thing; `time` is the
    /// wall clock's.
    fn subscribe(&self, op: Op, topics: &[&Topic], id: u64, time: Time) -> String;

    /// A decoder for one connection, or for one polled surface.
    fn decoder(&self, market: Market) -> Box<dyn Decoder>;

    /// The unified symbol, where a venue's names carry their parts and the instrument was not described yet.
    fn parse_symbol(&self, _market: Market, _venue_symbol: &str) -> Option<String> {
        None
    }
}

/// What a subscribe frame does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "as they say")]
pub enum Op {
    Subscribe,
    Unsubscribe,
}

/// What bytes mean. Implemented for plain functions: most venues need no state of their own.
pub trait Decoder: Send {
    /// Decodes one frame or one answer. Error answers (by the profile's `errors`) do not come here.
    ///
    /// # Errors
    /// A [`DecodeError`] where the whole message is bad: what was emitted of it is taken back. A single bad record
    /// is [`Out::bad`] and costs only itself.
    fn decode(&mut self, input: &Input<'_>, out: &mut Out<'_>) -> Result<(), DecodeError>;
}

impl<F: FnMut(&Input<'_>, &mut Out<'_>) -> Result<(), DecodeError> + Send> Decoder for F {
    fn decode(&mut self, input: &Input<'_>, out: &mut Out<'_>) -> Result<(), DecodeError> {
        self(input, out)
    }
}

/// Bytes that arrived, and what is known about them without looking at them.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// The venue's description.
    pub profile: &'a Profile,
    /// The surface that this came from. Where one serves several markets, the instrument's own may differ.
    pub market: Market,
    /// Where this came from.
    pub source: Source<'a>,
    /// When it arrived.
    pub received: Time,
    /// The frame or body, after decompression.
    pub payload: &'a [u8],
    /// The last answer to the same request, where only changed records are wanted.
    pub memo: Option<&'a Memo>,
}

/// Where bytes came from.
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    /// A WebSocket frame.
    Ws {
        /// The connection's address.
        url: &'a str,
    },
    /// An HTTP answer with a status of 2xx.
    Http {
        /// What was asked, by the endpoint table.
        endpoint: &'a Endpoint,
        /// The full address, query included.
        url: &'a str,
        /// The body that was sent.
        request: Option<&'a str>,
    },
}

impl<'a> Input<'a> {
    /// The payload as text.
    ///
    /// # Errors
    /// A [`DecodeError`] where it is not UTF-8.
    #[inline]
    pub fn text(&self) -> Result<&'a str, DecodeError> {
        simdutf8::basic::from_utf8(self.payload).map_err(|_| DecodeError::malformed("the payload is not UTF-8 text"))
    }

    /// A reader at the beginning of the payload.
    ///
    /// # Errors
    /// A [`DecodeError`] where it is not UTF-8.
    #[inline]
    pub fn reader(&self) -> Result<Reader<'a>, DecodeError> {
        let mut reader = Reader::new(self.text()?);
        reader.memo = self.memo;
        Ok(reader)
    }

    /// The value of a key in the request's query, percent-decoded.
    pub fn query(&self, key: &str) -> Option<Cow<'a, str>> {
        let Source::Http { url, .. } = self.source else { return None };
        query(url, key)
    }

    /// The interval for the venue's word, as the profile's `intervals` say it.
    ///
    /// # Errors
    /// A [`DecodeError`] where it is none of those.
    pub fn interval(&self, word: &str) -> Result<Interval, DecodeError> {
        self.profile.interval_named(word).ok_or_else(|| DecodeError::unknown("interval", word))
    }
}

/// The value of a key in an address' query, percent-decoded.
pub fn query<'a>(url: &'a str, key: &str) -> Option<Cow<'a, str>> {
    let value = url.split_once('?')?.1.split('&').find_map(|pair| pair.split_once('=').filter(|(name, _)| *name == key))?.1;
    if !value.contains(['%', '+']) {
        return Some(Cow::Borrowed(value));
    }
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).and_then(|two| std::str::from_utf8(two).ok()).and_then(|two| u8::from_str_radix(two, 16).ok());
        match (first, hex) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            (b'+', _) => {
                bytes.push(b' ');
                rest = tail;
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    Some(Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Percent-encodes a value for a query.
pub fn percent_encode(value: &str) -> Cow<'_, str> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
    if value.bytes().all(plain) {
        return Cow::Borrowed(value);
    }
    let mut out = String::with_capacity(value.len() + 8);
    for byte in value.bytes() {
        if plain(byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    Cow::Owned(out)
}

/// What a message says about the connection rather than the market.
#[derive(Debug, Clone, PartialEq)]
pub enum Control {
    /// A subscribe frame was accepted.
    Ack {
        /// Its id, if the acknowledgement carries it.
        id: Option<u64>,
    },
    /// One topic of a frame was accepted: where each has an acknowledgement of its own.
    AckTopic {
        /// The frame's id, if the acknowledgement carries it.
        id: Option<u64>,
        /// The topic's name.
        topic: String,
    },
    /// These topics of a frame were accepted, and no others.
    AckOnly {
        /// The frame's id, if the acknowledgement carries it.
        id: Option<u64>,
        /// The topics' names.
        topics: Vec<String>,
    },
    /// A subscribe frame was refused, in whole or in part.
    Rejected {
        /// Its id, if the refusal carries it.
        id: Option<u64>,
        /// The one topic that was the reason, if the refusal names it.
        topic: Option<String>,
        /// The venue's words.
        reason: String,
    },
    /// An answer to our ping, a greeting, a heartbeat: the connection lives, nothing else.
    Alive,
    /// The venue is about to close: reconnect now.
    Closing,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Body, Event, Funding};
    use crate::feed::{Reply, Turn, Venue};
    use crate::instrument::{Details, Kind, Status};
    use crate::profile::Method;

    struct Toy;

    impl Exchange for Toy {
        fn policy(&self) -> &'static str {
            r#"
            name = "toy"
            title = "Toy"
            docs = "none"
            limits = {}
            [markets.linear]
            rest = "http://toy"
            ws = "ws://toy"
            [ws]
            topics_per_frame = 1
            topics_per_connection = 1
            frames = { budget = 1, window = "1s" }
            connects = { budget = 1, window = "1s" }
            silence = "30s"
            [[endpoint]]
            name = "all"
            path = "/all"
            markets = ["linear"]
            channels = ["instrument", "funding"]
            limit = "none"
            "#
        }

        fn subscribe(&self, _: Op, _: &[&Topic], _: u64, _: Time) -> String {
            String::new()
        }

        fn decoder(&self, _: Market) -> Box<dyn Decoder> {
            Box::new(decode)
        }
    }

    /// `L4` lists the instrument with an interval of four hours, `L` without; `F4` is its funding.
    fn decode(input: &Input<'_>, out: &mut Out<'_>) -> Result<(), DecodeError> {
        for word in input.text()?.split_whitespace() {
            let hours = word.get(1..).and_then(|hours| hours.parse().ok());
            if word.starts_with('L') {
                let details = Details { funding_interval_hours: hours, ..Details::new(Kind::Perpetual, "A", "B", Status::Trading) };
                out.describe(input.market, "A", None, details);
            } else {
                let instrument = out.instrument(input.market, "A");
                out.emit(&instrument, None, Body::Funding(Funding { interval_hours: hours, ..Funding::default() }));
            }
        }
        Ok(())
    }

    /// The intervals of the instrument events that a venue's answers give, one after the other.
    fn told(answers: &[&str]) -> Vec<Vec<Option<u32>>> {
        let venue = Venue::new(&Toy, Profile::parse(Toy.policy()).unwrap());
        let mut feed = crate::feed::Feed::new(venue, Market::Linear);
        let interval = |event: &Event| if let Body::Instrument(details) = &event.body { Some(details.funding_interval_hours) } else { None };
        let mut answer = |payload: &&str| {
            let mut turn = Turn::default();
            let reply =
                Reply { method: Method::Get, url: "http://toy/all", request: None, status: 200, retry_after: None, payload: payload.as_bytes(), memo: None };
            feed.reply(Time::EPOCH, &reply, &mut turn).unwrap();
            turn.events.iter().filter_map(interval).collect()
        };
        answers.iter().map(&mut answer).collect()
    }

    #[test]
    fn a_funding_interval_that_the_list_leaves_out_is_an_instruments_once() {
        let said = told(&["F8", "L", "F8", "F8 F8", "L", "F4 F4", "F", "L"]);
        let (none, eight, four) = (vec![None], vec![Some(8)], vec![Some(4)]);
        assert_eq!(said, [vec![], none, eight.clone(), vec![], eight, four.clone(), vec![], four]);
    }

    #[test]
    fn where_the_list_has_it_the_list_is_what_counts() {
        assert_eq!(told(&["L8", "F4", "L8", "F4", "L4"]), [vec![Some(8)], vec![], vec![Some(8)], vec![], vec![Some(4)]]);
    }
}
