//! The command line: names and help of all commands and flags. What a value means is checked in
//! [`crate::settings`], where values from files and variables are checked as well.

use std::path::PathBuf;
use std::sync::LazyLock;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::config::Given;

static VERSION: LazyLock<String> = LazyLock::new(|| format!("{} (schema {})", env!("CARGO_PKG_VERSION"), exchange_core::event::SCHEMA));

/// Collects market data of exchanges: every price, funding rate, open interest, trade and book change.
///
/// Data goes to standard output or into sinks, everything for people to standard error. Exit status: 0 done, 1 failed
/// while running, 2 wrong usage or configuration, 3 some input could not be decoded.
#[derive(Debug, Parser)]
#[command(name = "collector", version = VERSION.as_str(), propagate_version = true, after_help = "Example:\n  collector run --exchanges bybit,binance")]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Collect: poll and stream venues, into sinks
    #[command(
        after_help = "Examples:\n  collector run --exchanges bybit,binance\n  collector run --exchanges bybit --channels trade,book --symbols 'BTC/*' --sink stdout:\n  collector run --simulate --exchanges all --once --sink stdout:"
    )]
    Run(RunArgs),
    /// Captures in, events out, without a network
    #[command(after_help = "Example:\n  collector decode capture.ndjson.zst | jq .type | sort | uniq -c")]
    Decode(DecodeArgs),
    /// Captures through the whole pipeline into sinks, at their own pace or faster
    #[command(
        after_help = "Examples:\n  collector replay captures/ --sink file:./again\n  collector replay captures/*.ndjson.zst --speed 10x --channels trade --symbols 'BTC/*' --sink stdout:"
    )]
    Replay(ReplayArgs),
    /// Captures against the events that were collected from them: what a changed decoder makes different; exit status 1 if anything
    ///
    /// The captures are decoded again and go through the pipeline of a run (say --all-events or --fold where the run had them).
    /// What a run held back as known, what only a live run knows (gaps of lost connections, refills) and events of times without
    /// captures are no differences. An event is changed where another one of the same type stands at the same instrument and time of
    /// arrival. The events are read twice; each takes 16 bytes of memory.
    #[command(
        after_help = "Examples:\n  collector reparse captures/ --events ./data\n  collector reparse captures/ --events ./data --channels funding --examples 3\n  collector reparse captures/ --events ./data --sink file:./corrected"
    )]
    Reparse(ReparseArgs),
    /// Serve simulated venues over loopback HTTP and WebSocket
    #[command(after_help = "Example:\n  collector sim --exchanges bybit,binance --listen 127.0.0.1:9000 --symbols 100 --rate 20000 --truth truth.ndjson")]
    Sim(SimArgs),
    /// List the instruments of venues
    #[command(after_help = "Example:\n  collector instruments --exchanges bybit --markets linear --symbols 'BTC/*'")]
    Instruments(InstrumentsArgs),
    /// List the venues and what each supports
    #[command(after_help = "Example:\n  collector venues --json | jq '.[].name'")]
    Venues(VenuesArgs),
    /// Validate a configuration and print it merged, with where each value came from
    #[command(after_help = "Example:\n  collector check --config collector.toml --profile prod")]
    Check(RunArgs),
    /// Print what became of everything that arrived, per venue, channel and hour; exit status 1 if the sums do not balance
    #[command(
        after_help = "Examples:\n  collector audit\n  collector audit --from 24h --symbols 'BTC/*'\n  collector audit --json | jq '.ledgers[].rows[] | select(.dropped > 0)'"
    )]
    Audit(AuditArgs),
    /// Print what sinks hold, as it comes; of several, each event once
    #[command(
        after_help = "Examples:\n  collector tail file:./data\n  collector tail file:/mnt/a/data file:/mnt/b/data --from 1h | jq -c 'select(.type==\"funding\")'\n  collector tail file:./data --no-follow > all.ndjson\n  collector tail parquet:./data --no-follow --from 2026-01-05 | jq -c 'select(.type==\"liquidation\")'\n  collector tail redis://localhost"
    )]
    Tail(TailArgs),
    /// Merge small files of a Parquet dataset's days that are over; a running collector does it by itself
    #[cfg(feature = "parquet")]
    #[command(after_help = "Examples:\n  collector compact ./data\n  collector compact 's3://my-bucket/market?region=eu-central-1'")]
    Compact(CompactArgs),
    /// Print a completion script for a shell
    #[command(after_help = "Example:\n  collector completions bash > ~/.local/share/bash-completion/completions/collector")]
    Completions(CompletionsArgs),
}

