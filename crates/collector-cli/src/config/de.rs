//! From a configuration tree to a typed value by serde, with errors that name the key.
//!
//! Text is converted to what the type wants, since the environment and the command line have nothing else.

use std::collections::btree_map;
use std::fmt::Display;

use serde::de::value::{SeqDeserializer, StrDeserializer};
use serde::de::{self, DeserializeSeed, IntoDeserializer, Visitor};

use super::tree::{Node, Value};
use crate::suggest;

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fault {
    /// The keys that lead to it, the innermost first.
    keys: Vec<String>,
    what: What,
}

#[derive(Debug, Clone, PartialEq)]
enum What {
    /// A `key` or `word` that is none of these.
    Unknown(&'static str, String, &'static [&'static str]),
    Other(String),
}

impl Fault {
    /// The path that leads to it.
    pub(crate) fn path(&self) -> Vec<&str> {
        self.keys.iter().rev().map(String::as_str).collect()
    }

    /// What is wrong. `more` are words that are known besides those of the type.
    pub(crate) fn message(&self, more: &[&'static str]) -> String {
        match &self.what {
            What::Unknown(kind, word, known) => format!("unknown {kind} `{word}`: {}", suggest::hint(word, known.iter().chain(more).copied())),
            What::Other(message) => message.clone(),
        }
    }

    fn inside(mut self, key: &str) -> Self {
        self.keys.push(key.to_owned());
        self
    }
}

impl Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message(&[]))
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: Display>(message: T) -> Self {
        Self { keys: Vec::new(), what: What::Other(message.to_string()) }
    }

    fn invalid_type(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let expected = expected.to_string();
        let expected = if expected.starts_with("struct ") { "a table" } else { &expected };
        Self::custom(format_args!("expected {expected}, found {found}"))
    }

    fn invalid_value(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self { keys: Vec::new(), what: What::Unknown("key", field.to_owned(), expected) }
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self { keys: Vec::new(), what: What::Unknown("word", variant.to_owned(), expected) }
    }

    fn missing_field(field: &'static str) -> Self {
        Self::custom(format_args!("lacks `{field}`"))
    }
}

/// Reads a number from text, if the value is text that is one.
macro_rules! numbers {
    ($($method:ident: $type:ty => $visit:ident),* $(,)?) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            match &self.value {
                Value::Text(text) => match text.parse::<$type>() {
                    Ok(number) => visitor.$visit(number),
                    Err(_) => Err(de::Error::invalid_type(de::Unexpected::Str(text), &"a number")),
                },
                _ => self.deserialize_any(visitor),
            }
        })*
    };
}

impl<'de> de::Deserializer<'de> for &'de Node {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.value {
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Integer(value) => match u64::try_from(*value) {
                Ok(value) => visitor.visit_u64(value),
                Err(_) => visitor.visit_i64(*value),
            },
            Value::Float(value) => visitor.visit_f64(*value),
            Value::Text(text) => visitor.visit_borrowed_str(text),
            Value::List(items) => visitor.visit_seq(Items { items: items.iter(), at: 0 }),
            Value::Table(entries) => visitor.visit_map(Entries { entries: entries.iter(), next: None }),
        }
    }

    numbers! {
        deserialize_i8: i8 => visit_i8, deserialize_i16: i16 => visit_i16, deserialize_i32: i32 => visit_i32, deserialize_i64: i64 => visit_i64,
        deserialize_u8: u8 => visit_u8, deserialize_u16: u16 => visit_u16, deserialize_u32: u32 => visit_u32, deserialize_u64: u64 => visit_u64,
        deserialize_f32: f32 => visit_f32, deserialize_f64: f64 => visit_f64,
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.value {
            Value::Text(text) => match text.parse() {
                Ok(value) => visitor.visit_bool(value),
                Err(_) => Err(de::Error::invalid_type(de::Unexpected::Str(text), &"`true` or `false`")),
            },
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.value {
            Value::Text(text) => visitor.visit_seq(SeqDeserializer::new(text.split(',').map(str::trim).filter(|word| !word.is_empty()))),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(self, _: &'static str, _: &'static [&'static str], visitor: V) -> Result<V::Value, Fault> {
        match &self.value {
            Value::Text(text) => visitor.visit_enum(word(text)),
            other => Err(de::Error::custom(format_args!("expected a word, found {}", other.describe()))),
        }
    }

    serde::forward_to_deserialize_any! {
        i128 u128 char str string bytes byte_buf unit unit_struct tuple tuple_struct map struct identifier ignored_any
    }
}

fn word(text: &str) -> StrDeserializer<'_, Fault> {
    text.into_deserializer()
}

struct Items<'de> {
    items: std::slice::Iter<'de, Node>,
    at: usize,
}

impl<'de> de::SeqAccess<'de> for Items<'de> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        let Some(item) = self.items.next() else { return Ok(None) };
        self.at += 1;
        seed.deserialize(item).map(Some).map_err(|fault| fault.inside(&format!("[{}]", self.at - 1)))
    }
}

struct Entries<'de> {
    entries: btree_map::Iter<'de, String, Node>,
    next: Option<(&'de String, &'de Node)>,
}

impl<'de> de::MapAccess<'de> for Entries<'de> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        self.next = self.entries.next();
        let Some((key, _)) = self.next else { return Ok(None) };
        seed.deserialize(word(key)).map(Some).map_err(|fault| fault.inside(key))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let Some((key, node)) = self.next.take() else { return Err(de::Error::custom("a value without a key")) };
        seed.deserialize(node).map_err(|fault| fault.inside(key))
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::config::tree::Origin;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        budget: u32,
        open: Option<bool>,
        words: Vec<String>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        limits: std::collections::BTreeMap<String, Inner>,
    }

    fn read(path: &[&str], text: &str) -> Result<Outer, (String, String)> {
        let mut tree = Node::table(Origin::Default);
        for (key, value) in [("budget", "5"), ("open", "true"), ("words", "a, b")] {
            tree.insert(&["limits", "ip", key], Node::text(value, Origin::Set));
        }
        tree.insert(path, Node::text(text, Origin::Set));
        Outer::deserialize(&tree).map_err(|fault| (fault.path().join("."), fault.to_string()))
    }

    #[test]
    fn text_becomes_what_the_type_wants() {
        let inner = Inner { budget: 7, open: Some(true), words: vec!["a".to_owned(), "b".to_owned()] };
        assert_eq!(read(&["limits", "ip", "budget"], "7").unwrap().limits["ip"], inner);
    }

    #[test]
    fn errors_name_the_key() {
        assert_eq!(
            read(&["limits", "ip", "budget"], "many").unwrap_err(),
            ("limits.ip.budget".to_owned(), "expected a number, found string \"many\"".to_owned())
        );
        assert_eq!(
            read(&["limits", "ip", "budgte"], "1").unwrap_err(),
            ("limits.ip.budgte".to_owned(), "unknown key `budgte`: did you mean `budget`?".to_owned())
        );
        assert_eq!(read(&["limits", "uid", "budget"], "1").unwrap_err(), ("limits.uid".to_owned(), "lacks `words`".to_owned()));
    }
}
