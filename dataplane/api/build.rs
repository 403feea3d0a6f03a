//! Compiles the contract. protox is protoc in Rust, so a build needs no tool from outside.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["proto/dataplane.proto", "proto/observe.proto"];
    for file in files {
        println!("cargo:rerun-if-changed={file}");
    }
    tonic_prost_build::configure().compile_fds(protox::compile(files, ["proto"])?)?;
    Ok(())
}
