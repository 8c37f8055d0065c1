//! `collector compact DIR`.

use std::io::{self, Write};

use exchange_sinks::{MergeOptions, merge_parquet};

use crate::args::CompactArgs;

/// Merges, and says what became of it.
pub(crate) fn run(args: &CompactArgs, err: &mut impl Write) -> anyhow::Result<()> {
    anyhow::ensure!(args.directory.is_dir(), "`{}` is no directory", args.directory.display());
    let merged = merge_parquet(&args.directory, MergeOptions::default())?;
    if merged.partitions == 0 {
        writeln!(err, "nothing to merge")?;
        return Ok(());
    }
    let mebibytes = |bytes: u64| format!("{}.{} MiB", bytes >> 20, ((bytes % (1 << 20)) * 10) >> 20);
    writeln!(
        err,
        "{} days: {} files of {} became {} of {}",
        merged.partitions,
        merged.files_before,
        mebibytes(merged.bytes_before),
        merged.files_after,
        mebibytes(merged.bytes_after)
    )
    .map_err(|error: io::Error| error.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_directory_is_refused_and_an_empty_one_is_done() {
        let place = tempfile::tempdir().unwrap();
        let run = |directory| {
            let mut told = Vec::new();
            run(&CompactArgs { directory }, &mut told).map(|()| String::from_utf8(told).unwrap())
        };
        assert_eq!(run(place.path().to_owned()).unwrap(), "nothing to merge\n");
        let error = run(place.path().join("none")).unwrap_err().to_string();
        assert!(error.ends_with("none` is no directory"), "{error}");
    }
}
