//! Keeps ports of the node's address that are not its own from the kernel: the source ports of translated traffic and pods'
//! host ports are merged into ip_local_reserved_ports, so that no connection of the node gets one by itself, whose answers
//! would then be taken for somebody else's (Documentation/networking/ip-sysctl.rst).
//!
//! What was added is written down in the run directory, so that a later run with another range, or the cleanup, takes out
//! exactly that and leaves what an administrator reserved.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use headrace_xsk::sysctl;

const RESERVED: &str = "ipv4/ip_local_reserved_ports";

/// File of the run directory that holds the ports we added, in the kernel's notation.
pub(super) const RECORD: &str = "reserved-ports";

/// The reservation failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot reserve ports: {path}: {source}; connections of the node may collide with translated ones")]
pub struct ReserveError {
    path: PathBuf,
    source: io::Error,
}

/// Reserves `ports` in place of what an earlier call or run reserved.
///
/// # Errors
/// [`ReserveError`] when a file cannot be read or written.
pub fn reserve(run_dir: &Path, ports: &BTreeSet<u16>) -> Result<(), ReserveError> {
    reserve_in(&sysctl::path(RESERVED), &run_dir.join(RECORD), ports)
}

fn reserve_in(reserved: &Path, record: &Path, ports: &BTreeSet<u16>) -> Result<(), ReserveError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| ReserveError { path, source }
    };
    let present = parse(&std::fs::read_to_string(reserved).map_err(at(reserved))?);
    let added_before = match std::fs::read_to_string(record) {
        Ok(text) => parse(&text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeSet::new(),
        Err(error) => return Err(at(record)(error)),
    };
    let others: BTreeSet<u16> = present.difference(&added_before).copied().collect();
    let added: BTreeSet<u16> = ports.difference(&others).copied().collect();
    let wanted = &others | &added;
    // The record first: a crash in between must not make our ports look like somebody else's.
    let union = &added | &added_before;
    if union != added_before {
        std::fs::write(record, format(&union)).map_err(at(record))?;
    }
    if wanted != present {
        std::fs::write(reserved, format(&wanted)).map_err(at(reserved))?;
    }
    if added != union {
        std::fs::write(record, format(&added)).map_err(at(record))?;
    }
    Ok(())
}

/// Reads "1-2,4,10-12". What is no port is left out: the kernel writes nothing else.
fn parse(text: &str) -> BTreeSet<u16> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.trim().parse::<u16>().ok()?..=last.trim().parse::<u16>().ok()?)
    };
    text.trim().split(',').filter_map(range).flatten().collect()
}

fn format(ports: &BTreeSet<u16>) -> String {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for port in ports {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *port => *last = *port,
            _ => ranges.push((*port, *port)),
        }
    }
    let one = |(first, last): &(u16, u16)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    // The kernel takes an empty line for "none".
    ranges.iter().map(one).collect::<Vec<_>>().join(",") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Files {
        dir: tempfile::TempDir,
    }

    impl Files {
        fn new(reserved: &str) -> Self {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("reserved"), reserved).unwrap();
            Self { dir }
        }

        fn reserve(&self, ports: impl IntoIterator<Item = u16>) -> String {
            let at = |name| self.dir.path().join(name);
            reserve_in(&at("reserved"), &at("record"), &ports.into_iter().collect()).unwrap();
            std::fs::read_to_string(at("reserved")).unwrap()
        }
    }

    #[test]
    fn the_range_is_merged_and_does_not_grow_over_runs() {
        let files = Files::new("8080,9148\n");
        assert_eq!(files.reserve(20000..=20009), "8080,9148,20000-20009\n");
        assert_eq!(files.reserve(20000..=20009), "8080,9148,20000-20009\n");
        assert_eq!(files.reserve(20005..=20014), "8080,9148,20005-20014\n");
        assert_eq!(files.reserve([]), "8080,9148\n");
    }

    #[test]
    fn what_others_reserved_stays_even_inside_the_range() {
        let files = Files::new("20003\n");
        assert_eq!(files.reserve(20000..=20009), "20000-20009\n");
        assert_eq!(files.reserve([]), "20003\n");
    }

    #[test]
    fn host_ports_come_and_go_beside_the_range() {
        let files = Files::new("8080\n");
        assert_eq!(files.reserve((20000..=20001).chain([8080, 40000])), "8080,20000-20001,40000\n");
        assert_eq!(files.reserve((20000..=20001).chain([40001])), "8080,20000-20001,40001\n");
        assert_eq!(files.reserve(20000..=20001), "8080,20000-20001\n");
    }

    #[test]
    fn a_reservation_that_was_lost_is_made_again() {
        let files = Files::new("\n");
        files.reserve(20000..=20009);
        std::fs::write(files.dir.path().join("reserved"), "7\n").unwrap();
        assert_eq!(files.reserve(20000..=20009), "7,20000-20009\n");
    }

    #[test]
    fn notation_is_the_kernels() {
        assert_eq!(format(&parse("1-2,4,10-12\n")), "1-2,4,10-12\n");
        assert_eq!(format(&parse("\n")), "\n");
        assert_eq!(format(&parse("65530-65535")), "65530-65535\n");
    }
}