/// Where the configuration comes from.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Configuration")]
pub(crate) struct ConfigArgs {
    /// TOML, YAML or JSON by its ending [default: collector.toml if there is one]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// A profile of the configuration: dev, staging, prod, or your own [default: `$COLLECTOR_PROFILE`]
    #[arg(long, value_name = "NAME")]
    pub(crate) profile: Option<String>,
    /// One value of the configuration, such as `venues.bybit.rest_url=http://127.0.0.1:9000/bybit`; repeatable; wins over file and environment
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Format of the log on standard error: text or json [default: by whether it is a terminal]
    #[arg(long, value_name = "FORMAT")]
    pub(crate) log: Option<String>,
}

/// Which instruments of which venues.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ChoiceArgs {
    /// Venues, comma separated; `all`
    #[arg(long, value_name = "LIST")]
    pub(crate) exchanges: Vec<String>,
    /// Markets: spot, linear, inverse [default: linear]
    #[arg(long, value_name = "LIST")]
    pub(crate) markets: Vec<String>,
    /// Unified symbols, `*` allowed: `BTC/*`, `ETH/USDT:USDT` [default: all]
    #[arg(long, value_name = "LIST")]
    pub(crate) symbols: Vec<String>,
}

/// Flags of `run` and `check`.
#[expect(clippy::struct_excessive_bools, reason = "switches of the command line, each with a name of its own")]
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct RunArgs {
    /// Which instruments.
    #[command(flatten)]
    pub(crate) choice: ChoiceArgs,
    /// Event types: `ticker,quote,mark,funding,funding_settled,open_interest,trade,book,liquidation,candle:1m,instrument` [default: `ticker,mark,funding,open_interest`]
    #[arg(long, value_name = "LIST")]
    pub(crate) channels: Vec<String>,
    /// How data is had: poll (REST), stream (WebSocket) or auto, which `collector venues` explains [default: auto]
    #[arg(long, value_name = "MODE")]
    pub(crate) mode: Option<String>,
    /// Time between poll cycles [default: 5s]
    #[arg(long, value_name = "DUR")]
    pub(crate) interval: Option<String>,
    /// One full poll cycle of everything asked for, then stop; implies --mode poll
    #[arg(long)]
    pub(crate) once: bool,
    /// Stop in an orderly way after this long [default: never]
    #[arg(long = "for", value_name = "DUR")]
    pub(crate) stop_after: Option<String>,
    /// Where events go; repeatable: `stdout:`, `file:DIR`, `parquet:DIR`, `parquet:s3://BUCKET/PREFIX` [default: `parquet:./data`]
    #[arg(long, value_name = "URI")]
    pub(crate) sink: Vec<String>,
    /// Pass on unchanged states too
    #[arg(long)]
    pub(crate) all_events: bool,
    /// Emit each state whole, from the last known values
    #[arg(long)]
    pub(crate) fold: bool,
    /// Also write what the venues sent, byte for byte
    #[arg(long, value_name = "DIR")]
    pub(crate) capture: Option<String>,
    /// Run against simulated venues inside the process: no network needed (keys `sim.symbols`, `sim.rate` … as the flags of `collector sim`)
    #[arg(long)]
    pub(crate) simulate: bool,
    /// Take every N-th share of the instruments (I from 0), for several collectors side by side [default: 0/1]
    #[arg(long, value_name = "I/N")]
    pub(crate) shard: Option<String>,
    /// What must survive a restart: bans and budgets (by address, shared by all collectors that use it), the ledger [default: `$XDG_STATE_HOME/collector`]
    #[arg(long, value_name = "DIR")]
    pub(crate) state: Option<String>,
    /// Whose ledger in the state directory; a second running collector of that name is refused [default: from its venues and sinks]
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// A file that is written anew every 5 s as long as the process is alive, for supervisors that watch files
    #[arg(long, value_name = "FILE")]
    pub(crate) heartbeat: Option<String>,
    /// Address of /metrics, /healthz, /readyz and /api; `off` [default: 127.0.0.1:9464]
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<String>,
    /// The configuration.
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
}

