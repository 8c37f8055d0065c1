//! The venues' descriptions, with what the configuration changes about them.

use exchange_core::{Market, Profile};
use serde::Deserialize as _;

use crate::config::tree::{Node, Origin, Value};
use crate::config::{Config, Problem, VenuePolicy, merge};
use crate::suggest;

/// Keys of a venue besides those of `venue.toml`: its addresses, for all markets or for one.
const ADDRESSES: [&str; 2] = ["rest_url", "ws_url"];
const REST: [&str; 2] = ["http", "https"];
const WS: [&str; 2] = ["ws", "wss"];
/// What is known at the top of a venue besides the keys of `venue.toml`.
const MORE: [&str; 6] = ["rest_url", "ws_url", "spot", "linear", "inverse", "option"];

/// The descriptions of the venues in `wanted`, in its order. Overrides of other venues are checked as well.
pub(crate) fn profiles(config: &Config, venues: &[VenuePolicy<'_>], wanted: &[String], problems: &mut Vec<Problem>) -> Vec<Profile> {
    let mut all: Vec<(&str, Profile)> = venues.iter().filter_map(|(name, _)| Some((*name, profile(config, name, problems)?))).collect();
    wanted.iter().filter_map(|name| all.iter().position(|(known, _)| known == name).map(|at| all.swap_remove(at).1)).collect()
}

/// Deserializing stops at the first fault. So that all are found, what a fault names is taken out of its layer, and
/// the rest is tried again.
fn profile(config: &Config, name: &str, problems: &mut Vec<Problem>) -> Option<Profile> {
    let mut layers = config.layers.clone();
    loop {
        let mut tree = merge(&layers).remove(&["venues", name])?;
        let mut found = Vec::new();
        place_addresses(name, &mut tree, &mut found);
        let fault = match Profile::deserialize(&tree) {
            Ok(profile) => {
                problems.append(&mut found);
                check(name, &tree, &profile, problems);
                return Some(profile);
            }
            Err(fault) => fault,
        };
        let path = fault.path();
        let origin = deepest(&tree, &path).origin.clone();
        let more: &[&str] = if path.len() == 1 { &MORE } else { &[] };
        let key = ["venues", name].iter().chain(&path).copied().collect::<Vec<_>>().join(".").replace(".[", "[");
        problems.push(Problem::with(&origin, &key, fault.message(more)));
        // A list is written as a whole.
        let written: Vec<&str> = ["venues", name].into_iter().chain(path.into_iter().take_while(|key| !key.starts_with('['))).collect();
        let layer = layers.iter_mut().rev().find(|layer| layer.origin.layer() > 1 && layer.get(&written).is_some())?;
        layer.remove(&written);
    }
}

/// The value at a path, or what is nearest to it on the way.
fn deepest<'a>(tree: &'a Node, path: &[&str]) -> &'a Node {
    let mut node = tree;
    for key in path {
        match node.entries().and_then(|entries| entries.get(*key)) {
            Some(next) => node = next,
            None => break,
        }
    }
    node
}

/// Puts the addresses that were written as `rest_url` and `ws_url` where `venue.toml` has them. Of several that concern
/// one, that of the highest layer holds; within a layer, the most specific.
pub(crate) fn place_addresses(venue: &str, tree: &mut Node, problems: &mut Vec<Problem>) {
    let mut found = Vec::new();
    for key in ADDRESSES {
        found.extend(tree.remove(&[key]).map(|node| (None, key.to_owned(), node)));
    }
    for market in Market::ALL {
        let Some(written) = tree.remove(&[market.as_str()]) else { continue };
        let Some(entries) = written.entries() else {
            let what = format!("expected a table of `rest_url` and `ws_url`, found {}", written.value.describe());
            problems.push(Problem::with(&written.origin, &format!("venues.{venue}.{market}"), what));
            continue;
        };
        found.extend(entries.iter().map(|(key, node)| (Some(market), key.clone(), node.clone())));
    }
    found.sort_by_key(|(market, _, node)| (node.origin.layer(), market.is_some()));
    for (market, key, node) in found {
        if let Err(what) = place_address(venue, tree, market, &key, &node) {
            let path = market.map_or_else(|| format!("venues.{venue}.{key}"), |market| format!("venues.{venue}.{market}.{key}"));
            problems.push(Problem::with(&node.origin, &path, what));
        }
    }
}

