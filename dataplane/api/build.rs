//! Compiles the contract. protox is protoc in Rust, so a build needs no tool from outside.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = "proto/dataplane.proto";
    println!("cargo:rerun-if-changed={file}");
    tonic_prost_build::configure().compile_fds(protox::compile([file], ["proto"])?)?;
    Ok(())
}
