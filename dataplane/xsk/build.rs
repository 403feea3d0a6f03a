//! Compiles the BPF programs under bpf/ with clang; src/program embeds the objects.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

const PROGRAMS: [&str; 6] = ["pod", "uplink", "guard", "lanes", "shortcut", "pass"];

fn main() {
    println!("cargo::rerun-if-changed=bpf");
    println!("cargo::rerun-if-env-changed=CLANG");
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_else(|| fail("OUT_DIR is not set")));
    if !Path::new("/usr/include/bpf/bpf_helpers.h").exists() {
        fail("/usr/include/bpf/bpf_helpers.h is missing: install libbpf-dev (apt-get install libbpf-dev)");
    }
    for program in PROGRAMS {
        compile(&format!("bpf/{program}.bpf.c"), &out.join(format!("{program}.o")));
    }
}

fn compile(source: &str, object: &Path) {
    let clang = env::var("CLANG").unwrap_or_else(|_| "clang".into());
    let mut command = Command::new(&clang);
    command
        .args(["-O2", "-g", "-target", "bpf", "-mcpu=v3", "-Wall", "-Werror", "-c", source, "-o"])
        .arg(object);
    // Where Debian keeps <asm/types.h>; clang does not look there for the bpf target.
    let arch = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    command.arg("-idirafter").arg(format!("/usr/include/{arch}-linux-gnu"));
    match command.output() {
        Ok(done) if done.status.success() => {}
        Ok(done) => {
            fail(&format!("{clang} cannot compile {source}:\n{}", String::from_utf8_lossy(&done.stderr)))
        }
        Err(error) => {
            fail(&format!("cannot run {clang}: {error}: install clang (apt-get install clang llvm)"))
        }
    }
}

fn fail(why: &str) -> ! {
    eprintln!("error: {why}");
    std::process::exit(1);
}
