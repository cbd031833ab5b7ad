//! Which keys nest where, as `yaml.rs` reads them: its structures are deserialized from nothing,
//! and what they ask for is written down.

use serde::de::value::{Error, SeqDeserializer, StrDeserializer};
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error as _, MapAccess, Visitor};
use serde::forward_to_deserialize_any;

use crate::yaml;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shape {
    Scalar,
    List(Box<Shape>),
    /// Scalars by the names of something else.
    ByName,
    Either(Vec<Shape>),
    Structure {
        name: &'static str,
        fields: Vec<(&'static str, Shape)>,
    },
}

pub(super) fn of_file() -> Shape {
    of::<yaml::File>("")
}

/// `key`: of the value that has this type.
fn of<'de, T: Deserialize<'de>>(key: &'static str) -> Shape {
    let mut shape = Shape::Scalar;
    let recorded = T::deserialize(Recorder { key, shape: &mut shape });
    // All that the types of `yaml.rs` ask for is there; the tests find what is not.
    debug_assert!(recorded.is_ok(), "{key}: {:?}", recorded.err());
    shape
}

/// Notes what is asked for in `shape`, and gives as little as there can be.
struct Recorder<'a> {
    key: &'static str,
    shape: &'a mut Shape,
}

impl<'de> Deserializer<'de> for Recorder<'_> {
    type Error = Error;

    /// Of values that may have one shape or another, which only `yaml.rs` knows.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.key {
            "metrics" => {
                *self.shape = Shape::Either(vec![Shape::Scalar, of::<yaml::Metrics>("")]);
                visitor.visit_str("off")
            }
            "web" => {
                *self.shape = Shape::Either(vec![Shape::Scalar, of::<yaml::Web>("")]);
                visitor.visit_str("off")
            }
            "check" => {
                let check = of::<yaml::Check>("");
                *self.shape = Shape::Either(vec![check.clone(), Shape::List(Box::new(check))]);
                visitor.visit_seq(nothing())
            }
            _ => {
                let words = Shape::List(Box::new(Shape::Scalar));
                *self.shape = Shape::Either(vec![words, of::<yaml::TimedCommand>("")]);
                visitor.visit_seq(nothing())
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        *self.shape = Shape::Scalar;
        visitor.visit_str("")
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let mut item = Shape::Scalar;
        let value = visitor.visit_seq(One(Some(Recorder { key: self.key, shape: &mut item })));
        *self.shape = Shape::List(Box::new(item));
        value
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        *self.shape = Shape::ByName;
        visitor.visit_map(Fields { rest: [].iter(), key: None, found: &mut Vec::new() })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let mut found = Vec::new();
        let value = visitor.visit_map(Fields { rest: fields.iter(), key: None, found: &mut found });
        *self.shape = Shape::Structure { name, fields: found };
        value
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char string bytes byte_buf unit unit_struct newtype_struct
        tuple tuple_struct enum identifier ignored_any
    }
}

fn nothing() -> SeqDeserializer<std::iter::Empty<()>, Error> {
    SeqDeserializer::new(std::iter::empty())
}

/// A list with one item.
struct One<'a>(Option<Recorder<'a>>);

impl<'de> serde::de::SeqAccess<'de> for One<'_> {
    type Error = Error;
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        self.0.take().map(|recorder| seed.deserialize(recorder)).transpose()
    }
}

/// A mapping with each of the keys.
struct Fields<'a> {
    rest: std::slice::Iter<'static, &'static str>,
    key: Option<&'static str>,
    found: &'a mut Vec<(&'static str, Shape)>,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        self.key = self.rest.next().copied();
        self.key.map(|key| seed.deserialize(StrDeserializer::new(key))).transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let key = self.key.take().ok_or_else(|| Error::custom("a value without a key"))?;
        let mut shape = Shape::Scalar;
        let value = seed.deserialize(Recorder { key, shape: &mut shape })?;
        self.found.push((key, shape));
        Ok(value)
    }
}
