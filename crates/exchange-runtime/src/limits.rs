//! How much a venue takes from this machine: its budgets and bans, shared by all that use one state directory.
//!
//! A venue counts by address: what one process spends, the others have less of, and whoever is banned, bans them all. So
//! each host of a venue has an [`Account`] in a small file, through which every request goes. A ban is its host's alone, as
//! venues count each host for itself (Binance's "three surfaces"); a limit of several hosts (`KuCoin`'s pool, connections) is
//! kept in the account of the first of them. A proxy, a test net or a simulator is another host, and shares nothing with the
//! venue's own.
//!
//! Without a state directory, the accounts are this process's own and end with it.

mod account;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use exchange_core::budget::{Allowance, Class};
use exchange_core::exchange::percent_encode;
use exchange_core::profile::{Limit, Profile};
use exchange_core::{Exchange, Market, Request, Time};

use self::account::Account;
use crate::clock::Clock;
use crate::http::Http;
use crate::state::{StateDir, StateError};

/// The part of the state directory that all collectors share.
const PART: &str = "budgets";
/// What the connections to a venue's `WebSockets` are counted as; followed by a market where that counts for itself.
const CONNECTS: &str = "connects";

/// One venue's.
#[derive(Debug)]
pub(crate) struct Limits {
    profile: Arc<Profile>,
    clock: Clock,
    directory: Option<PathBuf>,
    /// The host in whose account each limit is.
    homes: BTreeMap<String, String>,
    /// What the venue itself said of its limits, where that differs from its description.
    learned: Mutex<BTreeMap<String, Allowance>>,
    accounts: Mutex<BTreeMap<String, Arc<Account>>>,
}

impl Limits {
    /// What is known of a venue.
    ///
    /// # Errors
    /// Where the state directory cannot be used.
    pub(crate) fn open(profile: &Arc<Profile>, clock: Clock, state: Option<&StateDir>) -> Result<Self, StateError> {
        let directory = state.map(|state| state.shared(PART)).transpose()?;
        if let Some(directory) = &directory {
            account::clear_out(directory, clock);
        }
        Ok(Self { homes: homes(profile), profile: profile.clone(), clock, directory, learned: Mutex::default(), accounts: Mutex::default() })
    }

    /// Takes what a request costs from its budget, as far as its class may.
    ///
    /// # Errors
    /// When it may be asked for again.
    pub(crate) fn spend(&self, request: &Request, class: Class) -> Result<(), Time> {
        let host = self.host_of(request);
        let (name, cost) = (request.limit.as_str(), request.cost);
        match self.home(name) {
            Some(home) if home != host => {
                self.account(&host).heed()?;
                self.account(home).draw(name, cost, class)
            }
            _ => self.account(&host).spend(name, cost, class),
        }
    }

    /// Counts a connection that is to be opened.
    ///
    /// # Errors
    /// When that may be tried again.
    pub(crate) fn connect(&self, market: Market, url: &str) -> Result<(), Time> {
        let host = authority(url);
        let (name, _) = connects(&self.profile, market);
        // Its first request is one to a host like any other.
        self.account(&host).heed()?;
        self.account(self.home(&name).unwrap_or(&host)).draw(&name, 1, Class::Funding)
    }

    /// How much of a limit is used, after what the venue says about it.
    pub(crate) fn used(&self, limit: &str, said: Option<u64>) -> Option<u64> {
        self.account(self.home(limit)?).used(limit, said)
    }

    /// The venue says how much a limit allows. That counts from now on, except where the user has set the limit to something
    /// else than the venue's description has. Whether this changed anything.
    pub(crate) fn learn(&self, exchange: &dyn Exchange, said: &Allowance) -> bool {
        let Some(configured) = self.profile.limit(&said.limit) else { return false };
        let known = self.learned().get(&said.limit).map_or((configured.budget, configured.window), |known| (known.budget, known.window));
        if known == (said.budget, said.window) {
            return false;
        }
        let described = Profile::parse(exchange.policy());
        if described.is_ok_and(|described| described.limit(&said.limit) != Some(configured)) {
            return false;
        }
        tracing::info!(venue = self.profile.name, limit = said.limit, budget = said.budget, window = ?said.window, "the venue's limit is another one than known");
        self.learned().insert(said.limit.clone(), said.clone());
        for account in self.accounts.lock().unwrap_or_else(PoisonError::into_inner).values() {
            account.allow(said);
        }
        true
    }

