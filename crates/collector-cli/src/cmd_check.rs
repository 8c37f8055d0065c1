//! `collector check`: what a run would go by, and where each value came from.
//!
//! The output is a configuration itself (TOML), so that it can be kept and given back; secrets are not in it.

use std::fmt::Write as _;
use std::io::{self, Write};

use exchange_sinks::SinkUri;

use crate::args::RunArgs;
use crate::config::tree::{Node, Value};
use crate::config::{Config, Environment, VenuePolicy};
use crate::settings::{Need, Settings, place_addresses};

/// What stands for a secret.
const MASK: &str = "***";
/// Words in a key that make its value a secret.
const SECRETS: [&str; 7] = ["password", "passphrase", "passwd", "token", "secret", "credential", "api_key"];
/// Where the origins stand, unless a line is longer.
const COLUMN: usize = 48;

/// Checks, and prints to `out` what is right, to `err` all that is wrong. The exit status is 0 or 2.
pub(crate) fn run(args: &RunArgs, venues: &[VenuePolicy<'_>], environment: &Environment, out: &mut impl Write, err: &mut impl Write) -> io::Result<u8> {
    let config = Config::load(venues, &args.given(), environment);
    match Settings::resolve(&config, venues, Need::Nothing) {
        Ok(settings) => {
            out.write_all(render(&config, &settings).as_bytes())?;
            out.flush()?;
            Ok(0)
        }
        Err(problems) => {
            writeln!(err, "{problems}")?;
            Ok(2)
        }
    }
}

fn render(config: &Config, settings: &Settings) -> String {
    let mut text = match (&config.file, &config.profile) {
        (Some(file), Some(profile)) => format!("# {}, profile {profile}\n", file.display()),
        (Some(file), None) => format!("# {}\n", file.display()),
        (None, _) => "# no configuration file\n".to_owned(),
    };
    let tree = config.merged();
    if let (None, Some(name)) = (tree.get(&["name"]), &settings.name) {
        line(&mut text, "name", &quoted(name), "from its venues and sinks");
    }
    for (key, node) in tree.entries().into_iter().flatten().filter(|(key, _)| *key != "venues") {
        lines(&mut text, &plain_or_quoted(key), is_secret(key), node);
    }
    for (name, node) in tree.get(&["venues"]).and_then(Node::entries).into_iter().flatten() {
        let wanted = settings.profiles.iter().any(|profile| profile.name == *name);
        if wanted || changed(node) {
            // As they hold, not as they were written: which of several does is not to be worked out by the reader.
            let mut node = node.clone();
            place_addresses(name, &mut node, &mut Vec::new());
            lines(&mut text, &format!("venues.{}", plain_or_quoted(name)), false, &node);
        }
    }
    text
}

/// Whether the user wrote something about a venue.
fn changed(node: &Node) -> bool {
    match &node.value {
        Value::Table(entries) => entries.values().any(changed),
        _ => node.origin.layer() > 1,
    }
}

fn lines(text: &mut String, path: &str, secret: bool, node: &Node) {
    match &node.value {
        Value::Table(entries) if !entries.is_empty() => {
            for (key, node) in entries {
                lines(text, &format!("{path}.{}", plain_or_quoted(key)), secret || is_secret(key), node);
            }
        }
        Value::List(items) if items.iter().any(|item| item.entries().is_some()) => {
            line(text, path, "[", &node.origin.to_string());
            for item in items {
                // Writing to a string cannot fail.
                let _ = writeln!(text, "  {},", inline(&item.value, secret));
            }
            text.push_str("]\n");
        }
        value => line(text, path, &inline(value, secret), &node.origin.to_string()),
    }
}

fn line(text: &mut String, path: &str, value: &str, origin: &str) {
    let _ = writeln!(text, "{:COLUMN$} # {origin}", format!("{path} = {value}"));
}

fn inline(value: &Value, secret: bool) -> String {
    match value {
        Value::List(items) => format!("[{}]", items.iter().map(|item| inline(&item.value, secret)).collect::<Vec<_>>().join(", ")),
        Value::Table(entries) => {
            let entry = |(key, node): (&String, &Node)| format!("{} = {}", plain_or_quoted(key), inline(&node.value, secret || is_secret(key)));
            format!("{{ {} }}", entries.iter().map(entry).collect::<Vec<_>>().join(", "))
        }
        _ if secret => quoted(MASK),
        Value::Bool(value) => value.to_string(),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => toml::Value::Float(*number).to_string(),
        Value::Text(text) => quoted(&masked(text)),
    }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn plain_or_quoted(key: &str) -> String {
    let plain = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    if plain { key.to_owned() } else { quoted(key) }
}

fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase().replace('-', "_");
    SECRETS.iter().any(|secret| key.contains(secret)) || key == "apikey"
}

/// Addresses without their users, passwords and secret parameters.
fn masked(text: &str) -> String {
    // A comma may stand in an address, between hosts or in a password: only one that a scheme follows separates two.
    let mut addresses: Vec<String> = Vec::new();
    for part in text.split(',') {
        let begins = part.split_once(':').is_some_and(|(scheme, _)| SinkUri::is_scheme(scheme));
        match addresses.last_mut() {
            Some(address) if !begins => *address = format!("{address},{part}"),
            _ => addresses.push(part.to_owned()),
        }
    }
    addresses.iter().map(|address| masked_address(address)).collect::<Vec<_>>().join(",")
}

fn masked_address(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    // A password may hold a slash or a question mark that should have been written otherwise.
    let rest = rest.rsplit_once('@').filter(|_| !rest.starts_with('/')).map_or_else(|| rest.to_owned(), |(_, host)| format!("{MASK}@{host}"));
    let (address, query) = rest.split_once('?').map_or((rest.as_str(), None), |(address, query)| (address, Some(query)));
    let pair = |pair: &str| match pair.split_once('=') {
        Some((key, _)) if is_secret(key) => format!("{key}={MASK}"),
        _ => pair.to_owned(),
    };
    let query = query.map_or_else(String::new, |query| format!("?{}", query.split('&').map(pair).collect::<Vec<_>>().join("&")));
    format!("{scheme}://{address}{query}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::{Place, VENUES, environment};

    fn check(args: &RunArgs, variables: &[(&str, &str)]) -> (u8, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let status = run(args, &VENUES, &environment(variables), &mut out, &mut err).unwrap();
        (status, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    fn args() -> RunArgs {
        let mut args = RunArgs { interval: Some("2s".to_owned()), ..RunArgs::default() };
        args.choice.exchanges = vec!["bybit".to_owned()];
        args.config.set = vec!["venues.bybit.rest_url=http://me:hidden@127.0.0.1:9/bybit".to_owned()];
        args
    }

    /// The line of a key.
    fn of<'a>(text: &'a str, key: &str) -> &'a str {
        text.lines().find(|line| line.starts_with(&format!("{key} = "))).unwrap_or_else(|| panic!("no `{key}` in\n{text}"))
    }

    #[test]
    fn every_value_is_there_with_its_origin() {
        let (status, text, complaints) = check(&args(), &[("COLLECTOR_FOLD", "true")]);
        assert_eq!((status, complaints.as_str()), (0, ""));
        assert!(of(&text, "interval").ends_with(" # --interval") && of(&text, "interval").starts_with("interval = \"2s\" "));
        assert!(of(&text, "fold").ends_with(" # COLLECTOR_FOLD"));
        assert!(of(&text, "markets").ends_with(" # default"));
        assert!(of(&text, "venues.bybit.ws.silence").ends_with(" # bybit/venue.toml"));
        assert!(of(&text, "name").ends_with(" # from its venues and sinks"));
        assert!(!text.contains("venues.binance"), "a venue that nobody asked for is left out");
    }

    #[test]
    fn what_it_prints_is_a_configuration_that_says_the_same() {
        let (_, text, _) = check(&args(), &[]);
        let place = Place::with("collector.toml", &text.replace(MASK, "me:hidden"));
        let resolve = |args: &RunArgs, environment: &Environment| {
            let config = Config::load(&VENUES, &args.given(), environment);
            format!("{:?}", Settings::resolve(&config, &VENUES, Need::Exchanges).unwrap())
        };
        let again = resolve(&RunArgs::default(), &place.environment(&[]));
        // Only who said so is not the same any more.
        assert_eq!(again.replace("_default: false", "_default: true"), resolve(&args(), &environment(&[])));
    }

    #[test]
    fn secrets_are_masked() {
        let (_, text, _) = check(&args(), &[]);
        assert!(of(&text, "venues.bybit.markets.linear.rest").contains(" = \"http://***@127.0.0.1:9/bybit\" "));
        assert!(!text.contains("hidden"));
        assert_eq!(masked("nats://u:p@h:4222/x?token=t&stream=s,redis://h"), "nats://***@h:4222/x?token=***&stream=s,redis://h");
        assert_eq!(masked("redis://u:p,q@h,nats://u:p@h,h2:99/x"), "redis://***@h,nats://***@h,h2:99/x");
        assert!(is_secret("api-key") && is_secret("auth_token") && !is_secret("keys"));
    }

    #[test]
    fn no_address_of_a_sink_shows_what_is_secret_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, "hunter2").unwrap();
        let (with_file, file) = (format!("h?password_file={}", file.display()), file.display().to_string());
        // Of every server's sink, whether this build has it or not: what is right is printed, what is wrong refused.
        for scheme in ["nats", "amqp", "amqps", "redis", "rediss", "postgres", "kafka"] {
            for rest in [
                "u:hunter2@h/1",
                "hunter2@h",
                ":hunter2@h,h2/1",
                "u:hunter2%2C,@h",
                "u:hunter2/?,@h",
                "h?password=hunter2",
                "h?nkey_file=x",
                &with_file,
                "u:hunter2",
            ] {
                let args = RunArgs { sink: vec![format!("{scheme}://{rest}")], ..args() };
                let (_, text, complaints) = check(&args, &[("MARKET_PASSWORD", "hunter2")]);
                let shown = format!("{text}{complaints}").replace(&file, "");
                assert!(shown.contains(scheme.trim_end_matches('s')) && !shown.contains("hunter2"), "{scheme}://{rest}: {shown}");
            }
        }
    }

    #[test]
    fn everything_that_is_wrong_is_said() {
        let mut args = args();
        args.interval = Some("soon".to_owned());
        args.mode = Some("pol".to_owned());
        let (status, text, complaints) = check(&args, &[]);
        assert_eq!((status, text.as_str()), (2, ""));
        assert_eq!(complaints, "--mode: unknown mode `pol`: did you mean `poll`?\n--interval: `soon` is no duration (such as 500ms, 5s, 10m, 24h)\n");
    }
}