/// Flags of `decode`.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct DecodeArgs {
    /// Captures, plain or zstd-compressed, or directories of them [default: standard input]
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Exit with 0 in spite of lines that could not be decoded
    #[arg(long)]
    pub(crate) lenient: bool,
    /// Emit each state whole, from the last known values
    #[arg(long)]
    pub(crate) fold: bool,
}

/// Flags of `replay`.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ReplayArgs {
    /// Captures, plain or zstd-compressed, or directories of them [default: standard input]
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// As fast as they came (1x), so many times as fast (10x), or as fast as it goes (max)
    #[arg(long, value_name = "SPEED", default_value = "max")]
    pub(crate) speed: String,
    /// What of the captures.
    #[command(flatten)]
    pub(crate) passing: PassingArgs,
    /// Where the ledger goes [default: `$XDG_STATE_HOME/collector`]
    #[arg(long, value_name = "DIR")]
    pub(crate) state: Option<String>,
    /// Keep a ledger of this name [default: none]
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// The configuration.
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
}

/// Flags of `reparse`.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ReparseArgs {
    /// Captures, plain or zstd-compressed, or directories of them [default: standard input]
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// The events that were collected: a directory of event lines or a Parquet dataset, a file, or an address such as `parquet:DIR`
    #[arg(long, value_name = "PATH", required = true)]
    pub(crate) events: String,
    /// Show so many differences of each venue and channel, as event lines
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) examples: usize,
    /// JSON instead of a table
    #[arg(long)]
    pub(crate) json: bool,
    /// What of the captures.
    #[command(flatten)]
    pub(crate) passing: PassingArgs,
    /// The configuration.
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
}

/// What of captures is passed on, and where.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct PassingArgs {
    /// Venues, comma separated [default: all]
    #[arg(long, value_name = "LIST")]
    pub(crate) exchanges: Vec<String>,
    /// Markets: spot, linear, inverse [default: all]
    #[arg(long, value_name = "LIST")]
    pub(crate) markets: Vec<String>,
    /// Unified symbols, `*` allowed: `BTC/*`, `ETH/USDT:USDT` [default: all]
    #[arg(long, value_name = "LIST")]
    pub(crate) symbols: Vec<String>,
    /// Event types, as `collector run` has them [default: `replay`: all; `reparse`: those that were collected]
    #[arg(long, value_name = "LIST")]
    pub(crate) channels: Vec<String>,
    /// Where events go; repeatable: `stdout:`, `file:DIR` [default: `replay`: `file:./data`; `reparse`: nowhere, else what is changed or new]
    #[arg(long, value_name = "URI")]
    pub(crate) sink: Vec<String>,
    /// Pass on unchanged states too
    #[arg(long)]
    pub(crate) all_events: bool,
    /// Emit each state whole, from the last known values
    #[arg(long)]
    pub(crate) fold: bool,
    /// Take every N-th share of the instruments (I from 0) [default: 0/1]
    #[arg(long, value_name = "I/N")]
    pub(crate) shard: Option<String>,
}

/// Flags of `sim`.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct SimArgs {
    /// Venues, comma separated; `all`
    #[arg(long, value_name = "LIST")]
    pub(crate) exchanges: Vec<String>,
    /// Address of the server; each venue is under /NAME [default: a free port of 127.0.0.1]
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<String>,
    /// Instruments in each market [default: 50]
    #[arg(long, value_name = "N")]
    pub(crate) symbols: Option<String>,
    /// Events a second, of all venues together [default: 1000]
    #[arg(long, value_name = "EVENTS_PER_S")]
    pub(crate) rate: Option<String>,
    /// What chance begins with: the same seed, the same market [default: 1]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<String>,
    /// What each answer takes [default: 0s]
    #[arg(long, value_name = "DUR")]
    pub(crate) latency: Option<String>,
    /// What goes wrong, and when
    #[arg(long, value_name = "FILE")]
    pub(crate) faults: Option<String>,
    /// Write every event that was served as an event line; those of captures stand in FILE.events.ndjson, beside FILE.ndjson
    #[arg(long, value_name = "FILE")]
    pub(crate) truth: Option<String>,
    /// Stop after this long [default: never]
    #[arg(long = "for", value_name = "DUR")]
    pub(crate) stop_after: Option<String>,
    /// Serve captures of any venue instead of the seeded market; other venues of --exchanges have theirs
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub(crate) play: Vec<String>,
    /// Between two captured frames of a connection [default: 0s, all at once]
    #[arg(long, value_name = "DUR")]
    pub(crate) pace: Option<String>,
    /// The configuration.
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
}

