//! Flags, environment, file, defaults: one parser for all four.
//!
//! Every long flag of a clap command can also stand in the environment (`--run-dir` is `HEADRACE_RUN_DIR`) and in a TOML
//! file (`run-dir = "..."`), which `--config` names. What is found there becomes the flag's default before the command
//! line is parsed, so flag > environment > file > default holds by construction, and every value goes through the flag's
//! own checks. It knows nothing of any particular flag.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command, Parser};

/// The flag that names the file.
const CONFIG: &str = "config";

/// Why the program cannot start as asked.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The command line is wrong, or asks for help or the version: clap's own words.
    #[error("{0}")]
    CommandLine(#[from] clap::Error),
    /// The configuration file cannot be read.
    #[error("configuration file {}: {source}; correct --config or HEADRACE_CONFIG", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The configuration file is not TOML.
    #[error("configuration file {}: {source}", path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// Line, column and reason.
        source: toml::de::Error,
    },
    /// The configuration file has a key that is no flag.
    #[error("configuration file {}: there is no key {key:?}; keys are {known}", path.display())]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key as it stands there.
        key: String,
        /// All that may stand there.
        known: String,
    },
    /// A value is wrong.
    #[error("{key} = {value:?} from {origin}: {reason}")]
    Value {
        /// The flag's name without dashes.
        key: String,
        /// The value as given.
        value: String,
        /// "configuration file F" or "environment variable V".
        origin: String,
        /// What is wrong and what would be right.
        reason: String,
    },
}

impl ConfigError {
    /// Prints the error, or the help or version that was asked for, and ends the process: 0 after help, else 2.
    pub fn exit(&self) -> ! {
        if let Self::CommandLine(e) = self {
            e.exit();
        }
        eprintln!("error: {self}");
        std::process::exit(2);
    }
}

/// Parses `args` (the program's name first) over `environment` over the configuration file.
///
/// # Errors
/// [`ConfigError`] names the key, the value, where it stands and what would be right.
pub fn parse<T: Parser>(
    args: impl IntoIterator<Item = OsString>,
    environment: impl Fn(&str) -> Option<OsString>,
) -> Result<T, ConfigError> {
    let args: Vec<OsString> = args.into_iter().collect();
    let mut command = T::command();
    let file = match config_file(&command, &args, &environment) {
        Some(path) => read(&command, path)?,
        None => Vec::new(),
    };
    let in_environment = read_environment(&command, &environment)?;
    // The environment comes second and so replaces what the file says.
    for found in file.into_iter().chain(in_environment) {
        command = found.into_default(command)?;
    }
    let mut matches = command.try_get_matches_from(args)?;
    Ok(T::from_arg_matches_mut(&mut matches)?)
}

/// The name of a flag's environment variable.
pub fn variable(flag: &str) -> String {
    format!("HEADRACE_{}", flag.to_uppercase().replace('-', "_"))
}

/// Values of one flag, found outside of the command line.
struct Found {
    flag: String,
    values: Vec<String>,
    origin: String,
}

impl Found {
    /// Checks the values by themselves, so that an error can tell where they stand; then makes them the flag's default.
    fn into_default(self, command: Command) -> Result<Command, ConfigError> {
        let Some(arg) = layered(&command).find(|a| a.get_long() == Some(&self.flag)).cloned() else {
            unreachable!("only flags of the command are looked for");
        };
        for value in &self.values {
            let alone = Command::new("one").no_binary_name(true).arg(arg.clone().required(false));
            let flag = format!("--{}={value}", self.flag);
            if let Err(e) = alone.try_get_matches_from([flag]) {
                let Self { flag, origin, .. } = self;
                return Err(ConfigError::Value {
                    key: flag,
                    value: value.clone(),
                    origin,
                    reason: reason(&e),
                });
            }
        }
        Ok(command.mut_arg(arg.get_id(), |a| a.required(false).default_values(self.values)))
    }
}

