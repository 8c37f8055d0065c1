//! For the decoders' own tests: venues of which nothing is known yet, and what their frames and answers give.

use exchange_core::feed::{Feed, Reply, Turn};
use exchange_core::profile::Method;
use exchange_core::{Exchange, Market, Profile, Time, Venue};

pub(crate) fn profile(exchange: &dyn Exchange) -> Profile {
    Profile::parse(exchange.policy()).unwrap()
}

pub(crate) fn venue(exchange: &'static dyn Exchange) -> Venue {
    Venue::new(exchange, profile(exchange))
}

pub(crate) fn feed(exchange: &'static dyn Exchange, market: Market) -> Feed {
    Feed::new(venue(exchange), market)
}

/// What a frame gives.
pub(crate) fn frame(feed: &mut Feed, received: Time, url: &str, text: &str) -> Turn {
    let mut turn = Turn::default();
    feed.frame(received, url, text.as_bytes(), &mut turn);
    turn
}

/// What the answer to a request gives: to a POST, if it has a body.
pub(crate) fn answer(feed: &mut Feed, received: Time, url: &str, request: Option<&str>, payload: &str) -> Turn {
    let method = if request.is_some() { Method::Post } else { Method::Get };
    let reply = Reply { method, url, request, status: 200, retry_after: None, payload: payload.as_bytes(), memo: None };
    let mut turn = Turn::default();
    feed.reply(received, &reply, &mut turn).unwrap();
    turn
}