/// Flags of `instruments`.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct InstrumentsArgs {
    /// Which instruments.
    #[command(flatten)]
    pub(crate) choice: ChoiceArgs,
    /// JSON instead of a table
    #[arg(long)]
    pub(crate) json: bool,
    /// The configuration.
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
}

/// Flags of `venues`.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct VenuesArgs {
    /// JSON instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

/// Flags of `compact`.
#[cfg(feature = "parquet")]
#[derive(Debug, Clone, Args)]
pub(crate) struct CompactArgs {
    /// The dataset: what stands behind `parquet:`, a directory or `s3://BUCKET/PREFIX`
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
}

/// Flags of `audit`.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct AuditArgs {
    /// Whose ledger [default: all in the state directory, or that of the configuration's venues and sinks]
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Where the ledgers are [default: `$XDG_STATE_HOME/collector`]
    #[arg(long, value_name = "DIR")]
    pub(crate) state: Option<String>,
    /// First hour: `2026-01-05T13`, `2026-01-05`, or how long ago (`24h`) [default: the first that is kept, 90 days]
    #[arg(long, value_name = "WHEN")]
    pub(crate) from: Option<String>,
    /// Last hour, written alike [default: the last]
    #[arg(long, value_name = "WHEN")]
    pub(crate) to: Option<String>,
    /// A line for each instrument; of these alone, if a list is given: `BTC/*`, `ETH/USDT:USDT`
    #[arg(long, value_name = "LIST", num_args = 0..=1, default_missing_value = "*")]
    pub(crate) symbols: Option<String>,
    /// JSON instead of a table
    #[arg(long)]
    pub(crate) json: bool,
    /// The configuration.
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
}

/// Flags of `tail`.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct TailArgs {
    /// Where the events are, as their sinks are called: `file:DIR`, `nats://HOST/STREAM`, `kafka://HOST/TOPIC`, `redis://HOST`, `parquet:DIR` (with --no-follow); also `file:FILE`, `stdin:`
    #[arg(value_name = "URI", required = true)]
    pub(crate) sources: Vec<String>,
    /// Begin with what was received then: `start` (all that is kept), `now`, `2026-01-05T13`, `2026-01-05`, or how long ago (`24h`) [default: now; `start` with --no-follow]
    #[arg(long, value_name = "WHEN")]
    pub(crate) from: Option<String>,
    /// Stop at the end of what is there, instead of waiting for more
    #[arg(long)]
    pub(crate) no_follow: bool,
    /// So many ids are remembered at least to leave out repetitions (40 to 80 bytes of memory each)
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) window: u64,
    /// The configuration.
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
}

/// Flags of `completions`.
#[derive(Debug, Clone, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}

impl ConfigArgs {
    pub(crate) fn given(&self) -> Given {
        let given = Given { config: self.config.clone(), profile: self.profile.clone(), set: self.set.clone(), ..Given::default() };
        given.text("--log", &["log"], self.log.as_deref())
    }
}

impl ChoiceArgs {
    fn add_to(&self, given: Given) -> Given {
        given.list("--exchanges", &["exchanges"], &self.exchanges).list("--markets", &["markets"], &self.markets).list("--symbols", &["symbols"], &self.symbols)
    }
}

impl RunArgs {
    /// What these flags say about the configuration.
    pub(crate) fn given(&self) -> Given {
        self.choice
            .add_to(self.config.given())
            .list("--channels", &["channels"], &self.channels)
            .text("--mode", &["mode"], self.mode.as_deref())
            .text("--interval", &["interval"], self.interval.as_deref())
            .switch("--once", &["once"], self.once)
            .text("--for", &["for"], self.stop_after.as_deref())
            .list("--sink", &["sinks"], &self.sink)
            .switch("--all-events", &["all_events"], self.all_events)
            .switch("--fold", &["fold"], self.fold)
            .text("--capture", &["capture"], self.capture.as_deref())
            .switch("--simulate", &["simulate"], self.simulate)
            .text("--shard", &["shard"], self.shard.as_deref())
            .text("--state", &["state"], self.state.as_deref())
            .text("--name", &["name"], self.name.as_deref())
            .text("--heartbeat", &["heartbeat"], self.heartbeat.as_deref())
            .text("--listen", &["listen"], self.listen.as_deref())
    }
}

