//! Reading JSON objects as Go's decoder does: keys match whatever their case, `null` is nothing.

use serde_json::{Map, Value};

use crate::conf;
use crate::error::{CniError, ErrorCode};

/// An object and where it stands, for messages; one that is absent is empty.
pub(super) struct Object<'a> {
    place: String,
    entries: Option<&'a Map<String, Value>>,
}

impl<'a> Object<'a> {
    /// `value` stands at `place`.
    pub(super) fn of(place: &str, value: &'a Value) -> Result<Self, CniError> {
        let entries = match value {
            Value::Null => None,
            Value::Object(entries) => Some(entries),
            _ => return Err(shape(place, "an object")),
        };
        Ok(Self { place: place.to_owned(), entries })
    }

    /// The object below `key`.
    pub(super) fn object(&self, key: &str) -> Result<Object<'a>, CniError> {
        Object::of(&self.place(key), self.get(key).unwrap_or(&Value::Null))
    }

    /// The text below `key`.
    pub(super) fn text(&self, key: &str) -> Result<Option<&'a str>, CniError> {
        let wrong = || shape(&self.place(key), "a string");
        self.get(key).map(|value| value.as_str().ok_or_else(wrong)).transpose()
    }

    /// The whole number below `key`.
    pub(super) fn number(&self, key: &str) -> Result<Option<i64>, CniError> {
        let wrong = || shape(&self.place(key), "a whole number");
        self.get(key).map(|value| value.as_i64().ok_or_else(wrong)).transpose()
    }

    /// The list below `key`; an absent one is empty.
    pub(super) fn list(&self, key: &str) -> Result<&'a [Value], CniError> {
        let wrong = || shape(&self.place(key), "a list");
        self.get(key).map_or(Ok(&[][..]), |value| value.as_array().map(Vec::as_slice).ok_or_else(wrong))
    }

    /// The list of texts below `key`.
    pub(super) fn texts(&self, key: &str) -> Result<Vec<&'a str>, CniError> {
        let wrong = || shape(&self.place(key), "a list of strings");
        self.list(key)?.iter().map(|value| value.as_str().ok_or_else(wrong)).collect()
    }

    /// All of it.
    pub(super) fn to_map(&self) -> Map<String, Value> {
        self.entries.cloned().unwrap_or_default()
    }

    /// Where `key` stands.
    pub(super) fn place(&self, key: &str) -> String {
        format!("{}.{key}", self.place).trim_start_matches("the network configuration.").to_owned()
    }

    /// The key itself goes before one that differs in case.
    fn get(&self, key: &str) -> Option<&'a Value> {
        let entries = self.entries?;
        let any_case = || entries.iter().find(|(k, _)| k.eq_ignore_ascii_case(key)).map(|(_, value)| value);
        entries.get(key).or_else(any_case).filter(|value| !value.is_null())
    }
}

/// An error about JSON of the wrong shape.
pub(super) fn shape(place: &str, want: &str) -> CniError {
    conf::decoding(&format!("{place}: want {want}"))
}

/// An error about a wrong value.
pub(super) fn invalid(msg: String) -> CniError {
    CniError::new(ErrorCode::INVALID_CONFIG, msg)
}
