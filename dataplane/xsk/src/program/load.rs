//! Loading an object file: its programs in both variants and its maps, pinned ones taken over when they fit.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use aya::maps::Map;
use aya::programs::{Program, SchedClassifier, SocketFilter, Xdp};
use aya::{Ebpf, EbpfLoader};

use super::ProgramError;
use crate::bpf;

/// The two variants of a program.
pub(super) struct Programs {
    /// With multi-buffer support, or why the kernel refused it (before 5.18).
    pub(super) frags: Result<OwnedFd, String>,
    pub(super) plain: OwnedFd,
}

/// An object in the kernel.
pub(super) struct Loaded {
    name: &'static str,
    ebpf: Ebpf,
    pub(super) programs: Programs,
}

impl Loaded {
    /// Loads `object`, whose programs are called `name` and `name`_plain. With a directory its `maps` are
    /// pinned there as `name`-MAP, or those found there used, if their shape is still the same.
    pub(super) fn new(
        name: &'static str,
        object: &[u8],
        maps: &[&'static str],
        dir: Option<&Path>,
    ) -> Result<Self, ProgramError> {
        let refused = |error: &dyn std::error::Error| load_error(name, error);
        let mut loader = EbpfLoader::new();
        loader.btf(None);
        if let Some(dir) = dir {
            std::fs::create_dir_all(dir).map_err(|source| ProgramError::Pin { path: dir.into(), source })?;
            let fresh = loader.load(object).map_err(|e| refused(&e))?;
            for map in maps {
                let pin = pin_of(dir, name, map);
                drop_other_shape(&fresh, map, &pin)?;
                loader.map_pin_path(map, pin);
            }
        }
        let mut ebpf = loader.load(object).map_err(|e| refused(&e))?;
        let frags = xdp(&mut ebpf, name, name).map_err(|e| e.to_string());
        let plain = xdp(&mut ebpf, name, &format!("{name}_plain"))?;
        Ok(Self { name, ebpf, programs: Programs { frags, plain } })
    }

    /// Loads the tc program called `function`.
    pub(super) fn classifier(&mut self, function: &str) -> Result<OwnedFd, ProgramError> {
        classifier(&mut self.ebpf, self.name, function)
    }

    /// Loads the socket filter called `function`.
    pub(super) fn socket_filter(&mut self, function: &str) -> Result<OwnedFd, ProgramError> {
        socket_filter(&mut self.ebpf, self.name, function)
    }

    /// Takes the map called `map` out, as its type.
    pub(super) fn map<T>(&mut self, map: &str) -> Result<T, ProgramError>
    where
        T: TryFrom<Map, Error = aya::maps::MapError>,
    {
        let missing = || ProgramError::Load { program: self.name, reason: format!("no map {map} in it") };
        let found = self.ebpf.take_map(map).ok_or_else(missing)?;
        T::try_from(found).map_err(|error| load_error(self.name, &error))
    }
}

/// Where a map is pinned.
fn pin_of(dir: &Path, name: &str, map: &str) -> PathBuf {
    dir.join(format!("{name}-{map}"))
}

/// Removes a pinned map that another version of this crate has shaped differently.
fn drop_other_shape(fresh: &Ebpf, map: &str, pin: &Path) -> Result<(), ProgramError> {
    let failed = |source| ProgramError::Pin { path: pin.into(), source };
    let Ok(pinned) = bpf::pinned(pin) else { return Ok(()) };
    let shape = fresh.map(map).map(map_fd).map(bpf::map_shape).transpose().map_err(failed)?;
    if shape == bpf::map_shape(pinned.as_fd()).ok() {
        return Ok(());
    }
    std::fs::remove_file(pin).map_err(failed)
}

/// The map's descriptor.
pub(super) fn map_fd(map: &Map) -> std::os::fd::BorrowedFd<'_> {
    match map {
        Map::Array(data)
        | Map::HashMap(data)
        | Map::LpmTrie(data)
        | Map::PerCpuArray(data)
        | Map::XskMap(data)
        | Map::Unsupported(data) => data.fd().as_fd(),
        _ => unreachable!("the programs under bpf/ have no other kinds of maps"),
    }
}

fn xdp(ebpf: &mut Ebpf, name: &'static str, function: &str) -> Result<OwnedFd, ProgramError> {
    load_program(ebpf, name, function, |program| <&mut Xdp>::try_from(program)?.load())
}

/// Loads the tc program called `function` of the object called `name`.
pub(super) fn classifier(
    ebpf: &mut Ebpf,
    name: &'static str,
    function: &str,
) -> Result<OwnedFd, ProgramError> {
    load_program(ebpf, name, function, |program| <&mut SchedClassifier>::try_from(program)?.load())
}

/// Loads the socket filter called `function` of the object called `name`.
pub(super) fn socket_filter(
    ebpf: &mut Ebpf,
    name: &'static str,
    function: &str,
) -> Result<OwnedFd, ProgramError> {
    load_program(ebpf, name, function, |program| <&mut SocketFilter>::try_from(program)?.load())
}

fn load_program(
    ebpf: &mut Ebpf,
    name: &'static str,
    function: &str,
    load: impl FnOnce(&mut Program) -> Result<(), aya::programs::ProgramError>,
) -> Result<OwnedFd, ProgramError> {
    let missing = || ProgramError::Load { program: name, reason: format!("no program {function} in it") };
    let program = ebpf.program_mut(function).ok_or_else(missing)?;
    load(program).map_err(|e| load_error(name, &e))?;
    let fd = program.fd().map_err(|e| load_error(name, &e))?;
    fd.as_fd().try_clone_to_owned().map_err(|e| load_error(name, &e))
}

fn load_error(program: &'static str, error: &dyn std::error::Error) -> ProgramError {
    ProgramError::Load { program, reason: chain(error) }
}

/// An error with all its causes, in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