    fn learned(&self) -> MutexGuard<'_, BTreeMap<String, Allowance>> {
        self.learned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves a limit alone for so long; until when that is.
    pub(crate) fn block(&self, limit: &str, pause: Duration) -> Time {
        if let Some(home) = self.home(limit) {
            self.account(home).block(limit, pause);
        }
        self.clock.now() + pause
    }

    /// Leaves the host of a request alone for so long; until when that is.
    pub(crate) fn ban(&self, request: &Request, pause: Duration) -> Time {
        self.account(&self.host_of(request)).ban(pause);
        self.clock.now() + pause
    }

    /// Looks up whether the hosts of these markets are shut, before anything is asked of them; [`Limits::bans`] tells.
    pub(crate) fn look_up(&self, markets: &[Market]) {
        for surface in markets.iter().filter_map(|market| self.profile.markets.get(market)) {
            self.account(&authority(&surface.rest)).look_up();
        }
    }

    /// The hosts that were asked so far, and until when each is shut by the wall clock, if it is.
    pub(crate) fn bans(&self) -> Vec<(String, Option<Time>)> {
        let accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        accounts.iter().map(|(host, account)| (host.clone(), account.banned_until())).collect()
    }

    /// Until when the host of a request is shut, if it is.
    pub(crate) fn banned_until(&self, request: &Request) -> Option<Time> {
        self.account(&self.host_of(request)).banned_until()
    }

    /// The host of a request.
    pub(crate) fn host_of(&self, request: &Request) -> String {
        authority(&Http::url(&self.profile, request))
    }

    fn home(&self, limit: &str) -> Option<&str> {
        self.homes.get(limit.split('/').next().unwrap_or(limit)).map(String::as_str)
    }

    fn account(&self, host: &str) -> Arc<Account> {
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(account) = accounts.get(host) {
            return account.clone();
        }
        let mut limits = self.profile.limits.clone();
        limits.extend(self.profile.markets.keys().map(|market| connects(&self.profile, *market)));
        let path = self.directory.as_ref().map(|directory| directory.join(format!("{}@{}.json", self.profile.name, percent_encode(host))));
        let account = Arc::new(Account::new(limits, self.clock, path));
        self.learned().values().for_each(|said| account.allow(said));
        accounts.insert(host.to_owned(), account.clone());
        account
    }
}

/// The host of each limit: of those that it is of, the first in the venue's description, whatever part of them is in use.
fn homes(profile: &Profile) -> BTreeMap<String, String> {
    let mut homes = BTreeMap::new();
    for endpoint in &profile.endpoint {
        if let Some(market) = endpoint.markets.first() {
            homes.entry(endpoint.limit.clone()).or_insert_with(|| authority(profile.host(*market, &endpoint.name)));
        }
    }
    for (market, surface) in &profile.markets {
        homes.entry(connects(profile, *market).0).or_insert_with(|| authority(&surface.ws));
    }
    homes
}

/// What limits the connections to a market's surface: one limit for all that say nothing of their own.
fn connects(profile: &Profile, market: Market) -> (String, Limit) {
    match profile.markets.get(&market).and_then(|surface| surface.ws_policy.connects.as_ref()) {
        Some(own) => (format!("{CONNECTS} {market}"), own.clone()),
        None => (CONNECTS.to_owned(), profile.ws.connects.clone()),
    }
}

