//! One XDP program's links to devices: made in the best mode that a device has, renewed, removed.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use super::ProgramError;
use super::links::Links;
use super::load::Programs;
use super::query::{ask, program_on};
use crate::{bpf, device};

/// Where a program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpMode {
    /// In the driver.
    Native,
    /// In the network stack, on socket buffers (SKB mode): on every device, and superframes stay whole.
    Generic,
}

impl fmt::Display for XdpMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::Generic => "generic",
        })
    }
}

/// How a program is attached to a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Where it runs.
    pub mode: XdpMode,
    /// Whether it takes multi-buffer packets, such as superframes.
    pub frags: bool,
    /// Whether it was attached all along, by an earlier process.
    pub taken_over: bool,
    /// Why it is no better than that; empty when it is the first choice.
    pub why: String,
}

/// A mode and variant to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rung {
    pub(super) mode: XdpMode,
    pub(super) frags: bool,
}

/// All links of one program.
pub(super) struct Attachments {
    programs: Programs,
    links: Links,
}

impl Attachments {
    /// Opens the links pinned in `dir`. Stale ones, whose device is gone or whose index another device has
    /// now, are removed.
    pub(super) fn new(
        name: &'static str,
        programs: Programs,
        dir: Option<&Path>,
    ) -> Result<Self, ProgramError> {
        Ok(Self { programs, links: Links::open(name, dir, is_on)? })
    }

    /// Devices with a link.
    pub(super) fn devices(&self) -> impl Iterator<Item = u32> {
        self.links.devices()
    }

    /// Both variants of the program.
    #[cfg(test)]
    pub(super) fn programs(&self) -> &Programs {
        &self.programs
    }

    /// Attaches to a device, or updates our link there to this process's program. Tries `rungs` in order.
    pub(super) fn attach(&mut self, ifindex: u32, rungs: &[Rung]) -> Result<Attached, ProgramError> {
        if let Some(attached) = self.keep(ifindex, rungs)? {
            return Ok(attached);
        }
        let device = device::name(ifindex).unwrap_or_else(|_| format!("device {ifindex}"));
        refuse_foreign(ifindex, &device)?;
        let mut why = Vec::new();
        for rung in rungs {
            match self.create(ifindex, *rung) {
                Ok(link) => {
                    self.links.insert(ifindex, link)?;
                    let Rung { mode, frags } = *rung;
                    return Ok(Attached { mode, frags, taken_over: false, why: why.join("; ") });
                }
                Err(reason) => why.push(format!("{}: {reason}", describe(*rung))),
            }
            // Somebody may have been faster.
            refuse_foreign(ifindex, &device)?;
        }
        Err(ProgramError::Attach { device, reason: why.join("; ") })
    }

    /// Detaches from a device at once. Nothing happens when it is not attached.
    pub(super) fn detach(&mut self, ifindex: u32) {
        self.links.detach(ifindex);
    }

    /// Updates our own link on a device, if there is a live one whose mode is still wanted.
    fn keep(&mut self, ifindex: u32, rungs: &[Rung]) -> Result<Option<Attached>, ProgramError> {
        let Some(link) = self.links.get(ifindex) else { return Ok(None) };
        let now = ask(ifindex).map_err(|source| ProgramError::Query { ifindex, source })?;
        if let Some((_, mode)) = now.filter(|_| is_on(link, ifindex)) {
            for (n, rung) in rungs.iter().enumerate().filter(|(_, rung)| rung.mode == mode) {
                let updated = self.program(*rung).map(|program| bpf::link_update(link.as_fd(), program));
                if matches!(updated, Ok(Ok(()))) {
                    let why =
                        if n > 0 { format!("{} kept from before", describe(*rung)) } else { String::new() };
                    return Ok(Some(Attached { mode, frags: rung.frags, taken_over: true, why }));
                }
            }
        }
        self.detach(ifindex);
        Ok(None)
    }

    fn create(&self, ifindex: u32, rung: Rung) -> Result<OwnedFd, String> {
        let flags = match rung.mode {
            XdpMode::Native => bpf::NATIVE,
            XdpMode::Generic => bpf::GENERIC,
        };
        bpf::link_create(self.program(rung)?, ifindex, flags).map_err(|error| error.to_string())
    }

    fn program(&self, rung: Rung) -> Result<BorrowedFd<'_>, String> {
        match &self.programs.frags {
            _ if !rung.frags => Ok(self.programs.plain.as_fd()),
            Ok(program) => Ok(program.as_fd()),
            Err(reason) => Err(reason.clone()),
        }
    }
}

/// Whether a link runs its program on device `ifindex` of this namespace. The device's own word counts too,
/// since in another namespace the same index is another device.
fn is_on(link: &OwnedFd, ifindex: u32) -> bool {
    let Ok(info) = bpf::link_info(link.as_fd()) else { return false };
    let Ok(Some((program_id, _))) = ask(ifindex) else { return false };
    info.ifindex == ifindex && info.program_id == program_id
}

fn refuse_foreign(ifindex: u32, device: &str) -> Result<(), ProgramError> {
    match program_on(ifindex)? {
        None => Ok(()),
        Some(found) => Err(ProgramError::Foreign { device: device.into(), id: found.id, name: found.name }),
    }
}

fn describe(rung: Rung) -> String {
    format!("{} XDP {} multi-buffer", rung.mode, if rung.frags { "with" } else { "without" })
}
