//! `demo-venue`: proof that a venue is one folder and one line, in a copy of the tree.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};

use crate::new_venue;
use crate::run::cargo;

/// No venue will ever be called so.
const NAME: &str = "demonstration";

/// Adds a venue to a copy of the tree, where it must build without a warning and conform.
///
/// The copy has build artifacts of its own. Cargo tells packages apart by their path below the workspace: with shared
/// artifacts, those of the copy and those of the tree would be taken for each other.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    let folder = root.join("target/demo-venue");
    let (copy, target) = (folder.join("tree"), folder.join("target"));
    eprintln!("\na copy of the tree: {}", copy.display());
    copy_tree(root, &copy)?;
    new_venue::add(&copy, NAME)?;
    let target = target.to_string_lossy();
    let environment = [("CARGO_TARGET_DIR", &*target), ("RUSTFLAGS", "-D warnings"), ("COLLECTOR_BLESS", NAME)];
    cargo(&copy, "fmt --package exchange-venues --check", &[], &environment[..1])?;
    cargo(&copy, "test --package exchange-venues --locked --test conformance fixtures_give_their_blessed_events", &[], &environment)?;
    ensure!(copy.join(format!("crates/exchange-venues/src/{NAME}/fixtures/spot.events.ndjson")).exists(), "nothing was blessed");
    cargo(&copy, "test --package exchange-venues --locked", &[], &environment[..2])?;
    eprintln!("\na venue is one folder and one line: it builds and conforms");
    Ok(())
}

/// Makes `copy` hold the files of the tree that git knows or would take, and no others. Files that are the same are left
/// alone: their times tell cargo that nothing is to be compiled anew.
fn copy_tree(root: &Path, copy: &Path) -> anyhow::Result<()> {
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .stdin(Stdio::null())
        .output()
        .context("git cannot be run")?;
    ensure!(listed.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
    let names = String::from_utf8(listed.stdout).context("a file's name is not UTF-8")?;
    let files: BTreeSet<PathBuf> = names.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from).filter(|name| root.join(name).is_file()).collect();
    ensure!(files.contains(Path::new("Cargo.toml")), "{} is not the root of a git tree", root.display());
    for file in &files {
        let (from, to) = (root.join(file), copy.join(file));
        let content = std::fs::read(&from).with_context(|| format!("cannot read {}", from.display()))?;
        if std::fs::read(&to).is_ok_and(|there| there == content) {
            continue;
        }
        if let Some(folder) = to.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(&to, content).with_context(|| format!("cannot write {}", to.display()))?;
    }
    remove_others(copy, copy, &files)
}

/// Removes what is not in `files`, and folders that are empty then.
fn remove_others(copy: &Path, folder: &Path, files: &BTreeSet<PathBuf>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            remove_others(copy, &path, files)?;
            if std::fs::read_dir(&path)?.next().is_none() {
                std::fs::remove_dir(&path)?;
            }
        } else if !path.strip_prefix(copy).is_ok_and(|name| files.contains(name)) {
            std::fs::remove_file(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_holds_what_git_knows_and_nothing_else() {
        let root = crate::root().unwrap();
        let copy = std::env::temp_dir().join(format!("xtask-copy-{}", std::process::id()));
        copy_tree(&root, &copy).unwrap();
        let manifest = copy.join("Cargo.toml");
        let written = std::fs::metadata(&manifest).unwrap().modified().unwrap();
        std::fs::create_dir_all(copy.join("left/over")).unwrap();
        std::fs::write(copy.join("left/over/file"), "x").unwrap();
        std::fs::write(copy.join("deny.toml"), "x").unwrap();
        copy_tree(&root, &copy).unwrap();
        assert_eq!(std::fs::metadata(&manifest).unwrap().modified().unwrap(), written, "the same file is left alone");
        assert!(!copy.join("left").exists() && !copy.join("target").exists());
        assert_eq!(std::fs::read(copy.join("deny.toml")).unwrap(), std::fs::read(root.join("deny.toml")).unwrap());
        std::fs::remove_dir_all(&copy).unwrap();
    }
}