/// Host and port of an address. What may stand before them is a secret.
fn authority(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    authority.rsplit('@').next().unwrap_or(authority).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use exchange_core::profile::Method;

    use super::*;

    fn exchange() -> &'static dyn Exchange {
        exchange_venues::all().iter().copied().find(|exchange| exchange.policy().contains("name = \"binance\"")).unwrap()
    }

    fn binance() -> Arc<Profile> {
        Arc::new(Profile::parse(exchange().policy()).unwrap())
    }

    fn request(market: Market, limit: &str, target: &str, cost: u32) -> Request {
        Request { endpoint: "x".into(), market, method: Method::Get, target: target.into(), body: None, limit: limit.into(), cost, instrument: None }
    }

    #[test]
    fn hosts_are_what_they_are_called() {
        for (url, host) in [
            ("https://fapi.binance.com", "fapi.binance.com"),
            ("wss://name:word@Proxy.example:8443/x@y?z", "proxy.example:8443"),
            ("http://[::1]:9000/bybit", "[::1]:9000"),
        ] {
            assert_eq!(authority(url), host);
        }
    }

    #[test]
    fn a_ban_is_its_hosts_and_all_processes() {
        let place = tempfile::tempdir().unwrap();
        let state = StateDir::open(place.path()).unwrap();
        let open = || Limits::open(&binance(), Clock::system(), Some(&state)).unwrap();
        let (one, two) = (open(), open());
        let (linear, spot) = (request(Market::Linear, "linear", "/fapi/v1/x", 1), request(Market::Spot, "spot", "/api/v3/x", 1));
        one.spend(&linear, Class::Rest).unwrap();
        two.spend(&linear, Class::Rest).unwrap();
        let until = two.ban(&linear, Duration::from_secs(5));
        for (limits, which) in [(&one, "another"), (&two, "itself"), (&open(), "a later one")] {
            let at = limits.spend(&linear, Class::Snapshot).unwrap_err();
            assert!(at.since(until) < Duration::from_millis(50) && until.since(at) < Duration::from_millis(50), "{which}: {at}, not {until}");
            limits.spend(&spot, Class::Rest).unwrap();
            assert!(
                limits.connect(Market::Linear, "wss://fapi.binance.com/x").is_err() && limits.connect(Market::Linear, "wss://fstream.binance.com/x").is_ok()
            );
            let bans: Vec<bool> =
                ["fapi.binance.com", "api.binance.com"].map(|host| limits.bans().iter().any(|(known, until)| known == host && until.is_some())).into();
            assert_eq!(bans, [true, false], "{which}");
        }
        // What is of two hosts is one, and no reason to ban both.
        let funding = request(Market::Inverse, "funding", "/dapi/v1/x", 1);
        one.spend(&funding, Class::Funding).unwrap();
        assert_eq!((one.home("funding"), two.used("funding", None)), (Some("fapi.binance.com"), Some(1)));
        let mut files: Vec<String> =
            std::fs::read_dir(place.path().join("budgets")).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        files.sort();
        assert_eq!(
            files,
            ["api", "dapi", "fapi", "fstream"]
                .map(|host| format!("binance@{host}.binance.com.json"))
                .into_iter()
                .chain(["binance@stream.binance.com%3A9443.json".to_owned()])
                .collect::<Vec<_>>()
        );
    }

    #[test]
    fn the_venues_word_counts_unless_the_user_has_his_own() {
        let said = |budget| Allowance { limit: "linear".into(), budget, window: Duration::from_mins(1) };
        let linear = request(Market::Linear, "linear", "/fapi/v1/x", 90);
        let room = |limits: &Limits| (0..1000).take_while(|_| limits.spend(&linear, Class::Funding).is_ok()).count();
        let open = |profile: &Arc<Profile>| Limits::open(profile, Clock::system(), None).unwrap();
        let described = open(&binance());
        assert!(!described.learn(exchange(), &said(2400)), "as described");
        assert_eq!(room(&described), 24);
        assert!(described.learn(exchange(), &said(3000)) && !described.learn(exchange(), &said(3000)));
        assert_eq!(room(&described), 6, "what was spent stays spent");
        let early = open(&binance());
        assert!(early.learn(exchange(), &said(1200)) && !early.learn(exchange(), &Allowance { limit: "none".into(), ..said(1) }));
        assert_eq!(room(&early), 12, "also where nothing was asked yet");
        assert!(early.learn(exchange(), &said(2400)), "and back again");
        assert_eq!(room(&early), 12);

        let mut profile = (*binance()).clone();
        profile.limits.get_mut("linear").unwrap().budget = 400;
        let own = open(&Arc::new(profile));
        assert!(!own.learn(exchange(), &said(1200)));
        assert_eq!(room(&own), 4);
    }

    #[test]
    fn a_proxy_has_its_own() {
        let place = tempfile::tempdir().unwrap();
        let state = StateDir::open(place.path()).unwrap();
        let mut profile = (*binance()).clone();
        for surface in profile.markets.values_mut() {
            surface.rest = "http://127.0.0.1:9000/binance".into();
        }
        let proxied = Limits::open(&Arc::new(profile), Clock::system(), Some(&state)).unwrap();
        let direct = Limits::open(&binance(), Clock::system(), Some(&state)).unwrap();
        let linear = request(Market::Linear, "linear", "/fapi/v1/x", 1);
        proxied.ban(&linear, Duration::from_secs(5));
        direct.spend(&linear, Class::Rest).unwrap();
        assert!(proxied.spend(&linear, Class::Rest).is_err() && direct.banned_until(&linear).is_none());
    }
}
