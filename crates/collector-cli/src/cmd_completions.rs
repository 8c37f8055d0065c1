//! `collector completions SHELL`.

use std::io::{self, Write};

use clap::CommandFactory as _;

use crate::args::{Cli, CompletionsArgs};

/// Writes the script.
pub(crate) fn run(args: &CompletionsArgs, out: &mut impl Write) -> io::Result<()> {
    let mut script = Vec::new();
    // It panics where it cannot write: a reader that closed is none of its business.
    clap_complete::generate(args.shell, &mut Cli::command(), "collector", &mut script);
    out.write_all(&script)?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use clap_complete::Shell;

    use super::*;

    #[test]
    fn the_script_knows_flags_of_every_command() {
        let mut script = Vec::new();
        run(&CompletionsArgs { shell: Shell::Bash }, &mut script).unwrap();
        let script = String::from_utf8(script).unwrap();
        for flag in ["--all-events", "--lenient", "--truth", "--json"] {
            assert!(script.contains(flag), "{flag}");
        }
    }
}
