//! Reads configuration trees from TOML, YAML and JSON, and from the text of a variable or of `--set`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::tree::{Node, Origin, Value};

/// Reads a file's text, in the format that its name ends with.
///
/// # Errors
/// What is wrong, with its position.
pub(crate) fn file(path: &Path, text: &str) -> Result<Node, String> {
    let name: Arc<str> = path.display().to_string().into();
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_ascii_lowercase();
    let origin = |line| Origin::File { path: name.clone(), line, profile: None };
    let node = match ending.as_str() {
        "toml" => toml(text, &|line| origin(Some(line))).map_err(|problem| format!("{name}:{problem}"))?,
        "yaml" | "yml" => yaml(text, &origin(None)).map_err(|problem| format!("{name}{problem}"))?,
        "json" => json(text, &origin(None)).map_err(|problem| format!("{name}:{problem}"))?,
        _ => return Err(format!("{name}: a configuration ends with `.toml`, `.yaml`, `.yml` or `.json`")),
    };
    match node.value {
        Value::Table(_) => Ok(node),
        other => Err(format!("{name}: a configuration is a table of keys and values, found {}", other.describe())),
    }
}

/// Reads TOML; `origin` is asked with the number of each line.
///
/// # Errors
/// `LINE:COLUMN: what is wrong`.
pub(crate) fn toml(text: &str, origin: &dyn Fn(usize) -> Origin) -> Result<Node, String> {
    let lines = Lines::new(text);
    let table = DeTable::parse(text).map_err(|error| {
        let (line, column) = error.span().map_or((1, 1), |span| lines.position(span.start));
        // Some messages go on with what was expected on a line of its own.
        format!("{line}:{column}: {}", error.message().replace('\n', ", "))
    })?;
    let origin = |offset: usize| origin(lines.position(offset).0);
    Ok(Node { value: toml_table(table.get_ref(), &origin), origin: origin(0) })
}

fn toml_table(table: &DeTable<'_>, origin: &dyn Fn(usize) -> Origin) -> Value {
    // A key's line, not its value's: a table's value begins where its header does, or nowhere.
    let entry = |(key, value): (&toml::Spanned<_>, &toml::Spanned<DeValue<'_>>)| {
        let name: &std::borrow::Cow<'_, str> = key.get_ref();
        (name.to_string(), Node { value: toml_value(value.get_ref(), origin), origin: origin(key.span().start) })
    };
    Value::Table(table.iter().map(entry).collect())
}

fn toml_value(value: &DeValue<'_>, origin: &dyn Fn(usize) -> Origin) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Value::Integer(number),
            // Seeds may be larger; whoever wants a number reads it from the text.
            Err(_) => Value::Text(number.to_string()),
        },
        DeValue::Float(number) => number.as_str().parse().map_or_else(|_| Value::Text(number.to_string()), Value::Float),
        DeValue::Boolean(value) => Value::Bool(*value),
        DeValue::Datetime(time) => Value::Text(time.to_string()),
        DeValue::Array(items) => {
            let item = |item: &toml::Spanned<DeValue<'_>>| Node { value: toml_value(item.get_ref(), origin), origin: origin(item.span().start) };
            Value::List(items.iter().map(item).collect())
        }
        DeValue::Table(table) => toml_table(table, origin),
    }
}

/// Finds lines by offsets.
struct Lines(Vec<usize>);

impl Lines {
    fn new(text: &str) -> Self {
        Self(text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at).collect())
    }

    /// Line and column, from 1.
    fn position(&self, offset: usize) -> (usize, usize) {
        let before = self.0.partition_point(|end| *end < offset);
        let start = before.checked_sub(1).and_then(|at| self.0.get(at)).map_or(0, |end| end + 1);
        (before + 1, offset.saturating_sub(start) + 1)
    }
}

fn yaml(text: &str, origin: &Origin) -> Result<Node, String> {
    let problem = |error: serde_yaml_ng::Error| {
        let place = error.location().map_or_else(String::new, |at| format!(":{}:{}", at.line(), at.column()));
        // The library puts the position behind its words as well.
        let words = error.to_string();
        let words = words.split(" at line ").next().unwrap_or_default();
        format!("{place}: {words}")
    };
    let mut value: serde_yaml_ng::Value = serde_yaml_ng::from_str(text).map_err(problem)?;
    value.apply_merge().map_err(problem)?;
    if value.is_null() {
        return Ok(Node::table(origin.clone()));
    }
    yaml_node(value, origin).map_err(|words| format!(": {words}"))
}

