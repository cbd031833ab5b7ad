//! Scalars, as text.

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

use crate::references::REFERENCE;
use crate::source_map::SourceSpan;

/// The text of a scalar; `None` if its key is absent. A key without a value, or with `null`, has an
/// empty text.
#[derive(Debug, Default)]
pub(crate) struct Scalar(Option<String>);

impl Scalar {
    pub(crate) const fn is_given(&self) -> bool {
        self.0.is_some()
    }

    /// As it stands in the file.
    pub(crate) fn raw(&self) -> Option<&str> {
        self.0.as_deref()
    }

    /// With what its references stand for; `span` says where it is.
    pub(crate) fn text<'a>(&'a self, span: impl FnOnce() -> SourceSpan<'a>) -> Option<&'a str> {
        let raw = self.raw()?;
        let expanded = if raw.contains(REFERENCE) { span().expanded() } else { None };
        Some(expanded.unwrap_or(raw))
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Scalar;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a single value")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Scalar, E> {
                Ok(Scalar(Some(text.to_owned())))
            }

            fn visit_none<E: Error>(self) -> Result<Scalar, E> {
                Ok(Scalar(Some(String::new())))
            }

            // For `deserialize_str` serde_yaml passes the text of any scalar, including numbers and
            // booleans.
            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Scalar, D::Error> {
                deserializer.deserialize_str(self)
            }
        }
        deserializer.deserialize_option(Text)
    }
}
