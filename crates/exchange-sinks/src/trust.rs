//! Who is not let in, and who is not trusted: what the sinks with servers say of it, and do about it, alike.

use crate::error::SinkErrorKind;

/// How bad an error is that says no to who we are or what we want, or of a server that we do not trust: at the beginning that
/// will not pass by itself; later, what worked once may work again, and nothing is lost by waiting for it.
pub(crate) fn refused(worked_before: bool) -> SinkErrorKind {
    if worked_before { SinkErrorKind::Retryable } else { SinkErrorKind::Permanent }
}

/// What to do about a server that does not let us in.
pub(crate) const LOGIN: &str = "check the user and the password of the address";

/// What rustls says, in the words in which all clients pass it on, and what to do about it.
const TLS: [(&str, &str); 5] = [
    ("UnknownIssuer", "an authority that is not trusted here signed its certificate: `ca_file=` names the file of one that shall be"),
    ("certificate not valid for name", "the certificate is another host's: name the host in the address as the certificate does"),
    ("certificate expired", "the certificate is to be renewed, or this machine's clock is wrong"),
    ("invalid peer certificate", "its certificate is not accepted"),
    ("InvalidContentType", "it does not speak TLS at this port"),
];

/// What to do about a server that TLS finds fault with; `None` if the trouble is another.
pub(crate) fn tls_advice(words: &str) -> Option<&'static str> {
    TLS.iter().find(|(said, _)| words.contains(said)).map(|(_, advice)| *advice)
}

/// An error's words with what to do about it behind them.
pub(crate) fn advised(words: &str, advice: Option<&str>) -> String {
    match advice {
        Some(advice) => format!("{words} ({advice})"),
        None => words.to_owned(),
    }
}