impl PassingArgs {
    fn add_to(&self, given: Given) -> Given {
        given
            .list("--exchanges", &["exchanges"], &self.exchanges)
            .list("--markets", &["markets"], &self.markets)
            .list("--symbols", &["symbols"], &self.symbols)
            .list("--channels", &["channels"], &self.channels)
            .list("--sink", &["sinks"], &self.sink)
            .switch("--all-events", &["all_events"], self.all_events)
            .switch("--fold", &["fold"], self.fold)
            .text("--shard", &["shard"], self.shard.as_deref())
    }
}

impl ReplayArgs {
    /// What these flags say about the configuration.
    pub(crate) fn given(&self) -> Given {
        self.passing.add_to(self.config.given()).text("--state", &["state"], self.state.as_deref()).text("--name", &["name"], self.name.as_deref())
    }
}

impl ReparseArgs {
    /// What these flags say about the configuration.
    pub(crate) fn given(&self) -> Given {
        self.passing.add_to(self.config.given())
    }
}

impl SimArgs {
    /// What these flags say about the configuration.
    pub(crate) fn given(&self) -> Given {
        self.config
            .given()
            .list("--exchanges", &["exchanges"], &self.exchanges)
            .text("--listen", &["sim", "listen"], self.listen.as_deref())
            .text("--symbols", &["sim", "symbols"], self.symbols.as_deref())
            .text("--rate", &["sim", "rate"], self.rate.as_deref())
            .text("--seed", &["sim", "seed"], self.seed.as_deref())
            .text("--latency", &["sim", "latency"], self.latency.as_deref())
            .text("--faults", &["sim", "faults"], self.faults.as_deref())
            .text("--truth", &["sim", "truth"], self.truth.as_deref())
            .text("--for", &["for"], self.stop_after.as_deref())
            .list("--play", &["sim", "play"], &self.play)
            .text("--pace", &["sim", "pace"], self.pace.as_deref())
    }
}

impl InstrumentsArgs {
    /// What these flags say about the configuration.
    pub(crate) fn given(&self) -> Given {
        self.choice.add_to(self.config.given())
    }
}

impl AuditArgs {
    /// What these flags say about the configuration.
    pub(crate) fn given(&self) -> Given {
        self.config.given().text("--state", &["state"], self.state.as_deref()).text("--name", &["name"], self.name.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::config::{KEYS, SIM_KEYS};

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example() {
        for command in Cli::command().get_subcommands() {
            let help = command.get_after_help().unwrap_or_else(|| panic!("{} has no example", command.get_name())).to_string();
            assert!(help.contains(&format!("collector {}", command.get_name())), "{help}");
        }
    }

    /// Flags that say where values are, rather than being one.
    const NO_KEYS: [&str; 6] = ["config", "profile", "set", "help", "version", "sink"];

    #[test]
    fn every_flag_is_a_key() {
        let command = Cli::command();
        let flags = |name: &str| -> Vec<String> {
            let command = command.find_subcommand(name).unwrap();
            command
                .get_arguments()
                .filter_map(|argument| argument.get_long())
                .map(|flag| flag.replace('-', "_"))
                .filter(|flag| !NO_KEYS.contains(&flag.as_str()))
                .collect()
        };
        for flag in flags("run") {
            assert!(KEYS.contains(&flag.as_str()), "{flag}");
        }
        for flag in flags("sim") {
            assert!(SIM_KEYS.contains(&flag.as_str()) || ["exchanges", "for", "log"].contains(&flag.as_str()), "{flag}");
        }
    }

    #[test]
    fn the_version_names_the_schema() {
        let text = Cli::command().render_version();
        assert_eq!(text, format!("collector {} (schema 1)\n", env!("CARGO_PKG_VERSION")));
    }
}
