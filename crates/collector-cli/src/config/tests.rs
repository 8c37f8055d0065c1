use super::testing::{Place, VENUES, environment};
use super::*;

fn load(given: &Given, environment: &Environment) -> Config {
    Config::load(&VENUES, given, environment)
}

/// The text of a value and where it came from.
fn of(config: &Config, key: &str) -> (String, String) {
    let path: Vec<&str> = key.split('.').collect();
    let tree = config.merged();
    let node = tree.get(&path).unwrap_or_else(|| panic!("there is no {key}"));
    (node.value.describe().trim_matches('`').to_owned(), node.origin.to_string())
}

fn problems(given: &Given, environment: &Environment) -> Vec<String> {
    load(given, environment).problems.iter().map(ToString::to_string).collect()
}

fn set(values: &[&str]) -> Given {
    Given { set: values.iter().map(ToString::to_string).collect(), ..Given::default() }
}

#[test]
fn each_layer_wins_over_those_below() {
    let place = Place::with(
        "collector.toml",
        "mode = \"poll\"\ninterval = \"1s\"\nlog = \"text\"\nname = \"file\"\n\n[profiles.prod]\ninterval = \"2s\"\nlog = \"json\"\nname = \"prod\"\n",
    );
    let environment = place.environment(&[("COLLECTOR_PROFILE", "prod"), ("COLLECTOR_LOG", "auto"), ("COLLECTOR_NAME", "env"), ("COLLECTOR_STATE", "/env")]);
    let given =
        Given { set: vec!["state=/set".to_owned()], ..Given::default() }.text("--name", &["name"], Some("flag")).text("--state", &["state"], Some("/flag"));
    let config = load(&given, &environment);
    assert_eq!(config.problems, []);
    let pair = |value: &str, origin: &str| (value.to_owned(), origin.to_owned());
    assert_eq!(of(&config, "markets"), pair("linear", "default"));
    assert_eq!(of(&config, "venues.bybit.ws.silence"), pair("30s", "bybit/venue.toml"));
    assert_eq!(of(&config, "mode"), pair("poll", "collector.toml:1"));
    assert_eq!(of(&config, "interval"), pair("2s", "collector.toml:7 (profile prod)"));
    assert_eq!(of(&config, "log"), pair("auto", "COLLECTOR_LOG"));
    assert_eq!(of(&config, "name"), pair("flag", "--name"));
    assert_eq!(of(&config, "state"), pair("/set", "--set"));
    assert_eq!((config.file, config.profile.as_deref()), (Some("collector.toml".into()), Some("prod")));
}

#[test]
fn nested_keys_have_two_underscores_in_the_environment() {
    let variables = [
        ("COLLECTOR_VENUES__BYBIT__REST_URL", "http://127.0.0.1:1"),
        ("COLLECTOR_SIM__SEED", "7"),
        ("COLLECTOR_ALL_EVENTS", "true"),
        ("COLLECTOR_MODE", ""),
        ("HOME", "/home/me"),
    ];
    let config = load(&Given::default(), &environment(&variables));
    assert_eq!(config.problems, []);
    assert_eq!(of(&config, "venues.bybit.rest_url").1, "COLLECTOR_VENUES__BYBIT__REST_URL");
    assert_eq!(of(&config, "sim.seed").0, "7");
    assert_eq!(of(&config, "all_events").0, "true");
    assert_eq!(of(&config, "mode").1, "default", "an empty variable is one that is not set");
    assert_eq!(of(&config, "state").0, "/home/me/.local/state/collector");
}

#[test]
fn unknown_keys_are_refused_with_the_nearest() {
    let place = Place::with(
        "collector.toml",
        "once = true\nintervall = \"5s\"\n[sim]\nsede = 1\n[venues.byibt]\nrest_url = \"x\"\n[profiles.dev]\nexchange = \"bybit\"\n",
    );
    let given = Given { set: vec!["chanels=ticker".to_owned(), "nothing".to_owned(), "a b=1".to_owned()], ..Given::default() };
    let mut found = problems(&given, &place.environment(&[("COLLECTOR_MARKET", "spot")]));
    found.sort();
    assert_eq!(
        found,
        [
            "--set a b=1: `a b` is no key (such as `interval` or `venues.bybit.rest_url`)",
            "--set chanels: unknown key `chanels`: did you mean `channels`?",
            "--set nothing: expected KEY=VALUE",
            "COLLECTOR_MARKET: unknown key `market`: did you mean `markets`?",
            "collector.toml:2: unknown key `intervall`: did you mean `interval`?",
            "collector.toml:4: unknown key `sim.sede`: did you mean `seed`?",
            "collector.toml:5: unknown venue `venues.byibt`: did you mean `bybit`?",
            "collector.toml:8 (profile dev): unknown key `exchange`: did you mean `exchanges`?",
        ]
    );
}

