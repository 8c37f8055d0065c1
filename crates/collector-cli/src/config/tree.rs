//! The configuration as it was written: a tree whose every value knows where it came from.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A value and where it came from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    /// What was written.
    pub(crate) value: Value,
    /// Where.
    pub(crate) origin: Origin,
}

/// What was written. Text from the environment and the command line stays text until a key's type is known.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Table(BTreeMap<String, Node>),
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Nobody said otherwise.
    Default,
    /// The venue's own description.
    Venue(Arc<str>),
    /// The configuration file.
    File {
        /// Its path.
        path: Arc<str>,
        /// The line (from 1), where the format tells it.
        line: Option<usize>,
        /// The profile that it belongs to, if to one.
        profile: Option<Arc<str>>,
    },
    /// An environment variable.
    Env(Arc<str>),
    /// A flag of the command line.
    Flag(&'static str),
    /// `--set`.
    Set,
}

impl Origin {
    /// The layer: a higher one wins.
    pub(crate) fn layer(&self) -> u8 {
        match self {
            Self::Default => 0,
            Self::Venue(_) => 1,
            Self::File { profile: None, .. } => 2,
            Self::File { profile: Some(_), .. } => 3,
            Self::Env(_) => 4,
            Self::Flag(_) => 5,
            Self::Set => 6,
        }
    }

    /// What stands before a complaint about `key`: where to look. The key is left out where the place names it.
    pub(crate) fn at(&self, key: &str) -> String {
        match self {
            Self::Env(_) | Self::Flag(_) => self.to_string(),
            Self::Set => format!("--set {key}"),
            _ if key.is_empty() => self.to_string(),
            _ => format!("{self}: {key}"),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Venue(name) => write!(f, "{name}/venue.toml"),
            Self::File { path, line, profile } => {
                f.write_str(path)?;
                if let Some(line) = line {
                    write!(f, ":{line}")?;
                }
                match profile {
                    Some(profile) => write!(f, " (profile {profile})"),
                    None => Ok(()),
                }
            }
            Self::Env(name) => f.write_str(name),
            Self::Flag(flag) => f.write_str(flag),
            Self::Set => f.write_str("--set"),
        }
    }
}

impl Value {
    /// What kind of value this is, for complaints.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Bool(value) => format!("`{value}`"),
            Self::Integer(value) => format!("`{value}`"),
            Self::Float(value) => format!("`{value}`"),
            Self::Text(value) => format!("`{value}`"),
            Self::List(_) => "a list".to_owned(),
            Self::Table(_) => "a table".to_owned(),
        }
    }
}

impl Node {
    /// An empty table.
    pub(crate) fn table(origin: Origin) -> Self {
        Self { value: Value::Table(BTreeMap::new()), origin }
    }

    /// A text.
    pub(crate) fn text(text: impl Into<String>, origin: Origin) -> Self {
        Self { value: Value::Text(text.into()), origin }
    }

    /// Its entries, if it is a table.
    pub(crate) fn entries(&self) -> Option<&BTreeMap<String, Node>> {
        match &self.value {
            Value::Table(entries) => Some(entries),
            _ => None,
        }
    }

    /// Its entries, if it is a table.
    pub(crate) fn entries_mut(&mut self) -> Option<&mut BTreeMap<String, Node>> {
        match &mut self.value {
            Value::Table(entries) => Some(entries),
            _ => None,
        }
    }

    /// The value at a path.
    pub(crate) fn get(&self, path: &[&str]) -> Option<&Self> {
        path.iter().try_fold(self, |node, key| node.entries()?.get(*key))
    }

    /// Takes the value at a path out of the tree.
    pub(crate) fn remove(&mut self, path: &[&str]) -> Option<Self> {
        match path {
            [] => None,
            [key] => self.entries_mut()?.remove(*key),
            [key, rest @ ..] => self.entries_mut()?.get_mut(*key)?.remove(rest),
        }
    }

    /// Puts a value at a path; tables that are missing on the way are made. `false` if something that is no table is
    /// in the way.
    pub(crate) fn insert(&mut self, path: &[&str], node: Self) -> bool {
        let origin = node.origin.clone();
        let Some(entries) = self.entries_mut() else { return false };
        match path {
            [] => false,
            [key] => {
                entries.insert((*key).to_owned(), node);
                true
            }
            [key, rest @ ..] => entries.entry((*key).to_owned()).or_insert_with(|| Self::table(origin)).insert(rest, node),
        }
    }

    /// Lays another tree over this one: tables are joined, anything else is replaced.
    pub(crate) fn overlay(&mut self, over: &Self) {
        match (&mut self.value, &over.value) {
            (Value::Table(entries), Value::Table(over)) => {
                for (key, node) in over {
                    match entries.get_mut(key) {
                        Some(known) => known.overlay(node),
                        None => {
                            entries.insert(key.clone(), node.clone());
                        }
                    }
                }
            }
            _ => *self = over.clone(),
        }
    }

    /// Says of the whole tree that it belongs to a profile of the file.
    pub(crate) fn set_profile(&mut self, name: &Arc<str>) {
        if let Origin::File { profile, .. } = &mut self.origin {
            *profile = Some(name.clone());
        }
        match &mut self.value {
            Value::Table(entries) => entries.values_mut().for_each(|node| node.set_profile(name)),
            Value::List(items) => items.iter_mut().for_each(|node| node.set_profile(name)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_joined_and_all_else_is_replaced() {
        let mut tree = Node::table(Origin::Default);
        tree.insert(&["a", "b"], Node::text("low", Origin::Default));
        tree.insert(&["a", "c"], Node::text("low", Origin::Default));
        let mut over = Node::table(Origin::Set);
        over.insert(&["a", "b"], Node::text("high", Origin::Set));
        tree.overlay(&over);
        assert_eq!(tree.get(&["a", "b"]), Some(&Node::text("high", Origin::Set)));
        assert_eq!(tree.get(&["a", "c"]), Some(&Node::text("low", Origin::Default)));
        assert_eq!(tree.remove(&["a", "b"]), Some(Node::text("high", Origin::Set)));
        assert_eq!(tree.get(&["a", "b"]), None);
    }
}
