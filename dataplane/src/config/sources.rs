//! Where a value was given, and which of several counts.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use clap::ArgMatches;

use super::KEYS;

/// A wrong value, or a configuration that cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A value that cannot be.
    #[error("{key}: {value:?} (from {origin}) is wrong: {remedy}")]
    Value {
        /// The key as a flag has it.
        key: &'static str,
        /// What was given.
        value: String,
        /// Where.
        origin: Origin,
        /// What would be right.
        remedy: String,
    },
    /// A key of the file that is none of ours.
    #[error("{path}: unknown key {key:?}; the keys are {known}")]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// All keys, separated by commas.
        known: String,
    },
    /// The file cannot be read or is no TOML.
    #[error("config: {path} (from {origin}) cannot be read: {why}")]
    File {
        /// The file.
        path: PathBuf,
        /// Where its name was given.
        origin: Origin,
        /// What is wrong, with the line.
        why: String,
    },
}

/// Where a value was given; the strongest first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// `--key`.
    Flag(&'static str),
    /// `HEADRACE_KEY`.
    Environment(String),
    /// The file.
    File(PathBuf),
    /// Nowhere.
    Default,
}

impl Origin {
    /// Whether both are flags, both variables, or both in the file.
    pub(super) fn same_kind(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }

    /// Whether a value from here counts more.
    pub(super) fn precedes(&self, other: &Self) -> bool {
        self < other
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(key) => write!(f, "--{key}"),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::File(path) => path.display().fmt(f),
            Self::Default => f.write_str("the default"),
        }
    }
}

/// The value of every key that has one, with its origin.
pub(super) struct Sources {
    values: BTreeMap<&'static str, (String, Origin)>,
}

/// The environment variable of a key.
pub(super) fn variable(key: &str) -> String {
    format!("HEADRACE_{}", key.to_uppercase().replace('-', "_"))
}

impl Sources {
    /// Defaults, then the file over them, then the environment, then flags.
    pub(super) fn read(
        flags: &ArgMatches,
        environment: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Self, ConfigError> {
        let mut direct = BTreeMap::new();
        for row in &KEYS {
            let flag = flags.get_one::<OsString>(row.key).map(|v| (v.clone(), Origin::Flag(row.key)));
            let name = variable(row.key);
            let given = flag.or_else(|| environment(&name).map(|v| (v, Origin::Environment(name))));
            if let Some((value, origin)) = given {
                direct.insert(row.key, (text(row.key, value, &origin)?, origin));
            }
        }
        let default = |row: &super::Row| row.default.map(|d| (row.key, (d.to_owned(), Origin::Default)));
        let mut values: BTreeMap<_, _> = KEYS.iter().filter_map(default).collect();
        if let Some((path, origin)) = direct.get("config") {
            values.extend(file(Path::new(path), origin)?);
        }
        values.extend(direct);
        Ok(Self { values })
    }

    /// Where a key's value comes from; `None` when it has none.
    pub(super) fn origin(&self, key: &str) -> Option<&Origin> {
        self.values.get(key).map(|(_, origin)| origin)
    }

    /// The value of a key that may have none.
    pub(super) fn optional<T>(
        &self,
        key: &'static str,
        parse: fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        self.values.contains_key(key).then(|| self.required(key, parse)).transpose()
    }

    /// The value of a key that always has one.
    pub(super) fn required<T>(
        &self,
        key: &'static str,
        parse: fn(&str) -> Result<T, String>,
    ) -> Result<T, ConfigError> {
        let value = self.values.get(key).map_or("", |(value, _)| value);
        parse(value).map_err(|remedy| self.error(key, &remedy))
    }

    /// Says that a key's value is wrong.
    pub(super) fn error(&self, key: &'static str, remedy: &str) -> ConfigError {
        let (value, origin) = self.values.get(key).cloned().unwrap_or((String::new(), Origin::Default));
        ConfigError::Value { key, value, origin, remedy: remedy.into() }
    }
}

fn text(key: &'static str, value: OsString, origin: &Origin) -> Result<String, ConfigError> {
    value.into_string().map_err(|value| ConfigError::Value {
        key,
        value: value.to_string_lossy().into_owned(),
        origin: origin.clone(),
        remedy: "only UTF-8 is understood".into(),
    })
}

type Values = BTreeMap<&'static str, (String, Origin)>;

fn file(path: &Path, origin: &Origin) -> Result<Values, ConfigError> {
    let unreadable = |why: String| ConfigError::File { path: path.into(), origin: origin.clone(), why };
    let content = std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
    let table: toml::Table =
        content.parse().map_err(|error: toml::de::Error| unreadable(error.to_string()))?;
    let mut values = Values::new();
    for (name, value) in table {
        let row = KEYS.iter().find(|row| row.key == name.replace('_', "-") && row.key != "config");
        let Some(row) = row else {
            let known = KEYS.map(|row| row.key).join(", ");
            return Err(ConfigError::UnknownKey { path: path.into(), key: name, known });
        };
        values.insert(row.key, (plain(&value), Origin::File(path.into())));
    }
    Ok(values)
}

/// A TOML value as it would stand behind a flag.
fn plain(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Array(list) => list.iter().map(plain).collect::<Vec<_>>().join(","),
        toml::Value::Integer(number) => number.to_string(),
        toml::Value::Boolean(yes) => yes.to_string(),
        // No key takes such a value; its parser will say what it takes.
        other => format!("{other:?}"),
    }
}
