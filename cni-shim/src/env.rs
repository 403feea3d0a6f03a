//! The request's half that comes in environment variables, checked.
//!
//! What each verb requires is the CNI specification's list. `CNI_PATH` is asked for only where the specification does (GC),
//! and where another plugin has to be found in it.

use std::collections::BTreeMap;

use crate::error::{CniError, ErrorCode};

const COMMAND: &str = "CNI_COMMAND";
const CONTAINER_ID: &str = "CNI_CONTAINERID";
const NETNS: &str = "CNI_NETNS";
const IFNAME: &str = "CNI_IFNAME";
const PATH: &str = "CNI_PATH";
const ARGS: &str = "CNI_ARGS";
const NETNS_OVERRIDE: &str = "CNI_NETNS_OVERRIDE";

/// IFNAMSIZ (linux/if.h) less the terminating zero byte.
const IFNAME_MAX: usize = 15;

/// `CNI_*` variables as the runtime set them.
#[derive(Clone, Debug, Default)]
pub struct Environment(BTreeMap<String, String>);

/// What the runtime asks for, with the variables that the verb requires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Attach the pod.
    Add(Attachment),
    /// Detach the pod.
    Del(Attachment),
    /// See that the pod is attached as ADD left it.
    Check(Attachment),
    /// Remove what belongs to no valid attachment.
    Gc,
    /// Tell whether ADD would work.
    Status,
    /// List the supported versions.
    Version,
}

/// Which interface of which container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// `CNI_CONTAINERID`.
    pub container_id: String,
    /// `CNI_IFNAME`: the name inside the pod.
    pub ifname: String,
    /// `CNI_NETNS`: path of the pod's network namespace. Only DEL may go without.
    pub netns: Option<String>,
    /// `CNI_ARGS`, taken apart.
    pub args: BTreeMap<String, String>,
    /// `CNI_NETNS_OVERRIDE`: the plugin's own namespace is allowed.
    pub netns_override: bool,
}

impl Environment {
    /// The variables of this process. Bytes that are not UTF-8 are replaced; such a path cannot be opened and is reported
    /// there.
    pub fn from_process() -> Self {
        let text = |s: std::ffi::OsString| s.to_string_lossy().into_owned();
        std::env::vars_os().map(|(k, v)| (text(k), text(v))).filter(|(k, _)| k.starts_with("CNI_")).collect()
    }

    /// The request; `None` when there is no `CNI_COMMAND`, as when a person starts the plugin.
    ///
    /// # Errors
    /// `INVALID_ENVIRONMENT`, naming every missing variable, or the wrong one and its rule.
    pub fn command(&self) -> Result<Option<Command>, CniError> {
        let Some(verb) = self.get(COMMAND) else { return Ok(None) };
        let command = match verb {
            "ADD" => Command::Add(self.attachment(&[CONTAINER_ID, NETNS, IFNAME])?),
            "DEL" => Command::Del(self.attachment(&[CONTAINER_ID, IFNAME])?),
            "CHECK" => Command::Check(self.attachment(&[CONTAINER_ID, NETNS, IFNAME])?),
            "GC" => self.require(&[PATH]).map(|()| Command::Gc)?,
            "STATUS" => Command::Status,
            "VERSION" => Command::Version,
            other => return Err(invalid(format!("unknown CNI_COMMAND: {other}"))),
        };
        Ok(Some(command))
    }

    /// `CNI_PATH`: where other plugins are.
    ///
    /// # Errors
    /// `INVALID_ENVIRONMENT`.
    pub(crate) fn plugin_path(&self) -> Result<&str, CniError> {
        self.require(&[PATH])?;
        Ok(self.get(PATH).unwrap_or_default())
    }

    /// All of them, for another plugin.
    pub(crate) fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    fn attachment(&self, required: &[&str]) -> Result<Attachment, CniError> {
        self.require(required)?;
        let text = |name| self.get(name).unwrap_or_default().to_owned();
        let attachment = Attachment {
            container_id: text(CONTAINER_ID),
            ifname: text(IFNAME),
            netns: self.get(NETNS).map(str::to_owned),
            args: parse_args(self.get(ARGS).unwrap_or_default())?,
            netns_override: matches!(self.get(NETNS_OVERRIDE), Some("1" | "true")),
        };
        check_identifier(CONTAINER_ID, &attachment.container_id).map_err(invalid)?;
        check_ifname(&attachment.ifname).map_err(invalid)?;
        Ok(attachment)
    }

    fn require(&self, names: &[&str]) -> Result<(), CniError> {
        let missing: Vec<_> = names.iter().copied().filter(|n| self.get(n).is_none()).collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(invalid(format!("required env variables [{}] missing", missing.join(","))))
    }

    /// An empty variable counts as absent, as in the reference implementation.
    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|v| !v.is_empty())
    }
}

impl FromIterator<(String, String)> for Environment {
    fn from_iter<T: IntoIterator<Item = (String, String)>>(variables: T) -> Self {
        Self(variables.into_iter().collect())
    }
}

