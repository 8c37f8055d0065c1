//! Hours of several collectors among simulated venues, in virtual time: what they have in common (an address that a venue bans,
//! its limits), and what they must not have in common (the moment at which they come back); and hours of one collector among eight
//! venues, of which one at a time has a bad time.
//!
//! Nothing here waits for a real clock. A simulated day of one collector is `tests/days`.

mod bans;
mod closes;
mod eight;
#[path = "../days/kept.rs"]
mod kept;
#[path = "../days/net.rs"]
#[allow(dead_code, reason = "a day looks at more than an hour does")]
mod net;
mod stage;
mod support;