#[test]
fn keys_in_wrong_places_are_told_where_they_belong() {
    let place = Place::with("collector.toml", "profile = \"prod\"\nsink = \"null:\"\nsinks = \"null:\"\nsim = 3\n");
    let found = problems(&set(&["profiles.x.mode=poll"]), &place.environment(&[("COLLECTOR_SIM", "1"), ("COLLECTOR_SIM__SEED", "1")]));
    assert_eq!(
        found,
        [
            "COLLECTOR_SIM__SEED: something above this key has a value of its own",
            "collector.toml:2: sink: `sink` and `sinks` are one key: write one of them",
            "collector.toml:1: profile: this is chosen by `--profile` or `COLLECTOR_PROFILE`",
            "collector.toml:4: sim: expected a table, found `3`",
            "COLLECTOR_SIM: expected a table, found `1`",
            "--set profiles: profiles stand at the top of the configuration file, and nowhere else",
        ]
    );
}

#[test]
fn profiles_are_chosen_by_name() {
    let place = Place::with("collector.yaml", "mode: poll\nprofiles:\n  dev: {mode: stream}\n  prod: {mode: auto}\n");
    let given = |profile: &str| Given { config: Some("collector.yaml".into()), profile: Some(profile.to_owned()), ..Given::default() };
    let config = load(&given("dev"), &place.environment(&[("COLLECTOR_PROFILE", "prod")]));
    assert_eq!(of(&config, "mode"), ("stream".to_owned(), "collector.yaml (profile dev)".to_owned()));
    assert_eq!(problems(&given("prd"), &place.environment(&[])), ["--profile: unknown profile `prd`: did you mean `prod`?"]);
    assert_eq!(
        problems(&Given::default(), &environment(&[("COLLECTOR_PROFILE", "prod")])),
        ["COLLECTOR_PROFILE: there is no configuration file, hence no profile `prod`"]
    );
}

#[test]
fn a_file_that_cannot_be_read_is_named_with_the_position() {
    let named = |name: &str| Given { config: Some(name.into()), ..Given::default() };
    assert!(problems(&named("no.toml"), &environment(&[]))[0].starts_with("no.toml: cannot read it: "));
    for (name, text, wanted) in [
        ("a.toml", "mode = \"poll\"\nonce = \n", "a.toml:2:"),
        ("a.yaml", "mode: poll\n\tonce: true\n", "a.yaml:2:1: "),
        ("a.json", "{\"mode\": \"poll\",}", "a.json:1:17: trailing comma"),
    ] {
        let place = Place::with(name, text);
        let found = problems(&named(name), &place.environment(&[("COLLECTOR_PROFILE", "prod")]));
        assert!(found.len() == 1 && found[0].starts_with(wanted) && !found[0].contains('\n'), "{found:?}");
    }
}

#[test]
fn the_configuration_is_found_by_variable_as_well() {
    let place = Place::with("c.json", r#"{"sink": ["null:"]}"#);
    let config = load(&Given::default(), &place.environment(&[("COLLECTOR_CONFIG", "c.json")]));
    assert_eq!(config.problems, []);
    assert_eq!(of(&config, "sinks"), ("a list".to_owned(), "c.json".to_owned()));
}

#[test]
fn set_takes_quoted_keys_lists_and_tables() {
    let config = load(&set(&[r#"venues.binance.errors."http:403"=banned"#, r#"exchanges=["bybit"]"#, "sim={seed = 4}"]), &environment(&[]));
    assert_eq!(config.problems, []);
    let tree = config.merged();
    assert!(tree.get(&["venues", "binance", "errors", "http:403"]).is_some() && tree.get(&["venues", "binance", "errors", "http:418"]).is_some());
    assert!(matches!(&tree.get(&["exchanges"]).unwrap().value, Value::List(items) if items.len() == 1));
    assert_eq!(of(&config, "sim.seed").0, "4");
    assert_eq!(of(&config, "sim.symbols").1, "default");
}