/// Flags that may stand outside of the command line.
fn layered(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|a| {
        let with_value = matches!(a.get_action(), ArgAction::Set | ArgAction::Append);
        with_value && a.get_long().is_some_and(|long| long != CONFIG)
    })
}

fn config_file(
    command: &Command,
    args: &[OsString],
    environment: impl Fn(&str) -> Option<OsString>,
) -> Option<PathBuf> {
    // Errors are left to the real parse, which comes later.
    let matches = command.clone().ignore_errors(true).try_get_matches_from(args);
    let on_command_line = |m: ArgMatches| m.get_raw(CONFIG)?.next().map(PathBuf::from);
    matches.ok().and_then(on_command_line).or_else(|| environment(&variable(CONFIG)).map(PathBuf::from))
}

fn read(command: &Command, path: PathBuf) -> Result<Vec<Found>, ConfigError> {
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(source) => return Err(ConfigError::File { path, source }),
    };
    let table: toml::Table = match toml::from_str(&text) {
        Ok(table) => table,
        Err(source) => return Err(ConfigError::Toml { path, source }),
    };
    table.into_iter().map(|(key, value)| from_file(command, &path, key, &value)).collect()
}

fn from_file(command: &Command, path: &Path, key: String, value: &toml::Value) -> Result<Found, ConfigError> {
    let Some(arg) = layered(command).find(|a| a.get_long() == Some(&key)) else {
        let known: Vec<&str> = layered(command).filter_map(Arg::get_long).collect();
        return Err(ConfigError::UnknownKey { path: path.into(), key, known: known.join(", ") });
    };
    let origin = format!("configuration file {}", path.display());
    let repeatable = matches!(arg.get_action(), ArgAction::Append);
    let values = match value {
        toml::Value::Array(list) if repeatable => list.iter().map(scalar).collect(),
        single => scalar(single).map(|s| vec![s]),
    };
    match values {
        Some(values) => Ok(Found { flag: key, values, origin }),
        None => {
            let kinds =
                if repeatable { "a string or a list of strings" } else { "a string, number or boolean" };
            let reason = format!("is {}; write {kinds}", value.type_str());
            Err(ConfigError::Value { key, value: value.to_string(), origin, reason })
        }
    }
}

fn scalar(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(s) => Some(s.clone()),
        toml::Value::Integer(i) => Some(i.to_string()),
        toml::Value::Boolean(b) => Some(b.to_string()),
        toml::Value::Float(_) | toml::Value::Datetime(_) | toml::Value::Array(_) | toml::Value::Table(_) => {
            None
        }
    }
}

fn read_environment(
    command: &Command,
    environment: impl Fn(&str) -> Option<OsString>,
) -> Result<Vec<Found>, ConfigError> {
    let mut found = Vec::new();
    for arg in layered(command) {
        let Some(flag) = arg.get_long() else { continue };
        let name = variable(flag);
        let Some(value) = environment(&name) else { continue };
        let origin = format!("environment variable {name}");
        let value = match value.into_string() {
            Ok(value) => value,
            Err(raw) => {
                let (key, value) = (flag.into(), raw.display().to_string());
                return Err(ConfigError::Value { key, value, origin, reason: "is not UTF-8 text".into() });
            }
        };
        let values = match arg.get_action() {
            ArgAction::Append => value.split(',').map(|v| v.trim().to_owned()).collect(),
            _ => vec![value],
        };
        found.push(Found { flag: flag.into(), values, origin });
    }
    Ok(found)
}

