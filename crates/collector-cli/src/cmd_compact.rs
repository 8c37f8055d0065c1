//! `collector compact DIR`, `collector compact s3://BUCKET/PREFIX`.

use std::io::{self, Write};

use exchange_sinks::{MergeOptions, merge_parquet, merge_parquet_at};

use crate::args::CompactArgs;

/// Merges, and says what became of it.
pub(crate) fn run(args: &CompactArgs, err: &mut impl Write) -> anyhow::Result<()> {
    let elsewhere = args.directory.to_str().filter(|place| place.starts_with("s3://") || place.starts_with("parquet:"));
    anyhow::ensure!(elsewhere.is_some() || args.directory.is_dir(), "`{}` is no directory", args.directory.display());
    let options = MergeOptions::default();
    let merged = elsewhere.map_or_else(|| merge_parquet(&args.directory, options), |place| merge_parquet_at(place, options))?;
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