/// Checks a container id or a network name: `^[a-zA-Z0-9][a-zA-Z0-9_.\-]*$` of the specification. Such a text is safe as
/// a file name.
///
/// # Errors
/// A sentence that names `what`, the value and the rule.
pub fn check_identifier(what: &str, text: &str) -> Result<(), String> {
    let mut bytes = text.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric());
    if first && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-')) {
        return Ok(());
    }
    Err(format!("invalid {what} {text:?}: want a letter or digit, then letters, digits, '_', '.' or '-'"))
}

/// Checks the name of a network interface as the kernel does (`dev_valid_name`, net/core/dev.c).
///
/// # Errors
/// A sentence that names the value and the rule.
pub fn check_ifname(name: &str) -> Result<(), String> {
    let wrong = |rule: &str| Err(format!("invalid {IFNAME} {name:?}: {rule}"));
    match name {
        "" => wrong("it is empty"),
        "." | ".." => wrong("'.' and '..' are not allowed"),
        _ if name.len() > IFNAME_MAX => wrong("more than 15 bytes"),
        _ if name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace()) => {
            wrong("'/', ':' and white space are not allowed")
        }
        _ => Ok(()),
    }
}

/// `K1=V1;K2=V2` of the specification. Unknown keys are kept; who needs one looks it up.
fn parse_args(text: &str) -> Result<BTreeMap<String, String>, CniError> {
    text.split(';')
        .filter(|pair| !pair.is_empty())
        .map(|pair| match pair.split_once('=') {
            Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
            None => Err(invalid(format!("invalid CNI_ARGS pair {pair:?}: want KEY=VALUE, separated by ';'"))),
        })
        .collect()
}

fn invalid(msg: String) -> CniError {
    CniError::new(ErrorCode::INVALID_ENVIRONMENT, msg)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: [(&str, &str); 3] =
        [("CNI_CONTAINERID", "abc"), ("CNI_NETNS", "/run/netns/x"), ("CNI_IFNAME", "eth0")];

    fn environment<'a>(vars: impl IntoIterator<Item = (&'a str, &'a str)>) -> Environment {
        vars.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
    }

    fn message(env: &Environment) -> String {
        let error = env.command().unwrap_err();
        assert_eq!(error.code, ErrorCode::INVALID_ENVIRONMENT);
        error.msg
    }

    #[test]
    fn every_missing_variable_is_named() {
        let table = [
            ("ADD", "[CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME]"),
            ("DEL", "[CNI_CONTAINERID,CNI_IFNAME]"),
            ("CHECK", "[CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME]"),
            ("GC", "[CNI_PATH]"),
        ];
        for (verb, names) in table {
            let said = message(&environment([("CNI_COMMAND", verb)]));
            assert_eq!(said, format!("required env variables {names} missing"), "{verb}");
        }
    }

    #[test]
    fn an_empty_variable_is_a_missing_one() {
        let env = environment(FULL.into_iter().chain([("CNI_COMMAND", "ADD"), ("CNI_IFNAME", "")]));
        assert_eq!(message(&env), "required env variables [CNI_IFNAME] missing");
    }

    #[test]
    fn del_goes_without_a_namespace() {
        let env = environment([
            ("CNI_COMMAND", "DEL"),
            ("CNI_CONTAINERID", "a"),
            ("CNI_IFNAME", "e"),
            ("CNI_NETNS", ""),
        ]);
        let Ok(Some(Command::Del(attachment))) = env.command() else { panic!("not a DEL") };
        assert_eq!(attachment.netns, None);
    }

    #[test]
    fn no_command_is_a_person_asking() {
        assert_eq!(environment([]).command(), Ok(None));
    }

    #[test]
    fn an_unknown_command_is_named() {
        assert_eq!(message(&environment([("CNI_COMMAND", "add")])), "unknown CNI_COMMAND: add");
    }

    #[test]
    fn bad_names_are_refused() {
        let table = [
            ("CNI_CONTAINERID", "../../etc"),
            ("CNI_CONTAINERID", "-a"),
            ("CNI_CONTAINERID", "a b"),
            ("CNI_IFNAME", "."),
            ("CNI_IFNAME", ".."),
            ("CNI_IFNAME", "a/b"),
            ("CNI_IFNAME", "a:b"),
            ("CNI_IFNAME", "a b"),
            ("CNI_IFNAME", "sixteen-bytes-it"),
        ];
        for (name, value) in table {
            let env = environment(FULL.into_iter().chain([("CNI_COMMAND", "ADD"), (name, value)]));
            let said = message(&env);
            assert!(said.contains(name) && said.contains(&format!("{value:?}")), "{said}");
        }
    }

    #[test]
    fn args_are_taken_apart() {
        let with = |args| environment(FULL.into_iter().chain([("CNI_COMMAND", "ADD"), ("CNI_ARGS", args)]));
        let Ok(Some(Command::Add(attachment))) = with("IgnoreUnknown=1;K8S_POD_NAME=web=1;;X=").command()
        else {
            panic!("not an ADD")
        };
        let args: Vec<_> = attachment.args.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(args, [("IgnoreUnknown", "1"), ("K8S_POD_NAME", "web=1"), ("X", "")]);
        assert!(message(&with("A=1;nonsense")).contains("\"nonsense\""));
    }
}