/// What is wrong with a value, without clap's talk of the flag.
fn reason(error: &clap::Error) -> String {
    if let (ErrorKind::InvalidValue, Some(valid)) = (error.kind(), error.get(ContextKind::ValidValue)) {
        return format!("use one of {valid}");
    }
    std::error::Error::source(error).map_or_else(|| error.kind().to_string(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Debug, PartialEq, Parser)]
    struct Flags {
        #[arg(long)]
        config: Option<PathBuf>,
        #[arg(long)]
        name: String,
        #[arg(long, default_value = "1", value_parser = clap::value_parser!(u32).range(0..100))]
        number: u32,
        #[arg(long, default_value = "a")]
        list: Vec<String>,
        #[arg(long, default_value_t = true, action = ArgAction::Set)]
        switch: bool,
        #[arg(long, default_value = "red", value_parser = ["red", "blue"])]
        color: String,
    }

    fn parse_with(args: &[&str], environment: &[(&str, &str)], file: &str) -> Result<Flags, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        std::fs::write(&path, file).unwrap();
        let environment: BTreeMap<String, OsString> = environment
            .iter()
            .map(|(k, v)| ((*k).into(), (*v).into()))
            .chain([("HEADRACE_CONFIG".into(), path.into())])
            .collect();
        let args = std::iter::once("program").chain(args.iter().copied()).map(OsString::from);
        parse(args, |name| environment.get(name).cloned())
    }

    #[test]
    fn a_flag_beats_the_environment_beats_the_file_beats_the_default() {
        let file = "name = 'file'\nnumber = 3\nlist = ['x', 'y']\nswitch = false";
        let flags = parse_with(&[], &[], file).unwrap();
        assert_eq!((flags.name.as_str(), flags.number, flags.switch), ("file", 3, false));
        assert_eq!((flags.list, flags.color.as_str()), (vec!["x".into(), "y".into()], "red"));

        let environment = [("HEADRACE_NAME", "env"), ("HEADRACE_LIST", "p, q,r")];
        let flags = parse_with(&["--number", "7"], &environment, file).unwrap();
        assert_eq!((flags.name.as_str(), flags.number), ("env", 7));
        assert_eq!(flags.list, ["p", "q", "r"]);

        let flags = parse_with(&["--name=flag", "--list", "only"], &environment, file).unwrap();
        assert_eq!((flags.name.as_str(), flags.list), ("flag", vec!["only".into()]));
    }

    #[test]
    fn a_wrong_value_is_told_with_key_value_origin_and_remedy() {
        type Case<'a> = (&'a [(&'a str, &'a str)], &'a str, &'a [&'a str]);
        let cases: [Case<'_>; 6] = [
            (&[], "number = 100", &["number", "100", "c.toml", "0..100"]),
            (&[("HEADRACE_NUMBER", "x")], "", &["number", "x", "HEADRACE_NUMBER", "invalid digit"]),
            (&[("HEADRACE_COLOR", "green")], "", &["color", "green", "HEADRACE_COLOR", "red, blue"]),
            (&[], "number = [1]", &["number", "[1]", "c.toml", "write a string, number or boolean"]),
            (&[], "colour = 'red'", &["colour", "c.toml", "name, number, list, switch, color"]),
            (&[], "number == 1", &["c.toml", "line 1"]),
        ];
        for (environment, file, words) in cases {
            let error = parse_with(&["--name", "n"], environment, file).unwrap_err().to_string();
            for word in words {
                assert!(error.contains(word), "{word:?} is missing in {error:?}");
            }
        }
    }

    #[test]
    fn a_wrong_value_is_an_error_even_where_a_better_layer_has_a_right_one() {
        assert!(parse_with(&["--name=n", "--number=5"], &[], "number = 'many'").is_err());
    }

    #[test]
    fn a_missing_file_is_an_error_and_names_it() {
        let args = ["program", "--name", "n", "--config", "/does/not/exist.toml"].map(OsString::from);
        let error = parse::<Flags>(args, |_| None).unwrap_err().to_string();
        assert!(error.contains("/does/not/exist.toml"), "{error}");
    }

    #[test]
    fn help_is_shown_although_required_flags_are_missing() {
        let error = parse_with(&["--help"], &[], "").unwrap_err();
        assert!(matches!(error, ConfigError::CommandLine(e) if e.kind() == ErrorKind::DisplayHelp));
    }
}
