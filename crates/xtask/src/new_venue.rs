//! `new-venue`: a folder that works, to be changed until it is the venue, and the venue's line in the registry.

use std::path::Path;

use anyhow::{Context as _, ensure};

/// The sketch: `__name__`, `__Name__` and `__Title__` stand for the venue's name, its type's and people's.
const FILES: [(&str, &str); 6] = [
    ("venue.toml", include_str!("../templates/venue/venue.toml")),
    ("mod.rs", include_str!("../templates/venue/mod.rs")),
    ("wire.rs", include_str!("../templates/venue/wire.rs")),
    ("decode.rs", include_str!("../templates/venue/decode.rs")),
    ("NOTES.md", include_str!("../templates/venue/NOTES.md")),
    ("fixtures/spot.ndjson", include_str!("../templates/venue/fixtures/spot.ndjson")),
];

/// Lines are broken beyond this, as in `rustfmt.toml`.
const WIDTH: usize = 160;

/// Names that are words of Rust or of the command line.
const TAKEN: [&str; 52] = [
    "abstract",
    "all",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "const",
    "continue",
    "core",
    "crate",
    "do",
    "dyn",
    "else",
    "enum",
    "exchange_core",
    "extern",
    "false",
    "final",
    "fn",
    "for",
    "gen",
    "if",
    "impl",
    "in",
    "let",
    "loop",
    "macro",
    "match",
    "mod",
    "move",
    "mut",
    "override",
    "priv",
    "pub",
    "ref",
    "return",
    "static",
    "std",
    "struct",
    "super",
    "trait",
    "true",
    "try",
    "type",
    "typeof",
    "unsafe",
    "use",
    "virtual",
    "where",
    "while",
];

/// Adds a venue to the tree at `root`. Nothing is written unless all of it can be.
pub(crate) fn add(root: &Path, name: &str) -> anyhow::Result<()> {
    check_name(name)?;
    let venues = root.join("crates/exchange-venues/src");
    let (folder, registry) = (venues.join(name), venues.join("lib.rs"));
    ensure!(!folder.exists(), "there is a venue `{name}` already: {}", folder.display());
    let text = std::fs::read_to_string(&registry).with_context(|| format!("cannot read {}", registry.display()))?;
    let text = register(&text, name)?;
    std::fs::create_dir_all(folder.join("fixtures"))?;
    for (file, template) in FILES {
        let filled = template.replace("__name__", name).replace("__Name__", &type_name(name)).replace("__Title__", &title(name));
        std::fs::write(folder.join(file), filled).with_context(|| format!("cannot write {file}"))?;
    }
    std::fs::write(&registry, text)?;
    eprintln!("{} is a sketch of {name}: change it file by file, `cargo xtask bless {name}` after each change of what it gives", folder.display());
    Ok(())
}

fn check_name(name: &str) -> anyhow::Result<()> {
    let plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    let framed = name.starts_with(|c: char| c.is_ascii_lowercase()) && name.ends_with(|c: char| c != '_') && !name.contains("__");
    ensure!(
        plain && framed && name.len() <= 32,
        "`{name}` is no name for a venue: lower-case letters, digits and single underscores, a letter first, 32 at most"
    );
    ensure!(!TAKEN.contains(&name), "`{name}` is no name for a venue: it is a word of Rust or of the command line");
    Ok(())
}

/// `gate_io` as a type's name.
fn type_name(name: &str) -> String {
    name.split('_').map(title).collect()
}

/// `kraken` as people write it, until the venue's own spelling is put there.
fn title(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map(|first| first.to_ascii_uppercase().to_string() + letters.as_str()).unwrap_or_default()
}

/// The registry with the venue's module and line, both in alphabetical order.
fn register(text: &str, name: &str) -> anyhow::Result<String> {
    let mut lines: Vec<&str> = text.lines().collect();
    let modules: Vec<(usize, &str)> = lines.iter().enumerate().filter_map(|(at, line)| Some((at, line.strip_prefix("mod ")?.strip_suffix(';')?))).collect();
    ensure!(modules.iter().all(|(_, known)| *known != name), "the registry names `{name}` already");
    let behind = modules.iter().rev().find(|(_, known)| *known < name).map(|(at, _)| at + 1);
    let at = behind.or(modules.first().map(|(at, _)| *at)).context("the registry has no `mod` line")?;
    let module = format!("mod {name};");
    lines.insert(at, &module);
    let text = lines.join("\n") + "\n";

    let begin = "\n    &[";
    let open = text.find(begin).context("the registry has no list of venues")? + begin.len();
    let close = text[open..].find(']').context("the registry's list of venues does not end")? + open;
    let entry = format!("&{name}::{}", type_name(name));
    let mut entries: Vec<&str> = text[open..close].split(',').map(str::trim).filter(|entry| !entry.is_empty()).collect();
    entries.push(&entry);
    entries.sort_by_key(|entry| entry.split("::").next());
    let mut list = entries.join(", ");
    if "    &[]".len() + list.len() > WIDTH {
        let indent = "\n        ";
        list = format!("{indent}{},\n    ", entries.join(&format!(",{indent}")));
    }
    Ok(format!("{}{list}{}", &text[..open], &text[close..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGISTRY: &str =
        "//! Venues.\n\nmod binance;\nmod bybit;\n\npub fn all() -> &'static [&'static dyn Exchange] {\n    &[&binance::Binance, &bybit::Bybit]\n}\n";

    #[test]
    fn the_registry_stays_in_order() {
        let middle = register(REGISTRY, "bitget").unwrap();
        assert!(
            middle.contains("mod binance;\nmod bitget;\nmod bybit;") && middle.contains("&[&binance::Binance, &bitget::Bitget, &bybit::Bybit]\n}"),
            "{middle}"
        );
        let ends = register(&register(&middle, "aster").unwrap(), "gate_io").unwrap();
        assert!(register(&ends, "bybit2").unwrap().contains("mod bybit;\nmod bybit2;\n"));
        assert!(ends.contains("\n\nmod aster;\nmod binance;") && ends.contains("mod bybit;\nmod gate_io;\n\n"), "{ends}");
        assert!(ends.contains("&[&aster::Aster, &binance::Binance, &bitget::Bitget, &bybit::Bybit, &gate_io::GateIo]"), "{ends}");
        assert!(register(&ends, "bybit").is_err());
    }

    #[test]
    fn a_long_list_is_broken_as_rustfmt_does() {
        let mut text = REGISTRY.to_owned();
        for name in ["bitfinex", "coinbase", "cryptocom", "deribit", "hyperliquid", "kraken", "kucoin"] {
            text = register(&text, name).unwrap();
        }
        assert!(text.contains("    &[\n        &binance::Binance,\n") && text.contains("        &kucoin::Kucoin,\n    ]\n}"), "{text}");
        assert!(register(&text, "okx").unwrap().contains("        &okx::Okx,\n    ]\n}"));
    }

    #[test]
    fn names_are_checked() {
        for name in ["kraken", "gate_io", "x10"] {
            check_name(name).unwrap();
        }
        for name in ["", "Kraken", "10x", "gate-io", "_x", "x_", "a__b", "all", "match", "../x", "crypto.com", "a-name-of-more-than-thirty-two-letters"] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }
}