fn place_address(venue: &str, tree: &mut Node, market: Option<Market>, key: &str, node: &Node) -> Result<(), String> {
    let (theirs, schemes) = match key {
        "rest_url" => ("rest", REST),
        "ws_url" => ("ws", WS),
        _ => return Err(format!("unknown key `{key}`: {}", suggest::hint(key, ADDRESSES))),
    };
    let Value::Text(text) = &node.value else { return Err(format!("expected an address, found {}", node.value.describe())) };
    check_address(text, schemes)?;
    let served: Vec<String> = tree.get(&["markets"]).and_then(Node::entries).into_iter().flatten().map(|(market, _)| market.clone()).collect();
    let concerned: Vec<&String> = served.iter().filter(|known| market.is_none_or(|market| market.as_str() == *known)).collect();
    if let (Some(market), true) = (market, concerned.is_empty()) {
        return Err(format!("{venue} has no market `{market}`: {}", suggest::hint("", served.iter().map(String::as_str))));
    }
    for known in concerned {
        let path = ["markets", known, theirs];
        let written = tree.get(&path).map_or(0, |node| node.origin.layer());
        // `markets.linear.rest` is more specific than `rest_url`, and the same as `linear.rest_url`.
        if written < node.origin.layer() || (market.is_some() && written == node.origin.layer()) {
            tree.insert(&path, Node::text(text.trim_end_matches('/'), node.origin.clone()));
        }
    }
    Ok(())
}

/// Whether an address is one to which a venue's paths can be appended.
fn check_address(text: &str, schemes: [&str; 2]) -> Result<(), String> {
    let wanted = || format!("`{text}` is no address that begins with `{}://` or `{}://` and a host", schemes[0], schemes[1]);
    let (scheme, rest) = text.split_once("://").ok_or_else(wanted)?;
    let host = rest.split('/').next().unwrap_or_default();
    if !schemes.contains(&scheme) || host.is_empty() || text.contains(char::is_whitespace) {
        return Err(wanted());
    }
    if text.contains(['?', '#']) {
        return Err(format!("`{text}` has a query: the venue's paths are appended to it"));
    }
    Ok(())
}

/// What a description must say so that it can be run, beyond its types.
fn check(venue: &str, tree: &Node, profile: &Profile, problems: &mut Vec<Problem>) {
    let mut problem = |path: &[&str], what: String| {
        let origin = deepest(tree, path).origin.clone();
        // A shipped description is tested where it stands; whatever is wrong here, the user wrote.
        if !matches!(origin, Origin::Venue(_)) {
            problems.push(Problem::with(&origin, &format!("venues.{venue}.{}", path.join(".")), what));
        }
    };
    for (market, surface) in &profile.markets {
        for (key, text, schemes) in [("rest", &surface.rest, REST), ("ws", &surface.ws, WS)] {
            if let Err(what) = check_address(text, schemes) {
                problem(&["markets", market.as_str(), key], what);
            }
        }
    }
    let limits = profile.limits.iter().map(|(name, limit)| (vec!["limits", name.as_str()], limit));
    for (path, limit) in limits.chain([(vec!["ws", "frames"], &profile.ws.frames), (vec!["ws", "connects"], &profile.ws.connects)]) {
        if limit.budget == 0 {
            problem(&[path.as_slice(), &["budget"]].concat(), "with no budget at all, nothing could ever be asked".to_owned());
        }
        if limit.window.is_zero() {
            problem(&[path.as_slice(), &["window"]].concat(), "a window is longer than nothing".to_owned());
        }
    }
    for (key, number) in [("topics_per_frame", profile.ws.topics_per_frame), ("topics_per_connection", profile.ws.topics_per_connection)] {
        if number == 0 {
            problem(&["ws", key], "with none at all, nothing could ever be subscribed to".to_owned());
        }
    }
    for endpoint in profile.endpoint.iter().filter(|endpoint| !profile.limits.contains_key(&endpoint.limit)) {
        problem(
            &["endpoint"],
            format!(
                "`{}` draws on the limit `{}`, which there is not: {}",
                endpoint.name,
                endpoint.limit,
                suggest::hint(&endpoint.limit, profile.limits.keys().map(String::as_str))
            ),
        );
    }
    if profile.name != venue {
        problem(&["name"], format!("a venue keeps its name, `{venue}`"));
    }
}