fn yaml_node(value: serde_yaml_ng::Value, origin: &Origin) -> Result<Node, String> {
    use serde_yaml_ng::Value as Yaml;
    let value = match value {
        Yaml::Null => Value::Text(String::new()),
        Yaml::Bool(value) => Value::Bool(value),
        Yaml::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => Value::Integer(number),
            (None, Some(float)) if number.is_f64() => Value::Float(float),
            _ => Value::Text(number.to_string()),
        },
        Yaml::String(text) => Value::Text(text),
        Yaml::Sequence(items) => Value::List(items.into_iter().map(|item| yaml_node(item, origin)).collect::<Result<_, _>>()?),
        Yaml::Tagged(tagged) => return Err(format!("tags such as `{}` have no meaning here", tagged.tag)),
        Yaml::Mapping(mapping) => {
            let mut entries = BTreeMap::new();
            for (key, value) in mapping {
                let key = match key {
                    Yaml::String(text) => text,
                    Yaml::Number(number) => number.to_string(),
                    Yaml::Bool(value) => value.to_string(),
                    _ => return Err("a key is a word".to_owned()),
                };
                if !value.is_null() {
                    entries.insert(key, yaml_node(value, origin)?);
                }
            }
            Value::Table(entries)
        }
    };
    Ok(Node { value, origin: origin.clone() })
}

fn json(text: &str, origin: &Origin) -> Result<Node, String> {
    let value: serde_json::Value = serde_json::from_str(text).map_err(|error| {
        let words = error.to_string();
        let words = words.split(" at line ").next().unwrap_or_default();
        format!("{}:{}: {words}", error.line(), error.column())
    })?;
    Ok(json_node(value, origin))
}

fn json_node(value: serde_json::Value, origin: &Origin) -> Node {
    use serde_json::Value as Json;
    let value = match value {
        Json::Null => Value::Text(String::new()),
        Json::Bool(value) => Value::Bool(value),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => Value::Integer(number),
            (None, Some(float)) if number.is_f64() => Value::Float(float),
            _ => Value::Text(number.to_string()),
        },
        Json::String(text) => Value::Text(text),
        Json::Array(items) => Value::List(items.into_iter().map(|item| json_node(item, origin)).collect()),
        // `null` is how JSON says that a key is not there.
        Json::Object(map) => Value::Table(map.into_iter().filter(|(_, value)| !value.is_null()).map(|(key, value)| (key, json_node(value, origin))).collect()),
    };
    Node { value, origin: origin.clone() }
}

/// Reads the text of a variable or of `--set`: lists and tables in TOML's inline form, anything else as it stands.
pub(crate) fn text(text: &str, origin: &Origin) -> Node {
    let trimmed = text.trim();
    let structured = trimmed.starts_with(['[', '{']).then(|| DeValue::parse(trimmed).ok()).flatten();
    match structured {
        Some(value) => Node { value: toml_value(value.get_ref(), &|_| origin.clone()), origin: origin.clone() },
        None => Node::text(trimmed, origin.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, text: &str) -> Result<Node, String> {
        file(Path::new(name), text)
    }

    #[test]
    fn all_formats_say_the_same() {
        let toml = read("c.toml", "once = true\nexchanges = [\"a\", \"b\"]\n[sim]\nseed = 3\n").unwrap();
        assert_eq!(toml.get(&["sim", "seed"]).unwrap().origin.to_string(), "c.toml:4");
        assert_eq!(toml.get(&["exchanges"]).unwrap().origin.to_string(), "c.toml:2");
        for (name, text) in
            [("c.yaml", "once: true\nexchanges: [a, b]\nsim:\n  seed: 3\n"), ("c.json", r#"{"once":true,"exchanges":["a","b"],"sim":{"seed":3},"for":null}"#)]
        {
            let tree = read(name, text).unwrap();
            assert_eq!(tree.get(&["once"]).unwrap().value, Value::Bool(true));
            assert_eq!(tree.get(&["sim", "seed"]).unwrap().value, Value::Integer(3));
            assert!(matches!(&tree.get(&["exchanges"]).unwrap().value, Value::List(items) if items.len() == 2));
            assert_eq!(tree.get(&["for"]), None);
        }
    }

    #[test]
    fn what_cannot_be_read_is_said_with_its_position() {
        assert!(
            read("c.toml", "once = true\nmode == \"poll\"\n").unwrap_err().starts_with("c.toml:2:7: "),
            "{:?}",
            read("c.toml", "once = true\nmode == \"poll\"\n")
        );
        assert!(read("c.yaml", "once: true\nmode: [a\n").unwrap_err().starts_with("c.yaml:"));
        assert_eq!(read("c.json", "{\n  \"once\": yes\n}").unwrap_err(), "c.json:2:11: expected value");
        assert_eq!(read("c.ini", "").unwrap_err(), "c.ini: a configuration ends with `.toml`, `.yaml`, `.yml` or `.json`");
        assert_eq!(read("c.json", "[]").unwrap_err(), "c.json: a configuration is a table of keys and values, found a list");
        assert_eq!(read("c.yaml", "# nothing yet\n").unwrap().entries().unwrap().len(), 0);
    }
}
